// SPDX-License-Identifier: Apache-2.0
//
// The arena and what lies in it: page runs, dirty maps, handles.

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>
#include <set>

#include "fs/vfs/dirty_map.h"
#include "fs/vfs/handle_table.h"
#include "fs/vfs/page_allocator.h"

namespace moorfs::vfs {
namespace {

ArenaGeometry SmallGeometry() {
  ArenaGeometry g;
  g.slot_count = 2;
  g.slot_bytes = 8192;
  g.handle_count = 64;
  g.lock_count = 64;
  g.data_bytes = 4_MiB;
  return g;
}

std::unique_ptr<Arena> NewArena() {
  Result<UniqueFd> fd = Arena::CreateMemfd(SmallGeometry());
  REQUIRE(fd);
  Result<std::unique_ptr<Arena>> arena = Arena::Map(std::move(*fd));
  REQUIRE(arena);
  return std::move(*arena);
}

}  // namespace

TEST_CASE("an arena maps with the geometry it was made with and refuses a damaged header") {
  Result<UniqueFd> fd = Arena::CreateMemfd(SmallGeometry());
  REQUIRE(fd);
  UniqueFd copy(dup(fd->get()));
  {
    Result<std::unique_ptr<Arena>> arena = Arena::Map(UniqueFd(dup(fd->get())));
    REQUIRE(arena);
    CHECK((*arena)->geometry().data_bytes == 4_MiB);
    CHECK((*arena)->section(SectionId::kPages).bytes == 4_MiB);
    CHECK((*arena)->epoch() != 0);
  }
  // Every 4-byte field of the header set to nonsense: refused or harmless.
  for (off_t at = 0; at < 256; at += 4) {
    uint32_t saved;
    REQUIRE(pread(copy.get(), &saved, 4, at) == 4);
    const uint32_t nonsense = saved ^ 0x40404040;
    REQUIRE(pwrite(copy.get(), &nonsense, 4, at) == 4);
    Result<std::unique_ptr<Arena>> arena = Arena::Map(UniqueFd(dup(copy.get())));
    if (!arena) CHECK(arena.error().err() == EPROTO);
    REQUIRE(pwrite(copy.get(), &saved, 4, at) == 4);
  }
  CHECK(ftruncate(copy.get(), 4096) != 0);  // sealed
}

TEST_CASE("one process at a time is an arena's active client") {
  std::unique_ptr<Arena> arena = NewArena();
  REQUIRE(arena->BecomeActive(0).ok());
  const pid_t child = fork();
  if (child == 0) {
    Result<std::unique_ptr<Arena>> mine = Arena::Map(UniqueFd(dup(arena->fd())));
    _exit(mine && (*mine)->BecomeActive(20).err() == ETIMEDOUT ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("page runs are disjoint, aligned, and all come back") {
  std::mt19937 random(7);
  PageAllocator pages(1000);
  std::map<uint32_t, unsigned> held;
  std::vector<bool> used(1000);
  for (int step = 0; step < 20000; ++step) {
    if (random() % 2 == 0) {
      const unsigned order = random() % 9;
      if (std::optional<uint32_t> page = pages.Allocate(order)) {
        CHECK(*page % (1u << order) == 0);
        for (uint32_t p = *page; p < *page + (1u << order); ++p) {
          REQUIRE(p < 1000);
          REQUIRE_FALSE(used[p]);
          used[p] = true;
        }
        held[*page] = order;
      }
    } else if (!held.empty()) {
      auto it = held.begin();
      std::advance(it, static_cast<ptrdiff_t>(random() % held.size()));
      pages.Free(it->first, it->second);
      for (uint32_t p = it->first; p < it->first + (1u << it->second); ++p) used[p] = false;
      held.erase(it);
    }
  }
  // A second allocator that claims what is held agrees on what is left.
  PageAllocator rebuilt(1000);
  for (const auto& [page, order] : held) REQUIRE(rebuilt.Claim(page, order));
  for (const auto& [page, order] : held) CHECK_FALSE(rebuilt.Claim(page, order));
  CHECK(rebuilt.free_pages() == pages.free_pages());
  for (const auto& [page, order] : held) pages.Free(page, order);
  CHECK(pages.free_pages() == 1000);
  CHECK(pages.Allocate(8).has_value());
}

TEST_CASE("a dirty map shows the newest byte of every position") {
  std::mt19937 random(11);
  std::unique_ptr<Arena> arena = NewArena();
  DirtyStore store(*arena);
  DirtyMap map;
  std::map<uint64_t, Segment*> model;  // byte -> segment
  std::set<Segment*> live;
  const auto free_covered = [&](const std::vector<Segment*>& covered) {
    for (Segment* segment : covered) {
      REQUIRE(live.erase(segment) == 1);
      store.Free(segment);
    }
  };
  for (int step = 0; step < 3000; ++step) {
    const uint64_t offset = random() % 5000;
    const uint32_t len = 1 + random() % 600;
    std::vector<Segment*> covered;
    if (random() % 3 != 0) {
      Segment* segment = store.Allocate(5, offset, len);
      REQUIRE(segment != nullptr);
      store.Publish(segment, len);
      live.insert(segment);
      map.Insert({offset, len, segment, 0}, &covered);
      for (uint64_t at = offset; at < offset + len; ++at) model[at] = segment;
    } else {
      map.Erase(offset, len, &covered);
      for (uint64_t at = offset; at < offset + len; ++at) model.erase(at);
    }
    free_covered(covered);
    REQUIRE(map.bytes() == model.size());
    const uint64_t probe = random() % 5600;
    const DirtyPiece piece = map.At(probe);
    const auto expected = model.find(probe);
    REQUIRE((piece.segment != nullptr) == (expected != model.end()));
    if (piece.segment != nullptr) {
      REQUIRE(piece.segment == expected->second);
      REQUIRE(piece.segment_offset + (probe - piece.offset) == probe - piece.segment->offset);
    }
    const auto next = model.lower_bound(probe);
    REQUIRE(map.NextDirty(probe) == (next == model.end() ? UINT64_MAX : next->first));
  }
  std::vector<Segment*> covered;
  map.Erase(0, 1 << 20, &covered);
  free_covered(covered);
  CHECK(live.empty());
  CHECK(store.used_bytes() == 0);
}

TEST_CASE("a successor finds the dirty data and the handles of a dead client") {
  std::unique_ptr<Arena> arena = NewArena();
  Handle kept;
  {
    DirtyStore store(*arena);
    HandleTable handles(*arena);
    Segment* first = store.Allocate(17, 100, 5);
    std::memcpy(first->data, "hello", 5);
    store.Publish(first, 5);
    Segment* unpublished = store.Allocate(17, 200, 5);
    (void)unpublished;
    PendingAttr pending;
    REQUIRE(store.SetPending(17, &pending, 105, Timestamp{42}));
    bool existed;
    Handle closed = *handles.Allocate(17, O_RDWR, false, 4, false, &existed);
    kept = *handles.Allocate(17, O_RDWR, false, 6, false, &existed);
    REQUIRE(handles.Free(closed));
  }
  DirtyStore store(*arena);
  const DirtyStore::Recovered recovered = store.Recover();
  REQUIRE(recovered.segments.size() == 1);
  CHECK(recovered.segments[0]->offset == 100);
  CHECK(std::string(recovered.segments[0]->data, 5) == "hello");
  REQUIRE(recovered.pending.size() == 1);
  CHECK(recovered.pending[0].second.length == 105);
  CHECK(recovered.pending[0].second.mtime.ns == 42);

  HandleTable handles(*arena);
  std::vector<Handle> seen;
  handles.Recover([&](Handle handle, const HandleTable::Info& info) {
    CHECK(info.ino == 17);
    seen.push_back(handle);
  });
  CHECK(seen == std::vector<Handle>{kept});
  // The OPEN that made it is sent again: the same handle is the answer.
  bool existed = false;
  CHECK(*handles.Allocate(17, O_RDWR, false, 6, true, &existed) == kept);
  CHECK(existed);
}

TEST_CASE("a stale handle is told from its successor in the same place") {
  std::unique_ptr<Arena> arena = NewArena();
  HandleTable handles(*arena);
  bool existed;
  const Handle first = *handles.Allocate(20, 0, false, 2, false, &existed);
  REQUIRE(handles.Free(first));
  const Handle second = *handles.Allocate(21, 0, false, 4, false, &existed);
  CHECK(static_cast<uint32_t>(first) == static_cast<uint32_t>(second));
  CHECK_FALSE(handles.Find(first));
  CHECK(handles.Find(second)->ino == 21);
  CHECK_FALSE(handles.Free(first));
}

TEST_CASE("a full handle table says ENFILE") {
  std::unique_ptr<Arena> arena = NewArena();
  HandleTable handles(*arena);
  bool existed;
  for (int i = 0; i < 63; ++i) REQUIRE(handles.Allocate(20, 0, false, 0, false, &existed));
  Result<Handle> one_more = handles.Allocate(20, 0, false, 0, false, &existed);
  REQUIRE_FALSE(one_more);
  CHECK(one_more.error().err() == ENFILE);
}

}  // namespace moorfs::vfs
