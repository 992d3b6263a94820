// SPDX-License-Identifier: Apache-2.0
//
// ResolveSlices against painting bytes one by one.

#include "fs/format/slice_view.h"

#include <catch2/catch.hpp>
#include <random>

namespace moorfs {
namespace {

TEST_CASE("the newest record wins at every byte of a chunk") {
  std::mt19937 random(42);
  for (int round = 0; round < 300; ++round) {
    std::vector<Slice> slices;
    std::vector<const Slice*> painted(200, nullptr);
    const size_t count = random() % 12;
    for (size_t i = 0; i < count; ++i) {
      Slice slice;
      slice.seq = i;
      slice.record.pos = random() % 150;
      slice.record.len = random() % 50;
      slice.record.offset = random() % 1000;
      if (random() % 4) slice.record.object = {1, i + 1};
      slices.push_back(slice);
    }
    for (const Slice& s : slices) {
      for (uint32_t p = 0; p < s.record.len; ++p) painted[s.record.pos + p] = &s;
    }
    std::vector<Slice> shuffled = slices;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    uint32_t end = 0;
    std::vector<bool> seen(200, false);
    for (const ViewExtent& e : ResolveSlices(shuffled)) {
      REQUIRE(e.pos >= end);
      REQUIRE(e.len > 0);
      end = e.pos + e.len;
      for (uint32_t p = e.pos; p < end; ++p) {
        seen[p] = true;
        REQUIRE(painted[p] != nullptr);
        REQUIRE(painted[p]->seq == e.seq);
        REQUIRE(painted[p]->record.object == e.object);
        REQUIRE(painted[p]->record.offset + p - painted[p]->record.pos == e.offset + p - e.pos);
      }
    }
    for (size_t p = 0; p < painted.size(); ++p) REQUIRE(seen[p] == (painted[p] != nullptr));
  }
}

TEST_CASE("a record at the very end of a chunk keeps its last byte") {
  Slice slice;
  slice.record = {static_cast<uint32_t>(kChunkBytes - 1), 1, {1, 1}, 5};
  const auto view = ResolveSlices({slice});
  REQUIRE(view.size() == 1);
  REQUIRE(view[0].pos == kChunkBytes - 1);
  REQUIRE(view[0].len == 1);
}

}  // namespace
}  // namespace moorfs
