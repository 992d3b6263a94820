// SPDX-License-Identifier: Apache-2.0
//
// ChunkMap: what a chunk's slice records, laid over each other in sequence
// order, look like from above: sorted, disjoint extents. Pure logic.

#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "fs/format/types.h"

namespace moorfs::chunk {

// Visible piece of a chunk. A gap between extents, like a hole object, reads
// as zeros (or as the inline bytes below, in chunk 0).
struct Extent {
  uint32_t pos = 0;
  uint32_t len = 0;
  ObjectId object;      // is_hole(): explicit zeros
  uint32_t offset = 0;  // in the object's raw content
  uint64_t seq = 0;
};

class ChunkMap {
 public:
  ChunkMap() = default;
  // In any order of `seq`.
  explicit ChunkMap(std::span<const Slice> slices);

  // Lays one more record on top; its seq must exceed all before.
  void Add(uint64_t seq, const SliceRecord& record);
  // Extents that intersect [pos, pos+len), clipped to it, in order; gaps are
  // left out.
  void Find(uint32_t pos, uint32_t len, std::vector<Extent>* out) const;
  // First byte >= pos that is data (not hole, not gap); kChunkBytes if none.
  uint32_t NextData(uint32_t pos) const;
  // First byte >= pos that is a hole or gap; kChunkBytes if data to the end.
  uint32_t NextHole(uint32_t pos) const;

  size_t extent_count() const { return extents_.size(); }
  size_t record_count() const { return record_count_; }
  size_t MemoryBytes() const { return sizeof *this + extents_.size() * 96; }
  // All extents in order.
  std::vector<Extent> Extents() const;

 private:
  struct Piece {
    uint32_t len;
    uint32_t offset;
    ObjectId object;
    uint64_t seq;
  };
  std::map<uint32_t, Piece> extents_;  // by pos
  size_t record_count_ = 0;
};

}  // namespace moorfs::chunk
