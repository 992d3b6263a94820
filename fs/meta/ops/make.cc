// SPDX-License-Identifier: Apache-2.0
//
// New inodes: files, directories, symlinks, special files. One body for all:
// they differ in type and in what the parent counts.

#include <sys/stat.h>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Status MetaImpl::InheritFrom(Txn& txn, const Attr& parent, uint32_t mode, Attr* attr) {
  const bool is_dir = attr->type == FileType::kDirectory;
  attr->uid = txn.ctx.uid;
  attr->gid = txn.ctx.gid;
  attr->mode = mode & 07777;
  if (attr->type == FileType::kSymlink) {
    attr->mode = 0777;
  } else if (parent.default_acl == 0) {
    attr->mode = static_cast<uint16_t>(attr->mode & ~txn.ctx.umask);
  } else {
    // POSIX.1e: the default list takes the place of the umask.
    ASSIGN_OR_RETURN_STATUS(Acl acl, LoadAcl(txn.kv, parent.default_acl));
    attr->mode = InheritAcl(attr->mode, &acl);
    if (!IsEquivalentToMode(acl)) {
      ASSIGN_OR_RETURN_STATUS(attr->access_acl, InternAcl(txn, acl));
    }
    if (is_dir) attr->default_acl = parent.default_acl;
  }
  if (parent.mode & S_ISGID) {
    attr->gid = parent.gid;
    if (is_dir) attr->mode |= S_ISGID;
  }
  return Status::Ok();
}

Result<Entry> MetaImpl::Make(const OpContext& ctx, Ino parent, std::string_view name, const NewInode& what) {
  TRY_VOID(CheckName(name));
  ASSIGN_OR_RETURN(const Ino ino, NextIno());
  const bool is_dir = what.type == FileType::kDirectory;
  Outcome outcome;
  Entry entry;
  const Status done = Mutate(ctx, {parent}, &outcome, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr dir, LoadParent(txn.kv, parent));
    ASSIGN_OR_RETURN_STATUS(const NameSlot slot, FindName(txn.kv, parent, name));
    if (slot.found) return Status(EEXIST, "making an entry in directory " + std::to_string(parent) + ": it exists");
    if (is_dir && dir.nlink >= kMaxNlink) {
      return Status(EMLINK, "making a directory in " + std::to_string(parent) + ": it has too many already");
    }
    Attr attr;
    attr.type = what.type;
    attr.nlink = is_dir ? 2 : 1;
    attr.length = is_dir ? 4096 : what.symlink_target.size();
    attr.rdev = what.rdev;
    attr.generation = 1;
    attr.parent = parent;
    attr.quota = dir.quota;
    attr.atime = attr.mtime = attr.ctime = attr.btime = txn.now;
    RETURN_IF_ERROR(InheritFrom(txn, dir, what.mode, &attr));
    StoreBase(txn.kv, ino, attr);
    if (what.type == FileType::kSymlink) txn.kv.Put(schema_.Symlink(ino), what.symlink_target);
    RETURN_IF_ERROR(InsertDentry(txn, parent, slot, name, what.type, ino));
    RETURN_IF_ERROR(TouchDir(txn, parent, &dir, is_dir ? 1 : 0));
    txn.AddUsed(0, 1);
    txn.Charge(attr.quota, 0, 1);
    outcome.ino = ino;
    entry = {ino, attr};
    return Status::Ok();
  });
  TRY_VOID(done);
  if (outcome.replayed) return EntryNow(outcome.ino);
  return entry;
}

Result<Entry> MetaImpl::MakeNode(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                                 uint32_t rdev) {
  // mknod(2): no type means a regular file.
  const auto type = (mode & S_IFMT) == 0 ? FileType::kFile : FileTypeFromMode(mode);
  if (!type || *type == FileType::kDirectory || *type == FileType::kSymlink) {
    return Error(EINVAL, "making a node: mode " + std::to_string(mode) + " has no type that mknod makes");
  }
  const bool is_device = *type == FileType::kCharDevice || *type == FileType::kBlockDevice;
  return Make(ctx, parent, name, {*type, mode, is_device ? rdev : 0});
}

Result<Entry> MetaImpl::MakeDir(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode) {
  return Make(ctx, parent, name, {FileType::kDirectory, mode});
}

Result<Entry> MetaImpl::MakeSymlink(const OpContext& ctx, Ino parent, std::string_view name,
                                    std::string_view target) {
  if (target.empty()) return Error(ENOENT, "making a symlink: its target is empty");
  if (target.size() > kMaxSymlinkBytes) return Error(ENAMETOOLONG, "making a symlink: its target is too long");
  return Make(ctx, parent, name, {FileType::kSymlink, 0777, 0, target});
}

}  // namespace moorfs::meta
