// SPDX-License-Identifier: Apache-2.0
//
// The two tools every change of a data map is made with. RefChanges collects
// how many slice records came to and went from each object, and settles the
// counts once, at the end of the transaction. FileEdit adds and removes slice
// records of one inode while keeping slice_bytes, the used-bytes counter and
// the sequence numbers in step. Internal to fs/meta.

#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "fs/format/keys.h"
#include "fs/format/types.h"
#include "fs/kv/kv.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

// Slice records that one transaction removes at most: each may cost a delete
// and, for its object, a read, two deletes and a put, so 512 keep well below
// kv::kMaxTransactionOps.
inline constexpr size_t kRecordsPerStep = 512;

struct ObjectIdHash {
  size_t operator()(const ObjectId& id) const { return id.nonce ^ (id.id * 0x9E3779B97F4A7C15ull); }
};

class RefChanges {
 public:
  void Add(const ObjectId& object, int64_t records) {
    if (!object.is_hole()) changes_[object] += records;
  }
  // Records the sizes of objects just stored; those that no record of this
  // transaction points at wait for deletion from `delete_at` on.
  void AddNewObjects(kv::Transaction& txn, const std::vector<NewObject>& objects, Timestamp delete_at) const;
  // Writes the counts. Call once, last: a transaction does not see its own
  // additions. An object that nothing points at any more loses its records and
  // waits for deletion from `delete_at` on. A count that is missing or would
  // fall below zero is drift: the object is then never deleted here (fsck
  // corrects the count), because deleting too much cannot be undone.
  Status Settle(kv::Transaction& txn, Timestamp delete_at) const;
  // More records come to the object than go.
  bool Adds(const ObjectId& object) const {
    const auto found = changes_.find(object);
    return found != changes_.end() && found->second > 0;
  }
  size_t object_count() const { return changes_.size(); }

 private:
  std::unordered_map<ObjectId, int64_t, ObjectIdHash> changes_;
};

class FileEdit {
 public:
  // All references outlive the edit, which lives inside one transaction.
  FileEdit(Txn& txn, const keys::Schema& schema, Ino ino, Attr& attr, RefChanges& refs)
      : txn_(txn), schema_(schema), ino_(ino), attr_(attr), refs_(refs),
          bytes_before_(AccountedBytes(attr)), quota_before_(QuotaBytes(attr)) {}

  // On top of everything the inode has. Returns the sequence number.
  uint64_t Add(uint32_t chunk, const SliceRecord& record);
  // In the place of a record removed before: keeps its order.
  void AddAt(uint32_t chunk, uint64_t seq, const SliceRecord& record);
  void Remove(uint32_t chunk, const Slice& slice);

  // Inline bytes; empty when there are none.
  Result<std::string> ReadInline();
  // Empty removes the record.
  void WriteInline(std::string_view bytes);

  // Writes the attributes and what changed of the used bytes of volume and quotas.
  void Finish();
  // Finish() of a change of data: mtime, ctime and the change counter too.
  void FinishChange();

  kv::Transaction& kv() { return txn_.kv; }
  const keys::Schema& schema() const { return schema_; }
  Ino ino() const { return ino_; }
  // No record of the chunk has a lower sequence number.
  uint64_t FirstSeq(uint32_t chunk) const { return txn_.chunk_starts.Of(ino_, chunk); }
  Attr& attr() { return attr_; }

 private:
  Txn& txn_;
  const keys::Schema& schema_;
  Ino ino_;
  Attr& attr_;
  RefChanges& refs_;
  uint64_t bytes_before_;
  uint64_t quota_before_;
};

// Records of the entries of a slice scan. EIO when one cannot be read.
struct ChunkSlice {
  uint32_t chunk = 0;
  Slice slice;
};
Result<std::vector<ChunkSlice>> ParseSlices(Ino ino, const std::vector<kv::Entry>& entries);

// Every record of one chunk with seq >= `first_seq`, however many.
Result<std::vector<Slice>> ScanChunk(kv::Transaction& txn, const keys::Schema& schema, Ino ino, uint32_t chunk,
                                     uint64_t first_seq);

// Any record at all; chunk 0 is known to have none below `first_seq`.
Result<bool> HasSlices(kv::Transaction& txn, const keys::Schema& schema, Ino ino, uint64_t first_seq);

// As the end of a range: everything from its start on, which the caller knows
// to be unseen already (kAttrTruncating); no hole is laid over whole chunks.
inline constexpr uint64_t kNoEnd = kMaxFileBytes;

// Where a removal that takes several transactions stands.
struct ClearCursor {
  uint32_t chunk = 0;
  uint64_t next_seq = 0;   // first record of `chunk` not looked at
  uint64_t below_seq = 0;  // != 0: `chunk` has its hole already, under which the rest goes
  uint64_t ClearedEnd() const { return (chunk + uint64_t{below_seq != 0}) * kChunkBytes; }
};

// Makes the slices in [from, to) unseen, at most `max_records` of them: whole
// records go, and where one reaches over an edge a hole record is laid on top.
// Records are never cut in place: compaction recognises a changed chunk by the
// number of its records, and must not write back what was cleared. Chunks
// without records cost nothing. True when done; else call again, in the next
// transaction, with the cursor as it is now; what lies before ClearedEnd() is
// unseen already. Inline bytes: ClearInline.
Result<bool> ClearStep(FileEdit& edit, uint64_t from, uint64_t to, size_t max_records, ClearCursor& cursor);

// Zeros inline bytes in [from, to); cuts them when `to` lies beyond their end.
Status ClearInline(FileEdit& edit, uint64_t from, uint64_t to);

// Notes, for each new object, which chunks point at it until it is durable.
void RecordUndurable(kv::Transaction& txn, const std::vector<NewObject>& objects,
                     const std::vector<FileUpdate>& updates);

}  // namespace moorfs::meta
