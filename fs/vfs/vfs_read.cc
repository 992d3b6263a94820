// SPDX-License-Identifier: Apache-2.0
//
// Reading: dirty bytes from the arena over committed bytes from blocks over
// inline bytes over zeros. The inode's lock is held while the picture is put
// together, not while blocks are read: objects are immutable and outlive any
// read, since their deletion is delayed.

#include <algorithm>
#include <cstring>

#include "common/log/log.h"
#include "fs/vfs/flusher.h"
#include "fs/vfs/vfs.h"

namespace moorfs::vfs {

Result<std::shared_ptr<chunk::ChunkMap>> Vfs::MapOf(Inode& inode, uint32_t chunk) {
  std::lock_guard lock(inode.maps_mutex);
  auto it = inode.maps.find(chunk);
  if (it != inode.maps.end()) return it->second;
  ASSIGN_OR_RETURN(std::vector<Slice> slices, meta_.LoadSlices(inode.ino, chunk));
  auto map = std::make_shared<chunk::ChunkMap>(slices);
  inodes_.AddMapBytes(static_cast<int64_t>(map->MemoryBytes()));
  inode.maps.emplace(chunk, map);
  return map;
}

void Vfs::DropMaps(Inode& inode) {
  std::lock_guard lock(inode.maps_mutex);
  for (const auto& [chunk, map] : inode.maps) inodes_.AddMapBytes(-static_cast<int64_t>(map->MemoryBytes()));
  inode.maps.clear();
}

Status Vfs::Assemble(Inode& inode, uint64_t offset, std::span<char> out, std::vector<BlockPart>* parts) {
  thread_local std::vector<DirtyPiece> dirty;
  thread_local std::vector<chunk::Extent> extents;
  dirty.clear();
  inode.dirty.Find(offset, out.size(), &dirty);

  // Committed bytes of [at, end), a range that nothing dirty covers.
  const auto committed = [&](uint64_t at, uint64_t end) -> Status {
    const auto to = [&](uint64_t place) { return out.data() + (place - offset); };
    if (at < kMaxInlineBytes && (inode.attr->flags & kAttrInline) != 0) {
      const std::string& bytes = *inode.inline_bytes;
      const uint64_t stop = std::min<uint64_t>(end, kMaxInlineBytes);
      const uint64_t have = at < bytes.size() ? std::min<uint64_t>(bytes.size(), stop) - at : 0;
      if (have != 0) std::memcpy(to(at), bytes.data() + at, have);
      std::memset(to(at + have), 0, end - at - have);
    } else {
      std::memset(to(at), 0, end - at);
    }
    if (inode.attr->slice_seq == 0) return Status::Ok();
    while (at < end) {
      const auto chunk = static_cast<uint32_t>(at / kChunkBytes);
      const uint64_t chunk_start = uint64_t{chunk} * kChunkBytes;
      const uint64_t stop = std::min(end, chunk_start + kChunkBytes);
      ASSIGN_OR_RETURN_STATUS(std::shared_ptr<chunk::ChunkMap> map, MapOf(inode, chunk));
      extents.clear();
      map->Find(static_cast<uint32_t>(at - chunk_start), static_cast<uint32_t>(stop - at), &extents);
      for (const chunk::Extent& extent : extents) {
        char* const bytes = to(chunk_start + extent.pos);
        if (extent.object.is_hole()) std::memset(bytes, 0, extent.len);
        else parts->push_back({extent.object, extent.offset, extent.len, bytes});
      }
      at = stop;
    }
    return Status::Ok();
  };

  uint64_t at = offset;
  for (const DirtyPiece& piece : dirty) {
    if (piece.offset > at) RETURN_IF_ERROR(committed(at, piece.offset));
    std::memcpy(out.data() + (piece.offset - offset), piece.data(), piece.len);
    at = piece.offset + piece.len;
  }
  const uint64_t end = offset + out.size();
  return at < end ? committed(at, end) : Status::Ok();
}

Status Vfs::LockLoaded(Inode& inode, std::shared_lock<std::shared_mutex>* lock) {
  if (!lock->owns_lock()) lock->lock();
  while (!inode.attr || ((inode.attr->flags & kAttrInline) != 0 && !inode.inline_bytes)) {
    lock->unlock();
    {
      std::unique_lock exclusive(inode.mutex);
      RETURN_IF_ERROR(LoadAttr(inode));
      if ((inode.attr->flags & kAttrInline) != 0 && !inode.inline_bytes) {
        ASSIGN_OR_RETURN_STATUS(inode.inline_bytes, meta_.LoadInline(inode.ino));
      }
    }
    lock->lock();
  }
  return Status::Ok();
}

Result<size_t> Vfs::DoRead(Ino ino, uint64_t offset, std::span<char> out, bool blocking) {
  InodePtr inode = inodes_.Find(ino);
  if (!inode) return Error(EBADF, "read: the file is not open");
  std::shared_lock lock(inode->mutex, std::defer_lock);
  if (!blocking && !lock.try_lock()) return Error(EWOULDBLOCK, "read: the inode is busy");
  TRY_VOID(LockLoaded(*inode, &lock));
  const uint64_t length = inode->length();
  if (offset >= length) return size_t{0};
  out = out.first(std::min<uint64_t>(out.size(), length - offset));

  thread_local std::vector<BlockPart> parts;
  parts.clear();
  TRY_VOID(Assemble(*inode, offset, out, &parts));
  if (!options_.noatime && !options_.read_only) TouchAtime(*inode);
  lock.unlock();

  for (const BlockPart& part : parts) {
    const std::span<char> to(part.out, part.len);
    if (!blocking) {
      if (!blocks_.TryRead(part.object, part.offset, to)) return Error(EWOULDBLOCK, "read: not in memory");
      continue;
    }
    Status status = blocks_.Read(part.object, part.offset, to);
    if (!status.ok()) {
      read_errors_.fetch_add(1, std::memory_order_relaxed);
      return Error(std::move(status));
    }
  }
  if (inodes_.map_bytes() > options_.map_bytes) inodes_.EvictMaps(options_.map_bytes / 4);
  read_bytes_.fetch_add(out.size(), std::memory_order_relaxed);
  return out.size();
}

Result<size_t> Vfs::TryRead(const OpContext&, Ino ino, Handle, uint64_t offset, std::span<char> out) {
  return DoRead(In(ino), offset, out, false);
}

Result<size_t> Vfs::Read(const OpContext&, Ino ino, Handle, uint64_t offset, std::span<char> out) {
  ino = In(ino);
  Result<size_t> got = DoRead(ino, offset, out, true);
  if (got && *got == out.size() && out.size() >= 128_KiB) {
    // A large read that was not in memory: the kernel is reading ahead. Have
    // what comes next ready when it asks.
    if (InodePtr inode = inodes_.Find(ino)) ReadAhead(*inode, offset + *got, 4 * out.size());
  }
  return got;
}

void Vfs::ReadAhead(Inode& inode, uint64_t offset, uint64_t len) {
  std::shared_lock lock(inode.mutex, std::try_to_lock);
  if (!lock || !inode.attr) return;
  const uint64_t end = std::min(offset + len, inode.length());
  std::vector<chunk::Extent> extents;
  while (offset < end) {
    const auto chunk = static_cast<uint32_t>(offset / kChunkBytes);
    const uint64_t chunk_start = uint64_t{chunk} * kChunkBytes;
    const uint64_t stop = std::min(end, chunk_start + kChunkBytes);
    Result<std::shared_ptr<chunk::ChunkMap>> map = MapOf(inode, chunk);
    if (!map) return;
    extents.clear();
    (*map)->Find(static_cast<uint32_t>(offset - chunk_start), static_cast<uint32_t>(stop - offset), &extents);
    for (const chunk::Extent& extent : extents) {
      if (!extent.object.is_hole()) blocks_.Prefetch(extent.object, extent.offset, extent.len);
    }
    offset = stop;
  }
}

// relatime: a read moves atime only past the last change, or after a day.
void Vfs::TouchAtime(Inode& inode) {
  const Attr& attr = *inode.attr;
  const Timestamp changed = std::max({attr.mtime, attr.ctime, inode.pending.mtime});
  const Timestamp now = Timestamp::Now();
  if (attr.atime > changed && now.ns - attr.atime.ns < 86'400 * Timestamp::kNsPerSec) return;
  flusher_->QueueAtime(inode.ino, now);
}

}  // namespace moorfs::vfs
