// SPDX-License-Identifier: Apache-2.0
//
// HeaderCache: parsed block headers, so that a read of a known block is one
// request to the store, not two. Bounded by bytes; CLOCK over a ring.

#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "fs/format/block.h"
#include "fs/format/types.h"

namespace moorfs::chunk {

using SharedHeader = std::shared_ptr<const block::Header>;

struct ObjectIdHash {
  size_t operator()(const ObjectId& object) const {
    const uint64_t h = (object.nonce ^ (object.id * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    return h ^ (h >> 32);
  }
};

class HeaderCache {
 public:
  explicit HeaderCache(uint64_t memory_bytes) : shard_bytes_(memory_bytes / kShards) {}

  SharedHeader Find(const ObjectId& object);
  void Insert(const ObjectId& object, SharedHeader header);
  void Erase(const ObjectId& object);
  uint64_t used_bytes() const;

 private:
  static constexpr size_t kShards = 8;
  struct Entry {
    ObjectId object;
    SharedHeader header;
    bool used = false;
  };
  struct Shard {
    mutable std::mutex mutex;
    std::list<Entry> ring;  // the hand is at the front; new entries go to the back
    std::unordered_map<ObjectId, std::list<Entry>::iterator, ObjectIdHash> index;
    uint64_t used_bytes = 0;
  };
  static uint64_t Cost(const Entry& entry);
  Shard& ShardOf(const ObjectId& object) { return shards_[(ObjectIdHash()(object) >> 56) % kShards]; }

  const uint64_t shard_bytes_;
  Shard shards_[kShards];
};

}  // namespace moorfs::chunk
