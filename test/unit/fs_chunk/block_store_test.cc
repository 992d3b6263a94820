// SPDX-License-Identifier: Apache-2.0
//
// BlockStore on real stores: every codec and range, damage, deletes, bounds.

#include "fs/chunk/block_store.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "common/log/log.h"
#include "fs/format/block.h"
#include "fs/object/mem/mem_store.h"
#include "test/support/faulty_object_store.h"
#include "test/support/temp_dir.h"

namespace moorfs::chunk {
namespace {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;
using test::FaultyObjectStore;
using test::Op;
using test::TempDir;

const Uuid kVolume = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

// Half text-like, half random: some frames shrink, some do not.
std::string Content(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (size_t i = 0; i < size; i++) {
    out[i] = (i / 50000) % 2 == 0 ? "abcdefgh"[(i / 11 + seed) % 8] : static_cast<char>(random());
  }
  return out;
}

Status Put(BlockStore& blocks, const ObjectId& object, const std::string& bytes) {
  const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  return blocks.Put(object, {&piece, 1});
}

Result<std::string> Read(BlockStore& blocks, const ObjectId& object, uint32_t offset, size_t size) {
  std::string out(size, '?');
  TRY_VOID(blocks.Read(object, offset, out));
  return out;
}

std::unique_ptr<BlockStore> Make(object::ObjectStore& store, Codec codec = Codec::kNone,
                                 uint64_t memory = 8 << 20) {
  BlockStoreOptions options;
  options.volume = kVolume;
  options.codec = codec;
  options.memory_bytes = memory;
  return BlockStore::Create(store, options).value();
}

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 500; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(10ms);
  }
  return condition();
}

TEST_CASE("names of blocks lead back to their ids, other names to none") {
  object::MemStore store;
  const auto blocks = Make(store);
  const ObjectId object{0xabcdef, 5000};
  const std::string name = blocks->NameOf(object);
  CHECK(name == "01020304-0506-0708-090a-0b0c0d0e0f10/0000000000abcdef/4/1388");
  CHECK(blocks->IdOf(name) == object);
  for (const std::string& other :
       {std::string(), std::string("x"), name + "0/", name.substr(0, name.size() - 1) + "g",
        "0" + name.substr(1, 9), "11" + name.substr(2), name + " ", name.substr(0, 54) + "5/1388"}) {
    INFO(other);
    CHECK_FALSE(blocks->IdOf(other));
  }
  CHECK(blocks->IdOf(blocks->NameOf({~uint64_t{0}, ~uint64_t{0}})) == ObjectId{~uint64_t{0}, ~uint64_t{0}});
}

TEST_CASE("every codec gives back every range, cold, warm and through the disk cache") {
  const Codec codec = GENERATE(Codec::kNone, Codec::kLz4, Codec::kZstd);
  const bool file = GENERATE(false, true);
  const bool disk = GENERATE(false, true);
  INFO(CodecName(codec) << " file=" << file << " disk=" << disk);
  TempDir dir;
  object::MemStore mem;
  std::unique_ptr<object::ObjectStore> files =
      object::OpenObjectStore("file:" + (dir / "store"), true).value();
  object::ObjectStore& store = file ? *files : mem;
  BlockStoreOptions options;
  options.volume = kVolume;
  options.codec = codec;
  options.memory_bytes = 2 << 20;
  if (disk) options.cache_dir = dir / "cache";
  options.cache_bytes = 16 << 20;
  auto blocks = BlockStore::Create(store, options).value();
  const size_t sizes[] = {1, 100, 4096, 32767, 32768, 32769, 131072, 1000003};
  std::vector<std::string> contents;
  for (size_t i = 0; i < std::size(sizes); i++) {
    contents.push_back(Content(sizes[i], i));
    REQUIRE(Put(*blocks, {7, i + 1}, contents[i]).ok());
  }
  std::mt19937 random(42);
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < std::size(sizes); i++) {
      CHECK(Read(*blocks, {7, i + 1}, 0, sizes[i]).value() == contents[i]);
      for (int probe = 0; probe < 40; probe++) {
        const uint32_t offset = random() % sizes[i];
        const size_t size = 1 + random() % (sizes[i] - offset);
        REQUIRE(Read(*blocks, {7, i + 1}, offset, size).value() == contents[i].substr(offset, size));
        std::string tried(size, '?');
        if (blocks->TryRead({7, i + 1}, offset, tried)) REQUIRE(tried == contents[i].substr(offset, size));
      }
    }
    if (round == 0) blocks = BlockStore::Create(store, options).value();  // cold caches
  }
  CHECK(blocks->Stats().damaged == 0);
  CHECK(blocks->Stats().memory_hits > 0);
  CHECK(blocks->Stats().memory_used_bytes <= options.memory_bytes);
}

TEST_CASE("a block of many pieces is their concatenation") {
  object::MemStore store;
  const Codec codec = GENERATE(Codec::kNone, Codec::kLz4);
  const auto blocks = Make(store, codec);
  std::string all = Content(300000, 9);
  std::vector<iovec> pieces;
  std::mt19937 random(1);
  for (size_t at = 0; at < all.size();) {
    const size_t size = std::min<size_t>(random() % 9000, all.size() - at);
    pieces.push_back({all.data() + at, size});
    at += size;
  }
  REQUIRE(blocks->Put({1, 1}, pieces).ok());
  CHECK(Read(*blocks, {1, 1}, 0, all.size()).value() == all);
  CHECK(blocks->Put({1, 2}, {}).err() == EINVAL);
}

TEST_CASE("a read beyond the block, of a missing or of a deleted block is EIO") {
  object::MemStore store;
  const auto blocks = Make(store);
  REQUIRE(Put(*blocks, {1, 1}, Content(5000, 1)).ok());
  CHECK(Read(*blocks, {1, 1}, 4999, 1).has_value());
  CHECK(Read(*blocks, {1, 1}, 4999, 2).error().err() == EIO);
  CHECK(Read(*blocks, {1, 2}, 0, 1).error().err() == EIO);
  REQUIRE(Read(*blocks, {1, 1}, 10, 20).has_value());
  REQUIRE(blocks->Delete({1, 1}).ok());
  CHECK(blocks->Delete({1, 1}).ok());
  std::string out(20, '?');
  CHECK_FALSE(blocks->TryRead({1, 1}, 10, out));
  const auto gone = Read(*blocks, {1, 1}, 10, 20);
  CHECK(gone.error().err() == EIO);
  CHECK_THAT(gone.error().message(), Contains(blocks->NameOf({1, 1})) && Contains("missing"));
}

TEST_CASE("damage anywhere in an object is EIO for what it touches, never other bytes") {
  const Codec codec = GENERATE(Codec::kNone, Codec::kLz4, Codec::kZstd);
  object::MemStore store;
  const std::string content = Content(200000, 3);
  const ObjectId object{3, 3};
  std::string name;
  {
    const auto blocks = Make(store, codec);
    name = blocks->NameOf(object);
    REQUIRE(Put(*blocks, object, content).ok());
  }
  const std::string good = store.Bytes(name).value();
  const size_t header_bytes = block::Header::Length(good).value();
  std::mt19937 random(5);
  std::vector<size_t> places = {
      0, 9, 16, 20, 24, 33, 50, 66, 75, 97, 110, header_bytes - 1, header_bytes, good.size() - 1};
  for (int i = 0; i < 100; i++) places.push_back(random() % good.size());
  for (const size_t place : places) {
    INFO("byte " << place);
    std::string bad = good;
    bad[place] ^= 1 << (random() % 8);
    store.Overwrite(name, bad);
    const auto blocks = Make(store, codec);
    const auto whole = Read(*blocks, object, 0, content.size());
    REQUIRE_FALSE(whole.has_value());
    CHECK(whole.error().err() == EIO);
    CHECK(blocks->Stats().damaged > 0);
    int failed = 0;
    for (uint32_t offset = 0; offset < content.size(); offset += 10000) {
      const auto part = Read(*blocks, object, offset, 10000);
      if (part) REQUIRE(*part == content.substr(offset, 10000));
      failed += !part.has_value();
    }
    CHECK(failed > 0);
    // One frame's damage leaves the others readable.
    if (place >= header_bytes) CHECK(failed <= 5);
  }
  for (size_t size :
       {size_t{0}, size_t{50}, header_bytes - 1, header_bytes, good.size() / 2, good.size() - 1}) {
    INFO("cut to " << size);
    store.Overwrite(name, good.substr(0, size));
    const auto blocks = Make(store, codec);
    const auto whole = Read(*blocks, object, 0, content.size());
    REQUIRE_FALSE(whole.has_value());
    CHECK(whole.error().err() == EIO);
  }
}

TEST_CASE("a block under the name of another, or of another volume, is EIO") {
  object::MemStore store;
  const auto blocks = Make(store);
  REQUIRE(Put(*blocks, {1, 1}, "one").ok());
  store.Overwrite(blocks->NameOf({1, 2}), store.Bytes(blocks->NameOf({1, 1})).value());
  CHECK_THAT(Read(*blocks, {1, 2}, 0, 3).error().message(), Contains("another id"));
  BlockStoreOptions options;
  options.volume = kVolume;
  options.volume[0]++;
  const auto other = BlockStore::Create(store, options).value();
  store.Overwrite(other->NameOf({1, 1}), store.Bytes(blocks->NameOf({1, 1})).value());
  CHECK_THAT(Read(*other, {1, 1}, 0, 3).error().message(), Contains("another volume"));
}

TEST_CASE("errors of the store reach the caller and nothing half done stays") {
  object::MemStore base;
  FaultyObjectStore store(base);
  const auto blocks = Make(store);
  store.AddRule({.op = Op::kPut, .err = ENOSPC, .times = 1});
  store.AddRule({.op = Op::kPut, .err = ENOENT, .times = 1});
  CHECK(Put(*blocks, {1, 1}, "one").err() == ENOSPC);
  CHECK(Put(*blocks, {1, 1}, "one").err() == EIO);  // a store that vanished
  CHECK(Read(*blocks, {1, 1}, 0, 3).error().err() == EIO);
  CHECK(Put(*blocks, {1, 1}, "one").ok());
  store.AddRule({.op = Op::kBarrier, .err = EIO, .times = 1});
  const std::vector<ObjectId> objects{{1, 1}};
  CHECK(blocks->Barrier(objects).err() == EIO);
  CHECK(blocks->Barrier(objects).ok());
  store.AddRule({.op = Op::kGet, .err = ETIMEDOUT, .times = 1});
  CHECK(Read(*blocks, {1, 1}, 0, 2).error().err() == EIO);
  CHECK(Read(*blocks, {1, 1}, 0, 2).value() == "on");
  store.AddRule({.op = Op::kDelete, .err = EROFS, .times = 1});
  CHECK(blocks->Delete({1, 1}).err() == EROFS);
  CHECK(Read(*blocks, {1, 1}, 0, 2).value() == "on");
}

TEST_CASE("memory stays bounded, whatever is read") {
  object::MemStore store;
  const Codec codec = GENERATE(Codec::kNone, Codec::kZstd);
  const auto blocks = Make(store, codec, 1 << 20);
  const std::string content = Content(1 << 20, 4);
  for (uint64_t id = 1; id <= 8; id++) REQUIRE(Put(*blocks, {1, id}, content).ok());
  for (uint64_t id = 100; id <= 3000; id++) REQUIRE(Put(*blocks, {1, id}, "small").ok());
  std::mt19937 random(1);
  for (int i = 0; i < 3000; i++) {
    const uint32_t offset = random() % (content.size() - 4096);
    REQUIRE(Read(*blocks, {1, 1 + random() % 8}, offset, 4096).value() == content.substr(offset, 4096));
    REQUIRE(Read(*blocks, {1, 100 + random() % 2900}, 1, 3).value() == "mal");
    if (i % 100 == 0) REQUIRE(blocks->Stats().memory_used_bytes <= 1 << 20);
  }
}

TEST_CASE("prefetch brings frames in once, and reads wait for it instead of fetching again") {
  object::MemStore base;
  FaultyObjectStore store(base);
  const auto blocks = Make(store, Codec::kLz4);
  const std::string content = Content(256 << 10, 6);
  REQUIRE(Put(*blocks, {1, 1}, content).ok());
  store.AddRule({.op = Op::kGet, .delay = 100ms});
  blocks->Prefetch({1, 1}, 0, 256 << 10);
  REQUIRE(Eventually([&] { return store.calls(Op::kGet) >= 1; }));
  std::string out(4096, '?');
  CHECK_FALSE(blocks->TryRead({1, 1}, 40000, out));  // on its way, and not waited for
  std::vector<std::thread> readers;
  std::atomic<int> good{0};
  for (int t = 0; t < 3; t++) {
    readers.emplace_back([&, t] {
      const auto got = Read(*blocks, {1, 1}, 40000 + t, 100);
      good += got && *got == content.substr(40000 + t, 100);
    });
  }
  for (std::thread& reader : readers) reader.join();
  CHECK(good == 3);
  CHECK(store.calls(Op::kGet) == 1);
  REQUIRE(Eventually([&] { return blocks->TryRead({1, 1}, 200000, out); }));
  CHECK(out == content.substr(200000, 4096));
  const uint64_t gets = store.calls(Op::kGet);
  CHECK(Read(*blocks, {1, 1}, 0, content.size()).value() == content);
  CHECK(store.calls(Op::kGet) == gets);
}

TEST_CASE("more prefetches than can be done are dropped, and none outlives its block store") {
  object::MemStore base;
  FaultyObjectStore store(base);
  auto blocks = Make(store, Codec::kNone, 1 << 20);
  for (uint64_t id = 1; id <= 300; id++) REQUIRE(Put(*blocks, {1, id}, Content(100000, id)).ok());
  store.AddRule({.op = Op::kGet, .delay = 20ms});
  for (uint64_t id = 1; id <= 300; id++) blocks->Prefetch({1, id}, 0, 100000);
  blocks->Prefetch({1, 999}, 0, 10);
  blocks->Prefetch({1, 1}, 200000, 10);
  blocks.reset();
  CHECK(store.calls(Op::kGet) < 300);
}

TEST_CASE("readers at work while blocks are deleted see the bytes or EIO") {
  TempDir dir;
  const auto store = object::OpenObjectStore("file:" + dir.path(), true).value();
  const auto blocks = Make(*store, Codec::kLz4, 1 << 20);
  constexpr uint64_t kBlocks = 60;
  std::vector<std::string> contents(kBlocks);
  for (uint64_t i = 0; i < kBlocks; i++) {
    contents[i] = Content(150000, i);
    REQUIRE(Put(*blocks, {1, i + 1}, contents[i]).ok());
  }
  log::SetLevel(log::Level::kError);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; t++) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::string out;
      while (!stop) {
        const uint64_t i = random() % kBlocks;
        const uint32_t offset = random() % 150000;
        out.assign(1 + random() % (150000 - offset), '?');
        if (random() % 8 == 0) blocks->Prefetch({1, i + 1}, offset, out.size());
        if (random() % 4 == 0 ? blocks->TryRead({1, i + 1}, offset, out)
                              : blocks->Read({1, i + 1}, offset, out).ok()) {
          good++;
          wrong += std::string_view(out) != std::string_view(contents[i]).substr(offset, out.size());
        }
      }
    });
  }
  for (uint64_t i = 0; i < kBlocks; i += 2) {
    CHECK(blocks->Delete({1, i + 1}).ok());
    std::this_thread::sleep_for(5ms);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(good > 0);
  CHECK(Read(*blocks, {1, 1}, 0, 10).error().err() == EIO);
  CHECK(Read(*blocks, {1, 2}, 0, 10).value() == contents[1].substr(0, 10));
}

TEST_CASE("a warm file is read without waiting") {
  TempDir dir;
  const auto store = object::OpenObjectStore("file:" + dir.path(), true).value();
  const auto blocks = Make(*store);
  const std::string content = Content(1 << 20, 8);
  REQUIRE(Put(*blocks, {1, 1}, content).ok());
  std::string out(100000, '?');
  char probe[1];
  const iovec piece{probe, 1};
  if (!store->TryGet(blocks->NameOf({1, 1}), 0, {&piece, 1})) {
    WARN("skipped: the file system of " << dir.path() << " cannot read without waiting");
    return;
  }
  CHECK(blocks->TryRead({1, 1}, 12345, out));
  CHECK(out == content.substr(12345, out.size()));
}

TEST_CASE("the disk cache answers when the store cannot, and its loss is no read error") {
  TempDir dir;
  object::MemStore base;
  FaultyObjectStore store(base);
  BlockStoreOptions options;
  options.volume = kVolume;
  options.codec = Codec::kLz4;
  options.memory_bytes = 0;  // so that every read goes on to the disk
  options.cache_dir = dir / "cache";
  options.cache_bytes = 16 << 20;
  const auto blocks = BlockStore::Create(store, options).value();
  const std::string content = Content(300000, 2);
  REQUIRE(Put(*blocks, {1, 1}, content).ok());
  REQUIRE(Read(*blocks, {1, 1}, 0, content.size()).value() == content);
  store.AddRule({.op = Op::kGet, .err = EIO});
  REQUIRE(Eventually([&] { return Read(*blocks, {1, 1}, 0, content.size()).has_value(); }));
  CHECK(Read(*blocks, {1, 1}, 100, 200000).value() == content.substr(100, 200000));
  CHECK(blocks->Stats().disk_hits >= 17);
  CHECK(blocks->Stats().disk_used_bytes > 0);
  store.Heal();
  REQUIRE(blocks->Delete({1, 1}).ok());
  CHECK(Read(*blocks, {1, 1}, 0, 10).error().err() == EIO);

  options.cache_dir = "/proc/no-such-cache";
  const auto without = BlockStore::Create(store, options).value();
  REQUIRE(Put(*without, {1, 2}, content).ok());
  CHECK(Read(*without, {1, 2}, 0, content.size()).value() == content);
}

}  // namespace
}  // namespace moorfs::chunk
