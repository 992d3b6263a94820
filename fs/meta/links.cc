// SPDX-License-Identifier: Apache-2.0
//
// Links of inodes: which directories name them, and what happens when the last
// name goes. Unlink, rename, the end of a handle and the trash all end here.

#include <algorithm>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr int64_t kNsPerHour = int64_t{3600} * Timestamp::kNsPerSec;

}  // namespace

Status MetaImpl::CountParent(Txn& txn, Ino ino, Ino parent, int delta) {
  const kv::Key key = schema_.Parent(ino, parent);
  ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(key));
  const int64_t count = int64_t{value ? DecodeLe32(*value) : 0} + delta;
  if (count > 0) {
    txn.kv.Put(key, EncodeLe32(static_cast<uint32_t>(count)));
  } else {
    txn.kv.Delete(key);
  }
  return Status::Ok();
}

Status MetaImpl::AddParent(Txn& txn, Ino ino, Attr* attr, Ino parent) {
  if (!(attr->flags & kAttrManyParents)) {
    RETURN_IF_ERROR(CountParent(txn, ino, attr->parent, 1));
    attr->flags |= kAttrManyParents;
    attr->parent = 0;
  }
  return CountParent(txn, ino, parent, 1);
}

Status MetaImpl::DropParent(Txn& txn, Ino ino, Attr* attr, Ino parent) {
  if (!(attr->flags & kAttrManyParents)) return Status::Ok();
  RETURN_IF_ERROR(CountParent(txn, ino, parent, -1));
  if (attr->nlink != 1) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(const auto left, txn.kv.Scan(schema_.Parents(ino), 1));
  const auto last = left.empty() ? std::nullopt : keys::TrailingU64(left.front().suffix);
  if (!last) return Status(EIO, "inode " + std::to_string(ino) + ": its parents are damaged; run moorfs fsck");
  txn.kv.Delete(schema_.Parent(ino, *last));
  attr->flags &= ~kAttrManyParents;
  attr->parent = *last;
  return quotas_.empty() ? Status::Ok() : FollowLastName(txn, attr);
}

// Names from before a quota was set may lie on both sides of its border; the
// file then counts on one of them, and in the end where its last name is.
Status MetaImpl::FollowLastName(Txn& txn, Attr* attr) {
  ASSIGN_OR_RETURN_STATUS(const Attr dir, LoadBase(txn.kv, attr->parent, EIO));
  if (dir.quota != attr->quota) Retag(txn, attr, dir.quota);
  return Status::Ok();
}

void MetaImpl::Retag(Txn& txn, Attr* attr, Ino quota) {
  txn.AdmitAll();  // it is there already
  const auto held = static_cast<int64_t>(QuotaBytes(*attr));
  txn.Charge(attr->quota, -held, -1);
  txn.Charge(quota, held, 1);
  attr->quota = quota;
}

Status MetaImpl::MoveParent(Txn& txn, Ino ino, Attr* attr, Ino from, Ino to) {
  if (from == to) return Status::Ok();
  if (!(attr->flags & kAttrManyParents)) {
    attr->parent = to;
    return Status::Ok();
  }
  RETURN_IF_ERROR(CountParent(txn, ino, from, -1));
  return CountParent(txn, ino, to, 1);
}

Status MetaImpl::DropLink(Txn& txn, Ino ino, Attr* attr, Ino parent, std::string_view name) {
  TouchAttr(txn, attr);
  attr->nlink = attr->type == FileType::kDirectory || attr->nlink == 0 ? 0 : attr->nlink - 1;
  if (attr->nlink > 0) {
    RETURN_IF_ERROR(DropParent(txn, ino, attr, parent));
    return StoreAttr(txn.kv, ino, *attr);
  }
  if (attr->type == FileType::kDirectory && attr->quota == ino) RETURN_IF_ERROR(EndQuota(txn, ino));
  if (trash_days_ == 0) return DropLastClaim(txn, ino, attr);
  // What is in the trash does not count in quotas. So that nobody writes past a
  // quota through a file that is open there, one that is in use when its last
  // name goes is removed with its last handle, as without trash.
  if (attr->quota != 0 && attr->type == FileType::kFile) {
    RETURN_IF_ERROR(txn.Lock(ino));
    if (options_.is_open && options_.is_open(ino)) return DropLastClaim(txn, ino, attr);
  }
  return MoveToTrash(txn, ino, attr, parent, name);
}

Status MetaImpl::DropLastClaim(Txn& txn, Ino ino, Attr* attr) {
  // Orders this with an open: it makes its handle known and then reads the
  // attributes, under the same lock.
  RETURN_IF_ERROR(txn.Lock(ino));
  attr->flags &= ~kAttrTrashed;
  attr->trashed = {};
  if (options_.is_open && options_.is_open(ino)) {
    txn.kv.Put(keys::Sustained(session_, ino), "");
    return StoreAttr(txn.kv, ino, *attr);
  }
  return RemoveInode(txn, ino, *attr);
}

Status MetaImpl::RemoveInode(Txn& txn, Ino ino, const Attr& attr) {
  txn.kv.Delete(schema_.Attr(ino));
  if (attr.type == FileType::kSymlink) txn.kv.Delete(schema_.Symlink(ino));
  if (attr.flags & kAttrInline) txn.kv.Delete(schema_.Inline(ino));
  const bool has_deltas = attr.type == FileType::kDirectory && shared();
  if (attr.slice_seq > 0 || (attr.flags & (kAttrHasXattr | kAttrManyParents)) || has_deltas) {
    txn.kv.Put(keys::DeletedInode(ino), EncodeLe64(attr.length));
  }
  txn.AddUsed(-static_cast<int64_t>(AccountedBytes(attr)), -1);
  txn.Charge(attr.quota, -static_cast<int64_t>(QuotaBytes(attr)), -1);
  return Status::Ok();
}

Status MetaImpl::MoveToTrash(Txn& txn, Ino ino, Attr* attr, Ino parent, std::string_view name) {
  txn.Charge(attr->quota, -static_cast<int64_t>(QuotaBytes(*attr)), -1);
  attr->quota = 0;
  attr->flags |= kAttrTrashed;
  attr->trashed = std::max(txn.now, Timestamp{});
  attr->parent = parent;
  RETURN_IF_ERROR(WidenTrashHours(txn, static_cast<uint64_t>(attr->trashed.ns / kNsPerHour)));
  TrashRecord record;
  record.parent = parent;
  record.type = attr->type;
  record.name = std::string(name);
  txn.kv.Put(keys::Trash(attr->trashed, ino), EncodeTrash(record));
  return StoreAttr(txn.kv, ino, *attr);
}

Status MetaImpl::WidenTrashHours(Txn& txn, uint64_t hour) {
  {
    std::lock_guard lock(trash_mutex_);
    if (trash_hours_.contains(hour)) return Status::Ok();
  }
  ASSIGN_OR_RETURN_STATUS(HourSpan hours, LoadTrashHours(txn.kv));
  if (hour < hours.first) {
    hours.first = hour;
    txn.kv.Put(keys::Allocator("trash_first"), EncodeLe64(hour));
  }
  if (hour > hours.last) {
    hours.last = hour;
    txn.kv.Put(keys::Allocator("trash_last"), EncodeLe64(hour));
  }
  txn.trash_hours_ = hours;
  return Status::Ok();
}

}  // namespace moorfs::meta
