// SPDX-License-Identifier: Apache-2.0

#include "fs/chunk/frame_cache.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
#include <thread>
#include <vector>

namespace moorfs::chunk {
namespace {

using Outcome = FrameCache::Outcome;

FrameKey Key(uint64_t id, uint32_t frame = 0) {
  return {{1, id}, frame};
}

bool Fill(FrameCache& cache, const FrameKey& key, char byte, uint32_t bytes = 4096) {
  FrameCache::Ref ref;
  if (cache.Acquire(key, bytes, true, true, &ref) != Outcome::kFill) return false;
  std::memset(ref.bytes().data(), byte, bytes);
  ref.Publish();
  return true;
}

TEST_CASE("a published frame is found, an abandoned one is not") {
  FrameCache cache(1 << 20, 4096);
  REQUIRE(Fill(cache, Key(1), 'a', 100));
  FrameCache::Ref ref;
  REQUIRE(cache.Acquire(Key(1), 100, false, true, &ref) == Outcome::kHit);
  CHECK(ref.bytes().size() == 100);
  CHECK(ref.bytes()[99] == 'a');
  {
    FrameCache::Ref given_up;
    REQUIRE(cache.Acquire(Key(2), 100, true, true, &given_up) == Outcome::kFill);
    FrameCache::Ref other;
    CHECK(cache.Acquire(Key(2), 100, true, false, &other) == Outcome::kBusy);
  }
  FrameCache::Ref again;
  CHECK(cache.Acquire(Key(2), 100, false, true, &again) == Outcome::kMiss);
  CHECK(cache.used_bytes() == 100);
}

TEST_CASE("the cache never holds more than its memory, and keeps what is used") {
  FrameCache cache(64 * 4096, 4096);
  REQUIRE(cache.capacity_bytes() == 64 * 4096);
  for (uint64_t i = 0; i < 2000; i++) {
    REQUIRE(Fill(cache, Key(100 + i), 'x'));
    CHECK(cache.used_bytes() <= cache.capacity_bytes());
    FrameCache::Ref hot;
    if (cache.Acquire(Key(1), 4096, true, true, &hot) == Outcome::kFill) {
      REQUIRE(i == 0);  // read on every turn: must never have been evicted
      hot.Publish();
    }
  }
}

TEST_CASE("a frame too large for a slot, or a cache without memory, is not an error") {
  FrameCache cache(1 << 20, 4096), none(0, 4096);
  FrameCache::Ref ref;
  CHECK(cache.Acquire(Key(1), 4097, true, true, &ref) == Outcome::kFull);
  CHECK(none.Acquire(Key(1), 10, true, true, &ref) == Outcome::kFull);
  CHECK(none.Acquire(Key(1), 10, false, true, &ref) == Outcome::kMiss);
  none.Erase(Key(1));
}

TEST_CASE("pinned frames outlive eviction and deletion") {
  FrameCache cache(4 * 4096, 4096);
  REQUIRE(Fill(cache, Key(1), 'p'));
  FrameCache::Ref pin;
  REQUIRE(cache.Acquire(Key(1), 4096, false, true, &pin) == Outcome::kHit);
  cache.Erase(Key(1));
  for (uint64_t i = 10; i < 50; i++) REQUIRE(Fill(cache, Key(i), 'q'));
  CHECK(pin.bytes()[4095] == 'p');
  FrameCache::Ref gone;
  CHECK(cache.Acquire(Key(1), 4096, false, true, &gone) == Outcome::kMiss);
  std::vector<FrameCache::Ref> pins(3);
  for (uint64_t i = 0; i < 3; i++)
    REQUIRE(cache.Acquire(Key(90 + i), 4096, true, true, &pins[i]) == Outcome::kFill);
  CHECK(cache.Acquire(Key(99), 4096, true, true, &gone) == Outcome::kFull);
  pin.Reset();
  CHECK(cache.Acquire(Key(99), 4096, true, true, &gone) == Outcome::kFill);
}

TEST_CASE("all who want a frame wait for the one who fetches it") {
  FrameCache cache(1 << 20, 4096);
  std::atomic<int> fills{0}, hits{0}, wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      for (uint64_t turn = 0; turn < 3000; turn++) {
        const uint64_t i = turn % 100 + turn / 1000;
        FrameCache::Ref ref;
        const auto outcome = cache.Acquire(Key(i), 4096, true, true, &ref);
        if (outcome == Outcome::kFill) {
          fills++;
          std::memset(ref.bytes().data(), static_cast<int>(i), 4096);
          // The first attempt at every seventh is given up.
          if (i % 7 == 0 && fills % 2 == 0) continue;
          ref.Publish();
        } else if (outcome == Outcome::kHit) {
          hits++;
          wrong += ref.bytes()[0] != static_cast<char>(i) || ref.bytes()[4095] != static_cast<char>(i);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(fills + hits == 12000);
  CHECK(hits > 0);
}

}  // namespace
}  // namespace moorfs::chunk
