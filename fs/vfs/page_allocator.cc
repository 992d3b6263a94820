// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/page_allocator.h"

#include <bit>

namespace moorfs::vfs {

PageAllocator::PageAllocator(uint32_t page_count) : page_count_(page_count), nodes_(page_count) {
  heads_.fill(kNone);
  touched_.resize((page_count >> kMaxOrder) + 1);
  // From the end, so that the first allocations come from the front: the part
  // of the arena that is ever touched stays small.
  uint32_t page = page_count;
  while (page > 0) {
    unsigned order = std::min<unsigned>(kMaxOrder, static_cast<unsigned>(std::countr_zero(page)));
    while ((1u << order) > page) --order;
    page -= 1u << order;
    PushFree(page, order);
  }
  free_pages_ = page_count;
}

unsigned PageAllocator::OrderFor(uint32_t pages) {
  return pages <= 1 ? 0 : static_cast<unsigned>(std::bit_width(pages - 1));
}

void PageAllocator::PushFree(uint32_t page, unsigned order) {
  Node& node = nodes_[page];
  node.free_order = static_cast<uint8_t>(order);
  node.prev = kNone;
  node.next = heads_[order];
  if (node.next != kNone) nodes_[node.next].prev = page;
  heads_[order] = page;
}

void PageAllocator::RemoveFree(uint32_t page, unsigned order) {
  Node& node = nodes_[page];
  if (node.prev != kNone) nodes_[node.prev].next = node.next;
  else heads_[order] = node.next;
  if (node.next != kNone) nodes_[node.next].prev = node.prev;
  node.free_order = 0xff;
}

std::optional<uint32_t> PageAllocator::Allocate(unsigned order) {
  unsigned from = order;
  while (from <= kMaxOrder && heads_[from] == kNone) ++from;
  if (from > kMaxOrder) return std::nullopt;
  const uint32_t page = heads_[from];
  RemoveFree(page, from);
  while (from > order) {
    --from;
    PushFree(page + (1u << from), from);
  }
  free_pages_ -= 1u << order;
  touched_[page >> kMaxOrder] = true;
  return page;
}

void PageAllocator::Free(uint32_t page, unsigned order) {
  free_pages_ += 1u << order;
  while (order < kMaxOrder) {
    const uint32_t buddy = page ^ (1u << order);
    if (buddy + (1u << order) > page_count_ || nodes_[buddy].free_order != order) break;
    RemoveFree(buddy, order);
    page = std::min(page, buddy);
    ++order;
  }
  PushFree(page, order);
}

bool PageAllocator::Claim(uint32_t page, unsigned order) {
  if (order > kMaxOrder || page >= page_count_ || (page & ((1u << order) - 1)) != 0 ||
      (1u << order) > page_count_ - page) {
    return false;
  }
  for (unsigned from = order; from <= kMaxOrder; ++from) {
    const uint32_t start = page & ~((1u << from) - 1);
    if (nodes_[start].free_order != from) continue;
    RemoveFree(start, from);
    uint32_t base = start;
    while (from > order) {
      --from;
      const uint32_t half = 1u << from;
      if (page >= base + half) {
        PushFree(base, from);
        base += half;
      } else {
        PushFree(base + half, from);
      }
    }
    free_pages_ -= 1u << order;
    touched_[page >> kMaxOrder] = true;
    return true;
  }
  return false;
}

std::vector<uint32_t> PageAllocator::TakeTouchedFreeRuns() {
  std::vector<uint32_t> runs;
  for (uint32_t page = heads_[kMaxOrder]; page != kNone; page = nodes_[page].next) {
    if (!touched_[page >> kMaxOrder]) continue;
    touched_[page >> kMaxOrder] = false;
    runs.push_back(page);
  }
  return runs;
}

}  // namespace moorfs::vfs
