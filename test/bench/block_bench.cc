// SPDX-License-Identifier: Apache-2.0
//
// block_bench DIR [MIB]: what the block layer costs by itself on this machine.
// Puts and reads MIB (default 512) of 4 MiB blocks through a file store in DIR,
// page cache warm, one thread; prints GiB/s and microseconds. Leaves nothing
// behind but the figures.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "common/base/units.h"
#include "fs/chunk/block_store.h"

namespace moorfs {
namespace {

constexpr size_t kBlock = 4u << 20;

double Seconds(int64_t since) { return static_cast<double>(MonotonicNs() - since) / 1e9; }

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
  const auto report = [&](const char* what, double gib, double seconds) {
    std::printf("%-5s %-34s %8.2f GiB/s\n", name.c_str(), what, gib / seconds);
  };

  std::vector<iovec> pieces;
  for (size_t at = 0; at < kBlock; at += 128 << 10) pieces.push_back({raw.data() + at, 128 << 10});
  std::vector<ObjectId> ids;
  int64_t start = MonotonicNs();
  for (size_t i = 0; i < count; i++) {
    ids.push_back({1, i + 1});
    if (Status status = blocks->Put(ids.back(), pieces); !status.ok()) Fail(status);
  }
  report("put 4 MiB", static_cast<double>(mib) / 1024, Seconds(start));
  start = MonotonicNs();
  if (Status status = blocks->Barrier(ids); !status.ok()) Fail(status);
  std::printf("%-5s %-34s %8.0f ms\n", name.c_str(), "barrier over all", Seconds(start) * 1e3);

  blocks = Make(store, codec, 64 << 20);
  std::string out(1 << 20, '\0');
  for (int round = 0; round < 2; round++) {
    start = MonotonicNs();
    for (size_t i = 0; i < count; i++) {
      for (uint32_t at = 0; at < kBlock; at += out.size()) {
        if (Status status = blocks->Read(ids[i], at, out); !status.ok()) Fail(status);
      }
    }
    report(round ? "read 1 MiB, headers known" : "read 1 MiB, sequential", static_cast<double>(mib) / 1024, Seconds(start));
  }
  out.resize(128 << 10);
  start = MonotonicNs();
  for (size_t i = 0; i < count; i++) {
    for (uint32_t at = 4096; at + out.size() <= kBlock; at += out.size()) {
      if (Status status = blocks->Read(ids[i], at, out); !status.ok()) Fail(status);
    }
  }
  report("read 128 KiB, frames not aligned", static_cast<double>(count) * (kBlock - out.size()) / (1 << 30), Seconds(start));

  out.resize(4096);
  const int reads = 100000;
  for (const bool try_read : {false, true}) {
    for (const uint64_t memory : {uint64_t{4} << 20, uint64_t{mib} << 21}) {
      blocks = Make(store, codec, memory);
      int served = 0;
      for (int warm = 0; warm < 2; warm++) {  // the second round is measured
        random.seed(warm);
        start = MonotonicNs();
        for (int i = 0; i < reads; i++) {
          const ObjectId& id = ids[random() % count];
          const uint32_t at = random() % (kBlock / 4096) * 4096;
          if (try_read) {
            const bool hit = blocks->TryRead(id, at, out);
            served += warm && hit;
            if (hit) continue;
          }
          if (Status status = blocks->Read(id, at, out); !status.ok()) Fail(status);
        }
      }
      const double micros = Seconds(start) / reads * 1e6;
      std::printf("%-5s %-34s %8.2f us (memory hits %.0f %%%s)\n", name.c_str(),
                  try_read ? "random 4 KiB TryRead, else Read" : "random 4 KiB Read", micros,
                  100.0 * static_cast<double>(blocks->Stats().memory_hits) / (2.0 * reads),
                  try_read ? (", tried " + std::to_string(served * 100 / reads) + " % served").c_str() : "");
    }
  }
  for (const ObjectId& id : ids) {
    if (Status status = blocks->Delete(id); !status.ok()) Fail(status);
  }
}

void RunSmall(object::ObjectStore& store, size_t bytes) {
  auto blocks = Make(store, Codec::kNone, 64 << 20);
  std::string raw(bytes, 's');
  const iovec piece{raw.data(), raw.size()};
  const int count = 5000;
  int64_t start = MonotonicNs();
  for (int i = 0; i < count; i++) {
    if (Status status = blocks->Put({2, static_cast<uint64_t>(i + 1)}, {&piece, 1}); !status.ok()) Fail(status);
  }
  const double put = Seconds(start) / count * 1e6;
  blocks = Make(store, Codec::kNone, 64 << 20);
  start = MonotonicNs();
  for (int i = 0; i < count; i++) {
    if (Status status = blocks->Read({2, static_cast<uint64_t>(i + 1)}, 0, raw); !status.ok()) Fail(status);
  }
  const double read = Seconds(start) / count * 1e6;
  start = MonotonicNs();
  for (int i = 0; i < count; i++) {
    if (Status status = blocks->Delete({2, static_cast<uint64_t>(i + 1)}); !status.ok()) Fail(status);
  }
  std::printf("none  objects of %6zu bytes: put %.1f us, first read %.1f us, delete %.1f us\n", bytes, put, read,
              Seconds(start) / count * 1e6);
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
  for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) RunCodec(**store, codec, mib < 8 ? 8 : mib);
  RunSmall(**store, 4096);
  RunSmall(**store, 128 << 10);
  std::filesystem::remove_all(dir);
  return 0;
}
