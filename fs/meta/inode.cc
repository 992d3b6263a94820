// SPDX-License-Identifier: Apache-2.0
//
// Loading and storing attributes. On a shared engine a directory's are spread:
// its own record, and one delta per session, so that hosts which create files
// in one directory do not conflict. An embedded engine has one writer, which
// keeps the directory's own record exact and writes no deltas.

#include <algorithm>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

// As many sessions as one directory's deltas may come from.
constexpr size_t kMaxDeltas = 4096;

std::string NoInode(Ino ino) { return "inode " + std::to_string(ino) + ": it does not exist"; }

}  // namespace

Result<Attr> MetaImpl::LoadBase(kv::Transaction& kv, Ino ino, int missing) {
  ASSIGN_OR_RETURN(const auto value, kv.Get(schema_.Attr(ino)));
  if (!value) return Error(missing, NoInode(ino));
  return DecodeAttr(*value);
}

Status MetaImpl::AddDeltas(const std::vector<kv::Entry>& deltas, Attr* attr) {
  for (const kv::Entry& entry : deltas) {
    ASSIGN_OR_RETURN_STATUS(const DirDelta delta, DecodeDirDelta(entry.value));
    attr->nlink = static_cast<uint32_t>(attr->nlink + delta.nlink);
    attr->change += delta.change;
    attr->mtime = std::max(attr->mtime, delta.mtime);
    attr->ctime = std::max(attr->ctime, delta.ctime);
  }
  return Status::Ok();
}

Result<Attr> MetaImpl::LoadAttr(kv::Transaction& kv, Ino ino, int missing) {
  ASSIGN_OR_RETURN(Attr attr, LoadBase(kv, ino, missing));
  if (attr.type != FileType::kDirectory || !shared()) return attr;
  ASSIGN_OR_RETURN(const auto deltas, kv.Scan(schema_.DirDeltas(ino), kMaxDeltas));
  TRY_VOID(AddDeltas(deltas, &attr));
  return attr;
}

void MetaImpl::StoreBase(kv::Transaction& kv, Ino ino, const Attr& attr) {
  kv.Put(schema_.Attr(ino), EncodeAttr(attr));
}

Status MetaImpl::StoreAttr(kv::Transaction& kv, Ino ino, const Attr& attr) {
  if (attr.type == FileType::kDirectory && shared()) {
    ASSIGN_OR_RETURN_STATUS(const auto deltas, kv.Scan(schema_.DirDeltas(ino), kMaxDeltas));
    const std::string partition = schema_.InodePartition(ino);
    for (const kv::Entry& entry : deltas) kv.Delete(kv::Key(partition, entry.suffix));
  }
  StoreBase(kv, ino, attr);
  return Status::Ok();
}

Result<Attr> MetaImpl::LoadParent(kv::Transaction& kv, Ino ino) {
  ASSIGN_OR_RETURN(const Attr attr, LoadBase(kv, ino, ENOENT));
  if (attr.type != FileType::kDirectory) {
    return Error(ENOTDIR, "inode " + std::to_string(ino) + ": it is not a directory");
  }
  if (attr.nlink == 0) return Error(ENOENT, "directory " + std::to_string(ino) + ": it is removed");
  return attr;
}

Status MetaImpl::TouchDir(Txn& txn, Ino dir, Attr* base, int64_t nlink) {
  // A time in the future (utimensat) would win over every delta: fold.
  if (shared() && base->mtime <= txn.now && base->ctime <= txn.now) {
    const kv::Key key = schema_.DirDelta(dir, session_);
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(key));
    DirDelta delta;
    if (value) {
      ASSIGN_OR_RETURN_STATUS(delta, DecodeDirDelta(*value));
    }
    delta.nlink += nlink;
    ++delta.change;
    delta.mtime = delta.ctime = txn.now;
    txn.kv.Put(key, EncodeDirDelta(delta));
    return Status::Ok();
  }
  if (shared()) {
    ASSIGN_OR_RETURN_STATUS(*base, LoadAttr(txn.kv, dir));
  }
  base->nlink = static_cast<uint32_t>(base->nlink + nlink);
  base->mtime = txn.now;
  TouchAttr(txn, base);
  return StoreAttr(txn.kv, dir, *base);
}

void MetaImpl::DropSetId(Attr* attr) {
  constexpr uint16_t kSetUidBit = 04000, kSetGidBit = 02000, kGroupExec = 00010;
  attr->mode = static_cast<uint16_t>(attr->mode & ~kSetUidBit);
  if (attr->mode & kGroupExec) attr->mode = static_cast<uint16_t>(attr->mode & ~kSetGidBit);
}

void MetaImpl::KillPrivilegesIn(const keys::Schema& schema, Txn& txn, Ino ino, Attr* attr) {
  DropSetId(attr);
  if (attr->flags & kAttrHasCapability) {
    txn.kv.Delete(schema.Xattr(ino, "security.capability"));
    attr->flags &= ~kAttrHasCapability;
  }
}

}  // namespace moorfs::meta
