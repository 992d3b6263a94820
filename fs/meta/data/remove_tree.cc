// SPDX-License-Identifier: Apache-2.0
//
// Trees that go at once for whoever deletes them, and bit by bit behind it.
// Taking a directory's name away and marking it (family W) is one transaction;
// the cleaner then removes a few entries per transaction. A subdirectory loses
// its name and becomes marked itself, so a crash never leaves a part of the
// tree that nothing leads to. Files that are open live on until they are closed.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

// Each file is locked against an open (DropLastClaim); InodeLocks::Held has
// room for these and the directory.
constexpr size_t kEntriesPerStep = 8;

}  // namespace

Status MetaImpl::Doom(Txn& txn, Ino dir, Attr* attr) {
  attr->nlink = 0;  // nothing can be made in it any more
  TouchAttr(txn, attr);
  if (attr->quota == dir) RETURN_IF_ERROR(EndQuota(txn, dir));
  txn.kv.Put(keys::DoomedDir(dir), "");
  return StoreAttr(txn.kv, dir, *attr);
}

Result<bool> MetaImpl::RemoveTreeStep(Ino dir) {
  bool done = false;
  const Status status = Mutate({}, {dir}, nullptr, [&](Txn& txn) -> Status {
    done = false;
    const kv::Range all = schema_.DentriesAfter(dir, 0);
    ASSIGN_OR_RETURN_STATUS(const auto entries, txn.kv.Scan(all, kEntriesPerStep));
    for (const kv::Entry& entry : entries) {
      txn.kv.Delete(kv::Key(all.partition, entry.suffix));
      ASSIGN_OR_RETURN_STATUS(const Dentry dentry, DecodeDentry(entry.value));
      if (dentry.tombstone) continue;
      RETURN_IF_ERROR(txn.Lock(dentry.ino));
      auto attr = LoadAttr(txn.kv, dentry.ino);
      if (!attr && attr.error().err() == ESTALE) continue;
      if (!attr) return attr.error();
      if (attr->type == FileType::kDirectory) {
        RETURN_IF_ERROR(Doom(txn, dentry.ino, &*attr));
        continue;
      }
      TouchAttr(txn, &*attr);
      attr->nlink -= attr->nlink == 0 ? 0 : 1;
      if (attr->nlink > 0) {
        RETURN_IF_ERROR(DropParent(txn, dentry.ino, &*attr, dir));
        RETURN_IF_ERROR(StoreAttr(txn.kv, dentry.ino, *attr));
      } else {
        RETURN_IF_ERROR(DropLastClaim(txn, dentry.ino, &*attr));
      }
    }
    if (entries.size() == kEntriesPerStep) return Status::Ok();
    done = true;
    txn.kv.Delete(keys::DoomedDir(dir));
    auto attr = LoadAttr(txn.kv, dir);
    if (!attr) return attr.error().err() == ESTALE ? Status::Ok() : attr.error();
    return DropLastClaim(txn, dir, &*attr);
  });
  TRY_VOID(status);
  return done;
}

Status MetaImpl::RemoveTrees(size_t& steps) {
  while (steps > 0) {
    std::vector<kv::Entry> doomed;
    RETURN_IF_ERROR(Read([&](kv::Transaction& kv) -> Status {
      ASSIGN_OR_RETURN_STATUS(doomed, kv.Scan(keys::DoomedDirs(), 64));
      return Status::Ok();
    }));
    if (doomed.empty()) return Status::Ok();
    for (const kv::Entry& entry : doomed) {
      const auto dir = keys::TrailingU64(entry.suffix);
      if (!dir) return Status(EIO, "removing a tree: malformed key");
      for (bool done = false; !done;) {
        if (steps == 0) return Status::Ok();
        --steps;
        ASSIGN_OR_RETURN_STATUS(done, RemoveTreeStep(*dir));
      }
    }
  }
  return Status::Ok();
}

}  // namespace moorfs::meta
