// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/dirty_store.h"

#include <algorithm>
#include <chrono>

namespace moorfs::vfs {

DirtyStore::DirtyStore(Arena& arena)
    : arena_(arena),
      segments_(reinterpret_cast<SegmentRecord*>(arena.section(SectionId::kSegments).data)),
      inodes_(reinterpret_cast<DirtyInodeRecord*>(arena.section(SectionId::kInodes).data)),
      segment_count_(static_cast<uint32_t>(SegmentCount(arena.geometry()))),
      inode_count_(static_cast<uint32_t>(DirtyInodeCount(arena.geometry()))),
      pages_(arena.section(SectionId::kPages).data),
      page_count_(static_cast<uint32_t>(arena.geometry().data_bytes / kDataPageBytes)),
      allocator_(page_count_) {}

DirtyStore::~DirtyStore() = default;

Segment* DirtyStore::NewSegment(uint32_t index) {
  if (index >= live_.size()) live_.resize(index + 1);
  live_[index] = std::make_unique<Segment>();
  live_[index]->index = index;
  return live_[index].get();
}

Segment* DirtyStore::Allocate(Ino ino, uint64_t offset, uint32_t bytes) {
  std::lock_guard lock(mutex_);
  uint32_t index;
  if (!free_segments_.empty()) {
    index = free_segments_.back();
  } else {
    index = static_cast<uint32_t>(segments_[0].seq) + 1;
    if (index >= segment_count_) return nullptr;
  }
  const uint32_t want = (std::max(bytes, 1u) + kDataPageBytes - 1) / kDataPageBytes;
  unsigned order = std::min(PageAllocator::OrderFor(want), PageAllocator::kMaxOrder);
  std::optional<uint32_t> page = allocator_.Allocate(order);
  // Memory in pieces is better than none.
  while (!page && order > 0) page = allocator_.Allocate(--order);
  if (!page) return nullptr;
  if (!free_segments_.empty()) free_segments_.pop_back();
  else segments_[0].seq = index;

  Segment* segment = NewSegment(index);
  segment->page = *page;
  segment->order = order;
  segment->ino = ino;
  segment->offset = offset;
  segment->seq = next_seq_++;
  segment->data = pages_ + uint64_t{*page} * kDataPageBytes;
  used_bytes_.fetch_add(segment->capacity(), std::memory_order_relaxed);

  SegmentRecord* r = record(index);
  r->data_page = segment->page;
  r->page_count = 1u << order;
  r->ino = ino;
  r->offset = offset;
  r->seq = segment->seq;
  r->len.store(0, std::memory_order_relaxed);
  return segment;
}

void DirtyStore::Publish(Segment* segment, uint32_t len) {
  segment->len = len;
  SegmentRecord* r = record(segment->index);
  r->len.store(len, std::memory_order_release);
  r->state.store(1, std::memory_order_release);
}

void DirtyStore::Shorten(Segment* segment, uint32_t len) {
  segment->len = len;
  record(segment->index)->len.store(len, std::memory_order_release);
}

void DirtyStore::Free(Segment* segment) {
  record(segment->index)->state.store(0, std::memory_order_release);
  {
    std::lock_guard lock(mutex_);
    const std::unique_ptr<Segment> gone = std::move(live_[segment->index]);
    allocator_.Free(segment->page, segment->order);
    free_segments_.push_back(segment->index);
    used_bytes_.fetch_sub(segment->capacity(), std::memory_order_relaxed);
    freed_count_.fetch_add(1, std::memory_order_relaxed);
  }
  freed_.notify_all();
}

void DirtyStore::WaitForFree(uint64_t seen, int timeout_ms) {
  std::unique_lock lock(mutex_);
  freed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return freed_count() != seen; });
}

bool DirtyStore::SetPending(Ino ino, PendingAttr* pending, uint64_t length, Timestamp mtime) {
  const bool fresh = pending->index == 0;
  if (fresh) {
    std::lock_guard lock(mutex_);
    if (!free_inodes_.empty()) {
      pending->index = free_inodes_.back();
      free_inodes_.pop_back();
    } else {
      const uint64_t index = inodes_[0].length.load(std::memory_order_relaxed) + 1;
      if (index >= inode_count_) return false;
      inodes_[0].length.store(index, std::memory_order_relaxed);
      pending->index = static_cast<uint32_t>(index);
    }
  }
  pending->length = length;
  pending->mtime = mtime;
  DirtyInodeRecord& r = inodes_[pending->index];
  r.length.store(length, std::memory_order_relaxed);
  r.mtime_ns.store(mtime.ns, std::memory_order_relaxed);
  if (fresh) r.ino.store(ino, std::memory_order_release);
  return true;
}

void DirtyStore::ClearPending(PendingAttr* pending) {
  if (pending->index == 0) return;
  inodes_[pending->index].ino.store(0, std::memory_order_release);
  std::lock_guard lock(mutex_);
  free_inodes_.push_back(pending->index);
  *pending = {};
}

DirtyStore::Recovered DirtyStore::Recover() {
  Recovered out;
  std::lock_guard lock(mutex_);
  const auto high = static_cast<uint32_t>(std::min<uint64_t>(segments_[0].seq, segment_count_ - 1));
  for (uint32_t i = high; i >= 1; --i) {
    SegmentRecord* r = record(i);
    if (r->state.load(std::memory_order_acquire) == 0) {
      free_segments_.push_back(i);
      continue;
    }
    const uint32_t len = r->len.load(std::memory_order_acquire);
    const unsigned order = PageAllocator::OrderFor(r->page_count);
    const bool sane = r->page_count != 0 && r->page_count == (1u << std::min(order, 31u)) && r->ino != 0 &&
                      r->ino <= kMaxIno && len <= uint64_t{r->page_count} * kDataPageBytes &&
                      r->offset <= kMaxFileBytes && allocator_.Claim(r->data_page, order);
    if (!sane) {
      r->state.store(0, std::memory_order_release);
      free_segments_.push_back(i);
      ++out.damaged;
      continue;
    }
    Segment* segment = NewSegment(i);
    segment->page = r->data_page;
    segment->order = order;
    segment->ino = r->ino;
    segment->offset = r->offset;
    segment->seq = r->seq;
    segment->len = len;
    segment->data = pages_ + uint64_t{segment->page} * kDataPageBytes;
    used_bytes_.fetch_add(segment->capacity(), std::memory_order_relaxed);
    next_seq_ = std::max(next_seq_, segment->seq + 1);
    out.segments.push_back(segment);
  }
  std::sort(out.segments.begin(), out.segments.end(),
            [](const Segment* a, const Segment* b) { return a->seq < b->seq; });

  const uint64_t inode_high = std::min<uint64_t>(inodes_[0].length.load(), inode_count_ - 1);
  for (uint64_t i = inode_high; i >= 1; --i) {
    DirtyInodeRecord& r = inodes_[i];
    const Ino ino = r.ino.load(std::memory_order_acquire);
    if (ino == 0 || ino > kMaxIno) {
      r.ino.store(0, std::memory_order_release);
      free_inodes_.push_back(static_cast<uint32_t>(i));
      continue;
    }
    PendingAttr pending;
    pending.index = static_cast<uint32_t>(i);
    pending.length = std::min<uint64_t>(r.length.load(std::memory_order_relaxed), kMaxFileBytes);
    pending.mtime = {r.mtime_ns.load(std::memory_order_relaxed)};
    out.pending.emplace_back(ino, pending);
  }
  return out;
}

void DirtyStore::Trim() {
  std::lock_guard lock(mutex_);
  const uint64_t run_bytes = kDataPageBytes << PageAllocator::kMaxOrder;
  for (uint32_t page : allocator_.TakeTouchedFreeRuns()) {
    arena_.Punch(pages_ + uint64_t{page} * kDataPageBytes, run_bytes);
  }
}

}  // namespace moorfs::vfs
