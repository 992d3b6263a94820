// SPDX-License-Identifier: Apache-2.0
//
// FileEdit and RefChanges: slice records, the counts of their objects and the
// bytes they occupy change together or not at all.

#include "fs/meta/data/file_edit.h"

#include "fs/format/records.h"

namespace moorfs::meta {

namespace {

std::optional<int64_t> DecodeCount(const std::optional<std::string>& value) {
  if (!value) return std::nullopt;
  return static_cast<int64_t>(DecodeLe64(*value));
}

}  // namespace

Status RefChanges::Settle(kv::Transaction& txn, Timestamp delete_at) const {
  std::vector<ObjectId> fewer;
  std::vector<kv::Key> count_keys;
  for (const auto& [object, change] : changes_) {
    if (change > 0) txn.Add(keys::ObjectRefs(object), change);
    if (change < 0) {
      fewer.push_back(object);
      count_keys.push_back(keys::ObjectRefs(object));
    }
  }
  if (fewer.empty()) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(const auto counts, txn.MultiGet(count_keys));
  for (size_t i = 0; i < fewer.size(); ++i) {
    const int64_t change = changes_.at(fewer[i]);
    const std::optional<int64_t> count = DecodeCount(counts[i]);
    if (!count) continue;
    if (*count + change != 0) {
      txn.Add(count_keys[i], change);
      continue;
    }
    txn.Delete(count_keys[i]);
    txn.Delete(keys::ObjectBytes(fewer[i]));
    txn.Put(keys::ObjectDelete(delete_at, fewer[i]), {});
  }
  return Status::Ok();
}

void RefChanges::AddNewObjects(kv::Transaction& txn, const std::vector<NewObject>& objects,
                               Timestamp delete_at) const {
  for (const NewObject& object : objects) {
    if (Adds(object.id)) {
      txn.Put(keys::ObjectBytes(object.id), EncodeLe32(object.raw_bytes));
    } else {
      txn.Put(keys::ObjectDelete(delete_at, object.id), {});
    }
  }
}

uint64_t FileEdit::Add(uint32_t chunk, const SliceRecord& record) {
  const uint64_t seq = attr_.slice_seq++;
  AddAt(chunk, seq, record);
  return seq;
}

void FileEdit::AddAt(uint32_t chunk, uint64_t seq, const SliceRecord& record) {
  txn_.kv.Put(schema_.Slice(ino_, chunk, seq), EncodeSlice(record));
  if (record.object.is_hole()) return;
  attr_.slice_bytes += record.len;
  refs_.Add(record.object, 1);
}

void FileEdit::Remove(uint32_t chunk, const Slice& slice) {
  txn_.kv.Delete(schema_.Slice(ino_, chunk, slice.seq));
  if (slice.record.object.is_hole()) return;
  attr_.slice_bytes -= std::min<uint64_t>(attr_.slice_bytes, slice.record.len);
  refs_.Add(slice.record.object, -1);
}

Result<std::string> FileEdit::ReadInline() {
  if (!(attr_.flags & kAttrInline)) return std::string();
  ASSIGN_OR_RETURN(auto value, txn_.kv.Get(schema_.Inline(ino_)));
  if (!value) return Error(EIO, "reading inode " + std::to_string(ino_) + ": its inline bytes are missing");
  return *std::move(value);
}

void FileEdit::WriteInline(std::string_view bytes) {
  if (bytes.empty()) {
    if (attr_.flags & kAttrInline) txn_.kv.Delete(schema_.Inline(ino_));
    attr_.flags &= ~kAttrInline;
    return;
  }
  txn_.kv.Put(schema_.Inline(ino_), bytes);
  attr_.flags |= kAttrInline;
}

void FileEdit::Finish() {
  txn_.kv.Put(schema_.Attr(ino_), EncodeAttr(attr_));
  txn_.AddUsed(static_cast<int64_t>(AccountedBytes(attr_)) - static_cast<int64_t>(bytes_before_), 0);
  txn_.Charge(attr_.quota, static_cast<int64_t>(QuotaBytes(attr_)) - static_cast<int64_t>(quota_before_), 0);
}

void FileEdit::FinishChange() {
  attr_.mtime = attr_.ctime = txn_.now;
  ++attr_.change;
  Finish();
}

Result<std::vector<ChunkSlice>> ParseSlices(Ino ino, const std::vector<kv::Entry>& entries) {
  std::vector<ChunkSlice> out;
  out.reserve(entries.size());
  for (const kv::Entry& entry : entries) {
    const auto place = keys::ParseSliceSuffix(entry.suffix);
    if (!place) return Error(EIO, "reading slices of inode " + std::to_string(ino) + ": malformed key");
    auto record = DecodeSlice(entry.value);
    if (!record) return Error(record.error().Annotate("reading slices of inode " + std::to_string(ino)));
    out.push_back({place->chunk, {place->seq, *record}});
  }
  return out;
}

Result<std::vector<Slice>> ScanChunk(kv::Transaction& txn, const keys::Schema& schema, Ino ino, uint32_t chunk,
                                     uint64_t first_seq) {
  constexpr size_t kPage = 4096;
  std::vector<Slice> out;
  kv::Range range = schema.Slices(ino, chunk);
  range.begin = std::string(schema.Slice(ino, chunk, first_seq).suffix());
  while (true) {
    ASSIGN_OR_RETURN(const auto entries, txn.Scan(range, kPage));
    ASSIGN_OR_RETURN(const auto slices, ParseSlices(ino, entries));
    for (const ChunkSlice& s : slices) out.push_back(s.slice);
    if (entries.size() < kPage) return out;
    range.begin = entries.back().suffix + '\0';
  }
}

Result<bool> HasSlices(kv::Transaction& txn, const keys::Schema& schema, Ino ino, uint64_t first_seq) {
  kv::Range range = schema.SlicesFrom(ino, 0);
  range.begin = std::string(schema.Slice(ino, 0, first_seq).suffix());
  ASSIGN_OR_RETURN(const auto found, txn.Scan(range, 1));
  return !found.empty();
}

}  // namespace moorfs::meta
