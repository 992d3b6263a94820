// SPDX-License-Identifier: Apache-2.0

#include "fs/chunk/disk_cache.h"

#include <signal.h>
#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <thread>

#include "test/support/temp_dir.h"

namespace moorfs::chunk {
namespace {

using test::TempDir;

FrameKey Key(uint64_t id, uint32_t frame = 0) {
  return {{1, id}, frame};
}

std::string Bytes(uint64_t id, size_t size) {
  std::string out(size, '\0');
  for (size_t i = 0; i < size; i++) out[i] = static_cast<char>(id * 131 + i * 7);
  return out;
}

std::optional<std::string> Read(DiskCache& cache, const FrameKey& key, size_t room = 40000) {
  std::string out(room, '?');
  const auto got = cache.Read(key, out);
  if (!got) return std::nullopt;
  out.resize(*got);
  return out;
}

TEST_CASE("what was inserted is read back until younger entries take its place") {
  TempDir dir;
  auto cache = DiskCache::Open(dir / "cache", 8 << 20).value();
  CHECK_FALSE(Read(*cache, Key(1)));
  for (uint64_t i = 1; i <= 1000; i++) {
    cache->Insert(Key(i, i % 3), Bytes(i, 20000 + i));
    if (i % 50 == 0) cache->Drain();
  }
  cache->Drain();
  size_t found = 0;
  for (uint64_t i = 1; i <= 1000; i++) {
    const auto got = Read(*cache, Key(i, i % 3));
    if (!got) continue;
    found++;
    REQUIRE(*got == Bytes(i, 20000 + i));
  }
  CHECK(found > 200);
  CHECK(found < 420);  // 8 MiB hold no more
  CHECK(Read(*cache, Key(1000, 1)));
  CHECK_FALSE(Read(*cache, Key(1, 1)));
  CHECK_FALSE(Read(*cache, Key(1000, 2)));
  CHECK(cache->used_bytes() == 8 << 20);
  CHECK_FALSE(Read(*cache, Key(1000, 1), 20999));
  cache->Erase(Key(1000, 1));
  CHECK_FALSE(Read(*cache, Key(1000, 1)));
}

TEST_CASE("the files have no name and the index has a bound") {
  TempDir dir;
  auto cache = DiskCache::Open(dir.path(), 64 << 20).value();
  CHECK(std::filesystem::is_empty(dir.path()));
  CHECK(cache->index_bytes() <= (64 << 20) / 16384 * 32);
}

TEST_CASE("a cache disk that fails again and again is left alone") {
  TempDir dir;
  auto cache = DiskCache::Open(dir.path(), 8 << 20).value();
  cache->Insert(Key(1), Bytes(1, 5000));
  cache->Drain();
  REQUIRE(Read(*cache, Key(1)));
  // No file may grow or be written beyond its first byte: every write fails.
  rlimit before;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto signal_before = ::signal(SIGXFSZ, SIG_IGN);
  rlimit none = before;
  none.rlim_cur = 1;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &none) == 0);
  for (uint64_t i = 2; i < 9; i++) cache->Insert(Key(i), Bytes(i, 5000));
  cache->Drain();
  const bool after_seven = cache->failed();
  cache->Insert(Key(9), Bytes(9, 5000));
  cache->Drain();
  const bool after_eight = cache->failed();
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, signal_before);
  CHECK_FALSE(after_seven);
  CHECK(after_eight);
  CHECK_FALSE(Read(*cache, Key(1)));
  CHECK_FALSE(Read(*cache, Key(5)));
}

TEST_CASE("a cache too small, or in a place that is none, does not open") {
  TempDir dir;
  CHECK(DiskCache::Open(dir.path(), 1 << 20).error().err() == EINVAL);
  CHECK_FALSE(DiskCache::Open("/proc/moorfs-cache", 8 << 20));
}

}  // namespace
}  // namespace moorfs::chunk
