// SPDX-License-Identifier: Apache-2.0
//
// ChunkMap against the obvious model: an array with an entry per byte.

#include "fs/chunk/chunk_map.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

namespace moorfs::chunk {
namespace {

SliceRecord Data(uint32_t pos, uint32_t len, uint64_t id, uint32_t offset = 0) {
  return {pos, len, {1, id}, offset};
}
SliceRecord Hole(uint32_t pos, uint32_t len) {
  return {pos, len, {}, 0};
}

TEST_CASE("a later record covers the middle of an earlier one") {
  ChunkMap map;
  map.Add(1, Data(100, 100, 7, 1000));
  map.Add(2, Data(130, 20, 8));
  const auto extents = map.Extents();
  REQUIRE(extents.size() == 3);
  CHECK(extents[0].pos == 100);
  CHECK(extents[0].len == 30);
  CHECK(extents[0].offset == 1000);
  CHECK(extents[1].object.id == 8);
  CHECK(extents[2].pos == 150);
  CHECK(extents[2].len == 50);
  CHECK(extents[2].offset == 1050);
  CHECK(map.record_count() == 2);
}

TEST_CASE("the whole chunk can be one record, and be covered again") {
  ChunkMap map;
  map.Add(1, Data(0, kChunkBytes, 1));
  CHECK(map.NextHole(0) == kChunkBytes);
  map.Add(2, Hole(0, kChunkBytes));
  CHECK(map.extent_count() == 1);
  CHECK(map.NextData(0) == kChunkBytes);
  CHECK(map.NextHole(5) == 5);
}

TEST_CASE("an empty map is one hole") {
  const ChunkMap map;
  CHECK(map.NextData(0) == kChunkBytes);
  CHECK(map.NextHole(17) == 17);
  std::vector<Extent> found;
  map.Find(0, kChunkBytes, &found);
  CHECK(found.empty());
}

TEST_CASE("random records lie over each other as bytes in an array would") {
  struct Byte {
    uint64_t seq = 0;
    ObjectId object;
    uint32_t offset = 0;
  };
  constexpr uint32_t kSize = 2000;
  for (uint32_t seed = 1; seed <= 30; seed++) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    std::vector<Byte> model(kSize);
    std::vector<Slice> slices;
    ChunkMap grown;
    for (uint64_t seq = 1; seq <= 200; seq++) {
      const uint32_t pos = random() % kSize;
      const uint32_t len = std::min<uint32_t>(random() % (seed % 2 ? 40 : 600), kSize - pos);
      const SliceRecord record = random() % 4 == 0 ? Hole(pos, len) : Data(pos, len, seq, random() % 5000);
      slices.push_back({seq, record});
      grown.Add(seq, record);
      for (uint32_t i = 0; i < len; i++) {
        model[pos + i] = {seq, record.object, record.object.is_hole() ? 0 : record.offset + i};
      }
    }
    std::shuffle(slices.begin(), slices.end(), random);
    const ChunkMap built(slices);
    for (const ChunkMap* map : {static_cast<const ChunkMap*>(&grown), &built}) {
      for (int probe = 0; probe < 100; probe++) {
        const uint32_t pos = random() % kSize;
        const uint32_t len = probe == 0 ? kSize : random() % 300;
        std::vector<Extent> found;
        map->Find(pos, len, &found);
        const uint32_t end = std::min(kSize, pos + len);
        uint32_t at = pos;
        bool equal = true;
        for (const Extent& extent : found) {
          equal = equal && extent.pos >= at && extent.len > 0 && extent.pos + extent.len <= pos + len;
          for (; at < extent.pos && at < end; at++) equal = equal && model[at].seq == 0;
          for (uint32_t i = 0; equal && i < extent.len; i++, at++) {
            const Byte& byte = model[extent.pos + i];
            equal = byte.seq == extent.seq && byte.object == extent.object &&
                    byte.offset == extent.offset + (extent.object.is_hole() ? 0 : i);
          }
        }
        for (; at < end; at++) equal = equal && model[at].seq == 0;
        REQUIRE(equal);
        const auto is_data = [&](uint32_t i) { return model[i].seq != 0 && !model[i].object.is_hole(); };
        uint32_t data = pos, hole = pos;
        while (data < kSize && !is_data(data)) data++;
        while (hole < kSize && is_data(hole)) hole++;
        REQUIRE(map->NextData(pos) == (data == kSize ? kChunkBytes : data));
        REQUIRE(map->NextHole(pos) == hole);
      }
    }
    CHECK(grown.extent_count() == built.extent_count());
  }
}

}  // namespace
}  // namespace moorfs::chunk
