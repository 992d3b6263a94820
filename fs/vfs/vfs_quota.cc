// SPDX-License-Identifier: Apache-2.0
//
// Quotas and unflushed data. What a write may add to its quota is claimed
// before the write is acknowledged, because the commit can no longer refuse it.
//
// The claim of an inode is an upper bound: QuotaBytes() as it would be if every
// byte written since were a slice of its own, less what is charged already. For
// a file without holes that is exactly the growth of its length, so overwriting
// claims nothing; for one with holes it may be more, until a flush. Hence a
// write without room flushes what has claims and then asks once more.

#include <algorithm>

#include "fs/vfs/flusher.h"
#include "fs/vfs/vfs.h"

namespace moorfs::vfs {

Status Vfs::ReserveFor(Inode& inode, uint64_t more, uint64_t length, bool enforce) {
  const Attr& attr = *inode.attr;
  if (attr.quota != inode.quota) {
    RETURN_IF_ERROR(meta_.Reserve(inode.quota, -static_cast<int64_t>(inode.reserved), false));
    inode.quota = attr.quota;
    inode.reserved = 0;
  }
  Attr after = attr;
  after.slice_bytes += inode.written + more;
  after.length = length;
  const uint64_t then = QuotaBytes(after), now = QuotaBytes(attr);
  const uint64_t claim = then > now ? then - now : 0;
  RETURN_IF_ERROR(
      meta_.Reserve(inode.quota, static_cast<int64_t>(claim) - static_cast<int64_t>(inode.reserved), enforce));
  inode.reserved = claim;
  inode.written += more;
  return Status::Ok();
}

Status Vfs::ReserveLength(Inode& inode, uint64_t length) {
  const Attr& attr = *inode.attr;
  if (attr.quota == 0 || attr.quota != inode.quota || length <= inode.length()) return Status::Ok();
  Attr grown = attr;
  grown.length = std::max(attr.length, length);
  Attr after = grown;
  after.slice_bytes += inode.written;
  const uint64_t claim = QuotaBytes(after) - QuotaBytes(grown);
  if (claim <= inode.reserved) return Status::Ok();
  RETURN_IF_ERROR(meta_.Reserve(inode.quota, static_cast<int64_t>(claim - inode.reserved), true));
  inode.reserved = claim;
  return Status::Ok();
}

Status Vfs::FlushToGrow(const InodePtr& inode, uint64_t length) {
  {
    const std::shared_lock lock(inode->mutex);
    if (inode->quota == 0 || inode->pending.index == 0 || length <= inode->length()) return Status::Ok();
  }
  return flusher_->FlushInodeLocked(inode);
}

void Vfs::SettleQuota(Inode& inode) {
  if (inode.quota == 0) return;
  // An inode that is gone commits nothing any more.
  if (inode.pending.index != 0 && LoadAttr(inode).ok()) {
    // Without `enforce` nothing is refused.
    static_cast<void>(ReserveFor(inode, 0, inode.length(), false));
    return;
  }
  static_cast<void>(meta_.Reserve(inode.quota, -static_cast<int64_t>(inode.reserved), false));
  inode.quota = 0;
  inode.reserved = inode.written = 0;
}

Status Vfs::FlushQuotas() {
  std::vector<Ino> claiming;
  inodes_.VisitAll([&](Inode& inode) {
    std::shared_lock lock(inode.mutex);
    if (inode.reserved != 0) claiming.push_back(inode.ino);
  });
  for (const Ino ino : claiming) {
    InodePtr inode = inodes_.Find(ino);
    if (!inode) continue;
    RETURN_IF_ERROR(flusher_->FlushInode(inode));
    inodes_.Settle(std::move(inode));
  }
  return Status::Ok();
}

void Vfs::RefreshQuotas() {
  inodes_.VisitAll([this](Inode& inode) {
    std::unique_lock lock(inode.mutex);
    inode.attr.reset();
    if (inode.pending.index == 0 || !LoadAttr(inode).ok()) return;
    if (inode.attr->quota == 0 && inode.quota == 0) return;
    inode.written = std::max(inode.written, inode.dirty.bytes());
    static_cast<void>(ReserveFor(inode, 0, inode.length(), false));
  });
}

Result<StatFsReply> Vfs::StatFsOf(const OpContext& ctx, Ino ino) {
  ASSIGN_OR_RETURN(StatFsReply reply, StatFs(ctx));
  if (!meta_.HasQuotas()) return reply;
  ASSIGN_OR_RETURN(const Attr attr, SeenAttr(In(ino)));
  if (attr.quota == 0) return reply;
  ASSIGN_OR_RETURN(const std::optional<meta::QuotaRoom> room, meta_.GetQuotaRoom(attr.quota));
  if (!room) return reply;
  const auto narrow = [](std::optional<uint64_t> total, uint64_t used, uint64_t* all, uint64_t* free) {
    // The store may have less than the quota allows.
    if (total) *free = std::min(*free, *total > used ? *total - used : 0);
    *all = used + *free;
  };
  narrow(room->total_bytes, room->used_bytes, &reply.total_bytes, &reply.free_bytes);
  narrow(room->total_inodes, room->used_inodes, &reply.total_inodes, &reply.free_inodes);
  return reply;
}

}  // namespace moorfs::vfs
