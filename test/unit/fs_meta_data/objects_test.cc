// SPDX-License-Identifier: Apache-2.0
//
// What happens to block objects: counted, shared, let go, and deleted only
// when nothing can want them any more.

#include <atomic>
#include <random>
#include <thread>

#include "fs/format/records.h"
#include "fs/format/slice_view.h"
#include "fs/meta/check/fsck.h"
#include "volume.h"

namespace moorfs::meta::testing {
namespace {

constexpr int64_t kHour = 3600 * Timestamp::kNsPerSec;
Timestamp In(int64_t ns) { return {Timestamp::Now().ns + ns}; }

TEST_CASE("data for a file that is gone is dropped, and its object deleted") {
  Volume volume;
  const Ino ino = volume.NewFile("kept");
  FileUpdate gone, kept;
  gone.ino = 4711;
  gone.pieces.push_back({0, {0, 10, {5, 1}, 0}});
  gone.grow_to = 10;
  kept.ino = ino;
  kept.pieces.push_back({0, {0, 10, {5, 2}, 0}});
  kept.pieces.push_back({0, {10, 10, {5, 3}, 0}});
  kept.grow_to = 20;
  const auto results = Must(volume.meta->Commit({{{5, 1}, 10}, {{5, 2}, 10}, {{5, 3}, 10}}, {gone, kept}));
  REQUIRE(results[0].gone);
  REQUIRE_FALSE(results[1].gone);
  REQUIRE(results[1].length == 20);
  RequireExactCounts(*volume.kv);
  REQUIRE(Must(volume.meta->DueObjects(Timestamp::Now(), 10)).empty());
  REQUIRE(Must(volume.meta->DueObjects(In(kHour), 10)) == std::vector<ObjectId>{{5, 1}});
}

TEST_CASE("pieces behind the end are dropped, and keep their place in the numbering") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  FileUpdate update;
  update.ino = ino;
  update.pieces.push_back({0, {100, 10, {5, 1}, 0}});  // behind the end
  update.pieces.push_back({0, {0, 60, {5, 2}, 0}});    // reaches over it
  update.grow_to = 50;
  const auto results = Must(volume.meta->Commit({{{5, 1}, 10}, {{5, 2}, 60}}, {update}));
  const auto slices = Must(volume.meta->LoadSlices(ino, 0));
  REQUIRE(slices.size() == 1);
  REQUIRE(slices[0].seq == results[0].first_seq + 1);
  REQUIRE(slices[0].record.len == 50);
  RequireExactCounts(*volume.kv);
}

TEST_CASE("an object that is recorded again while it waits for deletion lives") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  const ObjectId object = Write(volume, ino, 0, 10);
  Must(volume.meta->Truncate({}, ino, 0, false));
  REQUIRE(CountFamily(*volume.kv, 'Z') == 1);
  FileUpdate update;
  update.ino = ino;
  update.pieces.push_back({0, {0, 10, object, 0}});
  update.grow_to = 10;
  Must(volume.meta->Commit({{object, 10}}, {update}));
  REQUIRE(Must(volume.meta->DueObjects(In(kHour), 10)).empty());
  REQUIRE(CountFamily(*volume.kv, 'Z') == 0);
  RequireExactCounts(*volume.kv);
}

TEST_CASE("objects stay queued until they are forgotten, oldest first") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  std::vector<ObjectId> objects;
  for (int i = 0; i < 5; ++i) {
    objects.push_back(Write(volume, ino, 0, 10));
    Must(volume.meta->Truncate({}, ino, 0, false));
  }
  const std::vector<ObjectId> first{objects[0], objects[1]};
  REQUIRE(Must(volume.meta->DueObjects(In(kHour), 2)) == first);
  REQUIRE(Must(volume.meta->DueObjects(In(kHour), 2)) == first);
  RequireOk(volume.meta->ForgetObjects(first));
  REQUIRE(Must(volume.meta->DueObjects(In(2 * kHour), 2)) == std::vector<ObjectId>{objects[2], objects[3]});
  // A client that had not listed them does not take them off the queue.
  volume.Reopen(*volume.kv);
  RequireOk(volume.meta->ForgetObjects({objects[2]}));
  REQUIRE(Must(volume.meta->DueObjects(In(2 * kHour), 10)).size() == 3);
}

TEST_CASE("a clock that was years ahead does not hide what is queued afterwards") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  REQUIRE(Must(volume.meta->DueObjects(In(24 * 365 * kHour), 10)).empty());
  const ObjectId object = Write(volume, ino, 0, 10);
  Must(volume.meta->Truncate({}, ino, 0, false));
  REQUIRE(Must(volume.meta->DueObjects(In(kHour), 10)) == std::vector<ObjectId>{object});
}

TEST_CASE("a drifted count never deletes an object that others may use") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  const ObjectId object = Write(volume, ino, 0, 10);
  SECTION("missing") {
    RequireOk(volume.kv->Transact([&](kv::Transaction& t) {
      t.Delete(keys::ObjectRefs(object));
      return Status::Ok();
    }));
  }
  SECTION("too low") {
    RequireOk(volume.kv->Transact([&](kv::Transaction& t) {
      t.Put(keys::ObjectRefs(object), EncodeLe64(0));
      return Status::Ok();
    }));
  }
  Must(volume.meta->Truncate({}, ino, 0, false));
  REQUIRE(CountFamily(*volume.kv, 'Z') == 0);
}

TEST_CASE("a copy shares objects, and the last of the sharers lets them go") {
  Volume volume;
  const Ino a = volume.NewFile("a"), b = volume.NewFile("b");
  const ObjectId object = Write(volume, a, 0, 1000);
  REQUIRE(Must(volume.meta->CopyRange({}, a, 0, b, kChunkBytes - 500, 5000)) == 1000);
  RequireExactCounts(*volume.kv);
  Reader reader(*volume.meta, b);
  REQUIRE(reader.At(kChunkBytes - 500) == ContentByte(object, 0));
  REQUIRE(reader.At(kChunkBytes + 499) == ContentByte(object, 999));
  Must(volume.meta->Truncate({}, a, 0, false));
  REQUIRE(CountFamily(*volume.kv, 'Z') == 0);
  Must(volume.meta->Truncate({}, b, 0, false));
  REQUIRE(CountFamily(*volume.kv, 'Z') == 1);
}

TEST_CASE("an object that a power cut took is taken out of its copies as well") {
  Volume volume;
  const Ino a = volume.NewFile("a"), b = volume.NewFile("b");
  const ObjectId object = Write(volume, a, 0, 1000);
  Must(volume.meta->CopyRange({}, a, 0, b, kChunkBytes - 500, 1000));
  REQUIRE(Must(volume.meta->UndurableObjects()) == std::vector<ObjectId>{object});
  RequireOk(volume.meta->DropLostObjects({object}));
  for (const auto& [ino, chunk] : {std::pair{a, 0u}, {b, 0u}, {b, 1u}}) {
    REQUIRE(Must(volume.meta->LoadSlices(ino, chunk)).empty());
  }
  RequireExactCounts(*volume.kv);
}

TEST_CASE("a copy of tiny files copies their bytes, of others stops before inline ones") {
  Volume volume;
  const Ino a = volume.NewFile("a"), b = volume.NewFile("b");
  FileUpdate update;
  update.ino = a;
  update.inline_bytes = "0123456789";
  update.grow_to = 20;
  Must(volume.meta->Commit({}, {update}));
  REQUIRE(Must(volume.meta->CopyRange({}, a, 5, b, 3, 100)) == 15);
  REQUIRE(Must(volume.meta->LoadInline(b)) == std::string("\0\0\00056789", 8) + std::string(10, '\0'));
  Write(volume, a, 0, 4);
  REQUIRE(Must(volume.meta->CopyRange({}, a, 0, b, 0, 20)) == 4);
  REQUIRE(volume.meta->CopyRange({}, a, 4, b, 4, 16).error().err() == EOPNOTSUPP);
  REQUIRE(Must(volume.meta->CopyRange({}, a, 10, b, 10, 10)) == 10);
  REQUIRE(Must(volume.meta->CopyRange({}, a, 20, b, 10, 10)) == 0);
  RequireExactCounts(*volume.kv);
}

TEST_CASE("a copy that is asked again by a new client answers what was done") {
  Volume volume;
  const Ino a = volume.NewFile("a"), b = volume.NewFile("b");
  Write(volume, a, 0, 1000);
  OpContext ctx;
  ctx.epoch = 9;
  ctx.unique = 4;
  ctx.slot = 1;
  REQUIRE(Must(volume.meta->CopyRange(ctx, a, 0, b, 0, 700)) == 700);
  Must(volume.meta->Truncate({}, a, 0, false));
  ctx.resent = true;
  REQUIRE(Must(volume.meta->CopyRange(ctx, a, 0, b, 0, 700)) == 700);
  REQUIRE(Must(volume.meta->GetAttr(b)).length == 700);
}

TEST_CASE("compaction yields to what happened while it worked") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  Write(volume, ino, 0, 100);
  Write(volume, ino, 50, 100);
  const auto slices = Must(volume.meta->LoadSlices(ino, 0));
  const SliceRecord merged{0, 150, {6, 1}, 0};
  const uint64_t up_to = slices.back().seq;
  const auto replace = [&] {
    return volume.meta->ReplaceSlices(ino, 0, up_to, 2, {{{6, 1}, 150}}, {merged});
  };

  SECTION("a later write stays on top") {
    const ObjectId later = Write(volume, ino, 20, 10);
    RequireOk(replace());
    Reader reader(*volume.meta, ino);
    REQUIRE(reader.At(25) == ContentByte(later, 5));
    REQUIRE(reader.At(30) == ContentByte({6, 1}, 30));
    REQUIRE(Must(volume.meta->LoadSlices(ino, 0)).size() == 2);
  }
  SECTION("what was cut off stays cut off") {
    Must(volume.meta->Truncate({}, ino, 70, false));
    Must(volume.meta->Truncate({}, ino, 150, false));
    const Status status = replace();
    REQUIRE((status.ok() || status.err() == kErrnoConflict));
    REQUIRE(Reader(*volume.meta, ino).At(100) == 0);
  }
  SECTION("what was punched stays punched") {
    Must(volume.meta->Zero({}, ino, 60, 10, false));
    RequireOk(replace());
    REQUIRE(Reader(*volume.meta, ino).At(65) == 0);
    REQUIRE(Reader(*volume.meta, ino).At(70) == ContentByte({6, 1}, 70));
  }
  SECTION("a removed record is a conflict, and the new object is let go") {
    Must(volume.meta->Zero({}, ino, 50, 100, false));
    REQUIRE(replace().err() == kErrnoConflict);
    const auto due = Must(volume.meta->DueObjects(In(kHour), 10));
    REQUIRE(std::count(due.begin(), due.end(), ObjectId{6, 1}) == 1);
  }
  SECTION("the file may be gone") {
    Must(volume.meta->Unlink({}, kRootIno, "f"));
    REQUIRE(replace().err() == ESTALE);
    return;
  }
  RequireExactCounts(*volume.kv);
}

// Bytes of a compacted object: those of what it replaced.
struct Compacted {
  ObjectId id;
  std::vector<ViewExtent> view;
  std::vector<SliceRecord> with;
  uint8_t Byte(const ObjectId& object, uint64_t offset) const {
    if (object != id) return ContentByte(object, offset);
    for (size_t i = 0; i < view.size(); ++i) {
      if (offset < view[i].len) return ContentByte(view[i].object, view[i].offset + offset);
      offset -= view[i].len;
    }
    return 0;
  }
};
Compacted Compact(std::vector<Slice> slices, const ObjectId& id) {
  Compacted out{id, ResolveSlices(std::move(slices)), {}};
  std::erase_if(out.view, [](const ViewExtent& e) { return e.object.is_hole(); });
  uint32_t end = 0;
  for (const ViewExtent& e : out.view) {
    const bool joins = !out.with.empty() && out.with.back().pos + out.with.back().len == e.pos;
    if (!joins) out.with.push_back({e.pos, 0, id, end});
    out.with.back().len += e.len;
    end += e.len;
  }
  return out;
}

TEST_CASE("what compaction removes lies in front of what it leaves") {
  // ChunkStarts skips what is in front; a newer record behind stays in order.
  Volume volume;
  const Ino ino = volume.NewFile("f");
  constexpr uint32_t kRounds = 40, kWrites = 30;
  for (uint32_t round = 0; round < kRounds; ++round) {
    for (uint32_t i = 0; i < kWrites; ++i) Write(volume, ino, i * 10, 10);
    const auto slices = Must(volume.meta->LoadSlices(ino, 0));
    REQUIRE(slices.size() <= kWrites + 2);
    const ObjectId object{6, round + 1};
    const ObjectId later = Write(volume, ino, 20, 10);
    RequireOk(volume.meta->ReplaceSlices(ino, 0, slices.back().seq, slices.size(), {{object, 300}},
                                         {{0, 300, object, 0}}));
    const auto left = Must(volume.meta->LoadSlices(ino, 0));
    REQUIRE(left.size() == 2);
    REQUIRE(left.front().seq == slices.back().seq);
    REQUIRE(left.back().record.object == later);
    // One step empties the chunk, wherever its first record was known to be.
    if (round % 4 == 3) {
      Must(volume.meta->Truncate({}, ino, 0, false));
      REQUIRE(Must(volume.meta->LoadSlices(ino, 0)).empty());
    }
  }
  RequireExactCounts(*volume.kv);
  // A process that knows nothing of it sees the same.
  Write(volume, ino, 0, 10);
  volume.Reopen(*volume.kv);
  REQUIRE(Must(volume.meta->LoadSlices(ino, 0)).size() == 1);
}

TEST_CASE("a chunk of very many records is replaced in steps, reading the same after each") {
  const uint32_t stride = GENERATE(4096, 8192);  // in few pieces, in very many
  bool completed = false;
  for (size_t transactions = 4; !completed; ++transactions) {
    REQUIRE(transactions < 60);
    Volume volume;
    const Ino ino = volume.NewFile("f");
    for (uint32_t object = 0; object < 6; ++object) {
      FileUpdate update;
      update.ino = ino;
      for (uint32_t i = 0; i < 900; ++i) {
        const uint32_t pos = (i * 7 + object * 131) % 6000 * stride;
        update.pieces.push_back({0, {pos, 4096, {5, object + 1}, i * 4096}});
      }
      update.grow_to = kChunkBytes;
      Must(volume.meta->Commit({{{5, object + 1}, 900 * 4096}}, {update}));
    }
    Must(volume.meta->Zero({}, ino, 100 * stride, 50, false));
    const auto slices = Must(volume.meta->LoadSlices(ino, 0));
    const Compacted compacted = Compact(slices, {6, 1});
    Reader before(*volume.meta, ino);
    {
      DyingStore dying(*volume.kv, transactions);
      auto meta = Must(Meta::Open(dying, {}));
      const Status status = meta->ReplaceSlices(ino, 0, slices.back().seq, slices.size(), {{{6, 1}, 1}},
                                                compacted.with);
      completed = status.ok();
      if (!completed) REQUIRE(status.err() == EIO);
    }
    RequireExactCounts(*volume.kv);
    volume.Reopen(*volume.kv);
    Reader after(*volume.meta, ino, [&](const ObjectId& o, uint64_t at) { return compacted.Byte(o, at); });
    for (uint64_t p = 0; p < kChunkBytes; p += 1009 * 7) {
      if (before.At(p) != after.At(p)) FAIL("byte " << p << " changed after " << transactions
                                            << " transactions");
    }
    for (const uint64_t edge : after.edges()) {
      if (edge % 37 == 0 && before.At(edge) != after.At(edge)) FAIL("byte " << edge << " changed");
    }
    if (completed) REQUIRE(Must(volume.meta->LoadSlices(ino, 0)).size() == compacted.with.size());
  }
}

TEST_CASE("one commit takes thousands of pieces of many files") {
  Volume volume;
  std::vector<FileUpdate> updates;
  const ObjectId object{5, 1};
  uint32_t offset = 0;
  for (int f = 0; f < 30; ++f) {
    FileUpdate update;
    update.ino = volume.NewFile("f" + std::to_string(f));
    for (uint32_t i = 0; i < 50; ++i, offset += 4096) {
      update.pieces.push_back({0, {i * 8192, 4096, object, offset}});
    }
    update.grow_to = 50 * 8192;
    updates.push_back(update);
    updates.push_back(update);  // one inode twice in one commit
    updates.back().pieces.resize(1);
  }
  Must(volume.meta->Commit({{object, offset}}, updates));
  RequireExactCounts(*volume.kv);
  REQUIRE(Must(volume.meta->LoadSlices(updates[0].ino, 0)).size() == 51);
  REQUIRE(Must(volume.meta->GetStatFs()).used_bytes == 30 * 51 * 4096);
}

TEST_CASE("threads that change, share and clean the same files leave exact counts") {
  Volume volume;
  std::vector<Ino> files;
  for (int i = 0; i < 3; ++i) files.push_back(volume.NewFile("f" + std::to_string(i)));
  std::atomic<int> failures = 0;
  const auto work = [&](uint64_t worker) {
    std::mt19937_64 random(worker);
    for (int step = 0; step < 400; ++step) {
      const Ino a = files[random() % 3], b = files[random() % 3];
      const uint64_t at = random() % (2 * kChunkBytes), len = 1 + random() % 100000;
      Status status;
      const auto note = [&](const auto& result) {
        if (!result) status = result.error();
      };
      switch (random() % 6) {
        case 0: note(volume.meta->Truncate({}, a, at, false)); break;
        case 1: note(volume.meta->Zero({}, a, at, len, random() % 2)); break;
        case 2:
          if (a != b) note(volume.meta->CopyRange({}, a, at, b, at / 2, len));
          break;
        case 3: note(volume.meta->Clean(Timestamp::Now(), 5)); break;
        default: {
          const ObjectId id{worker + 100, static_cast<uint64_t>(step) + 1};
          FileUpdate update;
          update.ino = a;
          update.pieces.push_back({static_cast<uint32_t>(at / kChunkBytes),
                                   {static_cast<uint32_t>(at % kChunkBytes / 2), 5000, id, 0}});
          update.grow_to = at + 5000;
          note(volume.meta->Commit({{id, 5000}}, {update}));
        }
      }
      if (!status.ok()) ++failures;
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t worker = 0; worker < 4; ++worker) threads.emplace_back(work, worker);
  for (std::thread& thread : threads) thread.join();
  REQUIRE(failures == 0);
  RequireExactCounts(*volume.kv);
  REQUIRE(Must(Fsck(*volume.kv, {})).clean());
}

TEST_CASE("inline bytes give way to slices and are cut with the file") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  FileUpdate update;
  update.ino = ino;
  update.inline_bytes = std::string(100, 'x');
  update.grow_to = 100;
  Must(volume.meta->Commit({}, {update}));
  Write(volume, ino, 50, 10);
  REQUIRE(volume.meta->Commit({}, {update}).error().err() == EINVAL);
  Must(volume.meta->Truncate({}, ino, 40, false));
  REQUIRE(Must(volume.meta->LoadInline(ino)) == std::string(40, 'x'));
  Must(volume.meta->Zero({}, ino, 0, 40, false));
  REQUIRE_FALSE(Must(volume.meta->GetAttr(ino)).flags & kAttrInline);
  Must(volume.meta->Commit({}, {update}));  // no slices any more
  RequireExactCounts(*volume.kv);
}

TEST_CASE("the time of access only moves forward") {
  Volume volume;
  const Ino ino = volume.NewFile("f");
  const Timestamp later = In(kHour);
  RequireOk(volume.meta->SetAtime(ino, later));
  RequireOk(volume.meta->SetAtime(ino, Timestamp::Now()));
  REQUIRE(Must(volume.meta->GetAttr(ino)).atime == later);
}

}  // namespace
}  // namespace moorfs::meta::testing
