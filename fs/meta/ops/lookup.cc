// SPDX-License-Identifier: Apache-2.0
//
// Reading one inode: by name, by number, a symlink's target.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<Entry> MetaImpl::Lookup(Ino parent, std::string_view name) {
  if (name.size() > kMaxNameBytes) return Error(ENAMETOOLONG, "looking up a name: it has more than 255 bytes");
  Entry entry;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    if (name == "." || name == "..") {
      ASSIGN_OR_RETURN_STATUS(const Attr dir, LoadBase(kv, parent, ENOENT));
      entry.ino = name == "." ? parent : dir.parent;
    } else {
      ASSIGN_OR_RETURN_STATUS(const NameSlot slot, FindName(kv, parent, name));
      if (!slot.found) {
        return Status(ENOENT, "looking up a name in directory " + std::to_string(parent) + ": no such entry");
      }
      entry.ino = slot.found->dentry.ino;
    }
    ASSIGN_OR_RETURN_STATUS(entry.attr, LoadAttr(kv, entry.ino, EIO));
    return Status::Ok();
  });
  TRY_VOID(done);
  return entry;
}

Result<Attr> MetaImpl::GetAttr(Ino ino) {
  // The lock orders an open with the removal of the inode (DropLastClaim).
  InodeLocks::Held held(locks_, std::span(&ino, 1));
  Attr attr;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    ASSIGN_OR_RETURN_STATUS(attr, LoadAttr(kv, ino));
    return Status::Ok();
  });
  TRY_VOID(done);
  return attr;
}

Result<std::string> MetaImpl::ReadSymlink(Ino ino) {
  std::string target;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    ASSIGN_OR_RETURN_STATUS(auto value, kv.Get(schema_.Symlink(ino)));
    if (value) {
      target = std::move(*value);
      return Status::Ok();
    }
    ASSIGN_OR_RETURN_STATUS(const Attr attr, LoadBase(kv, ino));
    if (attr.type != FileType::kSymlink) {
      return Status(EINVAL, "reading a link: inode " + std::to_string(ino) + " is no symlink");
    }
    return Status(EIO, "reading a link: inode " + std::to_string(ino) + " has lost its target; run moorfs fsck");
  });
  TRY_VOID(done);
  return target;
}

}  // namespace moorfs::meta
