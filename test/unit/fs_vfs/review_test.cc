// SPDX-License-Identifier: Apache-2.0
//
// Promises that break only in bad company: a crash between two steps of a
// flush, a flush that fails under a writer, an fsync through another handle,
// many threads on the same files.

#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "fs/vfs/lost_blocks.h"
#include "test/unit/fs_vfs/volume.h"

namespace moorfs::vfs {
namespace {

using std::chrono::milliseconds;

// Flushes at once; makes nothing durable of its own accord.
VfsOptions Eager() {
  VfsOptions options;
  options.flush_age_ms = 0;
  options.sync_age_ms = 3'600'000;
  return options;
}

// Flushes only when asked.
VfsOptions Lazy() {
  VfsOptions options = Eager();
  options.flush_age_ms = 3'600'000;
  return options;
}

void WaitUntilFlushed(Volume& v) {
  for (int i = 0; i < 500 && v.vfs_->Stats().dirty_bytes != 0; ++i) std::this_thread::sleep_for(milliseconds(10));
  REQUIRE(v.vfs_->Stats().dirty_bytes == 0);
}

}  // namespace

TEST_CASE("bytes overwritten during a flush that fails do not come back after a crash") {
  Volume v(8_MiB, 256 << 10, Lazy());
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(8192, 'o'), false).ok());
  v.faults_->AddRule({test::Op::kPut, EIO, "", 1, 0, milliseconds(400)});
  std::thread flush([&v, ino = ino, handle = handle] { (void)v.vfs_->Fsync(kNobody, ino, handle, false); });
  std::this_thread::sleep_for(milliseconds(100));
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(8192, 'n'), false).ok());
  flush.join();
  REQUIRE(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
  CHECK(v.vfs_->Stats().dirty_bytes == 0);
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 20'000, std::string(100, 'e'), false).ok());
  v.Crash();
  v.Start();
  CHECK((v.ReadAll(ino).substr(0, 8192) == std::string(8192, 'n')));
}

TEST_CASE("a crash in the middle of a long flush does not uncover bytes that were overwritten") {
  Volume v(64_MiB, 256 << 10, Lazy());
  const auto [ino, handle] = v.NewFile("f");
  const uint64_t edge = 16_MiB;
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, edge - 100'000, std::string(200'000, 'o'), false).ok());
  for (uint64_t at = 0; at < edge; at += 1_MiB) {
    REQUIRE(v.vfs_->Write(kNobody, ino, handle, at, std::string(1_MiB, 'n'), false).ok());
  }
  // The first round is committed, the second is not.
  v.faults_->AddRule({test::Op::kPut, EIO, "", -1, 64});
  CHECK_FALSE(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
  v.Crash();
  v.faults_->Heal();
  v.Start();
  const std::string bytes = v.ReadAll(ino);
  REQUIRE(bytes.size() == edge + 100'000);
  CHECK((bytes.substr(edge - 200'000, 200'000) == std::string(200'000, 'n')));
  CHECK((bytes.substr(edge) == std::string(100'000, 'o')));
}

TEST_CASE("fsync through a later handle covers what was written and flushed before") {
  Volume v(8_MiB, 256 << 10, Eager());
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(50'000, 'x'), false).ok());
  v.vfs_->Release(ino, handle);
  WaitUntilFlushed(v);
  REQUIRE(v.meta_->UndurableObjects()->size() == 1);
  Result<Opened> again = v.vfs_->Open(kNobody, ino, O_RDONLY);
  REQUIRE(again);
  REQUIRE(v.vfs_->Fsync(kNobody, ino, again->handle, false).ok());
  CHECK(v.meta_->UndurableObjects()->empty());
}

TEST_CASE("fsync of a copy covers the blocks that it shares") {
  Volume v(8_MiB, 256 << 10, Lazy());
  const auto [src, from] = v.NewFile("src");
  const auto [dst, to] = v.NewFile("dst");
  REQUIRE(v.vfs_->Write(kNobody, src, from, 0, std::string(50'000, 'x'), false).ok());
  REQUIRE(v.vfs_->CopyFileRange(kNobody, src, from, 0, dst, to, 0, 50'000));
  REQUIRE(v.meta_->UndurableObjects()->size() == 1);
  REQUIRE(v.vfs_->Fsync(kNobody, dst, to, false).ok());
  CHECK(v.meta_->UndurableObjects()->empty());
}

TEST_CASE("fsync covers what the client before this one flushed") {
  Volume v(8_MiB, 256 << 10, Eager());
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(50'000, 'x'), false).ok());
  WaitUntilFlushed(v);
  v.Crash();
  REQUIRE(v.meta_ == nullptr);
  v.Start();
  REQUIRE(v.meta_->UndurableObjects()->size() == 1);
  REQUIRE(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
  CHECK(v.meta_->UndurableObjects()->empty());
}

TEST_CASE("a block that was deleted before it was durable is in nobody's way") {
  Volume v(8_MiB, 256 << 10, Lazy());
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(50'000, 'x'), false).ok());
  REQUIRE(v.vfs_->CopyFileRange(kNobody, ino, handle, 0, ino, handle, 60'000, 1));  // flushes
  const std::vector<ObjectId> objects = *v.meta_->UndurableObjects();
  REQUIRE(objects.size() == 1);
  SetAttr empty;
  empty.length = 0;
  REQUIRE(v.vfs_->SetAttribute(kNobody, ino, empty));
  for (int i = 0; i < 100 && *v.meta_->Clean(Timestamp::Now(), 100); ++i) {
  }
  REQUIRE(v.blocks_->Delete(objects[0]).ok());

  SECTION("for an fsync") {
    REQUIRE(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
    CHECK(v.vfs_->Drain().ok());
  }
  SECTION("for the next mount") {
    v.Crash();
    v.Start();
    Result<LostBlocks> lost = DropLostBlocks(*v.meta_, *v.blocks_);
    if (!lost) FAIL(lost.error().ToString());
    CHECK(lost->lost == 0);
  }
  CHECK(v.meta_->UndurableObjects()->empty());
}

TEST_CASE("a time that is set during a flush of earlier writes stays") {
  Volume v(8_MiB, 256 << 10, Lazy());
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(50'000, 'x'), false).ok());
  v.faults_->AddRule({test::Op::kPut, 0, "", 1, 0, milliseconds(400)});
  std::thread flush([&v, ino = ino, handle = handle] { (void)v.vfs_->Fsync(kNobody, ino, handle, false); });
  std::this_thread::sleep_for(milliseconds(100));
  SetAttr request;
  request.valid = meta::kSetMtime;
  request.mtime = Timestamp::FromParts(1'000'000'000, 0);
  REQUIRE(v.vfs_->SetAttribute(kNobody, ino, request));
  flush.join();
  CHECK(v.vfs_->Stats().dirty_bytes == 0);
  CHECK(v.vfs_->GetAttr(kNobody, ino)->mtime.ns == request.mtime.ns);
}

TEST_CASE("an unlink does not wait for a flush of the file") {
  Volume v(8_MiB, 256 << 10, Lazy());
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(50'000, 'x'), false).ok());
  v.faults_->AddRule({test::Op::kPut, 0, "", 1, 0, milliseconds(600)});
  std::thread flush([&v, ino = ino, handle = handle] { (void)v.vfs_->Fsync(kNobody, ino, handle, false); });
  std::this_thread::sleep_for(milliseconds(100));
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(v.vfs_->Unlink(kNobody, kRootIno, "f").ok());
  v.vfs_->Release(ino, handle);
  CHECK(std::chrono::steady_clock::now() - start < milliseconds(300));
  flush.join();
  CHECK(v.vfs_->Stats().dirty_bytes == 0);
}

TEST_CASE("a file that is written all the time is flushed at its age, not all the time") {
  VfsOptions options = Lazy();
  options.flush_age_ms = 500;
  Volume v(8_MiB, 256 << 10, options);
  const auto [ino, handle] = v.NewFile("f");
  v.faults_->AddRule({test::Op::kPut, 0, "", -1, 0, milliseconds(10)});
  uint64_t at = 0;
  for (int i = 0; i < 1000; ++i, at += 100) {
    REQUIRE(v.vfs_->Write(kNobody, ino, handle, at, std::string(100, 'x'), false).ok());
    std::this_thread::sleep_for(milliseconds(2));
  }
  CHECK(v.vfs_->Stats().flushes <= 6);
}

TEST_CASE("closed and durable inodes are forgotten") {
  VfsOptions options = Eager();
  options.sync_age_ms = 100;
  Volume v(8_MiB, 256 << 10, options);
  for (int i = 0; i < 50; ++i) {
    const auto [ino, handle] = v.NewFile("f" + std::to_string(i));
    REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(5000, 'x'), false).ok());
    v.vfs_->Release(ino, handle);
  }
  for (int i = 0; i < 500 && v.vfs_->Stats().inodes != 0; ++i) std::this_thread::sleep_for(milliseconds(10));
  CHECK(v.vfs_->Stats().inodes == 0);
  CHECK(v.vfs_->Stats().map_bytes == 0);
}

// Every thread owns a range of each shared file and knows what it holds; all
// else - truncations above, copies, names, flushes - goes on around it.
TEST_CASE("four threads on the same files") {
  VfsOptions options;
  options.flush_age_ms = 20;
  options.sync_age_ms = 200;
  Volume v(4_MiB, 256 << 10, options);
  constexpr int kThreads = 4;
  constexpr int kFiles = 3;
  constexpr uint64_t kRange = 200'000;
  constexpr uint64_t kEnd = kThreads * kRange;
  const char* seconds = getenv("MOORFS_STRESS_SECONDS");
  const auto stop_at = std::chrono::steady_clock::now() + std::chrono::seconds(seconds ? atoi(seconds) : 2);
  std::pair<Ino, Handle> files[kFiles];
  std::vector<char> model[kFiles];  // threads touch disjoint bytes of it
  for (int f = 0; f < kFiles; ++f) {
    files[f] = v.NewFile("f" + std::to_string(f));
    model[f].assign(kEnd, '\0');
    SetAttr request;
    request.length = kEnd;
    REQUIRE(v.vfs_->SetAttribute(kNobody, files[f].first, request));
  }
  std::atomic<int> failures{0};
  std::mutex failed_mutex;
  std::string failed;
  const auto expect = [&](bool ok, const std::string& what) {
    if (ok) return;
    std::lock_guard lock(failed_mutex);
    if (failures.fetch_add(1) == 0) failed = what;
  };
  const auto work = [&](int id) {
    std::mt19937 random(id);
    const uint64_t base = id * kRange;
    while (std::chrono::steady_clock::now() < stop_at && failures == 0) {
      const int f = static_cast<int>(random() % kFiles);
      const auto [ino, handle] = files[f];
      const uint64_t len = 1 + random() % (random() % 4 == 0 ? 60'000 : 4000);
      const uint64_t at = base + random() % (kRange - len);
      switch (random() % 10) {
        case 0:
        case 1:
        case 2: {
          std::string bytes(len, static_cast<char>(random()));
          Status status = v.vfs_->Write(kNobody, ino, handle, at, bytes, false);
          expect(status.ok(), "write: " + status.ToString());
          std::copy(bytes.begin(), bytes.end(), model[f].begin() + static_cast<ptrdiff_t>(at));
          break;
        }
        case 3:
        case 4: {
          std::string out(len, '?');
          Result<size_t> got = v.vfs_->Read(kNobody, ino, handle, at, out);
          expect(got && *got == len && std::memcmp(out.data(), model[f].data() + at, len) == 0, "read");
          break;
        }
        case 5:
          expect(v.vfs_->Fsync(kNobody, ino, handle, false).ok(), "fsync");
          break;
        case 6: {  // Lengths above all ranges: what they hold is not touched.
          SetAttr request;
          request.length = kEnd + random() % 3 * 100'000;
          expect(v.vfs_->SetAttribute(kNobody, ino, request).has_value(), "truncate");
          break;
        }
        case 7: {  // Within this thread's ranges.
          const int g = (f + 1) % kFiles;
          const uint64_t to = base + random() % (kRange - len);
          Result<uint64_t> copied =
              v.vfs_->CopyFileRange(kNobody, ino, handle, at, files[g].first, files[g].second, to, len);
          expect(copied && *copied != 0, "copy");
          if (copied) std::memcpy(model[g].data() + to, model[f].data() + at, *copied);
          break;
        }
        case 8: {
          const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
          expect(v.vfs_->Fallocate(kNobody, ino, handle, mode, at, len).ok(), "punch");
          std::memset(model[f].data() + at, 0, len);
          break;
        }
        case 9: {
          const std::string name = "own" + std::to_string(id);
          Result<FileSystem::Created> made = v.vfs_->Create(kNobody, kRootIno, name, S_IFREG | 0644, O_RDWR);
          expect(made.has_value(), "create");
          if (!made) break;
          const Ino own = made->entry.ino;
          expect(v.vfs_->Write(kNobody, own, made->opened.handle, 0, std::string(len, 'o'), false).ok(), "write own");
          const bool close_first = random() % 2 == 0;
          if (close_first) v.vfs_->Release(own, made->opened.handle);
          if (random() % 4 == 0) expect(v.vfs_->Drain().ok(), "drain");
          expect(v.vfs_->Unlink(kNobody, kRootIno, name).ok(), "unlink");
          if (!close_first) v.vfs_->Release(own, made->opened.handle);
          break;
        }
      }
    }
  };
  std::vector<std::thread> threads;
  for (int id = 0; id < kThreads; ++id) threads.emplace_back(work, id);
  for (std::thread& thread : threads) thread.join();
  INFO(failed);
  REQUIRE(failures == 0);
  for (int pass = 0; pass < 3; ++pass) {
    for (int f = 0; f < kFiles; ++f) {
      CHECK((v.ReadAll(files[f].first).substr(0, kEnd) == std::string(model[f].data(), kEnd)));
    }
    if (pass == 0) {
      v.Crash();
      v.Start();
    }
    if (pass == 1) REQUIRE(v.vfs_->Drain().ok());
  }
  for (const auto& [ino, handle] : files) v.vfs_->Release(ino, handle);
  for (int i = 0; i < 500 && v.vfs_->Stats().inodes != 0; ++i) std::this_thread::sleep_for(milliseconds(10));
  CHECK(v.vfs_->Stats().inodes == 0);
  CHECK(v.vfs_->Stats().dirty_bytes == 0);
}

}  // namespace moorfs::vfs
