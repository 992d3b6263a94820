// SPDX-License-Identifier: Apache-2.0
//
// The LevelDB engine when the disk is full or fails: commits answer the errno,
// reads go on, nothing is torn, and it works again by itself.

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/log/log.h"
#include "fs/kv/leveldb/file_env.h"
#include "fs/kv/leveldb/leveldb_store.h"
#include "test/unit/fs_kv/temp_dir.h"

namespace moorfs::kv {
namespace {

constexpr Options kCreate{.create_if_missing = true};

Status Put(KvStore& store, int i) {
  const std::string value(1000, static_cast<char>('a' + i % 26));
  return store.Transact([&](Transaction& t) { return t.Put(Key("P", std::to_string(i)), value), Status(); });
}

bool Has(KvStore& store, int i) {
  bool found = false;
  const Status status = store.Transact([&](Transaction& t) {
    auto value = t.Get(Key("P", std::to_string(i)));
    if (!value) return value.error();
    found = value->has_value();
    return Status();
  });
  return status.ok() && found;
}

// Repeats until it works or five seconds are over.
template <typename F>
Status Eventually(const F& attempt) {
  Status status;
  for (int i = 0; i < 500; ++i) {
    status = attempt();
    if (status.ok()) return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return status;
}

TEST_CASE("on a full disk commits answer ENOSPC, reads go on, and commits work again once there is room") {
  log::SetLevel(log::Level::kError);
  TempDir dir;
  REQUIRE(dir.MountTmpfs("4m"));
  const LevelDbOptions small{.write_buffer_bytes = 256 << 10};
  auto store = LevelDbStore::Open(dir / "db", kCreate, small);
  REQUIRE(store);
  int committed = 0;
  for (int round = 0; round < 3; ++round) {
    CAPTURE(round);
    // What fills the disk: something else, all but a little.
    {
      std::ofstream filler(dir / "filler", std::ios::binary);
      const std::string piece(4096, 'f');
      const auto room = std::filesystem::space(dir.path()).available;
      for (uintmax_t done = 0; done + (100 << 10) * static_cast<uintmax_t>(round + 1) < room; done += piece.size()) {
        filler << piece;
      }
    }
    Status status;
    while ((status = Put(**store, committed)).ok()) ++committed;
    CHECK(ErrnoName(status.err()) == "ENOSPC");
    for (int i = 0; i < 5; ++i) {
      CHECK(Put(**store, committed).err() == ENOSPC);
      std::this_thread::sleep_for(std::chrono::milliseconds(25));
    }
    for (int i = 0; i < committed; ++i) REQUIRE(Has(**store, i));
    CHECK_FALSE(Has(**store, committed));
    CHECK((*store)->Stats().find("commits fail") != std::string::npos);
    auto old_snapshot = (*store)->NewSnapshot();
    REQUIRE(old_snapshot);
    std::filesystem::remove(dir / "filler");
    CHECK(Eventually([&] { return Put(**store, committed); }).ToString() == "ok");
    ++committed;
    CHECK((*store)->Sync().ok());
    CHECK((*old_snapshot)->Get(Key("P", "0")).error().err() == ESTALE);
  }
  store->reset();
  auto reopened = LevelDbStore::Open(dir / "db", {}, small);
  REQUIRE((reopened ? "ok" : reopened.error().ToString()) == "ok");
  for (int i = 0; i < committed; ++i) REQUIRE(Has(**reopened, i));
  CHECK_FALSE(Has(**reopened, committed));
  reopened->reset();
}

TEST_CASE("threads that read and commit while the disk fills up and empties lose nothing") {
  log::SetLevel(log::Level::kError);
  TempDir dir;
  REQUIRE(dir.MountTmpfs("6m"));
  auto store = LevelDbStore::Open(dir / "db", kCreate, {.write_buffer_bytes = 128 << 10});
  REQUIRE(store);
  std::atomic<bool> stop{false};
  std::atomic<int> failures{0};
  std::atomic<int> full{0};
  std::vector<int> committed(3, 0);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      int& mine = committed[static_cast<size_t>(thread)];
      while (!stop) {
        // Overwrites, so that the data itself always fits.
        const Status status = (*store)->Transact([&](Transaction& t) {
          t.Put(Key("T", std::to_string(thread)), std::to_string(mine + 1));
          t.Put(Key("V", std::to_string(thread * 100 + mine % 50)), std::string(500, 'v'));
          return Status();
        });
        mine += status.ok() ? 1 : 0;
        full += status.err() == ENOSPC ? 1 : 0;
        failures += !status.ok() && status.err() != ENOSPC ? 1 : 0;
        if (mine > 0 && (*store)->NewSnapshot().has_value()) {
          const Status read = (*store)->Transact([&](Transaction& t) {
            auto value = t.Get(Key("T", std::to_string(thread)));
            if (!value) return value.error();
            return **value == std::to_string(mine) ? Status() : Status(EIO, "another value");
          });
          if (!read.ok()) ++failures;
        }
      }
    });
  }
  for (int round = 0; round < 5; ++round) {
    {
      std::ofstream filler(dir / "filler", std::ios::binary);
      for (int i = 0; i < 2000 && filler; ++i) filler << std::string(4096, 'f') << std::flush;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::filesystem::remove(dir / "filler");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  CHECK(Eventually([&] { return Put(**store, 0); }).ToString() == "ok");
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  CHECK(full > 0);
  store->reset();
}

// Syncs of logs fail while `failing` is set, as on a dying disk.
class FailingSyncEnv final : public FileEnv {
 public:
  std::atomic<bool> failing{false};

  leveldb::Status NewFile(const std::string& name, Start start, std::unique_ptr<EnvFile>* file) override {
    std::unique_ptr<EnvFile> real;
    leveldb::Status status = FileEnv::NewFile(name, start, &real);
    if (status.ok()) *file = std::make_unique<File>(this, std::move(real));
    return status;
  }

 private:
  class File final : public EnvFile {
   public:
    File(FailingSyncEnv* env, std::unique_ptr<EnvFile> real) : env_(env), real_(std::move(real)) {}
    leveldb::Status Append(const leveldb::Slice& data) override { return real_->Append(data); }
    leveldb::Status Flush() override { return real_->Flush(); }
    leveldb::Status Close() override { return real_->Close(); }
    leveldb::Status Sync() override { return env_->failing ? Failure() : real_->Sync(); }
    leveldb::Status Persist() override { return env_->failing ? Failure() : real_->Persist(); }

   private:
    static leveldb::Status Failure() { return leveldb::Status::IOError("disk", "Input/output error"); }
    FailingSyncEnv* const env_;
    const std::unique_ptr<EnvFile> real_;
  };
};

TEST_CASE("a failed sync is reported, not forgotten, and healed by writing everything anew") {
  log::SetLevel(log::Level::kError);
  TempDir dir;
  FailingSyncEnv env;
  auto store = LevelDbStore::Open(dir / "db", kCreate, {.env = &env});
  REQUIRE(store);
  REQUIRE(Put(**store, 1).ok());
  env.failing = true;
  CHECK((*store)->Sync().err() == EIO);
  CHECK((*store)->Sync().err() == EIO);
  CHECK(Put(**store, 2).err() == EIO);
  env.failing = false;
  CHECK(Eventually([&] { return (*store)->Sync(); }).ToString() == "ok");
  CHECK(Put(**store, 2).ok());
  CHECK(Has(**store, 1));
  CHECK((*store)->Sync().ok());
  store->reset();
}

size_t CountFiles(const std::string& dir, const std::string& extension) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) count += entry.path().extension() == extension ? 1 : 0;
  return count;
}

TEST_CASE("a log whose sync failed is rewritten by the next process, any other is kept") {
  log::SetLevel(log::Level::kError);
  TempDir dir;
  FailingSyncEnv env;
  for (const bool fails : {false, true}) {
    auto store = LevelDbStore::Open(dir / "db", kCreate, {.env = &env});
    REQUIRE(store);
    REQUIRE(Put(**store, fails ? 2 : 1).ok());
    env.failing = fails;
    CHECK((*store)->Sync().ok() == !fails);
    store->reset();
    env.failing = false;
    auto next = LevelDbStore::Open(dir / "db", kCreate, {.env = &env});
    REQUIRE(next);
    CHECK(CountFiles(dir / "db", ".ldb") == (fails ? 1 : 0));
    CHECK(Has(**next, 1));
    CHECK(Has(**next, 2) == fails);
    CHECK_FALSE(std::filesystem::exists(dir / "db/DISTRUST-LOG"));
    next->reset();
  }
}

}  // namespace
}  // namespace moorfs::kv
