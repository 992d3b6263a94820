// SPDX-License-Identifier: Apache-2.0
//
// See header_cache.h.

#include "fs/chunk/header_cache.h"

namespace moorfs::chunk {

// With what the list, the index and the allocator add.
uint64_t HeaderCache::Cost(const Entry& entry) {
  return entry.header->MemoryBytes() + 176;
}

SharedHeader HeaderCache::Find(const ObjectId& object) {
  Shard& shard = ShardOf(object);
  std::lock_guard lock(shard.mutex);
  auto it = shard.index.find(object);
  if (it == shard.index.end()) return nullptr;
  it->second->used = true;
  return it->second->header;
}

void HeaderCache::Insert(const ObjectId& object, SharedHeader header) {
  Shard& shard = ShardOf(object);
  std::lock_guard lock(shard.mutex);
  if (auto it = shard.index.find(object); it != shard.index.end()) {
    shard.used_bytes -= Cost(*it->second);
    it->second->header = std::move(header);
    shard.used_bytes += Cost(*it->second);
  } else {
    shard.ring.push_back({object, std::move(header)});
    shard.index.emplace(object, std::prev(shard.ring.end()));
    shard.used_bytes += Cost(shard.ring.back());
  }
  while (shard.used_bytes > shard_bytes_ && !shard.ring.empty()) {
    Entry& hand = shard.ring.front();
    if (hand.used) {
      hand.used = false;
      shard.ring.splice(shard.ring.end(), shard.ring, shard.ring.begin());
      continue;
    }
    shard.used_bytes -= Cost(hand);
    shard.index.erase(hand.object);
    shard.ring.pop_front();
  }
}

void HeaderCache::Erase(const ObjectId& object) {
  Shard& shard = ShardOf(object);
  std::lock_guard lock(shard.mutex);
  auto it = shard.index.find(object);
  if (it == shard.index.end()) return;
  shard.used_bytes -= Cost(*it->second);
  shard.ring.erase(it->second);
  shard.index.erase(it);
}

uint64_t HeaderCache::used_bytes() const {
  uint64_t total = 0;
  for (const Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    total += shard.used_bytes;
  }
  return total;
}

}  // namespace moorfs::chunk
