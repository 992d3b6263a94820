// SPDX-License-Identifier: Apache-2.0
//
// DirtyMap: which bytes of one file are dirty, and in which segment the newest
// version of each lies. Disjoint pieces in file order. Keeps each segment's
// `visible` count. Guarded by the inode's lock.

#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <vector>

#include "fs/vfs/dirty_store.h"

namespace moorfs::vfs {

struct DirtyPiece {
  uint64_t offset = 0;  // in the file
  uint64_t len = 0;
  Segment* segment = nullptr;
  uint32_t segment_offset = 0;
  char* data() const { return segment->data + segment_offset; }
};

class DirtyMap {
 public:
  bool empty() const { return pieces_.empty(); }
  size_t size() const { return pieces_.size(); }
  // May be read without the lock, as a hint.
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  // Lays [offset, offset+len) of `segment` on top. Segments that lost their
  // last visible byte are appended to `covered` (frozen ones as well).
  void Insert(const DirtyPiece& piece, std::vector<Segment*>* covered);
  // Removes the range; segments left without a visible byte go to `covered`.
  void Erase(uint64_t offset, uint64_t len, std::vector<Segment*>* covered);
  // Pieces that intersect [offset, offset+len), clipped, in order.
  void Find(uint64_t offset, uint64_t len, std::vector<DirtyPiece>* out) const;
  // The piece that holds `offset`, or ends at it; nullptr-like segment if none.
  DirtyPiece At(uint64_t offset) const;
  DirtyPiece EndingAt(uint64_t offset) const;
  // Grows the piece that ends at `offset` in place by `len` (an append into
  // the same segment). The bytes behind must not be dirty.
  void Grow(uint64_t offset, uint64_t len);
  // First dirty byte >= offset; UINT64_MAX if none.
  uint64_t NextDirty(uint64_t offset) const;
  // First byte in [offset, end) that lies in a segment no flush reads; `end` if none.
  uint64_t NextUnfrozen(uint64_t offset, uint64_t end) const;
  // First byte >= offset that is not dirty.
  uint64_t NextClean(uint64_t offset) const;
  // Every piece, in order.
  std::vector<DirtyPiece> All() const;
  // End of the last dirty byte; 0 when empty.
  uint64_t End() const;

 private:
  struct Value {
    uint64_t len;
    Segment* segment;
    uint32_t segment_offset;
  };
  std::map<uint64_t, Value> pieces_;
  std::atomic<uint64_t> bytes_{0};
};

}  // namespace moorfs::vfs
