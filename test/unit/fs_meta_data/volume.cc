// SPDX-License-Identifier: Apache-2.0
//
// The reader and the bookkeeper of the data map's tests.

#include "volume.h"

#include <map>
#include <set>

#include "common/base/coding.h"
#include "fs/format/records.h"
#include "fs/format/slice_view.h"

namespace moorfs::meta::testing {

std::vector<std::pair<std::string, std::string>> AllRecords(kv::KvStore& kv) {
  std::vector<std::pair<std::string, std::string>> out;
  auto snapshot = Must(kv.NewSnapshot());
  RequireOk(snapshot->Walk("", [&](std::string_view key, std::string_view value) {
    out.emplace_back(key, value);
    return true;
  }));
  return out;
}

size_t CountFamily(kv::KvStore& kv, char family) {
  size_t count = 0;
  for (const auto& [key, value] : AllRecords(kv)) count += key[0] == family;
  return count;
}

Reader::Reader(Meta& meta, Ino ino, Content content) : content_(std::move(content)) {
  length_ = Must(meta.GetAttr(ino)).length;
  inline_ = Must(meta.LoadInline(ino));
  std::set<uint32_t> chunks;
  auto snapshot = Must(meta.kv().NewSnapshot());
  kv::Range range = meta.schema().SlicesFrom(ino, 0);
  while (true) {
    const auto entries = Must(snapshot->Scan(range, 1000));
    for (const kv::Entry& entry : entries) chunks.insert(keys::ParseSliceSuffix(entry.suffix)->chunk);
    if (entries.size() < 1000) break;
    range.begin = entries.back().suffix + '\0';
  }
  for (const uint32_t chunk : chunks) {
    for (const ViewExtent& e : ResolveSlices(Must(meta.LoadSlices(ino, chunk)))) {
      const uint64_t begin = chunk * kChunkBytes + e.pos;
      extents_.push_back({begin, begin + e.len, e.offset, e.object});
      edges_.push_back(begin);
      edges_.push_back(begin + e.len);
    }
  }
  edges_.push_back(inline_.size());
}

uint8_t Reader::At(uint64_t pos) {
  const auto next = std::upper_bound(extents_.begin(), extents_.end(), pos,
                                     [](uint64_t p, const Extent& e) { return p < e.begin; });
  if (next != extents_.begin()) {
    const Extent& e = *std::prev(next);
    if (pos < e.end) return content_(e.object, e.offset + pos - e.begin);
  }
  return pos < inline_.size() ? static_cast<uint8_t>(inline_[pos]) : 0;
}

void RequireExactCounts(kv::KvStore& kv) {
  std::map<ObjectId, int64_t> counted, recorded;
  std::map<std::string, uint64_t> slice_bytes;
  int64_t used = 0, used_counter = 0;
  const auto records = AllRecords(kv);
  for (const auto& [key, value] : records) {
    if (key[0] == 'I' && key[9] == 'C') {
      const SliceRecord slice = Must(DecodeSlice(value));
      if (slice.object.is_hole()) continue;
      ++counted[slice.object];
      slice_bytes[key.substr(1, 8)] += slice.len;
    }
    if (key[0] == 'O' && key.size() == 18) {
      const ObjectId id{GetBe64(key.data() + 2), GetBe64(key.data() + 10)};
      recorded[id] = static_cast<int64_t>(DecodeLe64(value));
    }
    if (key[0] == 'C' && key[1] == 'b') used_counter += static_cast<int64_t>(DecodeLe64(value));
  }
  REQUIRE(counted == recorded);
  for (const auto& [key, value] : records) {
    if (key[0] != 'I' || key.substr(9) != "A") continue;
    const Attr attr = Must(DecodeAttr(value));
    REQUIRE(attr.slice_bytes == slice_bytes[key.substr(1, 8)]);
    used += static_cast<int64_t>(AccountedBytes(attr));
  }
  REQUIRE(used_counter == used);
}

}  // namespace moorfs::meta::testing
