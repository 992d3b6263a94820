// SPDX-License-Identifier: Apache-2.0
//
// DirtyStore: acknowledged, unflushed data in the arena. A segment is a run of
// bytes of one file with a descriptor that a successor of this client can
// read; segments of one file may overlap, the one with the higher sequence
// number lies on top. Which bytes are visible is DirtyMap's business.
//
// Thread-safe, except that a Segment's fields are guarded by the lock of the
// inode it belongs to.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "fs/format/types.h"
#include "fs/vfs/arena_layout.h"
#include "fs/vfs/page_allocator.h"

namespace moorfs::vfs {

struct Segment {
  uint32_t index = 0;  // of its descriptor
  uint32_t page = 0;
  unsigned order = 0;
  Ino ino = 0;
  uint64_t offset = 0;
  uint64_t seq = 0;
  uint32_t len = 0;
  uint32_t visible = 0;   // bytes not covered by newer segments
  bool frozen = false;    // a flush reads it: no more writes into it
  char* data = nullptr;

  uint32_t capacity() const { return static_cast<uint32_t>(kDataPageBytes << order); }
};

// What a dirty inode's record in the arena holds; index 0 = no record yet.
struct PendingAttr {
  uint32_t index = 0;
  uint64_t length = 0;
  Timestamp mtime;
};

class DirtyStore {
 public:
  explicit DirtyStore(Arena& arena);
  ~DirtyStore();

  // Room for at least one and at most `bytes` bytes (<= 1 MiB), descriptor
  // still unpublished; nullptr when the budget is used up.
  Segment* Allocate(Ino ino, uint64_t offset, uint32_t bytes);
  // Makes `len` bytes of the segment part of the file, crash or not. Call
  // after the bytes are in place; again with a greater `len` after an append.
  void Publish(Segment* segment, uint32_t len);
  // Cuts a published segment short (truncation).
  void Shorten(Segment* segment, uint32_t len);
  void Free(Segment* segment);

  // Records length and time of a dirty inode. False when no record is free.
  bool SetPending(Ino ino, PendingAttr* pending, uint64_t length, Timestamp mtime);
  void ClearPending(PendingAttr* pending);

  uint64_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }
  uint64_t budget_bytes() const { return uint64_t{page_count_} * kDataPageBytes; }
  // Waits until something was freed since `seen` (a value of freed_count())
  // or `timeout_ms` passed.
  uint64_t freed_count() const { return freed_count_.load(std::memory_order_relaxed); }
  void WaitForFree(uint64_t seen, int timeout_ms);

  // After a change of client: every live segment in sequence order, then every
  // pending inode. Records that make no sense are dropped and counted.
  // Call before anything else, from one thread.
  struct Recovered {
    std::vector<Segment*> segments;
    std::vector<std::pair<Ino, PendingAttr>> pending;
    size_t damaged = 0;
  };
  Recovered Recover();

  // Gives the memory of free pages back to the system.
  void Trim();

 private:
  Segment* NewSegment(uint32_t index);  // mutex_ held
  SegmentRecord* record(uint32_t index) { return &segments_[index]; }

  Arena& arena_;
  SegmentRecord* segments_;  // entry 0 is the header: `seq` = high-water mark
  DirtyInodeRecord* inodes_;  // entry 0: `length` = high-water mark
  uint32_t segment_count_;
  uint32_t inode_count_;
  char* pages_;
  uint32_t page_count_;

  std::mutex mutex_;  // guards all below
  PageAllocator allocator_;
  std::vector<std::unique_ptr<Segment>> live_;  // by index of the descriptor
  std::vector<uint32_t> free_segments_;
  std::vector<uint32_t> free_inodes_;
  uint64_t next_seq_ = 1;
  std::condition_variable freed_;

  std::atomic<uint64_t> used_bytes_{0};
  std::atomic<uint64_t> freed_count_{0};
};

}  // namespace moorfs::vfs
