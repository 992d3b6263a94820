// SPDX-License-Identifier: Apache-2.0
//
// Names that go: unlink, rmdir, and the end of an unlinked inode's last handle.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

// Common to unlink and rmdir; `want_dir` says which.
Result<Entry> MetaImpl::Remove(const OpContext& ctx, Ino parent, std::string_view name, bool want_dir) {
  TRY_VOID(CheckName(name));
  Outcome outcome;
  Entry entry;
  const Status done = Mutate(ctx, {parent}, &outcome, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr dir, LoadParent(txn.kv, parent));
    ASSIGN_OR_RETURN_STATUS(const NameSlot slot, FindName(txn.kv, parent, name));
    if (!slot.found) {
      return Status(ENOENT, "removing a name from directory " + std::to_string(parent) + ": no such entry");
    }
    const Ino ino = slot.found->dentry.ino;
    RETURN_IF_ERROR(txn.Lock(ino));
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadAttr(txn.kv, ino, EIO));
    const bool is_dir = attr.type == FileType::kDirectory;
    if (is_dir && !want_dir) return Status(EISDIR, "unlinking inode " + std::to_string(ino) + ": it is a directory");
    if (!is_dir && want_dir) return Status(ENOTDIR, "rmdir of inode " + std::to_string(ino) + ": no directory");
    if (is_dir) {
      ASSIGN_OR_RETURN_STATUS(const bool empty, IsEmptyDir(txn.kv, ino));
      if (!empty) return Status(ENOTEMPTY, "rmdir of inode " + std::to_string(ino) + ": it has entries");
    }
    RETURN_IF_ERROR(EraseDentry(txn, parent, *slot.found));
    RETURN_IF_ERROR(TouchDir(txn, parent, &dir, is_dir ? -1 : 0));
    RETURN_IF_ERROR(DropLink(txn, ino, &attr, parent, name));
    outcome.ino = ino;
    entry = {ino, attr};
    return Status::Ok();
  });
  TRY_VOID(done);
  if (outcome.replayed) return EntryNow(outcome.ino);
  return entry;
}

Result<Entry> MetaImpl::Unlink(const OpContext& ctx, Ino parent, std::string_view name) {
  return Remove(ctx, parent, name, false);
}

Result<Entry> MetaImpl::RemoveDir(const OpContext& ctx, Ino parent, std::string_view name) {
  if (name == ".") return Error(EINVAL, "rmdir of '.'");
  if (name == "..") return Error(ENOTEMPTY, "rmdir of '..'");
  return Remove(ctx, parent, name, true);
}

Status MetaImpl::ReleaseSustained(Ino ino) {
  OpContext ctx;
  return Mutate(ctx, {ino}, nullptr, [&](Txn& txn) -> Status {
    const kv::Key key = keys::Sustained(session_, ino);
    ASSIGN_OR_RETURN_STATUS(const auto record, txn.kv.Get(key));
    // Opened again meanwhile (through /proc/self/fd): the next release comes.
    if (!record || (options_.is_open && options_.is_open(ino))) return Status::Ok();
    txn.kv.Delete(key);
    const auto attr = LoadAttr(txn.kv, ino);
    if (!attr) return attr.error().err() == ESTALE ? Status::Ok() : attr.error();
    if (attr->nlink > 0) return Status::Ok();
    return RemoveInode(txn, ino, *attr);
  });
}

}  // namespace moorfs::meta
