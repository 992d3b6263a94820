// SPDX-License-Identifier: Apache-2.0
//
// SliceView: what a chunk's slice records look like from above. Among
// overlapping records the higher sequence number wins; the answer is a sorted
// list of disjoint extents. Pure logic on persisted records, O(n log n),
// header-only; for one-shot questions of metadata (sharing, checking). A map
// that grows record by record lives with the readers of data.

#pragma once

#include <algorithm>
#include <cstdint>
#include <queue>
#include <vector>

#include "fs/format/types.h"

namespace moorfs {

// Visible piece of a chunk. A gap between extents was never written.
struct ViewExtent {
  uint32_t pos = 0;
  uint32_t len = 0;
  ObjectId object;      // is_hole(): explicit zeros
  uint32_t offset = 0;  // in the object's raw content
  uint64_t seq = 0;
};

// `slices` in any order; records of length 0 are ignored.
inline std::vector<ViewExtent> ResolveSlices(std::vector<Slice> slices) {
  std::erase_if(slices, [](const Slice& s) { return s.record.len == 0; });
  std::sort(slices.begin(), slices.end(),
            [](const Slice& a, const Slice& b) { return a.record.pos < b.record.pos; });
  const auto lower_seq = [](const Slice* a, const Slice* b) { return a->seq < b->seq; };
  std::priority_queue<const Slice*, std::vector<const Slice*>, decltype(lower_seq)> active(lower_seq);
  const auto end_of = [](const Slice& s) { return uint64_t{s.record.pos} + s.record.len; };

  std::vector<ViewExtent> out;
  uint64_t at = 0;
  size_t next = 0;
  while (next < slices.size() || !active.empty()) {
    if (active.empty()) at = slices[next].record.pos;
    while (next < slices.size() && slices[next].record.pos <= at) active.push(&slices[next++]);
    while (!active.empty() && end_of(*active.top()) <= at) active.pop();
    if (active.empty()) continue;
    const Slice& top = *active.top();
    uint64_t until = end_of(top);
    if (next < slices.size()) until = std::min<uint64_t>(until, slices[next].record.pos);
    const uint32_t len = static_cast<uint32_t>(until - at);
    if (!out.empty() && out.back().seq == top.seq && uint64_t{out.back().pos} + out.back().len == at) {
      out.back().len += len;
    } else {
      const uint32_t skip = static_cast<uint32_t>(at - top.record.pos);
      out.push_back({static_cast<uint32_t>(at), len, top.record.object, top.record.offset + skip, top.seq});
    }
    at = until;
  }
  return out;
}

}  // namespace moorfs
