// SPDX-License-Identifier: Apache-2.0
//
// See frame_cache.h.

#include "fs/chunk/frame_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>

namespace moorfs::chunk {
namespace {

constexpr uint32_t kMaxShards = 16;
constexpr uint32_t kMinSlotsPerShard = 16;
constexpr uint8_t kMaxUsed = 3;

}  // namespace

uint64_t HashOf(const FrameKey& key) {
  uint64_t h = key.object.nonce ^ (key.object.id * 0x9E3779B97F4A7C15u) ^ (uint64_t{key.frame} << 40);
  h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
  h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93u;
  return h ^ (h >> 32);
}

FrameCache::FrameCache(uint64_t memory_bytes, uint32_t slot_bytes) : slot_bytes_(slot_bytes) {
  const uint64_t slots = std::min<uint64_t>(memory_bytes / slot_bytes, UINT32_MAX / 2);
  if (slots == 0) return;
  shard_count_ = static_cast<uint32_t>(
      std::clamp<uint64_t>(std::bit_floor(std::max<uint64_t>(slots / kMinSlotsPerShard, 1)), 1, kMaxShards));
  slots_per_shard_ = static_cast<uint32_t>(slots / shard_count_);
  mapped_bytes_ = capacity_bytes();
  void* base = ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {  // no address space: no cache
    shard_count_ = slots_per_shard_ = 0;
    mapped_bytes_ = 0;
    return;
  }
  base_ = static_cast<char*>(base);
  // File contents do not belong in a core dump.
  ::madvise(base_, mapped_bytes_, MADV_DONTDUMP);
  // A 2 MiB page for the first frame of each shard would cost an idle client
  // more than the rest of it.
  ::madvise(base_, mapped_bytes_, MADV_NOHUGEPAGE);
  shards_ = std::make_unique<Shard[]>(shard_count_);
  for (uint32_t s = 0; s < shard_count_; s++) {
    shards_[s].slots.resize(slots_per_shard_);
    // Low slots first: a cache that is hardly used touches little memory.
    for (uint32_t i = slots_per_shard_; i-- > 0;) shards_[s].free.push_back(i);
  }
}

FrameCache::~FrameCache() {
  if (base_ != nullptr) ::munmap(base_, mapped_bytes_);
}

char* FrameCache::Data(uint32_t shard, uint32_t slot) const {
  return base_ + (size_t{shard} * slots_per_shard_ + slot) * slot_bytes_;
}

FrameCache::Outcome FrameCache::Acquire(const FrameKey& key, uint32_t bytes, bool claim, bool wait,
                                        Ref* ref) {
  if (shard_count_ == 0 || bytes > slot_bytes_) return claim ? Outcome::kFull : Outcome::kMiss;
  const uint32_t number = static_cast<uint32_t>(HashOf(key) >> 48) & (shard_count_ - 1);
  Shard& shard = shards_[number];
  std::unique_lock lock(shard.mutex);
  for (;;) {
    auto it = shard.index.find(key);
    if (it == shard.index.end()) break;
    Slot& slot = shard.slots[it->second];
    if (slot.state == State::kReady) {
      slot.pins++;
      if (slot.used < kMaxUsed) slot.used++;
      ref->cache_ = this;
      ref->shard_ = number;
      ref->slot_ = it->second;
      return Outcome::kHit;
    }
    if (!wait) return Outcome::kBusy;
    shard.filled.wait(lock);
  }
  if (!claim) return Outcome::kMiss;
  uint32_t taken;
  if (!TakeSlot(shard, &taken)) return Outcome::kFull;
  Slot& slot = shard.slots[taken];
  slot.key = key;
  slot.bytes = bytes;
  slot.pins = 1;
  slot.state = State::kFilling;
  slot.used = 0;
  shard.index.emplace(key, taken);
  shard.used_bytes += bytes;
  ref->cache_ = this;
  ref->shard_ = number;
  ref->slot_ = taken;
  return Outcome::kFill;
}

bool FrameCache::TakeSlot(Shard& shard, uint32_t* slot) {
  if (shard.free.empty()) {
    const size_t count = shard.slots.size();
    for (size_t step = 0; step < count * (kMaxUsed + 1); step++) {
      const uint32_t at = shard.hand;
      shard.hand = static_cast<uint32_t>((shard.hand + 1) % count);
      Slot& candidate = shard.slots[at];
      if (candidate.pins > 0 || candidate.state != State::kReady) continue;
      if (candidate.used > 0) {
        candidate.used--;
        continue;
      }
      shard.index.erase(candidate.key);
      Free(shard, at);
      break;
    }
  }
  if (shard.free.empty()) return false;
  *slot = shard.free.back();
  shard.free.pop_back();
  return true;
}

void FrameCache::Free(Shard& shard, uint32_t slot) {
  shard.used_bytes -= shard.slots[slot].bytes;
  shard.slots[slot].state = State::kFree;
  shard.free.push_back(slot);
}

void FrameCache::Erase(const FrameKey& key) {
  if (shard_count_ == 0) return;
  Shard& shard = shards_[(HashOf(key) >> 48) & (shard_count_ - 1)];
  std::lock_guard lock(shard.mutex);
  auto it = shard.index.find(key);
  if (it == shard.index.end()) return;
  const uint32_t number = it->second;
  Slot& slot = shard.slots[number];
  // One that is being filled is left: its object was read before it went.
  if (slot.state != State::kReady) return;
  shard.index.erase(it);
  if (slot.pins == 0) {
    Free(shard, number);
  } else {
    slot.state = State::kErased;  // the last pin frees it
  }
}

uint64_t FrameCache::used_bytes() const {
  uint64_t total = 0;
  for (uint32_t s = 0; s < shard_count_; s++) {
    std::lock_guard lock(shards_[s].mutex);
    total += shards_[s].used_bytes;
  }
  return total;
}

FrameCache::Ref& FrameCache::Ref::operator=(Ref&& other) noexcept {
  if (this != &other) {
    Reset();
    cache_ = std::exchange(other.cache_, nullptr);
    shard_ = other.shard_;
    slot_ = other.slot_;
  }
  return *this;
}

std::span<char> FrameCache::Ref::bytes() const {
  // Constant while pinned, so read without the lock.
  return {cache_->Data(shard_, slot_), cache_->shards_[shard_].slots[slot_].bytes};
}

void FrameCache::Ref::Publish() {
  Shard& shard = cache_->shards_[shard_];
  {
    std::lock_guard lock(shard.mutex);
    shard.slots[slot_].state = State::kReady;
  }
  shard.filled.notify_all();
}

void FrameCache::Ref::Reset() {
  if (cache_ == nullptr) return;
  Shard& shard = cache_->shards_[shard_];
  bool gave_up = false;
  {
    std::lock_guard lock(shard.mutex);
    Slot& slot = shard.slots[slot_];
    slot.pins--;
    if (slot.state == State::kFilling) {
      shard.index.erase(slot.key);
      Free(shard, slot_);
      gave_up = true;
    } else if (slot.state == State::kErased && slot.pins == 0) {
      Free(shard, slot_);
    }
  }
  if (gave_up) shard.filled.notify_all();
  cache_ = nullptr;
}

}  // namespace moorfs::chunk
