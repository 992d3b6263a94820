// SPDX-License-Identifier: Apache-2.0
//
// The records that fs/vfs keeps in the arena (docs/formats/arena.md). Fixed
// size, naturally aligned, host byte order: an arena never leaves its machine.
// A record is live when its `state` word says so; the word is written last
// (release) when a record appears and first when it goes.

#pragma once

#include <atomic>
#include <cstdint>

#include "fs/vfs/arena.h"

namespace moorfs::vfs {

// One open file or directory. Handle number = index + generation << 32.
inline constexpr uint32_t kHandlesVersion = 1;
struct HandleRecord {
  std::atomic<uint32_t> state;  // 0 free, 1 file, 2 directory
  uint32_t generation;
  uint64_t ino;
  int32_t flags;  // open(2) flags
  uint32_t reserved;
  uint64_t unique;  // the request that opened it
  uint64_t reserved2[4];
};
static_assert(sizeof(HandleRecord) == 64);

// One granted lock.
inline constexpr uint32_t kLocksVersion = 1;
struct LockRecord {
  std::atomic<uint32_t> state;  // 0 free, 1 POSIX (or OFD), 2 flock
  uint32_t type;                // 0 read, 1 write
  uint64_t ino;
  uint64_t owner;
  uint64_t start, end;  // inclusive
  uint64_t handle;      // RELEASE of an OFD lock carries no owner
  int32_t pid;
  uint32_t reserved;
  uint64_t reserved2;
};
static_assert(sizeof(LockRecord) == 64);

// What a dirty inode's attributes will be once its data is committed.
inline constexpr uint32_t kInodesVersion = 1;
struct DirtyInodeRecord {
  std::atomic<uint64_t> ino;  // 0 = free
  std::atomic<uint64_t> length;
  std::atomic<int64_t> mtime_ns;
  uint64_t reserved;
};
static_assert(sizeof(DirtyInodeRecord) == 32);

// A run of unflushed bytes of one file. Its data is the `data_page`-th 4 KiB
// page of the data section and the pages after it.
inline constexpr uint32_t kSegmentsVersion = 1;
struct SegmentRecord {
  std::atomic<uint32_t> state;  // 0 free, 1 live
  uint32_t data_page;
  uint32_t page_count;
  std::atomic<uint32_t> len;  // valid bytes; grows by appends
  uint64_t ino;
  uint64_t offset;  // in the file
  uint64_t seq;     // order among segments: the higher lies on top
  uint64_t reserved[3];
};
static_assert(sizeof(SegmentRecord) == 64);

inline constexpr uint64_t kDataPageBytes = 4096;
// In the worst case every segment has one page.
inline uint64_t SegmentCount(const ArenaGeometry& g) { return g.data_bytes / kDataPageBytes; }
// A dirty inode has at least one segment or a pending length of its own.
inline uint64_t DirtyInodeCount(const ArenaGeometry& g) { return g.data_bytes / kDataPageBytes; }

}  // namespace moorfs::vfs
