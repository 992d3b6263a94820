// SPDX-License-Identifier: Apache-2.0
//
// ReplaceSlices: the metadata half of compaction. The new records take over
// sequence numbers of those they replace, and so stay below anything that was
// written while the compactor read and stored. Data that was cut or punched in
// the meantime has either taken a record away (then the count differs) or lies
// as a hole above. The new objects must be durable before the call: what they
// replace may have been, and is let go by it.

#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

namespace {

Status CheckReplacement(const std::vector<SliceRecord>& with, size_t expected_count) {
  for (const SliceRecord& record : with) {
    if (record.len == 0 || uint64_t{record.pos} + record.len > kChunkBytes) {
      return Status(EINVAL, "replacing slices: a record is empty or leaves its chunk");
    }
  }
  if (with.size() > expected_count) return Status(EINVAL, "replacing slices: by more than there were");
  return Status::Ok();
}

}  // namespace

Status MetaImpl::ReplaceSlices(Ino ino, uint32_t chunk, uint64_t up_to, size_t expected_count,
                               const std::vector<NewObject>& objects, const std::vector<SliceRecord>& with) {
  RETURN_IF_ERROR(CheckReplacement(with, expected_count));
  // What the caller is told although the transaction commits: the new objects
  // then await deletion.
  Status verdict;
  RETURN_IF_ERROR(Mutate({}, {ino}, nullptr, [&](Txn& txn) -> Status {
    verdict = Status::Ok();
    RefChanges refs;
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(schema_.Attr(ino)));
    if (!value) {
      verdict = Status(ESTALE, "replacing slices of inode " + std::to_string(ino) + ": it is gone");
      refs.AddNewObjects(txn.kv, objects, ObjectDeleteTime(txn));
      return Status::Ok();
    }
    ASSIGN_OR_RETURN_STATUS(Attr attr, DecodeAttr(*value));
    ASSIGN_OR_RETURN_STATUS(auto old, ScanChunk(txn.kv, schema_, ino, chunk));
    std::erase_if(old, [&](const Slice& s) { return s.seq > up_to; });
    if (old.size() != expected_count) {
      verdict = Status(kErrnoConflict, "replacing slices of inode " + std::to_string(ino) + ": they changed");
      refs.AddNewObjects(txn.kv, objects, ObjectDeleteTime(txn));
      return Status::Ok();
    }
    FileEdit edit(txn, schema_, ino, attr, refs);
    for (const Slice& slice : old) edit.Remove(chunk, slice);
    for (size_t i = 0; i < with.size(); ++i) edit.AddAt(chunk, old[i].seq, with[i]);
    // An object that is left behind costs a read, two deletes and a put.
    if (old.size() + with.size() + 4 * refs.object_count() + objects.size() + 16 > kv::kMaxTransactionOps) {
      return Status(E2BIG, "replacing slices: too many at once; choose a lower up_to");
    }
    edit.Finish();
    refs.AddNewObjects(txn.kv, objects, ObjectDeleteTime(txn));
    return refs.Settle(txn.kv, ObjectDeleteTime(txn));
  }));
  return verdict;
}

}  // namespace moorfs::meta
