// SPDX-License-Identifier: Apache-2.0
//
// Quotas and what is not stored yet: a limit is exact whatever part of the data
// still lies in the arena, and a claim on it goes when its data does.

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <linux/falloc.h>

#include <random>
#include <thread>

#include "fs/meta/check/quota_check.h"
#include "test/unit/fs_vfs/volume.h"

namespace moorfs::vfs {
namespace {

constexpr uint64_t kPage = 4096;

struct QuotaVolume : Volume {
  explicit QuotaVolume(uint64_t pages, uint64_t data_bytes = 8_MiB) : Volume(data_bytes) {
    dir = vfs_->MakeDir(kNobody, kRootIno, "dir", 0755)->ino;
    REQUIRE(meta_->SetQuota(dir, pages * kPage, std::nullopt));
  }
  std::pair<Ino, Handle> In(const std::string& name) {
    const auto created = vfs_->Create(kNobody, dir, name, S_IFREG | 0644, O_RDWR);
    REQUIRE(created);
    return {created->entry.ino, created->opened.handle};
  }
  int Write(std::pair<Ino, Handle> file, uint64_t page, uint64_t pages) {
    const std::string data(pages * kPage, static_cast<char>('a' + page % 26));
    return vfs_->Write(kNobody, file.first, file.second, page * kPage, data, false).err();
  }
  meta::QuotaInfo Quota() {
    auto quota = meta_->GetQuota(dir);
    REQUIRE(quota);
    return *quota;
  }
  void CheckExact() {
    REQUIRE(vfs_->Drain().ok());
    CHECK(Quota().reserved_bytes == 0);
    const auto check = meta::CheckQuotas(*meta_, false);
    REQUIRE(check);
    for (const std::string& finding : check->findings) UNSCOPED_INFO(finding);
    CHECK(check->clean);
  }
  Ino dir = 0;
};

}  // namespace

TEST_CASE("a quota holds for data that is not stored yet, to the byte") {
  QuotaVolume v(100);
  const auto f = v.In("f"), g = v.In("g");
  CHECK(v.Write(f, 0, 60) == 0);
  CHECK(v.Quota().used_bytes + v.Quota().reserved_bytes == 60 * kPage);
  CHECK(v.Write(g, 0, 41) == EDQUOT);
  CHECK(v.Write(g, 0, 40) == 0);
  CHECK(v.Write(f, 60, 1) == EDQUOT);
  CHECK(v.Write(f, 0, 60) == 0);  // over itself, unstored
  REQUIRE(v.vfs_->Drain().ok());
  CHECK(v.Quota().used_bytes == 100 * kPage);
  for (int i = 0; i < 5; ++i) {
    CHECK(v.Write(f, 0, 60) == 0);  // over stored bytes
    CHECK(v.Write(g, 7, 20) == 0);
    if (i % 2) REQUIRE(v.vfs_->Fsync(kNobody, g.first, g.second, false).ok());
  }
  v.CheckExact();
  CHECK(v.Quota().used_bytes == 100 * kPage);
  SetAttr cut;
  cut.length = 10 * kPage;
  REQUIRE(v.vfs_->SetAttribute(kNobody, f.first, cut));
  CHECK(v.Write(g, 40, 50) == 0);
  CHECK(v.Write(g, 90, 1) == EDQUOT);
  v.CheckExact();
}

TEST_CASE("what is unflushed claims its room again after the death of the client") {
  QuotaVolume v(100);
  const auto f = v.In("f"), g = v.In("g");
  CHECK(v.Write(f, 0, 80) == 0);
  v.Crash();
  v.Start();
  CHECK(v.Quota().used_bytes + v.Quota().reserved_bytes == 80 * kPage);
  CHECK(v.Write(g, 0, 21) == EDQUOT);
  CHECK(v.Write(g, 0, 20) == 0);
  v.CheckExact();
  CHECK(v.Quota().used_bytes == 100 * kPage);
}

TEST_CASE("a claim goes with the data: truncated, unlinked, moved into metadata") {
  QuotaVolume v(100);
  const auto f = v.In("f");
  CHECK(v.Write(f, 0, 100) == 0);
  SetAttr cut;
  cut.length = 0;
  REQUIRE(v.vfs_->SetAttribute(kNobody, f.first, cut));
  CHECK(v.Quota().reserved_bytes == 0);
  CHECK(v.Write(f, 0, 100) == 0);
  v.vfs_->Release(f.first, f.second);
  REQUIRE(v.vfs_->Unlink(kNobody, v.dir, "f").ok());
  CHECK(v.Quota().reserved_bytes == 0);
  CHECK(v.Quota().used_bytes == 0);
  for (int i = 0; i < 100; ++i) {
    const auto small = v.In("s" + std::to_string(i));
    REQUIRE(v.vfs_->Write(kNobody, small.first, small.second, 0, std::string(10, 'x'), false).ok());
  }
  const auto last = v.In("last");
  CHECK(v.vfs_->Write(kNobody, last.first, last.second, 0, std::string(10, 'x'), false).err() == EDQUOT);
  v.CheckExact();
}

TEST_CASE("copies and allocation know the quota, data outside does not") {
  QuotaVolume v(100);
  const auto out = v.NewFile("out");
  const auto f = v.In("f"), g = v.In("g");
  CHECK(v.Write(out, 0, 200) == 0);
  CHECK(v.Write(g, 0, 50) == 0);
  const auto copied = v.vfs_->CopyFileRange(kNobody, out.first, out.second, 0, f.first, f.second, 0, 60 * kPage);
  REQUIRE(!copied);
  CHECK(copied.error().err() == EDQUOT);
  CHECK(v.vfs_->CopyFileRange(kNobody, out.first, out.second, 0, f.first, f.second, 0, 50 * kPage).value() == 50 * kPage);
  CHECK(v.vfs_->Fallocate(kNobody, f.first, f.second, 0, 0, 51 * kPage).err() == EDQUOT);
  CHECK(v.vfs_->Fallocate(kNobody, f.first, f.second, 0, 0, 50 * kPage).ok());
  CHECK(v.Write(g, 50, 1) == EDQUOT);
  v.CheckExact();
  const auto stat = v.vfs_->StatFsOf(kNobody, v.dir);
  REQUIRE(stat);
  CHECK(stat->total_bytes == 100 * kPage);
  CHECK(stat->free_bytes == 0);
  CHECK(v.vfs_->StatFsOf(kNobody, kRootIno)->free_bytes > 100 * kPage);
}

TEST_CASE("a quota set over files that are being written counts them") {
  QuotaVolume v(0);
  const Ino sub = v.vfs_->MakeDir(kNobody, v.dir, "sub", 0755)->ino;
  const auto made = v.vfs_->Create(kNobody, sub, "f", S_IFREG | 0644, O_RDWR);
  const std::pair<Ino, Handle> f{made->entry.ino, made->opened.handle};
  CHECK(v.Write(f, 0, 30) == 0);
  REQUIRE(v.meta_->SetQuota(sub, 40 * kPage, std::nullopt));
  v.vfs_->RefreshQuotas();
  CHECK(v.meta_->GetQuota(sub)->reserved_bytes == 30 * kPage);
  CHECK(v.Quota().reserved_bytes == 30 * kPage);  // once, in both
  CHECK(v.Write(f, 30, 11) == EDQUOT);
  CHECK(v.Write(f, 30, 10) == 0);
  v.CheckExact();
  CHECK(v.Quota().used_bytes == 40 * kPage);
}

TEST_CASE("many writers never get more than the limit, and leave little of it") {
  QuotaVolume v(2000, 4_MiB);
  std::vector<std::pair<Ino, Handle>> files;
  for (int t = 0; t < 4; ++t) files.push_back(v.In("f" + std::to_string(t)));
  std::atomic<uint64_t> written{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string data(8 * kPage, 'x');
      for (uint64_t at = 0;; at += data.size()) {
        const Status s = v.vfs_->Write(kNobody, files[t].first, files[t].second, at, data, false);
        if (!s.ok()) {
          if (s.err() != EDQUOT) written = UINT64_MAX / 2;
          return;
        }
        written += data.size();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(written <= 2000 * kPage);
  CHECK(written >= 1900 * kPage);
  v.CheckExact();
  CHECK(v.Quota().used_bytes == written);
}

TEST_CASE("claims and counters agree after any sequence of operations") {
  const char* given = std::getenv("MOORFS_SEED");
  const auto seed = given ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
  INFO("MOORFS_SEED=" << seed);
  std::mt19937 random(seed);
  QuotaVolume v(300);
  std::vector<std::pair<Ino, Handle>> files;
  for (int i = 0; i < 4; ++i) files.push_back(v.In("f" + std::to_string(i)));
  for (int step = 0; step < 1500; ++step) {
    const auto f = files[random() % 4], g = files[random() % 4];
    SetAttr cut;
    switch (random() % 12) {
      case 0:
        cut.length = random() % 150 * kPage;
        static_cast<void>(v.vfs_->SetAttribute(kNobody, f.first, cut));
        break;
      case 1: REQUIRE(v.vfs_->Fsync(kNobody, f.first, f.second, false).ok()); break;
      case 2:
        static_cast<void>(v.vfs_->Fallocate(kNobody, f.first, f.second, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                            random() % 100 * kPage, 20 * kPage));
        break;
      case 3:
        static_cast<void>(v.vfs_->CopyFileRange(kNobody, f.first, f.second, random() % 50 * kPage, g.first, g.second,
                                                (60 + random() % 50) * kPage, 30 * kPage));
        break;
      case 4:
        if (random() % 20 == 0) {
          v.Crash();
          v.Start();
        }
        break;
      default: static_cast<void>(v.Write(f, random() % 120, 1 + random() % 12));
    }
    const meta::QuotaInfo quota = v.Quota();
    REQUIRE(quota.used_bytes <= 300 * kPage);
    if (step % 100 == 99) v.CheckExact();
  }
  v.CheckExact();
}

}  // namespace moorfs::vfs
