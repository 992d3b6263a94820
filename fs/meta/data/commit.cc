// SPDX-License-Identifier: Apache-2.0
//
// Commit: new data of many files in one transaction. The hot path of small
// random writes: one attribute read per inode, and per piece nothing but a put
// and a hash-table increment.

#include <map>

#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

namespace {

// An inode in the transaction; several updates may name the same one.
struct Target {
  Attr attr;
  std::optional<FileEdit> edit;
};

Status CheckUpdate(const FileUpdate& update) {
  const std::string what = "committing data of inode " + std::to_string(update.ino) + ": ";
  for (const FileUpdate::Piece& piece : update.pieces) {
    const uint64_t end = uint64_t{piece.record.pos} + piece.record.len;
    if (piece.record.len == 0 || end > kChunkBytes) {
      return Status(EINVAL, what + "a piece is empty or leaves its chunk");
    }
  }
  if (update.grow_to > kMaxFileBytes) return Status(EFBIG, what + "beyond the largest file size");
  if (update.inline_bytes && update.inline_bytes->size() > kMaxInlineBytes) {
    return Status(EINVAL, what + "too many inline bytes");
  }
  return Status::Ok();
}

// A piece can only lie behind the end if a truncation came in between; such
// bytes must not come back with a later extension.
std::optional<SliceRecord> ClipToLength(const FileUpdate::Piece& piece, uint64_t length) {
  const uint64_t begin = piece.chunk * kChunkBytes + piece.record.pos;
  if (begin >= length) return std::nullopt;
  SliceRecord record = piece.record;
  record.len = static_cast<uint32_t>(std::min<uint64_t>(record.len, length - begin));
  return record;
}

Status ReplaceInline(FileEdit& edit, std::string_view bytes) {
  if (edit.attr().slice_seq != 0) {
    ASSIGN_OR_RETURN_STATUS(const bool has_slices, HasSlices(edit.kv(), edit.schema(), edit.ino(), edit.FirstSeq(0)));
    if (has_slices) {
      return Status(EINVAL, "replacing inline bytes of inode " + std::to_string(edit.ino()) +
                    ": it has slices");
    }
  }
  edit.WriteInline(bytes.substr(0, edit.attr().length));
  return Status::Ok();
}

Status ApplyUpdate(FileEdit& edit, const FileUpdate& update, FileUpdateResult& result) {
  Attr& attr = edit.attr();
  attr.length = std::max(attr.length, update.grow_to);
  if (update.inline_bytes) RETURN_IF_ERROR(ReplaceInline(edit, *update.inline_bytes));
  result.first_seq = attr.slice_seq;
  for (const FileUpdate::Piece& piece : update.pieces) {
    const auto record = ClipToLength(piece, attr.length);
    if (record) {
      edit.Add(piece.chunk, *record);
    } else {
      ++attr.slice_seq;  // keeps first_seq + index true for the pieces that follow
    }
  }
  if (update.mtime.ns != 0) {
    attr.mtime = update.mtime;
    attr.ctime = std::max(attr.ctime, update.mtime);
  }
  ++attr.change;
  result.length = attr.length;
  return Status::Ok();
}

}  // namespace

Status MetaImpl::CommitOnce(Txn& txn, const std::vector<NewObject>& objects,
                            const std::vector<FileUpdate>& updates, std::vector<FileUpdateResult>& results,
                            Ino& truncating) {
  txn.AdmitAll();  // acknowledged already
  std::vector<kv::Key> attr_keys;
  attr_keys.reserve(updates.size());
  for (const FileUpdate& update : updates) attr_keys.push_back(schema_.Attr(update.ino));
  ASSIGN_OR_RETURN_STATUS(const auto values, txn.kv.MultiGet(attr_keys));

  RefChanges refs;
  std::map<Ino, Target> targets;
  for (size_t i = 0; i < updates.size(); ++i) {
    const FileUpdate& update = updates[i];
    if (!values[i]) {
      results[i].gone = true;
      continue;
    }
    Target& target = targets[update.ino];
    if (!target.edit) {
      ASSIGN_OR_RETURN_STATUS(target.attr, DecodeAttr(*values[i]));
      target.edit.emplace(txn, schema_, update.ino, target.attr, refs);
    }
    if (target.attr.type != FileType::kFile) {
      return Status(EINVAL, "committing data of inode " + std::to_string(update.ino) +
                    ": not a regular file");
    }
    if ((target.attr.flags & kAttrTruncating) && update.grow_to > target.attr.length) {
      truncating = update.ino;
      return Status(EAGAIN, "committing data: a truncation has to be finished first");
    }
    RETURN_IF_ERROR(ApplyUpdate(*target.edit, update, results[i]));
  }
  for (auto& [ino, target] : targets) target.edit->Finish();
  const Timestamp delete_at = ObjectDeleteTime(txn);
  refs.AddNewObjects(txn.kv, objects, delete_at);
  RecordUndurable(txn.kv, objects, updates);
  return refs.Settle(txn.kv, delete_at);
}

Result<std::vector<FileUpdateResult>> MetaImpl::Commit(const std::vector<NewObject>& objects,
                                                       const std::vector<FileUpdate>& updates) {
  for (const FileUpdate& update : updates) TRY_VOID(CheckUpdate(update));
  while (true) {
    std::vector<FileUpdateResult> results;
    Ino truncating = 0;
    // No in-process locks: a commit spans many files, and the reader of attributes it may lose a race
    // against is quickly done.
    const Status status = Mutate({}, {}, nullptr, [&](Txn& txn) {
      results.assign(updates.size(), {});
      truncating = 0;
      return CommitOnce(txn, objects, updates, results, truncating);
    });
    if (status.ok()) return results;
    if (truncating == 0) return Error(status);
    TRY_VOID(FinishTruncate(truncating));
  }
}

}  // namespace moorfs::meta
