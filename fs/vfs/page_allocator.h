// SPDX-License-Identifier: Apache-2.0
//
// PageAllocator: runs of 4 KiB pages of the arena's data section, as a buddy
// system of orders 0 (4 KiB) to 8 (1 MiB). Its bookkeeping lives in the
// client's heap: after a crash it is rebuilt from the segments that are live.
// Not thread-safe; DirtyStore guards it.

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace moorfs::vfs {

class PageAllocator {
 public:
  static constexpr unsigned kMaxOrder = 8;

  explicit PageAllocator(uint32_t page_count);

  // Smallest order whose run holds `pages`.
  static unsigned OrderFor(uint32_t pages);

  // First page of a run of 2^order pages; nullopt when none is free.
  std::optional<uint32_t> Allocate(unsigned order);
  void Free(uint32_t page, unsigned order);
  // Marks a run as used (recovery). False when any part of it is not free or
  // out of bounds: the caller drops the record, it is damaged.
  bool Claim(uint32_t page, unsigned order);

  uint32_t free_pages() const { return free_pages_; }
  uint32_t page_count() const { return page_count_; }
  // Free runs of the largest order that were used since the last call, for
  // giving their memory back. Clears the marks.
  std::vector<uint32_t> TakeTouchedFreeRuns();

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Node {
    uint32_t next = kNone, prev = kNone;
    uint8_t free_order = 0xff;  // order of the free run that begins here
  };

  void PushFree(uint32_t page, unsigned order);
  void RemoveFree(uint32_t page, unsigned order);

  uint32_t page_count_;
  uint32_t free_pages_ = 0;
  std::vector<Node> nodes_;
  std::array<uint32_t, kMaxOrder + 1> heads_;
  std::vector<bool> touched_;  // per run of the largest order
};

}  // namespace moorfs::vfs
