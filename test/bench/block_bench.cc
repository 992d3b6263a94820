// SPDX-License-Identifier: Apache-2.0
//
// block_bench DIR [MIB]: what the block layer costs by itself on this machine.
// Puts and reads MIB (default 512) of 4 MiB blocks through a file store in DIR,
// page cache warm, one thread; prints GiB/s and microseconds. Leaves nothing
// behind but the figures. On ext4 give it a file system where nothing was
// deleted for some minutes: ext4 steps over recently freed inodes one by one,
// and creating a file then costs milliseconds.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/base/units.h"
#include "fs/chunk/block_store.h"

namespace moorfs {
namespace {

constexpr size_t kBlock = 4u << 20;

// Of this thread's own work: what is left of it on a busy machine's clock.
double CpuSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Runs `work`; wall clock and processor seconds.
template <typename F>
std::pair<double, double> Timed(F work) {
  const double cpu = CpuSeconds();
  const int64_t start = MonotonicNs();
  work();
  return {static_cast<double>(MonotonicNs() - start) / 1e9, CpuSeconds() - cpu};
}

void Fail(const Status& status) {
  std::fprintf(stderr, "block_bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

std::unique_ptr<chunk::BlockStore> Make(object::ObjectStore& store, Codec codec, uint64_t memory) {
  chunk::BlockStoreOptions options;
  options.codec = codec;
  options.memory_bytes = memory;
  return chunk::BlockStore::Create(store, options).value();
}

void MustBeOk(const Status& status) {
  if (!status.ok()) Fail(status);
}

void RunCodec(object::ObjectStore& store, Codec codec, size_t mib) {
  const size_t count = mib / 4;
  auto blocks = Make(store, codec, 64 << 20);
  // Half of it compresses well.
  std::string raw(kBlock, '\0');
  std::mt19937_64 random(1);
  for (size_t i = 0; i < kBlock; i++) {
    raw[i] = (i >> 16) % 2 ? static_cast<char>(random()) : "some text that repeats "[i % 23];
  }
  const std::string name(CodecName(codec));
  const auto report = [&](const char* what, double bytes, std::pair<double, double> took) {
    const double gib = bytes / (1 << 30);
    std::printf("%-5s %-34s %8.2f GiB/s  (%.2f of processor time)\n", name.c_str(), what, gib / took.first,
                gib / took.second);
  };
  const auto all = static_cast<double>(count * kBlock);

  std::vector<iovec> pieces;
  for (size_t at = 0; at < kBlock; at += 128 << 10) pieces.push_back({raw.data() + at, 128 << 10});
  std::vector<ObjectId> ids;
  for (size_t i = 0; i < count; i++) ids.push_back({1, i + 1});
  // Once without the clock: memory that a virtual machine touches for the first
  // time is slow, and is the machine's affair.
  for (const ObjectId& id : ids) MustBeOk(blocks->Put({3, id.id}, pieces));
  for (const ObjectId& id : ids) MustBeOk(blocks->Delete({3, id.id}));
  report("put 4 MiB", all, Timed([&] {
           for (const ObjectId& id : ids) MustBeOk(blocks->Put(id, pieces));
         }));
  const auto barrier = Timed([&] { MustBeOk(blocks->Barrier(ids)); });
  std::printf("%-5s %-34s %8.0f ms\n", name.c_str(), "barrier over all", barrier.first * 1e3);

  blocks = Make(store, codec, 64 << 20);
  std::string out(1 << 20, '\0');
  for (const char* what : {"read 1 MiB, sequential", "read 1 MiB, headers known"}) {
    report(what, all, Timed([&] {
             for (const ObjectId& id : ids) {
               for (uint32_t at = 0; at < kBlock; at += out.size()) MustBeOk(blocks->Read(id, at, out));
             }
           }));
  }
  out.resize(128 << 10);
  report("read 128 KiB, frames not aligned", static_cast<double>(count * (kBlock - out.size())), Timed([&] {
           for (const ObjectId& id : ids) {
             for (uint32_t at = 4096; at + out.size() <= kBlock; at += out.size())
               MustBeOk(blocks->Read(id, at, out));
           }
         }));

  out.resize(4096);
  constexpr int kReads = 100000;
  for (const bool try_read : {false, true}) {
    for (const uint64_t memory : {uint64_t{4} << 20, uint64_t{mib} << 21}) {
      blocks = Make(store, codec, memory);
      int served = 0;
      const auto round = [&] {
        random.seed(1);
        served = 0;
        for (int i = 0; i < kReads; i++) {
          const ObjectId& id = ids[random() % count];
          const uint32_t at = random() % (kBlock / 4096) * 4096;
          if (try_read && blocks->TryRead(id, at, out)) {
            served++;
          } else {
            MustBeOk(blocks->Read(id, at, out));
          }
        }
      };
      round();
      const auto before = blocks->Stats().memory_hits;
      const auto took = Timed(round);
      std::printf("%-5s %-34s %8.2f us     (%.2f of processor time; %.0f %% from memory", name.c_str(),
                  try_read ? "random 4 KiB TryRead, else Read" : "random 4 KiB Read",
                  took.first / kReads * 1e6, took.second / kReads * 1e6,
                  100.0 * static_cast<double>(blocks->Stats().memory_hits - before) / kReads);
      std::printf(try_read ? ", %d %% tried with success)\n" : ")\n", served * 100 / kReads);
    }
  }
  for (const ObjectId& id : ids) MustBeOk(blocks->Delete(id));
}

void RunSmall(object::ObjectStore& store, size_t bytes) {
  auto blocks = Make(store, Codec::kNone, 64 << 20);
  std::string raw(bytes, 's');
  const iovec piece{raw.data(), raw.size()};
  constexpr uint64_t kCount = 5000;
  const auto each = [&](const char* what, auto work) {
    const auto took = Timed([&] {
      for (uint64_t id = 1; id <= kCount; id++) MustBeOk(work(ObjectId{2, id}));
    });
    std::printf("none  %6zu-byte object: %-20s %8.2f us     (%.2f of processor time)\n", bytes, what,
                took.first / kCount * 1e6, took.second / kCount * 1e6);
  };
  each("put", [&](const ObjectId& id) { return blocks->Put(id, {&piece, 1}); });
  blocks = Make(store, Codec::kNone, 64 << 20);
  each("first read", [&](const ObjectId& id) { return blocks->Read(id, 0, raw); });
  each("delete", [&](const ObjectId& id) { return blocks->Delete(id); });
}

}  // namespace
}  // namespace moorfs

int main(int argc, char** argv) {
  using namespace moorfs;
  if (argc < 2) {
    std::fprintf(stderr, "usage: block_bench DIR [MIB]\n");
    return 2;
  }
  const std::string dir = std::string(argv[1]) + "/block_bench." + std::to_string(::getpid());
  auto store = object::OpenObjectStore("file:" + dir, true);
  if (!store) Fail(store.error());
  const size_t mib = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 512;
  for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd})
    RunCodec(**store, codec, mib < 8 ? 8 : mib);
  RunSmall(**store, 4096);
  RunSmall(**store, 128 << 10);
  std::filesystem::remove_all(dir);
  return 0;
}
