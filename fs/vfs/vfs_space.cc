// SPDX-License-Identifier: Apache-2.0
//
// Space: allocation, holes, copies that share data, and the search for holes
// and data. What changes the committed map first flushes what lies above it.

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>

#include "fs/vfs/flusher.h"
#include "fs/vfs/vfs.h"

namespace moorfs::vfs {

// Changes of a file's content that are no write: the kernel does not say
// whether the caller may keep set-id bits, so nobody does.
Status Vfs::DropSetId(Inode& inode) {
  const Attr& attr = *inode.attr;
  if ((attr.mode & 06000) == 0 && (attr.flags & kAttrHasCapability) == 0) return Status::Ok();
  RETURN_IF_ERROR(meta_.KillPrivileges(inode.ino));
  inode.attr.reset();
  return LoadAttr(inode);
}

Status Vfs::Fallocate(const OpContext& ctx, Ino ino, Handle, int mode, uint64_t offset, uint64_t len) {
  RETURN_IF_ERROR(WritableOrError());
  ino = In(ino);
  if (len == 0) return Status(EINVAL, "fallocate: no length");
  if (offset + len > kMaxFileBytes || offset + len < offset) return Status(EFBIG, "fallocate: beyond the largest file");
  const bool keep = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  const bool zero = (mode & FALLOC_FL_ZERO_RANGE) != 0;
  if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0 || (punch && zero) ||
      (punch && !keep)) {
    return Status(EOPNOTSUPP, "fallocate: this mode is not supported");
  }
  InodePtr inode = inodes_.Find(ino);
  if (!inode) return Status(EBADF, "fallocate: the file is not open");
  std::lock_guard data(inode->data_mutex);
  if (punch || zero) RETURN_IF_ERROR(flusher_->FlushInodeLocked(inode));
  if (!keep) RETURN_IF_ERROR(FlushToGrow(inode, offset + len));
  std::unique_lock lock(inode->mutex);
  RETURN_IF_ERROR(LoadAttr(*inode));
  if (inode->attr->type != FileType::kFile) return Status(ENODEV, "fallocate: not a regular file");
  if (!keep && inode->attr->quota != 0 && offset + len > inode->length()) {
    // Nothing is set aside, but what can never fit is refused now.
    const auto growth = static_cast<int64_t>(offset + len - inode->length());
    RETURN_IF_ERROR(meta_.Reserve(inode->attr->quota, growth, true));
    RETURN_IF_ERROR(meta_.Reserve(inode->attr->quota, -growth, false));
    RETURN_IF_ERROR(ReserveLength(*inode, offset + len));
  }
  RETURN_IF_ERROR(DropSetId(*inode));
  if (punch || zero) {
    // A write that slipped in between the flush and here is younger than the
    // zeros would be old: it began after this call and may win.
    Result<Attr> attr = meta_.Zero(ctx, ino, offset, len, zero && !keep);
    ForgetCommitted(*inode);
    if (!attr) return std::move(attr).error();
    inode->attr = *attr;
  } else if (!keep) {
    Result<Attr> attr = meta_.Extend(ctx, ino, offset + len);
    ForgetCommitted(*inode);
    if (!attr) return std::move(attr).error();
    inode->attr = *attr;
  }
  if (inode->pending.index != 0 && !keep) {
    dirty_.SetPending(ino, &inode->pending, std::max(inode->pending.length, offset + len), Timestamp::Now());
  }
  SettleQuota(*inode);
  return Status::Ok();
}

Result<uint64_t> Vfs::CopyFileRange(const OpContext& ctx, Ino src, Handle, uint64_t src_off, Ino dst, Handle,
                                    uint64_t dst_off, uint64_t len) {
  TRY_VOID(WritableOrError());
  Result<uint64_t> copied = DoCopy(ctx, In(src), src_off, In(dst), dst_off, len);
  if (copied || copied.error().err() != EDQUOT) return copied;
  // Exact figures need a flush.
  TRY_VOID(FlushQuotas());
  return DoCopy(ctx, In(src), src_off, In(dst), dst_off, len);
}

Result<uint64_t> Vfs::DoCopy(const OpContext& ctx, Ino src, uint64_t src_off, Ino dst, uint64_t dst_off,
                             uint64_t len) {
  InodePtr from = inodes_.Find(src);
  InodePtr to = inodes_.Find(dst);
  if (!from || !to) return Error(EBADF, "copy_file_range: a file is not open");
  if (dst_off + len > kMaxFileBytes || dst_off + len < dst_off) {
    return Error(EFBIG, "copy_file_range: beyond the largest file");
  }
  std::unique_lock first((src <= dst ? from : to)->data_mutex);
  std::unique_lock<std::mutex> second;
  if (src != dst) second = std::unique_lock((src <= dst ? to : from)->data_mutex);
  TRY_VOID(flusher_->FlushInodeLocked(from));
  if (src != dst) TRY_VOID(flusher_->FlushInodeLocked(to));
  // The copy shares blocks: an fsync of it has to make the source's durable.
  std::set<ObjectId> shared;
  if (src != dst) {
    std::shared_lock lock(from->mutex);
    shared = from->unsynced;
  }
  std::unique_lock lock(to->mutex);
  TRY_VOID(LoadAttr(*to));
  TRY_VOID(ReserveLength(*to, dst_off + len));
  Result<uint64_t> copied = meta_.CopyRange(ctx, src, src_off, dst, dst_off, len);
  // Several transactions: on an error, some may have happened.
  ForgetCommitted(*to);
  to->unsynced.insert(shared.begin(), shared.end());
  if (copied && to->pending.index != 0) {
    dirty_.SetPending(dst, &to->pending, std::max(to->pending.length, dst_off + *copied), Timestamp::Now());
  }
  SettleQuota(*to);
  return copied;
}

Result<uint64_t> Vfs::NextCommitted(Inode& inode, uint64_t offset, Whence whence) {
  const uint64_t length = inode.length();
  const uint64_t inline_end =
      (inode.attr->flags & kAttrInline) != 0 && inode.inline_bytes ? inode.inline_bytes->size() : 0;
  while (offset < length) {
    // Inline bytes count as data even under an explicit hole: never wrong.
    if (offset < inline_end) {
      if (whence == Whence::kData) return offset;
      offset = inline_end;
      continue;
    }
    const auto chunk = static_cast<uint32_t>(offset / kChunkBytes);
    const uint64_t chunk_start = uint64_t{chunk} * kChunkBytes;
    ASSIGN_OR_RETURN(std::shared_ptr<chunk::ChunkMap> map, MapOf(inode, chunk));
    const auto at = static_cast<uint32_t>(offset - chunk_start);
    if (whence == Whence::kHole) {
      const uint32_t next = map->NextHole(at);
      offset = chunk_start + next;
      if (next < kChunkBytes) break;
      continue;
    }
    const uint32_t next = map->NextData(at);
    if (next < kChunkBytes) return std::min(length, chunk_start + next);
    // Skip chunks without a record in one step: a sparse file may have
    // millions of them.
    ASSIGN_OR_RETURN(std::unique_ptr<kv::Snapshot> snapshot, meta_.kv().NewSnapshot());
    ASSIGN_OR_RETURN(std::vector<kv::Entry> found,
                     snapshot->Scan(meta_.schema().SlicesFrom(inode.ino, chunk + 1), 1));
    if (found.empty()) return length;
    const std::optional<keys::ChunkSeq> where = keys::ParseSliceSuffix(found[0].suffix);
    if (!where) return Error(EIO, "lseek: a slice record has a malformed key; run moorfs fsck");
    offset = uint64_t{where->chunk} * kChunkBytes;
  }
  return std::min(offset, length);
}

Result<uint64_t> Vfs::Seek(const OpContext&, Ino ino, Handle, uint64_t offset, Whence whence) {
  ino = In(ino);
  InodePtr inode = inodes_.Find(ino);
  if (!inode) return Error(EBADF, "lseek: the file is not open");
  std::shared_lock lock(inode->mutex, std::defer_lock);
  TRY_VOID(LockLoaded(*inode, &lock));
  const uint64_t length = inode->length();
  if (offset >= length) return Error(ENXIO, "lseek: beyond the end of the file");
  while (offset < length) {
    if (whence == Whence::kData) {
      ASSIGN_OR_RETURN(const uint64_t committed, NextCommitted(*inode, offset, whence));
      const uint64_t found = std::min(committed, inode->dirty.NextDirty(offset));
      if (found >= length) return Error(ENXIO, "lseek: no data behind this offset");
      return found;
    }
    const uint64_t clean = inode->dirty.NextClean(offset);
    if (clean != offset) {
      offset = clean;
      continue;
    }
    ASSIGN_OR_RETURN(const uint64_t hole, NextCommitted(*inode, offset, whence));
    // Dirty data may begin before the committed hole; the hole is then where
    // both are absent.
    if (inode->dirty.At(hole).segment == nullptr || hole >= length) return std::min(hole, length);
    offset = hole;
  }
  return length;
}

}  // namespace moorfs::vfs
