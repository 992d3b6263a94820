// SPDX-License-Identifier: Apache-2.0
//
// The LevelDB engine on a good day: the contract, reopening, who may open, and
// surviving SIGKILL.

#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <fstream>
#include <thread>

#include "fs/kv/leveldb/leveldb_store.h"
#include "fs/kv/open.h"
#include "test/contract/kv_contract.h"
#include "test/unit/fs_kv/temp_dir.h"

namespace moorfs::kv {
namespace {

constexpr Options kCreate{.create_if_missing = true};

std::unique_ptr<KvStore> MustOpen(const std::string& dir, const LevelDbOptions& leveldb_options = {}) {
  auto store = LevelDbStore::Open(dir, kCreate, leveldb_options);
  REQUIRE((store ? "ok" : store.error().ToString()) == "ok");
  return std::move(*store);
}

void Put(KvStore& store, const std::string& suffix, const std::string& value) {
  const Status status = store.Transact([&](Transaction& t) { return t.Put(Key("P", suffix), value), Status(); });
  REQUIRE(status.ToString() == "ok");
}

std::string Get(KvStore& store, const std::string& suffix) {
  std::string value;
  const Status status = store.Transact([&](Transaction& t) {
    auto got = t.Get(Key("P", suffix));
    if (!got) return got.error();
    value = got->value_or("absent");
    return Status();
  });
  return status.ok() ? value : status.ToString();
}

// Keeps the directory longer than the store.
class StoreInTempDir {
 public:
  MakeStore Maker(const LevelDbOptions& leveldb_options) {
    return [this, leveldb_options] { return MustOpen(dir_ / "db", leveldb_options); };
  }

 private:
  TempDir dir_;
};

TEST_CASE("LevelDB keeps the KvStore contract") {
  StoreInTempDir where;
  RunKvContract(where.Maker({}));
}

TEST_CASE("LevelDB keeps the KvStore contract while memtables switch all the time") {
  StoreInTempDir where;
  RunKvContract(where.Maker({.write_buffer_bytes = 64 << 10, .max_open_tables = 80}));
}

TEST_CASE("LevelDB is serializable") {
  StoreInTempDir where;
  RunKvConcurrencyContract(where.Maker({.write_buffer_bytes = 64 << 10}));
}

TEST_CASE("what was committed is there after a reopen, through memory, logs and tables") {
  TempDir dir;
  const std::string value(1000, 'v');
  for (int round = 0; round < 3; ++round) {
    auto store = MustOpen(dir / "a/b/db", {.write_buffer_bytes = 64 << 10});
    for (int i = 0; i < round * 200; ++i) REQUIRE(Get(*store, std::to_string(i)) == value);
    for (int i = round * 200; i < (round + 1) * 200; ++i) Put(*store, std::to_string(i), value);
    CHECK(store->ApproximateBytes().value() > 10'000);
    CHECK(store->Stats().find("healthy") != std::string::npos);
  }
}

TEST_CASE("opening what is not there, or is something else, is refused and leaves it alone") {
  TempDir dir;
  CHECK(LevelDbStore::Open(dir / "none", {}).error().err() == ENOENT);
  CHECK_FALSE(std::filesystem::exists(dir / "none"));
  CHECK(LevelDbStore::Open(dir.path(), {}).error().err() == ENOENT);
  std::ofstream(dir / "letter.txt") << "dear";
  const auto refused = LevelDbStore::Open(dir.path(), kCreate);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().err() == ENOTEMPTY);
  CHECK(refused.error().message().find("letter.txt") != std::string::npos);
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 1);
}

TEST_CASE("a creation that was cut short is taken up again") {
  TempDir dir;
  std::ofstream(dir / "LOCK");
  std::ofstream(dir / "MANIFEST-000001") << "half";
  std::filesystem::create_directory(dir / "lost+found");
  auto store = MustOpen(dir.path());
  Put(*store, "a", "1");
  CHECK(Get(*store, "a") == "1");
}

TEST_CASE("a second open in the same process is refused and does not break the first one's lock") {
  TempDir dir;
  auto store = MustOpen(dir / "db");
  for (int i = 0; i < 2; ++i) {
    const auto second = LevelDbStore::Open(dir / "db", kCreate);
    REQUIRE_FALSE(second);
    CHECK(second.error().err() == EBUSY);
  }
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto third = LevelDbStore::Open(dir / "db", kCreate);
    const bool names_holder =
        !third && third.error().message().find("pid " + std::to_string(::getppid())) != std::string::npos;
    ::_exit(!third && third.error().err() == EBUSY && names_holder ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  store.reset();
  MustOpen(dir / "db");
}

TEST_CASE("read-only use answers EROFS to writes") {
  TempDir dir;
  Put(*MustOpen(dir / "db"), "a", "1");
  auto store = OpenKvStore("leveldb:" + dir / "db", {.read_only = true});
  REQUIRE(store);
  CHECK(Get(**store, "a") == "1");
  CHECK((*store)->Transact([](Transaction& t) { return t.Delete(Key("P", "a")), Status(); }).err() == EROFS);
}

TEST_CASE("every acknowledged commit survives SIGKILL without a sync") {
  TempDir dir;
  int pipe_fds[2];
  REQUIRE(::pipe(pipe_fds) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto store = LevelDbStore::Open(dir / "db", kCreate, {.write_buffer_bytes = 64 << 10});
    for (int32_t i = 0; store; ++i) {
      const std::string value(200, static_cast<char>('a' + i % 26));
      if (!(*store)->Transact([&](Transaction& t) { return t.Put(Key("P", std::to_string(i)), value), Status(); }).ok() ||
          ::write(pipe_fds[1], &i, sizeof i) != sizeof i) {
        break;
      }
    }
    ::_exit(1);
  }
  ::close(pipe_fds[1]);
  int32_t acknowledged = -1;
  int32_t i = 0;
  while (acknowledged < 3000 && ::read(pipe_fds[0], &i, sizeof i) == sizeof i) acknowledged = i;
  ::kill(child, SIGKILL);
  while (::read(pipe_fds[0], &i, sizeof i) == sizeof i) acknowledged = i;
  ::close(pipe_fds[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(acknowledged >= 3000);
  auto store = MustOpen(dir / "db");
  for (int32_t n = 0; n <= acknowledged; ++n) {
    REQUIRE(Get(*store, std::to_string(n)) == std::string(200, static_cast<char>('a' + n % 26)));
  }
}

TEST_CASE("many threads that sync together all return, and commits go on meanwhile") {
  TempDir dir;
  auto store = MustOpen(dir / "db");
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 20; ++i) {
        const Key key("P", std::to_string(thread * 100 + i));
        if (!store->Transact([&](Transaction& t) { return t.Put(key, "v"), Status(); }).ok()) ++failures;
        if (!store->Sync().ok()) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
}

TEST_CASE("reading a large store maps no table into memory and keeps descriptors bounded") {
  TempDir dir;
  auto store = MustOpen(dir / "db", {.write_buffer_bytes = 256 << 10, .max_open_tables = 80, .compress = false});
  const std::string value(32 << 10, 'v');
  for (int i = 0; i < 1200; ++i) Put(*store, std::to_string(i), value);
  auto snapshot = store->NewSnapshot();
  REQUIRE(snapshot);
  size_t seen = 0;
  REQUIRE((*snapshot)->Walk("", [&](std::string_view, std::string_view) { return ++seen, true; }).ok());
  CHECK(seen == 1200);
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line)) CHECK(line.find(".ldb") == std::string::npos);
  const auto descriptors = std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  CHECK(descriptors < 120);
}

}  // namespace
}  // namespace moorfs::kv
