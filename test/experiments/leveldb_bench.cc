// SPDX-License-Identifier: Apache-2.0
//
// What the embedded engine does per second: transactions of three reads and
// four writes (one of them an Add to a counter all threads share), single
// reads, small scans, and commits that are synced one by one.
//
//   leveldb_bench DIR

#include <atomic>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/units.h"
#include "fs/kv/leveldb/leveldb_store.h"

namespace {

using moorfs::MonotonicNs;
using moorfs::Status;
using namespace moorfs::kv;

// Runs `step(thread, i)` `total` times, spread over `threads`.
void Measure(const char* what, int threads, int total, const std::function<bool(int thread, int i)>& step) {
  std::atomic<int> failures{0};
  std::vector<std::thread> pool;
  const int64_t start = MonotonicNs();
  for (int thread = 0; thread < threads; ++thread) {
    pool.emplace_back([&, thread] {
      for (int i = 0; i < total / threads; ++i) failures += step(thread, i) ? 0 : 1;
    });
  }
  for (std::thread& thread : pool) thread.join();
  const double seconds = static_cast<double>(MonotonicNs() - start) / 1e9;
  std::printf("%-28s %d threads: %8.0f /s, %7.2f us each%s\n", what, threads, total / seconds, seconds / total * 1e6,
              failures > 0 ? ", SOME FAILED" : "");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: leveldb_bench DIR\n");
    return 2;
  }
  auto store = LevelDbStore::Open(argv[1], {.create_if_missing = true});
  if (!store) {
    std::fprintf(stderr, "%s\n", store.error().ToString().c_str());
    return 1;
  }
  KvStore& kv = **store;
  const std::string value(100, 'v');
  for (const int threads : {1, 4}) {
    Measure("3 reads + 4 writes", threads, 100'000, [&](int thread, int i) {
      const std::string id = std::to_string(thread) + "/" + std::to_string(i % 5000);
      const Key keys[] = {Key("I00000", id), Key("D00000", id), Key("P00000", std::to_string(thread))};
      return kv
          .Transact([&](Transaction& t) {
            for (const Key& key : keys) {
              if (auto got = t.Get(key); !got) return got.error();
            }
            for (const Key& key : keys) t.Put(key, value);
            t.Add(Key("C00000", "count"), 1);
            return Status();
          })
          .ok();
    });
    Measure("1 read", threads, 400'000, [&](int, int i) {
      const Key key("I00000", "0/" + std::to_string(i % 5000));
      return kv.Transact([&](Transaction& t) { return t.Get(key) ? Status() : Status(EIO, "read"); }).ok();
    });
    Measure("scan of 10 entries", threads, 50'000, [&](int, int i) {
      const std::string prefix = "0/" + std::to_string(i % 400 + 100);
      return kv
          .Transact([&](Transaction& t) {
            return t.Scan(PrefixRange("I00000", prefix), 10) ? Status() : Status(EIO, "scan");
          })
          .ok();
    });
    Measure("1 write + Sync", threads, 500, [&](int thread, int i) {
      const Key key("S00000", std::to_string(thread * 1000 + i));
      return kv.Transact([&](Transaction& t) { return t.Put(key, "v"), Status(); }).ok() && kv.Sync().ok();
    });
  }
  std::printf("%s\n", kv.Stats().c_str());
  return 0;
}
