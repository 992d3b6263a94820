// SPDX-License-Identifier: Apache-2.0
//
// See chunk_map.h. extents_ is disjoint at all times; Add cuts away what the
// new record covers, then lays the record into the hole.

#include "fs/chunk/chunk_map.h"

#include <algorithm>

namespace moorfs::chunk {

ChunkMap::ChunkMap(std::span<const Slice> slices) {
  std::vector<const Slice*> by_seq;
  by_seq.reserve(slices.size());
  for (const Slice& slice : slices) by_seq.push_back(&slice);
  std::sort(by_seq.begin(), by_seq.end(), [](const Slice* a, const Slice* b) { return a->seq < b->seq; });
  for (const Slice* slice : by_seq) Add(slice->seq, slice->record);
}

void ChunkMap::Add(uint64_t seq, const SliceRecord& record) {
  record_count_++;
  if (record.len == 0 || record.pos >= kChunkBytes) return;
  const uint32_t begin = record.pos;
  const uint32_t end = static_cast<uint32_t>(std::min<uint64_t>(uint64_t{begin} + record.len, kChunkBytes));

  auto it = extents_.lower_bound(begin);
  if (it != extents_.begin()) {
    auto before = std::prev(it);
    const uint32_t before_end = before->first + before->second.len;
    if (before_end > begin) {
      if (before_end > end) {  // the new record lies inside it: keep its tail
        Piece tail = before->second;
        tail.len = before_end - end;
        if (!tail.object.is_hole()) tail.offset += end - before->first;
        extents_.emplace_hint(it, end, tail);
      }
      before->second.len = begin - before->first;
    }
  }
  while (it != extents_.end() && it->first < end) {
    const uint32_t it_end = it->first + it->second.len;
    if (it_end > end) {
      Piece tail = it->second;
      tail.len = it_end - end;
      if (!tail.object.is_hole()) tail.offset += end - it->first;
      it = extents_.erase(it);
      extents_.emplace_hint(it, end, tail);
      break;
    }
    it = extents_.erase(it);
  }
  extents_.emplace(begin, Piece{end - begin, record.offset, record.object, seq});
}

void ChunkMap::Find(uint32_t pos, uint32_t len, std::vector<Extent>* out) const {
  const uint64_t end = uint64_t{pos} + len;
  auto it = extents_.upper_bound(pos);
  if (it != extents_.begin()) --it;
  for (; it != extents_.end() && it->first < end; ++it) {
    const uint64_t piece_end = uint64_t{it->first} + it->second.len;
    if (piece_end <= pos) continue;
    const uint32_t from = std::max(pos, it->first);
    const uint32_t to = static_cast<uint32_t>(std::min(end, piece_end));
    const Piece& piece = it->second;
    const uint32_t skip = piece.object.is_hole() ? 0 : from - it->first;
    if (to > from) out->push_back({from, to - from, piece.object, piece.offset + skip, piece.seq});
  }
}

uint32_t ChunkMap::NextData(uint32_t pos) const {
  auto it = extents_.upper_bound(pos);
  if (it != extents_.begin() && std::prev(it)->first + std::prev(it)->second.len > pos) --it;
  for (; it != extents_.end(); ++it) {
    if (!it->second.object.is_hole()) return std::max(pos, it->first);
  }
  return kChunkBytes;
}

uint32_t ChunkMap::NextHole(uint32_t pos) const {
  auto it = extents_.upper_bound(pos);
  if (it != extents_.begin()) --it;
  for (; it != extents_.end(); ++it) {
    if (it->first > pos) return pos;
    const uint32_t end = it->first + it->second.len;
    if (end <= pos) continue;
    if (it->second.object.is_hole()) return pos;
    pos = end;
  }
  return pos;
}

std::vector<Extent> ChunkMap::Extents() const {
  std::vector<Extent> out;
  Find(0, kChunkBytes, &out);
  return out;
}

}  // namespace moorfs::chunk
