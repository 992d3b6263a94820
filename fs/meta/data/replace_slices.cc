// SPDX-License-Identifier: Apache-2.0
//
// ReplaceSlices: the metadata half of compaction. The new records take over
// sequence numbers of those they replace, and so stay below anything that was
// written while the compactor read and stored. Data that was cut or punched in
// the meantime has either taken a record away (then the count differs) or lies
// as a hole above. (Of very many records see ReplaceInSteps.) The new objects
// must be durable before the call: what they replace may have been, and is let
// go by it.

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

// The call, and what it learned.
struct MetaImpl::Replacement {
  Ino ino;
  uint32_t chunk;
  uint64_t up_to;
  size_t expected_count;
  const std::vector<NewObject>& objects;
  const std::vector<SliceRecord>& with;
  // What the caller is told although the transaction commits: the new objects
  // that nothing points at then await deletion.
  Status verdict;
  std::vector<Slice> old;                // in order of seq
  size_t newer = 0;                      // records above `up_to`
  size_t placed = 0;                     // records of `with` that lie on top of `old`
  std::vector<bool> used_objects = {};   // by index of `objects`
};

// Reads the chunk. False: the replacement is off, and why is in the verdict.
Result<bool> MetaImpl::ExamineChunk(Txn& txn, Replacement& r, std::optional<Attr>& attr) {
  r.verdict = Status::Ok();
  ASSIGN_OR_RETURN(const auto value, txn.kv.Get(schema_.Attr(r.ino)));
  if (!value) {
    r.verdict = Status(ESTALE, "replacing slices of inode " + std::to_string(r.ino) + ": it is gone");
    return false;
  }
  ASSIGN_OR_RETURN(attr, DecodeAttr(*value));
  ASSIGN_OR_RETURN(r.old, ScanChunk(txn.kv, schema_, r.ino, r.chunk, chunk_starts_.Of(r.ino, r.chunk)));
  r.newer = std::erase_if(r.old, [&](const Slice& s) { return s.seq > r.up_to; });
  const bool overlaid = r.placed > 0 && r.newer != r.placed;
  if (r.old.size() == r.expected_count && !overlaid) return true;
  r.verdict = Status(kErrnoConflict, "replacing slices of inode " + std::to_string(r.ino) + ": they changed");
  return false;
}

// Objects that no record of this or an earlier step points at.
std::vector<NewObject> MetaImpl::UnusedObjects(const Replacement& r) {
  std::vector<NewObject> unused;
  for (size_t i = 0; i < r.objects.size(); ++i) {
    if (r.used_objects.empty() || !r.used_objects[i]) unused.push_back(r.objects[i]);
  }
  return unused;
}

Status MetaImpl::ReplaceAtOnce(Replacement& r) {
  return Mutate({}, {r.ino}, nullptr, [&](Txn& txn) -> Status {
    txn.AdmitAll();
    RefChanges refs;
    std::optional<Attr> attr;
    ASSIGN_OR_RETURN_STATUS(const bool on, ExamineChunk(txn, r, attr));
    if (on) {
      FileEdit edit(txn, schema_, r.ino, *attr, refs);
      for (const Slice& slice : r.old) edit.Remove(r.chunk, slice);
      // The highest numbers, so that what was removed lies in front (ChunkStarts).
      const size_t skipped = r.old.size() - r.with.size();
      for (size_t i = 0; i < r.with.size(); ++i) edit.AddAt(r.chunk, r.old[skipped + i].seq, r.with[i]);
      // An object that is left behind costs two deletes and a put.
      const size_t records = r.old.size() + r.with.size();
      const size_t operations = records + 3 * refs.object_count() + r.objects.size() + 16;
      if (operations > kv::kMaxTransactionOps) return Status(E2BIG, "replacing slices: too many at once");
      edit.Finish();
    }
    refs.AddNewObjects(txn.kv, r.objects, ObjectDeleteTime(txn));
    return refs.Settle(txn.kv, ObjectDeleteTime(txn));
  });
}

// One step of laying `with` on top of `old`. Each record shows the bytes that
// show already, so the file reads the same after every step.
Status MetaImpl::PlaceSome(Replacement& r) {
  size_t placed = 0;
  std::vector<bool> used;
  RETURN_IF_ERROR(Mutate({}, {r.ino}, nullptr, [&](Txn& txn) -> Status {
    RefChanges refs;
    std::optional<Attr> attr;
    txn.AdmitAll();  // more slices, and more counted, only until the old ones go
    placed = r.placed;
    used = r.used_objects;
    used.resize(r.objects.size(), false);
    ASSIGN_OR_RETURN_STATUS(bool on, ExamineChunk(txn, r, attr));
    if (on && r.placed == 0 && r.newer > 0) {
      r.verdict = Status(kErrnoConflict, "replacing slices of inode " + std::to_string(r.ino) +
                         ": there are newer");
      on = false;
    }
    if (!on) {
      refs.AddNewObjects(txn.kv, UnusedObjects(r), ObjectDeleteTime(txn));
      return Status::Ok();
    }
    FileEdit edit(txn, schema_, r.ino, *attr, refs);
    const size_t until = std::min(r.with.size(), placed + kRecordsPerStep);
    while (placed < until) edit.Add(r.chunk, r.with[placed++]);
    std::vector<NewObject> now_used;
    for (size_t i = 0; i < r.objects.size(); ++i) {
      if (refs.Adds(r.objects[i].id)) now_used.push_back(r.objects[i]);
      used[i] = used[i] || refs.Adds(r.objects[i].id);
    }
    edit.Finish();
    refs.AddNewObjects(txn.kv, now_used, ObjectDeleteTime(txn));
    return refs.Settle(txn.kv, ObjectDeleteTime(txn));
  }));
  r.placed = placed;
  r.used_objects = used;
  return Status::Ok();
}

// Removes old[begin, end), if they are still what they were.
Status MetaImpl::RemoveReplaced(const Replacement& r, size_t begin, size_t end) {
  return Mutate({}, {r.ino}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(schema_.Attr(r.ino)));
    if (!value) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(Attr attr, DecodeAttr(*value));
    std::vector<kv::Key> places;
    for (size_t i = begin; i < end; ++i) places.push_back(schema_.Slice(r.ino, r.chunk, r.old[i].seq));
    ASSIGN_OR_RETURN_STATUS(const auto values, txn.kv.MultiGet(places));
    RefChanges refs;
    FileEdit edit(txn, schema_, r.ino, attr, refs);
    for (size_t i = begin; i < end; ++i) {
      const auto& found = values[i - begin];
      if (found && *found == EncodeSlice(r.old[i].record)) edit.Remove(r.chunk, r.old[i]);
    }
    edit.Finish();
    return refs.Settle(txn.kv, ObjectDeleteTime(txn));
  });
}

// More records than one transaction takes: the new ones go on top first, then
// the old ones go, the oldest first, so that none comes to light again. A crash
// in between leaves a chunk with more records than it needs.
Status MetaImpl::ReplaceInSteps(Replacement& r) {
  do {
    RETURN_IF_ERROR(PlaceSome(r));
    if (!r.verdict.ok()) return Status::Ok();
  } while (r.placed < r.with.size());
  for (size_t begin = 0; begin < r.old.size(); begin += kRecordsPerStep) {
    RETURN_IF_ERROR(RemoveReplaced(r, begin, std::min(r.old.size(), begin + kRecordsPerStep)));
  }
  return Status::Ok();
}

Status MetaImpl::ReplaceSlices(Ino ino, uint32_t chunk, uint64_t up_to, size_t expected_count,
                               const std::vector<NewObject>& objects, const std::vector<SliceRecord>& with) {
  RETURN_IF_ERROR(CheckReplacement(with, expected_count));
  Replacement r{ino, chunk, up_to, expected_count, objects, with, {}, {}};
  Status status = ReplaceAtOnce(r);
  if (status.err() == E2BIG) status = ReplaceInSteps(r);
  return status.ok() ? r.verdict : status;
}

}  // namespace moorfs::meta
