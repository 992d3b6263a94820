// SPDX-License-Identifier: Apache-2.0
//
// FrameCache: verified raw frames in memory. One mapping, cut into slots of
// equal size, so that memory in use is exactly bounded and never fragments;
// shards with a lock and a CLOCK hand each. A slot is pinned while somebody
// copies from it or fills it, and everyone who wants a frame that is being
// filled waits for that one fetch.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/format/types.h"

namespace moorfs::chunk {

struct FrameKey {
  ObjectId object;
  uint32_t frame = 0;
  friend bool operator==(const FrameKey&, const FrameKey&) = default;
};
uint64_t HashOf(const FrameKey& key);

class FrameCache {
 public:
  // Frames up to `slot_bytes` fit.
  FrameCache(uint64_t memory_bytes, uint32_t slot_bytes);
  ~FrameCache();
  FrameCache(const FrameCache&) = delete;

  // A pinned slot. Unpins when it goes; a slot that was to be filled and was
  // not published is given up, and waiters look again.
  class Ref {
   public:
    Ref() = default;
    Ref(Ref&& other) noexcept { *this = std::move(other); }
    Ref& operator=(Ref&& other) noexcept;
    ~Ref() { Reset(); }
    explicit operator bool() const { return cache_ != nullptr; }
    std::span<char> bytes() const;
    // The bytes are complete and verified: everyone may read them.
    void Publish();
    void Reset();

   private:
    friend class FrameCache;
    FrameCache* cache_ = nullptr;
    uint32_t shard_ = 0, slot_ = 0;
  };

  enum class Outcome {
    kHit,   // *ref holds the frame
    kFill,  // *ref is a slot of ours to fill and publish
    kBusy,  // another fills it, and we were not to wait
    kFull,  // every slot is pinned, or the frame is larger than a slot
    kMiss,  // not here, and we were not to claim it
  };
  // To be free of deadlock, one thread claims and waits in ascending order of
  // frames of one object.
  Outcome Acquire(const FrameKey& key, uint32_t bytes, bool claim, bool wait, Ref* ref);

  void Erase(const FrameKey& key);
  uint64_t used_bytes() const;
  uint64_t capacity_bytes() const { return uint64_t{shard_count_} * slots_per_shard_ * slot_bytes_; }

 private:
  enum class State : uint8_t { kFree, kFilling, kReady, kErased };
  struct KeyHash {
    size_t operator()(const FrameKey& key) const { return HashOf(key); }
  };
  struct Slot {
    FrameKey key;
    uint32_t bytes = 0;
    uint32_t pins = 0;
    State state = State::kFree;
    uint8_t used = 0;  // CLOCK: sweeps it survives
  };
  struct Shard {
    mutable std::mutex mutex;
    std::condition_variable filled;
    std::unordered_map<FrameKey, uint32_t, KeyHash> index;
    std::vector<Slot> slots;
    std::vector<uint32_t> free;
    uint32_t hand = 0;
    uint64_t used_bytes = 0;
  };

  static void Free(Shard& shard, uint32_t slot);
  // A free slot, by eviction if need be; false when all are pinned.
  static bool TakeSlot(Shard& shard, uint32_t* slot);
  char* Data(uint32_t shard, uint32_t slot) const;

  const uint32_t slot_bytes_;
  uint32_t shard_count_ = 0;
  uint32_t slots_per_shard_ = 0;
  char* base_ = nullptr;
  size_t mapped_bytes_ = 0;
  std::unique_ptr<Shard[]> shards_;
};

}  // namespace moorfs::chunk
