// SPDX-License-Identifier: Apache-2.0
//
// CopyRange: shares block objects between files instead of copying bytes. One
// transaction per step; a step ends at a chunk border of either file, after
// kRecordsPerStep pieces, or before bytes that lie inline in the source: those
// have no object to share.

#include <map>

#include "common/base/coding.h"
#include "fs/format/slice_view.h"
#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

struct MetaImpl::CopyJob {
  Ino src;
  uint64_t src_off;
  Ino dst;
  uint64_t dst_off;
  uint64_t len;
};

namespace {

// What of the source the next step brings over: `len` bytes, of which `pieces`
// are data (`pos` counted from the start of the step) and the rest zeros.
struct Segment {
  uint64_t len = 0;
  std::vector<ViewExtent> pieces;
  bool before_inline = false;  // the byte after the segment lies inline
};

// Start of the first chunk after `chunk` that has records, at most `limit`.
Result<uint64_t> NextChunkWithRecords(kv::Transaction& txn, const keys::Schema& schema, Ino ino,
                                      uint32_t chunk, uint64_t limit) {
  ASSIGN_OR_RETURN(const auto found, txn.Scan(schema.SlicesFrom(ino, chunk + 1), 1));
  if (found.empty()) return limit;
  ASSIGN_OR_RETURN(const auto slices, ParseSlices(ino, found));
  return std::min(limit, slices.front().chunk * kChunkBytes);
}

// First byte of [from, to), both inside chunk 0, that no extent covers.
uint64_t FirstGap(const std::vector<ViewExtent>& view, uint64_t from, uint64_t to) {
  for (const ViewExtent& e : view) {
    if (e.pos > from) break;
    from = std::max(from, uint64_t{e.pos} + e.len);
  }
  return std::min(from, to);
}

// The segment that starts at `from` and ends at `to` at the latest; `room` is
// what is left of the target's chunk.
Result<Segment> NextSegment(Txn& meta_txn, const keys::Schema& schema, Ino ino, const Attr& attr, uint64_t from,
                            uint64_t to, uint64_t room) {
  kv::Transaction& txn = meta_txn.kv;
  const uint32_t chunk = static_cast<uint32_t>(from / kChunkBytes);
  const uint64_t base = chunk * kChunkBytes;
  Segment out;
  ASSIGN_OR_RETURN(auto slices, ScanChunk(txn, schema, ino, chunk, meta_txn.chunk_starts.Of(ino, chunk)));
  const bool may_be_inline = chunk == 0 && (attr.flags & kAttrInline);
  if (slices.empty() && !may_be_inline) {
    ASSIGN_OR_RETURN(const uint64_t end, NextChunkWithRecords(txn, schema, ino, chunk, to));
    out.len = end - from;
    return out;
  }
  const std::vector<ViewExtent> view = ResolveSlices(std::move(slices));
  uint64_t end = std::min({to, from + room, base + kChunkBytes});
  if (may_be_inline) {
    ASSIGN_OR_RETURN(const auto bytes, txn.Get(schema.Inline(ino)));
    const uint64_t inline_end = std::min<uint64_t>(end, bytes ? bytes->size() : 0);
    if (from < inline_end) {
      const uint64_t gap = FirstGap(view, from, inline_end);
      out.before_inline = gap < inline_end;
      if (out.before_inline) end = gap;
    }
  }
  for (const ViewExtent& e : view) {
    const uint64_t begin = std::max(from, base + e.pos);
    const uint64_t stop = std::min(end, base + e.pos + e.len);
    if (begin >= stop || e.object.is_hole()) continue;
    if (out.pieces.size() == kRecordsPerStep) {
      end = begin;
      out.before_inline = false;
      break;
    }
    ViewExtent piece = e;
    piece.pos = static_cast<uint32_t>(begin - from);
    piece.len = static_cast<uint32_t>(stop - begin);
    piece.offset = e.offset + static_cast<uint32_t>(begin - base - e.pos);
    out.pieces.push_back(piece);
  }
  out.len = end - from;
  return out;
}

// Clears the target's range and lays the segment's pieces over it. Returns the
// bytes done, less than the segment when the target's records were too many.
Result<uint64_t> LaySegment(FileEdit& edit, const Segment& segment, uint64_t at) {
  ClearCursor cursor;
  ASSIGN_OR_RETURN(const bool cleared, ClearStep(edit, at, at + segment.len, kRecordsPerStep, cursor));
  const uint64_t done = cleared ? segment.len : std::min(segment.len, cursor.ClearedEnd() - at);
  TRY_VOID(ClearInline(edit, at, at + done));
  for (const ViewExtent& piece : segment.pieces) {
    const uint64_t target = at + piece.pos;
    SliceRecord record;
    record.pos = static_cast<uint32_t>(target % kChunkBytes);
    record.len = piece.len;
    record.object = piece.object;
    record.offset = piece.offset;
    edit.Add(static_cast<uint32_t>(target / kChunkBytes), record);
  }
  return done;
}

// Objects that a power cut may still take: the copy's chunks are noted with them.
Status NoteUndurable(kv::Transaction& txn, Ino ino, uint64_t at, const std::vector<ViewExtent>& pieces) {
  std::map<ObjectId, std::string> added;
  for (const ViewExtent& piece : pieces) {
    std::string place;
    PutLe64(&place, ino);
    PutLe32(&place, static_cast<uint32_t>((at + piece.pos) / kChunkBytes));
    added[piece.object] = std::move(place);  // one step writes into one chunk
  }
  std::vector<kv::Key> notes;
  for (const auto& [object, place] : added) notes.push_back(keys::Undurable(object));
  ASSIGN_OR_RETURN_STATUS(const auto values, txn.MultiGet(notes));
  size_t i = 0;
  for (const auto& [object, place] : added) {
    if (values[i] && values[i]->find(place) == std::string::npos) txn.Put(notes[i], *values[i] + place);
    ++i;
  }
  return Status::Ok();
}

// Both files tiny: copies the bytes themselves. False when that isn't so.
Result<bool> CopyInline(const Txn& txn, FileEdit& edit, Ino src, const Attr& src_attr, uint64_t from_off,
                        uint64_t to_off, uint64_t len) {
  if (!(src_attr.flags & kAttrInline) || from_off + len > kMaxInlineBytes || to_off + len > kMaxInlineBytes) {
    return false;
  }
  const keys::Schema& schema = edit.schema();
  for (const Ino ino : {src, edit.ino()}) {
    ASSIGN_OR_RETURN(const bool has_slices, HasSlices(edit.kv(), schema, ino, txn.chunk_starts.Of(ino, 0)));
    if (has_slices) return false;
  }
  ASSIGN_OR_RETURN(const auto value, edit.kv().Get(schema.Inline(src)));
  std::string from = value.value_or("");
  from.resize(std::max<size_t>(from.size(), from_off + len), '\0');
  ASSIGN_OR_RETURN(std::string to, edit.ReadInline());
  to.resize(std::max<size_t>(to.size(), to_off + len), '\0');
  to.replace(to_off, len, from, from_off, len);
  edit.WriteInline(to);
  return true;
}

}  // namespace

// One step of the job; `done` is what it copied, 0 at the end of the source.
// `left` is what there was to copy.
Status MetaImpl::CopyStep(Txn& txn, const CopyJob& job, uint64_t& done, uint64_t& left, bool& unfinished) {
  done = left = 0;
  ASSIGN_OR_RETURN_STATUS(const Attr src_attr, LoadFile(txn.kv, job.src));
  if (job.src_off >= src_attr.length) return Status::Ok();
  const uint64_t len = left = std::min(job.len, src_attr.length - job.src_off);
  Attr attr = src_attr;
  if (job.dst != job.src) {
    ASSIGN_OR_RETURN_STATUS(attr, LoadFile(txn.kv, job.dst));
  }
  unfinished = (attr.flags & kAttrTruncating) && job.dst_off + len > attr.length;
  if (unfinished) return Status(EAGAIN, "copying: a truncation has to be finished first");
  RefChanges refs;
  FileEdit edit(txn, schema_, job.dst, attr, refs);
  ASSIGN_OR_RETURN_STATUS(const bool all_inline,
                          CopyInline(txn, edit, job.src, src_attr, job.src_off, job.dst_off, len));
  if (all_inline) {
    done = len;
  } else {
    const uint64_t room = kChunkBytes - job.dst_off % kChunkBytes;
    ASSIGN_OR_RETURN_STATUS(const Segment segment, NextSegment(txn, schema_, job.src, src_attr, job.src_off,
                                                               job.src_off + len, room));
    if (segment.len == 0) {
      return Status(EOPNOTSUPP, "copying from inode " + std::to_string(job.src) + ": its bytes lie inline");
    }
    ASSIGN_OR_RETURN_STATUS(done, LaySegment(edit, segment, job.dst_off));
    RETURN_IF_ERROR(NoteUndurable(txn.kv, job.dst, job.dst_off, segment.pieces));
  }
  attr.length = std::max(attr.length, job.dst_off + done);
  edit.FinishChange();
  return refs.Settle(txn.kv, ObjectDeleteTime(txn));
}

Result<uint64_t> MetaImpl::CopyRange(const OpContext& ctx, Ino src, uint64_t src_off, Ino dst,
                                     uint64_t dst_off, uint64_t len) {
  if (dst_off > kMaxFileBytes || len > kMaxFileBytes - dst_off || src_off > kMaxFileBytes) {
    return Error(EFBIG, "copying to inode " + std::to_string(dst) + ": beyond the largest file size");
  }
  if (src == dst && src_off < dst_off + len && dst_off < src_off + len) {
    return Error(EINVAL, "copying inside inode " + std::to_string(src) + ": the ranges overlap");
  }
  uint64_t copied = 0;
  while (copied < len) {
    const CopyJob job{src, src_off + copied, dst, dst_off + copied, len - copied};
    uint64_t done = 0, left = 0;
    // The first step is recorded as the request's result: if the answer gets
    // lost, the repeated request is told of a short copy, and asks for more.
    Outcome outcome;
    const Status status = MutateFile(copied == 0 ? ctx : OpContext{}, dst, &outcome,
                                     [&](Txn& txn, bool& unfinished) {
      RETURN_IF_ERROR(CopyStep(txn, job, done, left, unfinished));
      outcome.other = done;
      return Status::Ok();
    });
    if (outcome.replayed) return outcome.other;
    if (!status.ok()) {
      if (copied > 0 && (status.err() == EOPNOTSUPP || status.err() == EDQUOT)) break;
      return Error(status);
    }
    if (done == 0) break;
    // A copy inside one file may move the file's end, but not the end of what is copied.
    if (copied == 0) len = left;
    copied += done;
  }
  return copied;
}

}  // namespace moorfs::meta
