// SPDX-License-Identifier: Apache-2.0
//
// Lock semantics: ranges, owners, waiting, deadlock, survival.

#include <catch2/catch.hpp>

#include <map>
#include <random>

#include "fs/vfs/lock_table.h"

namespace moorfs::vfs {
namespace {

using Type = Lock::Type;

struct Fixture {
  Fixture() {
    ArenaGeometry g;
    g.slot_count = 1;
    g.slot_bytes = 8192;
    g.handle_count = 16;
    g.lock_count = 4096;
    g.data_bytes = 1_MiB;
    Result<UniqueFd> fd = Arena::CreateMemfd(g);
    REQUIRE(fd);
    arena = std::move(*Arena::Map(std::move(*fd)));
    table = std::make_unique<LockTable>(*arena);
  }
  // -1: not answered.
  int Set(uint64_t owner, Type type, uint64_t start, uint64_t end, bool wait = false, uint64_t unique = 0,
          bool flock = false) {
    const int id = next_id++;
    answers[id] = -1;
    table->Set(ino, /*handle=*/owner + 100, {type, start, end, owner, 0}, flock, wait, unique,
               [this, id](Status status) { answers[id] = status.err(); });
    last = id;
    return answers[id];
  }
  std::unique_ptr<Arena> arena;
  std::unique_ptr<LockTable> table;
  std::map<int, int> answers;
  int next_id = 0;
  int last = 0;
  Ino ino = 20;
};

}  // namespace

TEST_CASE("readers share, a writer excludes, unlocking in the middle splits") {
  Fixture f;
  CHECK(f.Set(1, Type::kRead, 0, 99) == 0);
  CHECK(f.Set(2, Type::kRead, 50, 149) == 0);
  CHECK(f.Set(3, Type::kWrite, 120, 130) == EAGAIN);
  CHECK(f.Set(2, Type::kUnlock, 110, 139) == 0);
  CHECK(f.Set(3, Type::kWrite, 120, 130) == 0);
  CHECK(f.Set(3, Type::kWrite, 140, 141) == EAGAIN);
  const Lock conflict = f.table->Get(f.ino, {Type::kWrite, 0, 60, 3, 0});
  CHECK(conflict.type == Type::kRead);
  CHECK(f.table->Get(f.ino, {Type::kWrite, 150, 200, 9, 0}).type == Type::kUnlock);
}

TEST_CASE("an owner upgrades, downgrades and merges its own ranges") {
  Fixture f;
  CHECK(f.Set(1, Type::kRead, 0, 9) == 0);
  CHECK(f.Set(1, Type::kRead, 10, 19) == 0);
  CHECK(f.table->held_count() == 1);
  CHECK(f.Set(1, Type::kWrite, 5, 14) == 0);
  CHECK(f.table->held_count() == 3);
  CHECK(f.Set(2, Type::kRead, 0, 4) == 0);
  CHECK(f.Set(2, Type::kRead, 5, 5) == EAGAIN);
  CHECK(f.Set(1, Type::kUnlock, 0, UINT64_MAX) == 0);
  CHECK(f.Set(2, Type::kWrite, 0, UINT64_MAX) == 0);
}

TEST_CASE("a waiter is answered when the way is free, in order of arrival") {
  Fixture f;
  CHECK(f.Set(1, Type::kWrite, 0, 99) == 0);
  CHECK(f.Set(2, Type::kWrite, 0, 9, true, 22) == -1);
  const int second = f.last;
  CHECK(f.Set(3, Type::kWrite, 50, 59, true, 23) == -1);
  const int third = f.last;
  CHECK(f.Set(1, Type::kUnlock, 50, 99) == 0);
  CHECK(f.answers[second] == -1);
  CHECK(f.answers[third] == 0);
  f.table->ReleaseOwner(f.ino, 1);
  CHECK(f.answers[second] == 0);
}

TEST_CASE("a cancelled waiter gets EINTR once and takes nothing") {
  Fixture f;
  CHECK(f.Set(1, Type::kWrite, 0, 99) == 0);
  CHECK(f.Set(2, Type::kWrite, 0, 9, true, 22) == -1);
  const int waiter = f.last;
  f.table->Cancel(22);
  CHECK(f.answers[waiter] == EINTR);
  f.table->Cancel(22);
  f.table->ReleaseOwner(f.ino, 1);
  CHECK(f.table->held_count() == 0);
}

TEST_CASE("a circle of waiters is refused, a mere queue is not") {
  Fixture f;
  CHECK(f.Set(1, Type::kWrite, 0, 0) == 0);
  CHECK(f.Set(2, Type::kWrite, 1, 1) == 0);
  CHECK(f.Set(3, Type::kWrite, 2, 2) == 0);
  CHECK(f.Set(1, Type::kWrite, 1, 1, true) == -1);
  CHECK(f.Set(2, Type::kWrite, 2, 2, true) == -1);
  CHECK(f.Set(4, Type::kWrite, 0, 0, true) == -1);
  CHECK(f.Set(3, Type::kWrite, 0, 0, true) == EDEADLK);
}

TEST_CASE("flock and record locks do not see each other; a handle's end frees its flock") {
  Fixture f;
  CHECK(f.Set(1, Type::kWrite, 0, UINT64_MAX, false, 0, true) == 0);
  CHECK(f.Set(2, Type::kWrite, 0, UINT64_MAX) == 0);
  CHECK(f.Set(2, Type::kWrite, 0, UINT64_MAX, true, 5, true) == -1);
  const int waiter = f.last;
  f.table->ReleaseHandle(f.ino, 101);
  CHECK(f.answers[waiter] == 0);
}

TEST_CASE("granted locks survive the client") {
  Fixture f;
  CHECK(f.Set(1, Type::kWrite, 10, 19) == 0);
  CHECK(f.Set(2, Type::kRead, 30, 39) == 0);
  CHECK(f.Set(2, Type::kUnlock, 35, 35) == 0);
  CHECK(f.Set(3, Type::kWrite, 0, UINT64_MAX, false, 0, true) == 0);
  f.table = std::make_unique<LockTable>(*f.arena);
  f.table->Recover();
  CHECK(f.table->held_count() == 4);
  CHECK(f.Set(9, Type::kWrite, 15, 15) == EAGAIN);
  CHECK(f.Set(9, Type::kWrite, 35, 35) == 0);
  CHECK(f.Set(9, Type::kRead, 0, UINT64_MAX, false, 0, true) == EAGAIN);
}

TEST_CASE("random record locks match a byte-by-byte model") {
  std::mt19937 random(3);
  Fixture f;
  constexpr uint64_t kBytes = 40;
  // model[owner][byte]: 0 none, 1 read, 2 write
  std::map<uint64_t, std::array<int, kBytes>> model;
  for (int step = 0; step < 20000; ++step) {
    const uint64_t owner = 1 + random() % 4;
    const uint64_t start = random() % kBytes;
    const uint64_t end = std::min(kBytes - 1, start + random() % 12);
    const int want = static_cast<int>(random() % 3);
    const Type type = want == 0 ? Type::kUnlock : want == 1 ? Type::kRead : Type::kWrite;
    bool blocked = false;
    for (const auto& [other, bytes] : model) {
      if (other == owner || want == 0) continue;
      for (uint64_t b = start; b <= end; ++b) blocked = blocked || (bytes[b] != 0 && (bytes[b] == 2 || want == 2));
    }
    REQUIRE(f.Set(owner, type, start, end) == (blocked ? EAGAIN : 0));
    if (!blocked) {
      for (uint64_t b = start; b <= end; ++b) model[owner][b] = want;
    }
    if (step % 500 == 0) {
      f.table = std::make_unique<LockTable>(*f.arena);
      f.table->Recover();
    }
  }
}

}  // namespace moorfs::vfs
