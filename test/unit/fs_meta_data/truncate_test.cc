// SPDX-License-Identifier: Apache-2.0
//
// Operations that take several transactions, cut short after each of them.

#include "fs/meta/check/fsck.h"
#include "volume.h"

namespace moorfs::meta::testing {
namespace {

constexpr uint32_t kPieces = 700;

// Transactions of Meta::Open.
size_t Opening(kv::KvStore& kv) {
  size_t count = 0;
  DyingStore counting(kv, SIZE_MAX, [&](size_t) { ++count; });
  Must(Meta::Open(counting, {}));
  return count;
}

// Pieces of 100 bytes, 200 apart, kPieces in each of three chunks: a removal
// of them takes several transactions.
void Fill(Volume& volume, Ino ino) {
  for (uint32_t chunk = 0; chunk < 3; ++chunk) {
    const ObjectId object{8, ino * 100 + chunk};
    FileUpdate update;
    update.ino = ino;
    for (uint32_t i = 0; i < kPieces; ++i) update.pieces.push_back({chunk, {i * 200, 100, object, i * 100}});
    update.grow_to = chunk * kChunkBytes + kPieces * 200;
    Must(volume.meta->Commit({{object, kPieces * 100}}, {update}));
  }
}

// Every operation that can make a file longer.
void GrowTo3Chunks(Volume& volume, Ino ino, int how) {
  constexpr uint64_t kTo = 3 * kChunkBytes;
  if (how == 0) Must(volume.meta->Extend({}, ino, kTo));
  if (how == 1) Must(volume.meta->Truncate({}, ino, kTo, false));
  if (how == 2) Write(volume, ino, kTo - 10, 10);
  if (how == 3) Must(volume.meta->Zero({}, ino, kTo - 10, 10, true));
  if (how == 4) {
    const Ino other = volume.NewFile("g");
    Write(volume, other, 0, 10);
    REQUIRE(Must(volume.meta->CopyRange({}, other, 0, ino, kTo - 10, 10)) == 10);
  }
}

TEST_CASE("what a truncation cut off never comes back, wherever it is interrupted") {
  const int how = GENERATE(range(0, 5));
  bool completed = false;
  for (size_t transactions = 0; !completed; ++transactions) {
    REQUIRE(transactions < 50);
    Volume volume;
    const Ino ino = volume.NewFile("f");
    Fill(volume, ino);
    const uint64_t cut = 50;  // inside the first piece
    {
      DyingStore dying(*volume.kv, transactions + Opening(*volume.kv));
      const auto meta = Must(Meta::Open(dying, {}));
      completed = meta->Truncate({}, ino, cut, false).has_value();
    }
    volume.Reopen(*volume.kv);
    const uint64_t length = Must(volume.meta->GetAttr(ino)).length;
    if (length != cut) {
      REQUIRE(length == 2 * kChunkBytes + kPieces * 200);
      Reader before(*volume.meta, ino);
      REQUIRE(before.At(2 * kChunkBytes) == ContentByte({8, ino * 100 + 2}, 0));
      continue;
    }
    REQUIRE(Must(Fsck(*volume.kv, {})).clean());
    if (completed) {
      REQUIRE_FALSE(Must(volume.meta->GetAttr(ino)).flags & kAttrTruncating);
      REQUIRE(Must(volume.meta->GetAttr(ino)).slice_bytes == 100);
    }
    // Readers that look before anything grows the file.
    {
      Reader reader(*volume.meta, ino);
      REQUIRE(reader.At(49) == ContentByte({8, ino * 100}, 49));
      const uint64_t hidden[] = {50, 99, kChunkBytes, 2 * kChunkBytes + 250};
      for (const uint64_t p : hidden) REQUIRE(reader.At(p) == 0);
    }
    GrowTo3Chunks(volume, ino, how);
    REQUIRE_FALSE(Must(volume.meta->GetAttr(ino)).flags & kAttrTruncating);
    Reader reader(*volume.meta, ino);
    REQUIRE(reader.length() == 3 * kChunkBytes);
    for (uint32_t chunk = 0; chunk < 3; ++chunk) {
      for (uint32_t i = 0; i < kPieces; ++i) {
        const uint64_t p = chunk * kChunkBytes + i * 200 + 60;
        if (reader.At(p) != 0) FAIL("byte " << p << " came back after " << transactions << " transactions");
      }
    }
    RequireExactCounts(*volume.kv);
  }
}

TEST_CASE("a deeper truncation by another client in the middle of one is finished as well") {
  for (size_t when = 1; when < 9; ++when) {
    Volume volume;
    const Ino ino = volume.NewFile("f");
    Fill(volume, ino);
    DyingStore outer(*volume.kv, SIZE_MAX, [&](size_t transaction) {
      if (transaction != when) return;
      // Gets as far as the first transaction of its own truncation.
      DyingStore inner(*volume.kv, Opening(*volume.kv) + 1);
      auto other = Must(Meta::Open(inner, {}));
      REQUIRE_FALSE(other->Truncate({}, ino, 50, false));
    });
    auto meta = Must(Meta::Open(outer, {}));
    Must(meta->Truncate({}, ino, kChunkBytes + 50, false));
    Must(meta->Truncate({}, ino, 3 * kChunkBytes, false));
    RequireExactCounts(*volume.kv);
    Reader reader(*volume.meta, ino);
    const bool deeper = reader.At(250) == 0;
    const uint64_t cut = deeper ? 50 : kChunkBytes + 50;
    for (uint32_t chunk = 0; chunk < 3; ++chunk) {
      for (uint32_t i = 0; i < kPieces; ++i) {
        for (const uint64_t p : {chunk * kChunkBytes + i * 200 + 10, chunk * kChunkBytes + i * 200 + 60}) {
          if (p >= cut && reader.At(p) != 0) FAIL("byte " << p << " came back, met at transaction " << when);
        }
      }
    }
  }
}

TEST_CASE("a long hole is punched in several transactions and can be repeated after a crash") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  Fill(volume, ino);
  const uint64_t from = 150 * 200, to = 2 * kChunkBytes + 150 * 200 + 50;
  {
    DyingStore dying(*volume.kv, 8);
    auto meta = Must(Meta::Open(dying, {}));
    REQUIRE_FALSE(meta->Zero({}, ino, from, to - from, false).has_value());
  }
  RequireExactCounts(*volume.kv);
  REQUIRE(Must(Fsck(*volume.kv, {})).clean());
  volume.Reopen(*volume.kv);
  Must(volume.meta->Zero({}, ino, from, to - from, false));
  RequireExactCounts(*volume.kv);
  Reader reader(*volume.meta, ino);
  for (uint32_t chunk = 0; chunk < 3; ++chunk) {
    for (uint32_t i = 0; i < kPieces * 100; ++i) {
      const uint64_t p = chunk * kChunkBytes + i / 100 * 200 + i % 100;
      const uint8_t expected = p >= from && p < to ? 0 : ContentByte({8, ino * 100 + chunk}, i);
      if (reader.At(p) != expected) FAIL("wrong byte at " << p);
    }
  }
}

TEST_CASE("a copy between files of very many pieces goes in steps") {
  Volume volume;
  const Ino from = volume.NewFile("from"), to = volume.NewFile("to");
  Fill(volume, from);
  Fill(volume, to);
  const uint64_t src = 1030, dst = 77, len = 2 * kChunkBytes + 90000;
  REQUIRE(Must(volume.meta->CopyRange({}, from, src, to, dst, len)) == len);
  RequireExactCounts(*volume.kv);
  Reader source(*volume.meta, from), target(*volume.meta, to);
  for (uint64_t chunk = 0; chunk < 3; ++chunk) {
    for (uint64_t p = 0; p < kPieces * 200; p += 7) {
      const uint64_t at = chunk * kChunkBytes + p;
      if (at >= dst && at < dst + len) {
        if (target.At(at) != source.At(at - dst + src)) FAIL("wrong copied byte at " << at);
      } else {
        const uint8_t old = p % 200 < 100 ? ContentByte({8, to * 100 + chunk}, p / 200 * 100 + p % 200) : 0;
        if (target.At(at) != old) FAIL("wrong old byte at " << at);
      }
    }
  }
}

TEST_CASE("a petabyte of hole costs as much as the records there are") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  Write(volume, ino, 0, 100);
  Write(volume, ino, (uint64_t{1} << 50) - 100, 100);
  SECTION("punched") {
    Must(volume.meta->Zero({}, ino, 50, uint64_t{1} << 50, false));
    Reader reader(*volume.meta, ino);
    REQUIRE(reader.At(49) != reader.At(50));
    REQUIRE(reader.At((uint64_t{1} << 50) - 50) == 0);
  }
  SECTION("truncated and extended") {
    Must(volume.meta->Truncate({}, ino, 50, false));
    Must(volume.meta->Truncate({}, ino, kMaxFileBytes, false));
    REQUIRE(Must(volume.meta->Truncate({}, ino, 0, false)).slice_bytes == 0);
    REQUIRE(volume.meta->Truncate({}, ino, kMaxFileBytes + 1, false).error().err() == EFBIG);
  }
  SECTION("copied") {
    const Ino copy = volume.NewFile("copy");
    REQUIRE(Must(volume.meta->CopyRange({}, ino, 0, copy, 0, UINT64_C(1) << 50)) == uint64_t{1} << 50);
    REQUIRE(Reader(*volume.meta, copy).At((uint64_t{1} << 50) - 1) ==
            Reader(*volume.meta, ino).At((uint64_t{1} << 50) - 1));
  }
  RequireExactCounts(*volume.kv);
}

TEST_CASE("cutting a file at one place again and again does not pile up holes") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  Write(volume, ino, 0, 1000);
  for (int i = 0; i < 20; ++i) {
    Must(volume.meta->Truncate({}, ino, 500, false));
    Must(volume.meta->Truncate({}, ino, 1000, false));
  }
  REQUIRE(Must(volume.meta->LoadSlices(ino, 0)).size() == 2);
}

TEST_CASE("truncation and fallocate refuse what is not a regular file") {
  Volume volume;
  REQUIRE(volume.meta->Truncate({}, kRootIno, 0, false).error().err() == EISDIR);
  REQUIRE(volume.meta->Zero({}, kRootIno, 0, 1, false).error().err() == EISDIR);
  REQUIRE(volume.meta->Extend({}, kRootIno, 1).error().err() == EISDIR);
  REQUIRE(volume.meta->Truncate({}, 4711, 0, false).error().err() == ESTALE);
}

TEST_CASE("truncation drops set-id bits when asked, keeping set-group-id that means locking") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  SetAttrRequest request;
  request.valid = kSetMode;
  request.mode = 06755;
  Must(volume.meta->SetAttr({}, ino, request));
  REQUIRE(Must(volume.meta->Truncate({}, ino, 0, false)).mode == 06755);
  REQUIRE(Must(volume.meta->Truncate({}, ino, 0, true)).mode == 0755);
  request.mode = 06745;
  Must(volume.meta->SetAttr({}, ino, request));
  RequireOk(volume.meta->KillPrivileges(ino));
  REQUIRE(Must(volume.meta->GetAttr(ino)).mode == 02745);
}

}  // namespace
}  // namespace moorfs::meta::testing
