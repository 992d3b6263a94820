// SPDX-License-Identifier: Apache-2.0
//
// Quotas and volumes: what counts where, what is refused, and that counters
// are what a recount finds, whatever happens.

#include <sys/stat.h>

#include <random>
#include <thread>

#include "fs/kv/mem/mem_store.h"
#include "fs/meta/check/dump.h"
#include "fs/meta/check/fsck.h"
#include "fs/meta/check/quota_check.h"
#include "test/unit/fs_meta/volume.h"

using namespace moorfs;
using namespace moorfs::meta;
using namespace moorfs::meta::testing;

namespace {

constexpr uint64_t kPageBytes = 4096;

uint64_t g_next_object = 1;

// `pages` of data at page `at`, as a flush commits it.
Status Write(Meta& meta, Ino ino, uint64_t at, uint32_t pages) {
  const ObjectId object{77, g_next_object++};
  const auto bytes = static_cast<uint32_t>(pages * kPageBytes);
  FileUpdate update;
  update.ino = ino;
  update.pieces.push_back({0, {static_cast<uint32_t>(at * kPageBytes), bytes, object, 0}});
  update.grow_to = at * kPageBytes + bytes;
  const auto done = meta.Commit({{object, bytes}}, {update});
  return done ? Status::Ok() : done.error();
}

struct Used {
  uint64_t pages = 0, inodes = 0;
  friend bool operator==(const Used&, const Used&) = default;
};
std::ostream& operator<<(std::ostream& out, const Used& u) { return out << u.pages << " pages, " << u.inodes << " inodes"; }

Used Of(Meta& meta, Ino dir) {
  const QuotaInfo q = Ok(meta.GetQuota(dir));
  CHECK(q.used_bytes % kPageBytes == 0);
  return {q.used_bytes / kPageBytes, q.used_inodes};
}

void CheckCounted(Meta& meta) {
  const QuotaCheck check = Ok(CheckQuotas(meta, false));
  std::string all;
  for (const std::string& finding : check.findings) all += finding + "\n";
  INFO(all);
  CHECK(check.clean);
}

// What this process believes is what a new one reads.
void CheckMemory(Volume& v) {
  const auto other = Ok(Meta::Open(*v.mem, {}));
  const auto mine = Ok(v.meta->ListQuotas()), fresh = Ok(other->ListQuotas());
  REQUIRE(mine.size() == fresh.size());
  for (size_t i = 0; i < mine.size(); ++i) {
    INFO("quota " << mine[i].dir);
    CHECK(mine[i].dir == fresh[i].dir);
    CHECK(mine[i].used_bytes == fresh[i].used_bytes);
    CHECK(mine[i].used_inodes == fresh[i].used_inodes);
    CHECK(mine[i].parent == fresh[i].parent);
    CHECK(mine[i].bytes == fresh[i].bytes);
  }
}

void CleanAll(Meta& meta) {
  while (Ok(meta.Clean(Timestamp::Now(), 1000))) {}
}

}  // namespace

TEST_CASE("a quota counts its directory and every change below it") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared));
  Meta& m = *v.meta;
  const Ino top = v.Dir(kRootIno, "top");
  CHECK(Err(m.GetQuota(top)) == ENODATA);
  Ok(m.SetQuota(top, 1000 * kPageBytes, 100));
  CHECK(Of(m, top) == Used{0, 1});
  const Ino sub = v.Dir(top, "sub");
  const Ino f = v.File(sub, "f");
  CHECK(Of(m, top) == Used{0, 3});

  Ok(Write(m, f, 0, 10));
  CHECK(Of(m, top) == Used{10, 3});
  Ok(Write(m, f, 0, 10));  // over the same bytes
  CHECK(Of(m, top) == Used{10, 3});
  Ok(Write(m, f, 20, 5));  // behind a hole: hidden slices count until compaction, up to the length
  CHECK(Of(m, top) == Used{25, 3});
  Ok(m.Truncate(v.root, f, 8 * kPageBytes, false));
  CHECK(Of(m, top) == Used{8, 3});
  Ok(m.Zero(v.root, f, 0, 8 * kPageBytes, false));
  CHECK(Of(m, top) == Used{8, 3});  // both slices reach over the old end: they are hidden, not gone
  Ok(m.Truncate(v.root, f, 0, false));
  CHECK(Of(m, top) == Used{0, 3});
  Ok(m.Extend(v.root, f, 100 * kPageBytes));
  CHECK(Of(m, top) == Used{0, 3});
  Ok(Write(m, f, 0, 4));

  const Ino g = v.File(top, "g");
  CHECK(Ok(m.CopyRange(v.root, f, 0, g, 0, 4 * kPageBytes)) == 4 * kPageBytes);
  CHECK(Of(m, top) == Used{8, 4});
  Ok(m.Link(v.root, g, sub, "g2"));
  CHECK(Of(m, top) == Used{8, 4});
  Ok(m.Unlink(v.root, top, "g"));
  CHECK(Of(m, top) == Used{8, 4});
  Ok(m.Rename(v.root, sub, "g2", sub, "f", 0));  // over the other
  CHECK(Of(m, top) == Used{4, 3});
  Ok(m.MakeSymlink(v.root, top, "s", "target"));
  Ok(m.MakeNode(v.root, top, "fifo", S_IFIFO | 0600, 0));
  CHECK(Of(m, top) == Used{4, 5});

  v.open.insert(g);  // "f" by now
  Ok(m.Unlink(v.root, sub, "f"));
  CHECK(Of(m, top) == Used{4, 5});  // an open file counts until it is closed
  v.open.clear();
  Ok(m.ReleaseSustained(g));
  CHECK(Of(m, top) == Used{0, 4});
  Ok(m.RemoveDir(v.root, top, "sub"));
  CHECK(Of(m, top) == Used{0, 3});
  CleanAll(m);
  CheckCounted(m);
  v.CheckClean();
}

TEST_CASE("limits refuse what exceeds them, in the change's transaction, and nothing else") {
  Volume v;
  Meta& m = *v.meta;
  const Ino top = v.Dir(kRootIno, "top");
  Ok(m.SetQuota(top, 10 * kPageBytes, 3));
  const Ino f = v.File(top, "f");
  v.File(top, "g");
  const auto before = v.Dump();
  CHECK(Err(m.MakeNode(v.root, top, "h", S_IFREG | 0600, 0)) == EDQUOT);
  CHECK(Err(m.MakeDir(v.root, top, "h", 0700)) == EDQUOT);
  CHECK(v.Dump() == before);
  Ok(m.Link(v.root, f, top, "f2"));  // no inode
  const Ino outside = v.File(kRootIno, "outside");
  Ok(Write(m, outside, 0, 8));
  Ok(Write(m, f, 0, 6));
  const Ino g = Ok(m.Lookup(top, "g")).ino;
  CHECK(Err(m.CopyRange(v.root, outside, 0, g, 0, 8 * kPageBytes)) == EDQUOT);
  CHECK(Ok(m.CopyRange(v.root, outside, 0, g, 0, 4 * kPageBytes)) == 4 * kPageBytes);
  // What was acknowledged is committed whatever it makes of the quota.
  Ok(Write(m, f, 6, 2));
  CHECK(Of(m, top) == Used{12, 3});
  Ok(Write(m, f, 0, 8));
  Ok(m.Unlink(v.root, top, "g"));
  v.File(top, "h");
  // A limit below what is there stops more, not less.
  Ok(m.SetQuota(top, kPageBytes, 1));
  Ok(m.Truncate(v.root, f, 4 * kPageBytes, false));
  CHECK(Err(m.MakeNode(v.root, top, "i", S_IFREG | 0600, 0)) == EDQUOT);
  CHECK(Ok(m.SetQuota(top, 0, 0)).used_inodes == 3);
  v.File(top, "i");
  CleanAll(m);
  CheckCounted(m);
}

TEST_CASE("room for unflushed data is promised once") {
  Volume v;
  const Ino outer = v.Dir(kRootIno, "outer");
  const Ino inner = v.Dir(outer, "inner");
  Ok(v.meta->SetQuota(outer, 100, std::nullopt));
  Ok(v.meta->SetQuota(inner, 80, std::nullopt));
  Ok(v.meta->Reserve(inner, 80, true));
  CHECK(Err(v.meta->Reserve(inner, 1, true)) == EDQUOT);
  CHECK(Err(v.meta->Reserve(outer, 21, true)) == EDQUOT);
  Ok(v.meta->Reserve(outer, 20, true));
  Ok(v.meta->Reserve(inner, -80, false));
  const auto room = Ok(v.meta->GetQuotaRoom(inner));
  REQUIRE(room);
  CHECK(room->total_bytes == 80);
  CHECK(Ok(v.meta->GetQuotaRoom(outer))->used_bytes == 20);
}

TEST_CASE("the last inode goes to one of many that want it") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared));
  const Ino top = v.Dir(kRootIno, "top");
  Ok(v.meta->SetQuota(top, std::nullopt, 41));
  std::atomic<int> made{0}, refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        const auto entry = v.meta->MakeNode({}, top, std::to_string(t) + "-" + std::to_string(i), S_IFREG | 0600, 0);
        made += entry.has_value();
        refused += !entry && entry.error().err() == EDQUOT;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(made == 40);
  CHECK(refused == 60);
  CheckCounted(*v.meta);
}

TEST_CASE("moves and links between quotas are for applications to copy") {
  Volume v;
  Meta& m = *v.meta;
  const Ino a = v.Dir(kRootIno, "a"), b = v.Dir(kRootIno, "b");
  const Ino in_a = v.Dir(a, "in");
  Ok(m.SetQuota(a, std::nullopt, 100));
  Ok(m.SetQuota(b, std::nullopt, 100));
  const Ino f = v.File(a, "f");
  const Ino out = v.File(kRootIno, "out");
  v.File(b, "g");
  CHECK(Err(m.Rename(v.root, a, "f", b, "f", 0)) == EXDEV);
  CHECK(Err(m.Rename(v.root, a, "f", kRootIno, "f", 0)) == EXDEV);
  CHECK(Err(m.Rename(v.root, kRootIno, "out", a, "out", 0)) == EXDEV);
  CHECK(Err(m.Rename(v.root, a, "f", b, "g", kRenameExchange)) == EXDEV);
  CHECK(Err(m.Rename(v.root, a, "in", b, "in", 0)) == EXDEV);
  CHECK(Err(m.Link(v.root, f, b, "f")) == EXDEV);
  CHECK(Err(m.Link(v.root, out, a, "out")) == EXDEV);
  Ok(m.Rename(v.root, a, "f", in_a, "f", 0));
  Ok(m.Link(v.root, f, a, "f"));
  // The directory of a quota moves like any other where it lies.
  const Ino c = v.Dir(kRootIno, "c");
  Ok(m.Rename(v.root, kRootIno, "a", c, "a", 0));
  CHECK(Err(m.Rename(v.root, c, "a", b, "a", 0)) == EXDEV);
  CHECK(Of(m, a) == Used{0, 3});
  CheckCounted(m);
  v.CheckClean();
}

TEST_CASE("quotas nest, whatever the order they are made in") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared));
  Meta& m = *v.meta;
  const Ino a = v.Dir(kRootIno, "a"), b = v.Dir(a, "b"), c = v.Dir(b, "c");
  const Ino f = v.File(c, "f");
  Ok(Write(m, f, 0, 3));
  for (int i = 0; i < 200; ++i) v.File(b, "many" + std::to_string(i));
  Ok(m.SetQuota(c, std::nullopt, std::nullopt));
  CHECK(Of(m, c) == Used{3, 2});
  Ok(m.SetQuota(a, std::nullopt, std::nullopt));
  CHECK(Of(m, a) == Used{3, 204});
  Ok(m.SetQuota(b, 5 * kPageBytes, 204));  // in between
  CHECK(Of(m, a) == Used{3, 204});
  CHECK(Of(m, b) == Used{3, 203});
  CHECK(Of(m, c) == Used{3, 2});
  CHECK(Ok(m.GetQuota(c)).parent == b);
  CHECK(Ok(m.GetQuota(b)).parent == a);
  v.File(c, "g");
  CHECK(Err(m.MakeNode(v.root, c, "h", S_IFREG | 0600, 0)) == EDQUOT);  // b is full
  v.File(a, "h");
  CHECK(Of(m, a) == Used{3, 206});
  CheckCounted(m);
  v.CheckClean();
  if (v.shape == Shape::kEmbedded) CheckMemory(v);
}

TEST_CASE("what is in the trash does not count, and comes back only where there is room") {
  Volume v(Shape::kEmbedded, 1);
  Meta& m = *v.meta;
  const Ino top = v.Dir(kRootIno, "top");
  Ok(m.SetQuota(top, 10 * kPageBytes, 3));
  const Ino f = v.File(top, "f");
  Ok(Write(m, f, 0, 8));
  Ok(m.Unlink(v.root, top, "f"));
  CHECK(Of(m, top) == Used{0, 1});
  const Ino g = v.File(top, "g");
  Ok(Write(m, g, 0, 8));
  CHECK(Err(m.RestoreTrash(f, std::nullopt)) == EDQUOT);
  Ok(m.Truncate(v.root, g, kPageBytes, false));
  Ok(m.RestoreTrash(f, std::nullopt));
  CHECK(Of(m, top) == Used{9, 3});
  CheckCounted(m);
  // Where it comes back it counts.
  const Ino other = v.Dir(kRootIno, "other");
  Ok(m.SetQuota(other, std::nullopt, std::nullopt));
  Ok(m.Unlink(v.root, top, "f"));
  Ok(m.RestoreTrash(f, "/other/f"));
  CHECK(Of(m, top) == Used{1, 2});
  CHECK(Of(m, other) == Used{8, 2});
  // An open file that loses its name counts until it is closed, and then is gone.
  v.open.insert(f);
  Ok(m.Unlink(v.root, other, "f"));
  CHECK(Of(m, other) == Used{8, 2});
  Ok(Write(m, f, 8, 1));
  CHECK(Of(m, other) == Used{9, 2});
  v.open.clear();
  Ok(m.ReleaseSustained(f));
  CHECK(Of(m, other) == Used{0, 1});
  Ok(m.EmptyTrash({INT64_MAX}));
  CleanAll(m);
  CheckCounted(m);
  v.CheckClean();
}

TEST_CASE("a quota ends with its directory, but not for files that are still open") {
  Volume v;
  Meta& m = *v.meta;
  const Ino outer = v.Dir(kRootIno, "outer");
  Ok(m.SetQuota(outer, std::nullopt, std::nullopt));
  const Ino inner = v.Dir(outer, "inner");
  Ok(m.SetQuota(inner, std::nullopt, std::nullopt));
  const Ino f = v.File(inner, "f");
  Ok(Write(m, f, 0, 2));
  v.open.insert(f);
  Ok(m.Unlink(v.root, inner, "f"));
  Ok(m.RemoveDir(v.root, outer, "inner"));
  CHECK(Err(m.GetQuota(inner)) == ENODATA);
  CHECK(Of(m, outer) == Used{2, 2});
  CleanAll(m);
  CHECK(Ok(m.ListQuotas()).size() == 2);
  v.CheckClean();
  v.open.clear();
  Ok(m.ReleaseSustained(f));
  CHECK(Of(m, outer) == Used{0, 1});
  CleanAll(m);
  CHECK(Ok(m.ListQuotas()).size() == 1);
  v.CheckClean();
  CheckCounted(m);
}

TEST_CASE("a request that is sent again counts once") {
  Volume v;
  const Ino top = v.Dir(kRootIno, "top");
  Ok(v.meta->SetQuota(top, std::nullopt, 2));
  OpContext ctx;
  ctx.epoch = 5;
  ctx.unique = 8;
  Ok(v.meta->MakeNode(ctx, top, "f", S_IFREG | 0600, 0));
  // The client dies; its successor is sent the request once more, with the quota full.
  v.meta.reset();
  v.meta = Ok(Meta::Open(*v.mem, {}));
  Ok(v.meta->StartSession({}, true));
  ctx.resent = true;
  Ok(v.meta->MakeNode(ctx, top, "f", S_IFREG | 0600, 0));
  CHECK(Of(*v.meta, top) == Used{0, 2});
  CheckCounted(*v.meta);
}

TEST_CASE("setting a quota may be interrupted anywhere, and others go on meanwhile") {
  const size_t dies_after = GENERATE(1u, 2u, 3u, 4u, 5u);
  struct Dying final : kv::KvStore {
    Dying(kv::KvStore& i, size_t l) : inner(i), left(l) {}
    Status Sync() override { return inner.Sync(); }
    Result<std::unique_ptr<kv::Snapshot>> NewSnapshot() override { return inner.NewSnapshot(); }
    bool exclusive() const override { return true; }
    std::string_view engine() const override { return "dying"; }
    Status TransactOnce(const Body& body, int) override {
      if (left == 0) return Status(EIO, "the engine died");
      --left;
      return inner.Transact(body);
    }
    kv::KvStore& inner;
    size_t left;
  };
  Volume v;
  const Ino top = v.Dir(kRootIno, "top");
  for (int d = 0; d < 3; ++d) {
    const Ino dir = v.Dir(top, "d" + std::to_string(d));
    for (int i = 0; i < 100; ++i) v.File(dir, std::to_string(i));
  }
  v.meta.reset();
  Dying dying(*v.mem, 100);
  {
    const auto meta = Ok(Meta::Open(dying, {}));
    dying.left = dies_after;
    CHECK(Err(meta->SetQuota(top, std::nullopt, 1000)) == EIO);
  }
  v.CheckClean();
  v.meta = v.OpenAnother();
  const Ino late = v.File(Ok(v.meta->Lookup(top, "d1")).ino, "late");
  CheckCounted(*v.meta);
  CleanAll(*v.meta);
  CHECK(Of(*v.meta, top) == Used{0, 305});
  CHECK(v.At(late).quota == top);
  CHECK(!Ok(v.meta->GetQuota(top)).tagging);
  CheckCounted(*v.meta);
}

TEST_CASE("a quota is set while files come, go and move") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared));
  const Ino top = v.Dir(kRootIno, "top");
  std::vector<Ino> dirs;
  for (int d = 0; d < 4; ++d) dirs.push_back(v.Dir(top, "d" + std::to_string(d)));
  for (int i = 0; i < 800; ++i) v.File(dirs[i % 4], "f" + std::to_string(i));
  std::atomic<bool> stop{false};
  std::atomic<int> strange{0};
  std::thread mover([&] {
    std::mt19937 random(1);
    for (int n = 0; !stop; ++n) {
      const std::string name = "f" + std::to_string(random() % 800), other = "f" + std::to_string(random() % 800);
      const Ino from = dirs[random() % 4], to = dirs[random() % 4];
      const auto moved = v.meta->Rename({}, from, name, to, other, 0);
      if (!moved && moved.error().err() != ENOENT && moved.error().err() != EXDEV) ++strange;
      const auto made = v.meta->MakeNode({}, from, "n" + std::to_string(n), S_IFREG | 0600, 0);
      if (made) static_cast<void>(v.meta->Rename({}, from, "n" + std::to_string(n), to, "m" + std::to_string(n), 0));
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto set = v.meta->SetQuota(top, std::nullopt, std::nullopt);
  stop = true;
  mover.join();
  Ok(set);
  CHECK(strange == 0);
  CheckCounted(*v.meta);
  v.CheckClean();
}

TEST_CASE("counters are what a recount finds, whatever happens") {
  const Shape shape = GENERATE(Shape::kEmbedded, Shape::kShared);
  const uint32_t trash_days = GENERATE(0u, 1u);
  const char* given = std::getenv("MOORFS_SEED");
  const auto seed = given ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
  INFO("MOORFS_SEED=" << seed << " " << ShapeName(shape) << " trash " << trash_days);
  std::mt19937 random(seed);
  Volume v(shape, trash_days);
  std::vector<Ino> dirs{kRootIno}, files;
  const auto pick = [&](const std::vector<Ino>& from) { return from[random() % from.size()]; };
  const auto name = [&] { return "n" + std::to_string(random() % 12); };
  for (int step = 0; step < 1500; ++step) {
    Meta& m = *v.meta;
    const Ino dir = pick(dirs);
    switch (random() % 16) {
      case 0:
        if (auto made = m.MakeDir(v.root, dir, name(), 0755)) dirs.push_back(made->ino);
        break;
      case 1:
      case 2:
        if (auto made = m.MakeNode(v.root, dir, name(), S_IFREG | 0644, 0)) files.push_back(made->ino);
        break;
      case 3:
      case 4:
      case 5:
        if (!files.empty()) static_cast<void>(Write(m, pick(files), random() % 8, 1 + random() % 8));
        break;
      case 6:
        if (!files.empty()) static_cast<void>(m.Truncate(v.root, pick(files), random() % 40'000, false));
        break;
      case 7: static_cast<void>(m.Unlink(v.root, dir, name())); break;
      case 8: static_cast<void>(m.RemoveDir(v.root, dir, name())); break;
      case 9:
      case 10:
        static_cast<void>(m.Rename(v.root, dir, name(), pick(dirs), name(), random() % 4 == 0 ? kRenameExchange : 0));
        break;
      case 11:
        if (!files.empty()) static_cast<void>(m.Link(v.root, pick(files), dir, name()));
        break;
      case 12:
        if (!files.empty()) {
          static_cast<void>(m.CopyRange(v.root, pick(files), 0, pick(files), random() % 3 * kPageBytes, 20'000));
        }
        break;
      case 13:
        if (random() % 4 == 0) {
          static_cast<void>(m.SetQuota(dir, random() % 2 ? 0 : random() % 100 * kPageBytes, random() % 2 ? 0 : random() % 30));
        }
        break;
      case 14:
        if (!files.empty() && random() % 2) v.open.insert(pick(files));
        if (random() % 3 == 0) {
          const auto was = v.open;
          v.open.clear();
          for (const Ino ino : was) Ok(m.ReleaseSustained(ino));
        }
        break;
      default:
        if (random() % 8 == 0) {
          const VolumeSpec spec{"v" + std::to_string(random() % 3), 0, random() % 2, {}};
          if (random() % 2) {
            if (auto made = m.CreateVolume(spec)) dirs.push_back(made->volume.ino);
          } else {
            Ok(m.DeleteVolume(spec.name));
          }
        } else if (random() % 4 == 0) {
          Ok(m.Clean(Timestamp::Now(), 1 + random() % 5));
        } else if (trash_days > 0 && !files.empty()) {
          static_cast<void>(m.RestoreTrash(pick(files), std::nullopt));
        } else if (random() % 8 == 0 && shape != Shape::kShared) {
          v.meta.reset();
          v.meta = v.OpenAnother();
        }
    }
    if (step % 150 == 149) {
      CheckCounted(*v.meta);
      v.CheckClean();
      if (shape != Shape::kShared) CheckMemory(v);
    }
  }
  v.open.clear();
  CleanAll(*v.meta);
  v.CheckClean();
  CheckCounted(*v.meta);
}

TEST_CASE("a recount puts right what is off, also while the volume is in use") {
  Volume v;
  Meta& m = *v.meta;
  const Ino top = v.Dir(kRootIno, "top"), sub = v.Dir(top, "sub");
  const Ino f = v.File(sub, "f");
  Ok(Write(m, f, 0, 4));
  Ok(m.SetQuota(top, 100 * kPageBytes, 100));
  Ok(v.mem->Transact([&](kv::Transaction& txn) {
    txn.Add(keys::QuotaCounterKey(keys::Counter::kQuotaBytes, top, 1), 12345);
    Attr attr = *DecodeAttr(**txn.Get(v.schema.Attr(sub)));
    attr.quota = 0;
    txn.Put(v.schema.Attr(sub), EncodeAttr(attr));
    return Status::Ok();
  }));
  CHECK(!Ok(CheckQuotas(m, false)).clean);
  CHECK(Ok(Fsck(*v.mem, {})).counts.count(Damage::kWrongQuota) == 1);
  const QuotaCheck repaired = Ok(CheckQuotas(m, true));
  CHECK(repaired.clean);
  CHECK(repaired.repaired >= 2);
  v.File(sub, "g");
  CHECK(Of(m, top) == Used{4, 4});
  CheckCounted(m);
  // fsck does the same with the engine alone.
  Ok(v.mem->Transact([&](kv::Transaction& txn) {
    txn.Add(keys::QuotaCounterKey(keys::Counter::kQuotaInodes, top, 1), -3);
    return Status::Ok();
  }));
  FsckOptions options;
  options.repair = true;
  CHECK(Ok(Fsck(*v.mem, options)).clean());
  v.CheckClean();
}

TEST_CASE("a program that does not know quotas may only read a volume with them") {
  Volume v;
  CHECK(Ok(Meta::LoadFormat(*v.mem)).ro_compat == 0);
  Ok(v.meta->SetQuota(v.Dir(kRootIno, "d"), 1, 1));
  CHECK(Ok(Meta::LoadFormat(*v.mem)).ro_compat == kRoCompatQuotas);
}

TEST_CASE("a dump keeps quotas and volumes") {
  Volume v;
  const Ino top = v.Dir(kRootIno, "top");
  Ok(v.meta->SetQuota(top, 1000, 10));
  v.File(top, "f");
  Ok(v.meta->CreateVolume({"vol", 5, 6, {{"k", "v"}}}));
  std::string bytes;
  Ok(Dump(*v.mem, [&](std::string_view more) {
    bytes.append(more);
    return Status::Ok();
  }));
  const auto fresh = kv::NewMemStore();
  size_t at = 0;
  Ok(Load(*fresh, [&](char* out, size_t size) -> Result<size_t> {
    const size_t n = bytes.copy(out, size, at);
    at += n;
    return n;
  }));
  const auto meta = Ok(Meta::Open(*fresh, {}));
  CHECK(Of(*meta, top) == Used{0, 2});
  CHECK(Ok(meta->GetVolume("vol")).spec.parameters == std::map<std::string, std::string>{{"k", "v"}});
  CheckCounted(*meta);
  testing::CheckClean(*fresh);
}

TEST_CASE("a volume is made once, and says what differs") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared));
  Meta& m = *v.meta;
  const VolumeSpec spec{"pvc-1", 1 << 20, 50, {{"a", "1"}}};
  const auto made = Ok(m.CreateVolume(spec));
  CHECK(made.created);
  CHECK(made.volume.directory == "volumes/pvc-1");
  CHECK(Ok(m.Resolve("/volumes/pvc-1")).ino == made.volume.ino);
  CHECK(Of(m, made.volume.ino) == Used{0, 1});
  const auto again = Ok(m.CreateVolume(spec));
  CHECK(!again.created);
  CHECK(again.volume.ino == made.volume.ino);
  const auto differs = [&](VolumeSpec other, const std::string& names) {
    const auto result = m.CreateVolume(other);
    REQUIRE(Err(result) == EEXIST);
    INFO(result.error().message());
    CHECK(result.error().message().find(names) != std::string::npos);
  };
  differs({"pvc-1", 2 << 20, 50, {{"a", "1"}}}, "2097152");
  differs({"pvc-1", 1 << 20, 51, {{"a", "1"}}}, "51");
  differs({"pvc-1", 1 << 20, 50, {{"a", "2"}}}, "'a'");
  differs({"pvc-1", 1 << 20, 50, {{"a", "1"}, {"b", "1"}}}, "'b'");
  differs({"pvc-1", 1 << 20, 50, {}}, "'a'");
  // After its quota was raised both sizes are its own.
  Ok(m.SetQuota(made.volume.ino, 4 << 20, std::nullopt));
  CHECK(Ok(m.GetVolume("pvc-1")).spec.bytes == 4 << 20);
  CHECK(!Ok(m.CreateVolume(spec)).created);
  CHECK(!Ok(m.CreateVolume({"pvc-1", 4 << 20, 50, {{"a", "1"}}})).created);
  // A directory that is no volume stays one.
  v.Dir(Ok(m.Resolve("/volumes")).ino, "mine");
  CHECK(Err(m.CreateVolume({"mine", 0, 0, {}})) == EEXIST);
  CHECK(Err(m.GetVolume("mine")) == ENOENT);
  CHECK(!Ok(m.DeleteVolume("mine")));
  v.CheckClean();
}

TEST_CASE("names of volumes are any text, their directories are tame") {
  Volume v;
  Meta& m = *v.meta;
  for (const std::string& name : {std::string(), std::string(129, 'x'), std::string("a\nb"), std::string("a\0b", 3),
                                  std::string("\x7f"), std::string("\xc2\x85"), std::string("\xff"), std::string("\xed\xa0\x80")}) {
    INFO(name);
    CHECK(Err(m.CreateVolume({name, 0, 0, {}})) == EINVAL);
  }
  const std::vector<std::string> names = {".", "..", "a/b", "a b", "a_b", "../../etc", "\xc3\xbc", "\xe2\x98\x83 snow", "$(reboot)",
                                          std::string(128, 'x'), std::string(63, 'y'), std::string(64, 'y'), "-rf"};
  std::set<std::string> directories;
  for (const std::string& name : names) {
    const auto made = Ok(m.CreateVolume({name, 0, 0, {}}));
    const std::string dir = made.volume.directory.substr(8);
    INFO(name << " -> " << dir);
    CHECK(directories.insert(dir).second);
    CHECK(dir.size() <= 63);
    CHECK(dir.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-~") == std::string::npos);
    CHECK(Ok(m.Resolve(made.volume.directory)).ino == made.volume.ino);
  }
  CHECK(directories.count("-rf") == 1);
  std::vector<std::string> listed;
  for (std::string after;;) {
    const auto page = Ok(m.ListVolumes(after, 4));
    for (const VolumeInfo& info : page) listed.push_back(info.spec.name);
    if (page.size() < 4) break;
    after = listed.back();
  }
  std::vector<std::string> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  CHECK(listed == sorted);
}

TEST_CASE("a volume is deleted at once, its tree behind it, past the trash") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared), GENERATE(0u, 1u));
  Meta& m = *v.meta;
  const auto made = Ok(m.CreateVolume({"vol", 0, 0, {}}));
  const Ino outside = v.File(kRootIno, "outside");
  Ino dir = made.volume.ino;
  Ino open = 0;
  for (int depth = 0; depth < 5; ++depth) {
    for (int i = 0; i < 20; ++i) Ok(Write(m, open = v.File(dir, "f" + std::to_string(i)), 0, 1));
    dir = v.Dir(dir, "deeper");
  }
  Ok(m.SetQuota(dir, std::nullopt, std::nullopt));  // one inside
  v.File(dir, "inner");
  v.open.insert(open);
  const auto before = Ok(m.GetStatFs());
  REQUIRE(Ok(m.DeleteVolume("vol")));
  CHECK(!Ok(m.DeleteVolume("vol")));
  CHECK(Err(m.Resolve("/volumes/vol")) == ENOENT);
  CHECK(Err(m.GetVolume("vol")) == ENOENT);
  CHECK(Err(m.MakeNode(v.root, made.volume.ino, "late", S_IFREG | 0600, 0)) == ENOENT);
  v.CheckClean();  // and nothing of it counts as lost
  // The name is free at once.
  Ok(m.CreateVolume({"vol", 0, 0, {}}));
  for (int i = 0; i < 3; ++i) {
    Ok(m.Clean(Timestamp::Now(), 1 + i * 3));
    v.CheckClean();
  }
  CleanAll(m);
  CHECK(Ok(m.GetStatFs()).used_inodes == 5);  // root, outside, volumes, vol, and what is open
  v.open.clear();
  CleanAll(m);
  CHECK(Ok(m.GetStatFs()).used_inodes == 4);
  CHECK(before.used_inodes == 110);
  CHECK(Ok(m.ListQuotas()).size() == 1);
  v.At(outside);
  v.CheckClean();
  CheckCounted(m);
}

TEST_CASE("a volume whose directory is gone is deleted all the same") {
  Volume v;
  Meta& m = *v.meta;
  const auto made = Ok(m.CreateVolume({"vol", 0, 0, {}}));
  Ok(m.RemoveDir(v.root, made.volume.parent, "vol"));
  CHECK(Ok(m.DeleteVolume("vol")));
  Ok(m.CreateVolume({"kept", 0, 0, {}}));
  Ok(m.Rename(v.root, made.volume.parent, "kept", kRootIno, "mine", 0));
  CHECK(Ok(m.DeleteVolume("kept")));
  CleanAll(m);
  CHECK(Ok(m.Resolve("/mine")).attr.nlink == 2);
  Ok(m.CreateVolume({"other", 0, 0, {}}));
  Ok(m.Rename(v.root, kRootIno, "volumes", kRootIno, "elsewhere", 0));
  CHECK(Ok(m.DeleteVolume("other")));
  // And whoever asks for one that lost its directory gets it anew.
  const auto other = Ok(m.CreateVolume({"other", 0, 0, {}}));
  Ok(m.RemoveDir(v.root, other.volume.parent, "other"));
  CHECK(Ok(m.CreateVolume({"other", 0, 0, {}})).created);
  CHECK(Ok(m.Resolve("/volumes/other")).ino == Ok(m.GetVolume("other")).ino);
  v.CheckClean();
}

TEST_CASE("volumes are made by several at once, each exactly once") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared));
  std::atomic<int> created{0}, failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        const auto made = v.meta->CreateVolume({"vol" + std::to_string(i), 100, 0, {}});
        if (!made) ++failed;
        created += made && made->created;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 0);
  CHECK(created == 25);
  CHECK(v.Names(Ok(v.meta->Resolve("/volumes")).ino).size() == 25);
  CheckCounted(*v.meta);
  v.CheckClean();
}
