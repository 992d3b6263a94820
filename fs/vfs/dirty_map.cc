// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/dirty_map.h"

#include <algorithm>

namespace moorfs::vfs {

void DirtyMap::Erase(uint64_t offset, uint64_t len, std::vector<Segment*>* covered) {
  if (len == 0 || pieces_.empty()) return;
  const uint64_t end = offset + len;
  auto it = pieces_.lower_bound(offset);
  if (it != pieces_.begin()) {
    auto prev = std::prev(it);
    if (prev->first + prev->second.len > offset) it = prev;
  }
  while (it != pieces_.end() && it->first < end) {
    const uint64_t begin = it->first;
    const Value value = it->second;
    const uint64_t piece_end = begin + value.len;
    const uint64_t cut_begin = std::max(begin, offset);
    const uint64_t cut_end = std::min(piece_end, end);
    it = pieces_.erase(it);
    if (begin < cut_begin) {
      pieces_.emplace_hint(it, begin, Value{cut_begin - begin, value.segment, value.segment_offset});
    }
    if (cut_end < piece_end) {
      it = pieces_.emplace_hint(it, cut_end,
                                Value{piece_end - cut_end, value.segment,
                                      value.segment_offset + static_cast<uint32_t>(cut_end - begin)});
    }
    bytes_ -= cut_end - cut_begin;
    value.segment->visible -= static_cast<uint32_t>(cut_end - cut_begin);
    if (value.segment->visible == 0) covered->push_back(value.segment);
  }
}

void DirtyMap::Insert(const DirtyPiece& piece, std::vector<Segment*>* covered) {
  // Count the new bytes first: a segment that overwrites itself stays alive.
  piece.segment->visible += static_cast<uint32_t>(piece.len);
  Erase(piece.offset, piece.len, covered);
  pieces_[piece.offset] = Value{piece.len, piece.segment, piece.segment_offset};
  bytes_ += piece.len;
}

void DirtyMap::Find(uint64_t offset, uint64_t len, std::vector<DirtyPiece>* out) const {
  if (pieces_.empty()) return;
  const uint64_t end = offset + len;
  auto it = pieces_.upper_bound(offset);
  if (it != pieces_.begin()) --it;
  for (; it != pieces_.end() && it->first < end; ++it) {
    const uint64_t begin = std::max(it->first, offset);
    const uint64_t stop = std::min(it->first + it->second.len, end);
    if (stop <= begin) continue;
    out->push_back({begin, stop - begin, it->second.segment,
                    it->second.segment_offset + static_cast<uint32_t>(begin - it->first)});
  }
}

DirtyPiece DirtyMap::At(uint64_t offset) const {
  auto it = pieces_.upper_bound(offset);
  if (it == pieces_.begin()) return {};
  --it;
  if (it->first + it->second.len <= offset) return {};
  return {it->first, it->second.len, it->second.segment, it->second.segment_offset};
}

DirtyPiece DirtyMap::EndingAt(uint64_t offset) const {
  auto it = pieces_.lower_bound(offset);
  if (it == pieces_.begin()) return {};
  --it;
  if (it->first + it->second.len != offset) return {};
  return {it->first, it->second.len, it->second.segment, it->second.segment_offset};
}

void DirtyMap::Grow(uint64_t offset, uint64_t len) {
  auto it = std::prev(pieces_.lower_bound(offset));
  it->second.len += len;
  it->second.segment->visible += static_cast<uint32_t>(len);
  bytes_ += len;
}

uint64_t DirtyMap::NextDirty(uint64_t offset) const {
  if (At(offset).segment != nullptr) return offset;
  auto it = pieces_.lower_bound(offset);
  return it == pieces_.end() ? UINT64_MAX : it->first;
}

uint64_t DirtyMap::NextUnfrozen(uint64_t offset, uint64_t end) const {
  auto it = pieces_.upper_bound(offset);
  if (it != pieces_.begin() && std::prev(it)->first + std::prev(it)->second.len > offset) --it;
  while (it != pieces_.end() && it->first < end && it->second.segment->frozen) ++it;
  return it == pieces_.end() ? end : std::clamp(it->first, offset, end);
}

uint64_t DirtyMap::NextClean(uint64_t offset) const {
  while (true) {
    const DirtyPiece piece = At(offset);
    if (piece.segment == nullptr) return offset;
    offset = piece.offset + piece.len;
  }
}

std::vector<DirtyPiece> DirtyMap::All() const {
  std::vector<DirtyPiece> out;
  out.reserve(pieces_.size());
  for (const auto& [offset, value] : pieces_) {
    out.push_back({offset, value.len, value.segment, value.segment_offset});
  }
  return out;
}

uint64_t DirtyMap::End() const {
  if (pieces_.empty()) return 0;
  const auto& [offset, value] = *pieces_.rbegin();
  return offset + value.len;
}

}  // namespace moorfs::vfs
