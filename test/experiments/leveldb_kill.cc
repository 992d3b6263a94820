// SPDX-License-Identifier: Apache-2.0
//
// What SIGKILL costs the embedded engine. A child commits (two threads, three
// reads and four writes each) and syncs every 20 ms; the parent kills it at
// random and starts the next one, N times. Printed: how long opening took, how
// long commits stalled, whether anything acknowledged was lost.
//
//   leveldb_kill DIR KILLS [LIFE_MS=200] [saturate]
//
// KILLS 0: no kill, the same load for ten seconds, for comparison. LIFE_MS: a
// child lives half to one and a half times this long. saturate: four threads
// write and fdatasync 1 MiB pieces beside DIR meanwhile.

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/base/units.h"
#include "fs/kv/leveldb/leveldb_store.h"

namespace {

using moorfs::MonotonicNs;
using moorfs::Status;
using namespace moorfs::kv;

constexpr int kThreads = 2;
constexpr size_t kBuckets = 40;  // powers of two of a microsecond

// In memory shared by parent and children.
struct Shared {
  std::atomic<int64_t> open_ns;  // 0 until the child has opened
  std::atomic<uint64_t> acknowledged[kThreads];
  std::atomic<uint64_t> commit_buckets[kBuckets];
  std::atomic<int64_t> longest_commit_ns;
  std::atomic<uint64_t> syncs;
  std::atomic<uint64_t> sync_ns;
  std::atomic<uint64_t> lost;
};

void Note(Shared* shared, int64_t ns) {
  size_t bucket = 0;
  for (int64_t us = ns / 1000; us > 0 && bucket + 1 < kBuckets; us >>= 1) ++bucket;
  ++shared->commit_buckets[bucket];
  int64_t longest = shared->longest_commit_ns;
  while (ns > longest && !shared->longest_commit_ns.compare_exchange_weak(longest, ns)) {
  }
}

// The upper bound of the bucket that holds the given share of all commits.
double PercentileUs(const Shared& shared, double share) {
  uint64_t total = 0;
  for (const auto& bucket : shared.commit_buckets) total += bucket;
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += shared.commit_buckets[i];
    if (static_cast<double>(seen) >= share * static_cast<double>(total)) return static_cast<double>(uint64_t{1} << i);
  }
  return 0;
}

uint64_t LastCommit(KvStore& store, int thread) {
  uint64_t last = 0;
  const Status status = store.Transact([&](Transaction& t) {
    auto value = t.Get(Key("L00000", std::to_string(thread)));
    if (!value) return value.error();
    last = *value ? std::stoull(**value) : 0;
    return Status();
  });
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return last;
}

void CommitForever(KvStore* store, Shared* shared, int thread) {
  const std::string value(120, 'v');
  for (uint64_t i = shared->acknowledged[thread] + 1;; ++i) {
    const std::string id = std::to_string(thread) + "/" + std::to_string(i % 20000);
    const int64_t start = MonotonicNs();
    const Status status = store->Transact([&](Transaction& t) {
      for (const char* family : {"I00000", "D00000", "X00000"}) {
        if (auto got = t.Get(Key(family, id)); !got) return got.error();
      }
      for (const char* family : {"I00000", "D00000", "X00000"}) t.Put(Key(family, id), value);
      t.Put(Key("L00000", std::to_string(thread)), std::to_string(i));
      return Status();
    });
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      return;
    }
    Note(shared, MonotonicNs() - start);
    shared->acknowledged[thread] = i;
  }
}

[[noreturn]] void RunChild(const std::string& dir, Shared* shared) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int64_t start = MonotonicNs();
  auto store = LevelDbStore::Open(dir, {.create_if_missing = true});
  if (!store) {
    std::fprintf(stderr, "%s\n", store.error().ToString().c_str());
    ::_exit(1);
  }
  const int64_t opened = MonotonicNs() - start;
  for (int thread = 0; thread < kThreads; ++thread) {
    if (LastCommit(**store, thread) < shared->acknowledged[thread]) ++shared->lost;
    shared->acknowledged[thread] = LastCommit(**store, thread);
  }
  shared->open_ns = opened;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back(CommitForever, store->get(), shared, thread);
  for (;;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const int64_t sync_start = MonotonicNs();
    if (!(*store)->Sync().ok()) ::_exit(1);
    ++shared->syncs;
    shared->sync_ns += static_cast<uint64_t>(MonotonicNs() - sync_start);
  }
}

[[noreturn]] void SaturateDisk(const std::string& dir) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&dir, i] {
      const std::string name = dir + ".load" + std::to_string(i);
      const int fd = ::open(name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
      ::unlink(name.c_str());
      const std::vector<char> piece(1 << 20, 'x');
      for (off_t at = 0; fd >= 0; at = (at + (1 << 20)) % (128 << 20)) {
        if (::pwrite(fd, piece.data(), piece.size(), at) < 0 || ::fdatasync(fd) != 0) break;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ::_exit(1);
}

pid_t Fork(const auto& run) {
  const pid_t pid = ::fork();
  if (pid == 0) run();
  return pid;
}

void Kill(pid_t pid) {
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

void PrintTimes(const char* what, std::vector<int64_t> ns) {
  if (ns.empty()) return;
  std::sort(ns.begin(), ns.end());
  const auto ms = [&](double share) {
    return static_cast<double>(ns[std::min(ns.size() - 1, static_cast<size_t>(share * static_cast<double>(ns.size())))]) / 1e6;
  };
  std::printf("%s: p50 %.1f ms, p99 %.1f ms, max %.1f ms (%zu)\n", what, ms(0.5), ms(0.99), ms(1), ns.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: leveldb_kill DIR KILLS [LIFE_MS] [saturate]\n");
    return 2;
  }
  const std::string dir = argv[1];
  const int kills = std::atoi(argv[2]);
  const int life_ms = argc > 3 ? std::atoi(argv[3]) : 200;
  const bool saturate = argc > 4 && std::strcmp(argv[4], "saturate") == 0;
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  auto* shared = new (memory) Shared{};
  const pid_t load = saturate ? Fork([&] { SaturateDisk(dir); }) : 0;

  std::minstd_rand random(std::random_device{}());
  std::vector<int64_t> opens;
  for (int i = 0; i < std::max(kills, 1); ++i) {
    shared->open_ns = 0;
    const pid_t child = Fork([&] { RunChild(dir, shared); });
    while (shared->open_ns == 0 && ::waitpid(child, nullptr, WNOHANG) == 0) ::usleep(200);
    if (shared->open_ns == 0) {
      if (load > 0) Kill(load);
      return 1;
    }
    opens.push_back(shared->open_ns);
    const int sleep_ms = kills == 0 ? 10'000 : life_ms / 2 + static_cast<int>(random() % static_cast<unsigned>(life_ms));
    std::this_thread::sleep_for(std::chrono::milliseconds(sleep_ms));
    Kill(child);
  }
  if (load > 0) Kill(load);

  PrintTimes("open", opens);
  if (opens.size() >= 100) {
    PrintTimes("open, first 50", {opens.begin(), opens.begin() + 50});
    PrintTimes("open, last 50", {opens.end() - 50, opens.end()});
  }
  uint64_t commits = 0;
  for (const auto& bucket : shared->commit_buckets) commits += bucket;
  std::printf("commits: %lu, p50 < %.0f us, p99 < %.0f us, p99.99 < %.0f us, longest %.1f ms\n", commits,
              PercentileUs(*shared, 0.5), PercentileUs(*shared, 0.99), PercentileUs(*shared, 0.9999),
              static_cast<double>(shared->longest_commit_ns) / 1e6);
  std::printf("syncs: %lu, mean %.2f ms\n", shared->syncs.load(),
              static_cast<double>(shared->sync_ns) / 1e6 / static_cast<double>(std::max<uint64_t>(1, shared->syncs)));
  std::printf("acknowledged commits lost: %lu\n", shared->lost.load());
  auto store = LevelDbStore::Open(dir, {});
  if (store) std::printf("%s\n", (*store)->Stats().c_str());
  return shared->lost == 0 && store ? 0 : 1;
}
