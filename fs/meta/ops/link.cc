// SPDX-License-Identifier: Apache-2.0
//
// A second name for an inode.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<Entry> MetaImpl::Link(const OpContext& ctx, Ino ino, Ino new_parent, std::string_view new_name) {
  TRY_VOID(CheckName(new_name));
  Outcome outcome;
  Entry entry;
  const Status done = Mutate(ctx, {ino, new_parent}, &outcome, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr dir, LoadParent(txn.kv, new_parent));
    ASSIGN_OR_RETURN_STATUS(const NameSlot slot, FindName(txn.kv, new_parent, new_name));
    if (slot.found) return Status(EEXIST, "linking into directory " + std::to_string(new_parent) + ": the name exists");
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadBase(txn.kv, ino));
    if (attr.type == FileType::kDirectory) return Status(EPERM, "linking inode " + std::to_string(ino) + ": a directory");
    if (attr.nlink == 0) return Status(ENOENT, "linking inode " + std::to_string(ino) + ": it has no name any more");
    if (attr.quota != dir.quota) {
      return Status(EXDEV, "linking inode " + std::to_string(ino) + ": the directory has another quota");
    }
    if (attr.nlink >= kMaxNlink) return Status(EMLINK, "linking inode " + std::to_string(ino) + ": too many links");
    ++attr.nlink;
    RETURN_IF_ERROR(AddParent(txn, ino, &attr, new_parent));
    TouchAttr(txn, &attr);
    StoreBase(txn.kv, ino, attr);
    RETURN_IF_ERROR(InsertDentry(txn, new_parent, slot, new_name, attr.type, ino));
    RETURN_IF_ERROR(TouchDir(txn, new_parent, &dir, 0));
    outcome.ino = ino;
    entry = {ino, attr};
    return Status::Ok();
  });
  TRY_VOID(done);
  if (outcome.replayed) return EntryNow(outcome.ino);
  return entry;
}

}  // namespace moorfs::meta
