// SPDX-License-Identifier: Apache-2.0
//
// Writing and truncating. A write is acknowledged once its bytes and then its
// length and time are published in the arena.

#include <algorithm>
#include <cstring>

#include "fs/vfs/flusher.h"
#include "fs/vfs/vfs.h"

namespace moorfs::vfs {
namespace {

constexpr uint64_t kMaxSegmentBytes = kDataPageBytes << PageAllocator::kMaxOrder;
// How long a writer waits for memory while the store refuses to take data.
constexpr int64_t kRefusedWaitNs = 2'000'000'000;
// A round that another thread runs counts its bytes as stored and as unflushed
// for a moment: a write is refused only when it finds no room behind so many
// flushes.
constexpr int kQuotaFlushes = 2;

}  // namespace

Status Vfs::Insert(Inode& inode, uint64_t offset, std::span<const char> data, std::vector<Segment*>* covered) {
  while (!data.empty()) {
    const DirtyPiece at = inode.dirty.At(offset);
    if (at.segment != nullptr && !at.segment->frozen) {
      const uint64_t skip = offset - at.offset;
      const size_t n = std::min<uint64_t>(data.size(), at.len - skip);
      std::memcpy(at.data() + skip, data.data(), n);
      offset += n;
      data = data.subspan(n);
      continue;
    }
    const DirtyPiece before = at.segment == nullptr ? inode.dirty.EndingAt(offset) : DirtyPiece{};
    Segment* last = before.segment;
    const bool at_tail = last != nullptr && before.segment_offset + before.len == last->len;
    if (at_tail && !last->frozen && last->len < last->capacity()) {
      const uint64_t gap = inode.dirty.NextDirty(offset) - offset;
      const auto n = static_cast<uint32_t>(std::min<uint64_t>({data.size(), last->capacity() - last->len, gap}));
      std::memcpy(last->data + last->len, data.data(), n);
      dirty_.Publish(last, last->len + n);
      inode.dirty.Grow(offset, n);
      offset += n;
      data = data.subspan(n);
      continue;
    }
    // Bytes that no flush reads are overwritten where they are: one segment
    // never hides another, unless a flush is about to commit that other.
    const uint64_t room = inode.dirty.NextUnfrozen(offset, offset + data.size()) - offset;
    // A stream of appends gets ever larger segments.
    uint64_t want = room;
    if (at_tail) want = std::max<uint64_t>(want, 2 * uint64_t{last->capacity()});
    Segment* fresh = dirty_.Allocate(inode.ino, offset, static_cast<uint32_t>(std::min(want, kMaxSegmentBytes)));
    if (fresh == nullptr) return Status(EWOULDBLOCK, "write: the memory for unflushed data is used up");
    const auto n = static_cast<uint32_t>(std::min<uint64_t>(room, fresh->capacity()));
    std::memcpy(fresh->data, data.data(), n);
    dirty_.Publish(fresh, n);
    inode.dirty.Insert({offset, n, fresh, 0}, covered);
    offset += n;
    data = data.subspan(n);
  }
  return Status::Ok();
}

Status Vfs::DoWrite(const InodePtr& inode, uint64_t offset, std::span<const char> data, bool kill_suidgid) {
  if (data.empty()) return Status::Ok();
  if (offset + data.size() > kMaxFileBytes) return Status(EFBIG, "write: beyond the largest file");
  // A full store refuses here, not when it is too late to tell the writer.
  const uint64_t available = store_available_.load(std::memory_order_relaxed);
  const uint64_t used = dirty_.used_bytes();
  if (used + data.size() > available) return Status(EWOULDBLOCK, "write: the store is full");
  if (used + data.size() > dirty_.budget_bytes()) return Status(EWOULDBLOCK, "write: too much unflushed data");

  bool was_clean;
  {
    std::unique_lock lock(inode->mutex);
    RETURN_IF_ERROR(LoadAttr(*inode));
    const Attr& attr = *inode->attr;
    if (attr.type != FileType::kFile) return Status(EINVAL, "write: not a regular file");
    const bool set_id = (attr.mode & 06000) != 0;
    if ((kill_suidgid && set_id) || (attr.flags & kAttrHasCapability) != 0) {
      RETURN_IF_ERROR(DropSetId(*inode));
    }
    was_clean = inode->pending.index == 0;
    const uint64_t length = inode->length();
    const bool limited = inode->attr->quota != 0 || inode->quota != 0;
    if (limited) RETURN_IF_ERROR(ReserveFor(*inode, data.size(), std::max(length, offset + data.size()), true));
    std::vector<Segment*> covered;
    Status status = Insert(*inode, offset, data, &covered);
    FreeCovered(covered);
    if (status.ok() && !dirty_.SetPending(inode->ino, &inode->pending, std::max(length, offset + data.size()),
                                          Timestamp::Now())) {
      status = Status(EWOULDBLOCK, "write: too many files with unflushed data");
    }
    if (!status.ok()) {
      // Nothing beyond the old length may stay behind.
      if (offset + data.size() > length) CutDirty(*inode, length);
      if (was_clean && inode->pending.index == 0) CutDirty(*inode, 0);
      if (limited) SettleQuota(*inode);
      return status;
    }
  }
  written_bytes_.fetch_add(data.size(), std::memory_order_relaxed);
  if (was_clean) flusher_->Enqueue(inode);
  return Status::Ok();
}

Status Vfs::TryWrite(const OpContext&, Ino ino, Handle, uint64_t offset, std::span<const char> data,
                     bool kill_suidgid) {
  Status status = WriteOnce(ino, offset, data, kill_suidgid);
  // Exact figures need a flush.
  if (status.err() == EDQUOT) return Status(EWOULDBLOCK, status.message());
  return status;
}

Status Vfs::WriteOnce(Ino ino, uint64_t offset, std::span<const char> data, bool kill_suidgid) {
  RETURN_IF_ERROR(WritableOrError());
  InodePtr inode = inodes_.Find(In(ino));
  if (!inode) return Status(EBADF, "write: the file is not open");
  Status status = DoWrite(inode, offset, data, kill_suidgid);
  if (dirty_.used_bytes() * 3 > dirty_.budget_bytes()) flusher_->Kick();
  return status;
}

Status Vfs::Write(const OpContext&, Ino ino, Handle, uint64_t offset, std::span<const char> data,
                  bool kill_suidgid) {
  int64_t refused_since = 0;
  int quota_flushes = 0;
  while (true) {
    const uint64_t seen = dirty_.freed_count();
    Status status = WriteOnce(ino, offset, data, kill_suidgid);
    if (status.err() == EDQUOT && quota_flushes++ < kQuotaFlushes) {
      RETURN_IF_ERROR(FlushQuotas());
      continue;
    }
    if (status.err() != EWOULDBLOCK) return status;
    RefreshSpace();
    const uint64_t available = store_available_;
    // What is dirty already has a claim on the space that is left.
    if (dirty_.used_bytes() + data.size() > available) {
      return Status(ENOSPC, "write: the object store " + blocks_.store().Url() + " is full");
    }
    flusher_->Kick();
    dirty_.WaitForFree(seen, 200);
    const Status flush = flusher_->last_error();
    const int64_t now = MonotonicNs();
    if (flush.ok() || dirty_.freed_count() != seen) refused_since = 0;
    else if (refused_since == 0) refused_since = now;
    else if (now - refused_since > kRefusedWaitNs) return flush;
  }
}

Result<Attr> Vfs::DoTruncate(const OpContext& ctx, Ino ino, uint64_t length, bool kill_suidgid) {
  if (length > kMaxFileBytes) return Error(EFBIG, "truncate: beyond the largest file");
  InodePtr inode = inodes_.Get(ino);
  Result<Attr> result = [&]() -> Result<Attr> {
    std::lock_guard data(inode->data_mutex);
    TRY_VOID(FlushToGrow(inode, length));
    std::unique_lock lock(inode->mutex);
    TRY_VOID(LoadAttr(*inode));
    TRY_VOID(ReserveLength(*inode, length));
    if (length < inode->length()) CutDirty(*inode, length);
    Result<Attr> attr = meta_.Truncate(ctx, ino, length, kill_suidgid);
    // Several transactions: on an error, some may have happened.
    ForgetCommitted(*inode);
    if (!attr) {
      SettleQuota(*inode);
      return attr;
    }
    inode->attr = *attr;
    if (inode->pending.index != 0) {
      if (inode->dirty.empty()) dirty_.ClearPending(&inode->pending);
      else dirty_.SetPending(ino, &inode->pending, length, Timestamp::Now());
    }
    inode->written = inode->dirty.bytes();
    SettleQuota(*inode);
    return Merged(*inode);
  }();
  inodes_.Settle(std::move(inode));
  return result;
}

}  // namespace moorfs::vfs
