// SPDX-License-Identifier: Apache-2.0
//
// Clean: background removal of what deleted inodes left, and of expired trash.
// Each step is one bounded transaction that settles the counts of the objects
// it lets go, so a crash in between leaves a shorter list, never a wrong count.
// Any error ends the call.

#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

// The inode's attributes went when its last claim did, and its bytes left the
// volume's counter with them.
Status MetaImpl::CleanInode(Ino ino, size_t& steps, bool& done) {
  done = false;
  while (!done && steps > 0) {
    --steps;
    RETURN_IF_ERROR(Mutate({}, {ino}, nullptr, [&](Txn& txn) -> Status {
      ASSIGN_OR_RETURN_STATUS(const auto entries, txn.kv.Scan(schema_.SlicesFrom(ino, 0), kRecordsPerStep));
      ASSIGN_OR_RETURN_STATUS(const auto slices, ParseSlices(ino, entries));
      RefChanges refs;
      for (const ChunkSlice& s : slices) {
        txn.kv.Delete(schema_.Slice(ino, s.chunk, s.slice.seq));
        refs.Add(s.slice.record.object, -1);
      }
      done = false;
      if (entries.size() < kRecordsPerStep) {
        const kv::Range all = schema_.InodeAll(ino);
        ASSIGN_OR_RETURN_STATUS(const auto rest, txn.kv.Scan(all, kRecordsPerStep));
        for (const kv::Entry& entry : rest) txn.kv.Delete(kv::Key(all.partition, entry.suffix));
        done = rest.size() < kRecordsPerStep;
        if (done) txn.kv.Delete(keys::DeletedInode(ino));
      }
      return refs.Settle(txn.kv, ObjectDeleteTime(txn));
    }));
  }
  return Status::Ok();
}

Result<bool> MetaImpl::Clean(Timestamp now, size_t max_steps) {
  constexpr size_t kInodesPerScan = 256;
  if (options_.read_only) return false;
  TRY_VOID(RemoveTrees(max_steps));
  while (max_steps > 0) {
    std::vector<kv::Entry> waiting;
    TRY_VOID(Read([&](kv::Transaction& kv) -> Status {
      ASSIGN_OR_RETURN_STATUS(waiting, kv.Scan(keys::DeletedInodes(0), kInodesPerScan));
      return Status::Ok();
    }));
    for (const kv::Entry& entry : waiting) {
      const auto ino = keys::TrailingU64(entry.suffix);
      if (!ino) return Error(EIO, "cleaning deleted inodes: malformed key");
      bool done = false;
      TRY_VOID(CleanInode(*ino, max_steps, done));
      if (!done) return true;
    }
    if (waiting.size() < kInodesPerScan) break;
  }
  if (max_steps == 0) return true;
  // Open files whose tree went lose their last handle unnoticed.
  TRY_VOID(ReapSession(/*end=*/false));
  if (!quotas_.empty()) {
    TRY_VOID(FinishTagging());
    TRY_VOID(ForgetGoneQuotas());
  }
  const uint32_t days = trash_days_;
  const Timestamp before{now.ns - int64_t{days} * 86400 * Timestamp::kNsPerSec};
  // What leaves the trash is data to clean: once more then.
  ASSIGN_OR_RETURN(const uint64_t expired, EmptyTrashSome(before, max_steps));
  return expired > 0;
}

}  // namespace moorfs::meta
