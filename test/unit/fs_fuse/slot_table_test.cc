// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/slot_table.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>

namespace moorfs::fuse {
namespace {

// One memfd, and the successive clients that map it.
class Fixture {
 public:
  Fixture() {
    vfs::ArenaGeometry geometry;
    geometry.slot_count = 8;
    geometry.slot_bytes = 64 << 10;
    geometry.handle_count = 16;
    geometry.lock_count = 16;
    geometry.data_bytes = 1 << 20;
    memfd_ = vfs::Arena::CreateMemfd(geometry).value();
    Succeed();
  }
  // The present client dies as if by SIGKILL; its successor looks at the slots.
  std::vector<Leftover> Succeed() {
    table_.reset();
    arena_ = vfs::Arena::Map(UniqueFd(dup(memfd_.get()))).value();
    table_ = SlotTable::Open(*arena_).value();
    return table_->FindLeftovers();
  }
  SlotTable& table() { return *table_; }

  // What the kernel does.
  size_t Fill(uint32_t slot, uint64_t unique, uint32_t opcode = FUSE_MKDIR, uint32_t bytes = 80) {
    fuse_in_header in{};
    in.len = bytes;
    in.opcode = opcode;
    in.unique = unique;
    in.nodeid = 1;
    std::memcpy(table_->buffer(slot), &in, sizeof in);
    return bytes;
  }
  uint32_t Receive(uint64_t unique, uint32_t opcode = FUSE_MKDIR) {
    const uint32_t slot = table_->Acquire();
    table_->BeginRead(slot);
    REQUIRE(table_->HasRequest(slot, Fill(slot, unique, opcode)));
    table_->FinishRead(slot);
    return slot;
  }
  void SaveReply(uint32_t slot, const char* payload) {
    SlotHeader& h = table_->header(slot);
    std::memcpy(h.reply + sizeof(fuse_out_header), payload, std::strlen(payload));
    h.reply_bytes = static_cast<uint32_t>(sizeof(fuse_out_header) + std::strlen(payload));
    h.state = static_cast<uint32_t>(SlotState::kReplying);
  }

 private:
  UniqueFd memfd_;
  std::unique_ptr<vfs::Arena> arena_;
  std::unique_ptr<SlotTable> table_;
};

TEST_CASE("a fresh arena has no leftovers") {
  Fixture f;
  CHECK(f.Succeed().empty());
  CHECK(f.table().used() == 0);
}

TEST_CASE("the slot used last is used next") {
  Fixture f;
  const uint32_t a = f.table().Acquire();
  const uint32_t b = f.table().Acquire();
  f.table().Release(a);
  f.table().Release(b);
  CHECK(f.table().Acquire() == b);
}

TEST_CASE("a successor finds what was received and what was being answered, and nothing else") {
  Fixture f;
  const uint32_t answered = f.Receive(2);
  const uint32_t received = f.Receive(4);
  const uint32_t replying = f.Receive(6);
  f.SaveReply(replying, "done");
  const uint32_t reading = f.table().Acquire();
  f.table().BeginRead(reading);
  f.table().Release(answered);

  auto found = f.Succeed();
  std::sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.unique < b.unique; });
  REQUIRE(found.size() == 2);
  CHECK(found[0].slot == received);
  CHECK(found[0].unique == 4);
  CHECK_FALSE(found[0].has_reply);
  CHECK(found[1].slot == replying);
  CHECK(found[1].has_reply);
}

TEST_CASE("a request that read(2) delivered to a thread which never ran again is found") {
  Fixture f;
  const uint32_t slot = f.table().Acquire();
  f.table().BeginRead(slot);
  f.Fill(slot, 8);
  const auto found = f.Succeed();
  REQUIRE(found.size() == 1);
  CHECK(found[0].unique == 8);
}

TEST_CASE("a leftover's slot goes to nobody until its request is answered") {
  Fixture f;
  const uint32_t old = f.Receive(4);
  f.Succeed();
  for (int i = 0; i < 7; ++i) CHECK(f.table().Acquire(true) != old);
  CHECK(f.table().used() == 8);
  CHECK(f.table().Claim(4).slot == old);
  f.table().ReleaseLeftovers(4);
  CHECK(f.table().Acquire(true) == old);
}

TEST_CASE("a resent request returns to its old slot, however often clients die") {
  Fixture f;
  const uint32_t old = f.Receive(4);
  for (int generation = 0; generation < 3; ++generation) {
    REQUIRE(f.Succeed().size() == 1);
    const uint32_t fresh = f.table().Acquire();
    f.table().BeginRead(fresh);
    f.Fill(fresh, 4 | kResentBit);
    const Leftover claimed = f.table().Claim(4);
    REQUIRE(claimed.slot == old);
    f.table().MoveBack(fresh, claimed.slot);
    CHECK(f.table().request(old)->unique == (4 | kResentBit));
    CHECK(f.table().header(old).unique == 4);
    // Generation 1 dies with the request still in both slots.
    if (generation != 1) f.table().Release(fresh);
  }
}

TEST_CASE("after two crashes one request in two slots is one leftover, the older place counts") {
  Fixture f;
  const uint32_t old = f.Receive(4);
  f.Succeed();
  const uint32_t fresh = f.table().Acquire();
  f.table().BeginRead(fresh);
  f.Fill(fresh, 4 | kResentBit);
  const auto found = f.Succeed();
  REQUIRE(found.size() == 1);
  CHECK(found[0].slot == old);
  // The copy takes no slot: receiving the other requests may need the last one.
  CHECK(f.table().used() == 1);
  f.table().Claim(4);
  f.table().ReleaseLeftovers(4);
  CHECK(f.table().used() == 0);
}

TEST_CASE("what the kernel does not resend is freed, what it resent is kept") {
  Fixture f;
  f.Receive(2);
  const uint32_t kept = f.Receive(4);
  f.Receive(6);
  f.Succeed();
  CHECK(f.table().Claim(4).slot == kept);
  CHECK(f.table().ReleaseUnclaimed() == 2);
  CHECK(f.table().used() == 1);
  CHECK(f.table().Claim(6).slot == kNoSlot);
}

TEST_CASE("nonsense in shared memory is not believed") {
  Fixture f;
  const uint32_t a = f.Receive(2), b = f.Receive(4), c = f.Receive(6);
  f.table().header(a).state = 77;
  f.SaveReply(b, "x");
  f.table().header(b).reply_bytes = 1 << 30;
  fuse_in_header in{};
  in.len = 1u << 31;
  in.unique = 6;
  std::memcpy(f.table().buffer(c), &in, sizeof in);
  const auto found = f.Succeed();
  REQUIRE(found.size() == 1);
  CHECK(found[0].slot == b);
  CHECK_FALSE(found[0].has_reply);
}

TEST_CASE("a parked request leaves its slot and is found by a successor") {
  Fixture f;
  const uint32_t slot = f.Receive(4, FUSE_SETLKW);
  const uint32_t parked = f.table().Park(slot);
  REQUIRE(parked != kNoSlot);
  f.table().Release(slot);
  CHECK(f.table().parked_count() == 1);

  CHECK(f.Succeed().empty());
  const auto found = f.table().FindParked();
  REQUIRE(found.size() == 1);
  const uint32_t again = f.table().Acquire();
  f.table().CopyParked(found[0].index, again);
  CHECK(found[0].unique == 4);
  CHECK(f.table().request(again)->opcode == FUSE_SETLKW);
  CHECK(f.table().header(again).unique == 4);
  f.table().Unpark(found[0].index, 4);
  CHECK(f.table().parked_count() == 0);
}

TEST_CASE("a request too large for parking keeps its slot") {
  Fixture f;
  const uint32_t slot = f.table().Acquire();
  f.table().BeginRead(slot);
  REQUIRE(f.table().HasRequest(slot, f.Fill(slot, 4, FUSE_WRITE, 4096)));
  f.table().FinishRead(slot);
  CHECK(f.table().Park(slot) == kNoSlot);
}

TEST_CASE("an interrupt reaches a lock in every stage of its way") {
  Fixture f;
  const uint32_t slot = f.table().Acquire();
  f.table().BeginRead(slot);
  f.Fill(slot, 4, FUSE_SETLKW);
  SECTION("delivered, its thread has not run yet") {
    f.table().MarkInterrupted(4);
    f.table().FinishRead(slot);
    f.table().Park(slot);
  }
  SECTION("in its slot") {
    f.table().FinishRead(slot);
    f.table().MarkInterrupted(4);
    f.table().Park(slot);
  }
  SECTION("parked") {
    f.table().FinishRead(slot);
    f.table().Park(slot);
    f.table().MarkInterrupted(4);
  }
  SECTION("parked by a client that died") {
    f.table().FinishRead(slot);
    f.table().Park(slot);
    f.table().MarkInterrupted(4);
    f.Succeed();
    f.table().FindParked();
  }
  CHECK(f.table().IsInterrupted(4));
  CHECK_FALSE(f.table().IsInterrupted(6));
}

TEST_CASE("memory of large requests is given back when their slots rest") {
  Fixture f;
  const uint32_t slot = f.table().Acquire();
  f.table().BeginRead(slot);
  std::memset(f.table().buffer(slot), 1, 60 << 10);
  REQUIRE(f.table().HasRequest(slot, f.Fill(slot, 4, FUSE_WRITE, 60 << 10)));
  f.table().FinishRead(slot);
  f.table().Release(slot);
  f.table().Trim();  // used since the last time
  CHECK(f.table().buffer(slot)[50 << 10] == 1);
  f.table().Trim();
  CHECK(f.table().buffer(slot)[50 << 10] == 0);
}

}  // namespace
}  // namespace moorfs::fuse
