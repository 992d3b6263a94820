// SPDX-License-Identifier: Apache-2.0
//
// Reading and writing through a Vfs over real metadata and a real directory
// of objects, compared with plain byte arrays. "Crash" means: the Vfs is
// dropped without a flush and a new one takes the same arena over.

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <linux/falloc.h>

#include <map>
#include <random>

#include "fs/vfs/lost_blocks.h"
#include "test/unit/fs_vfs/volume.h"

namespace moorfs::vfs {
namespace {

std::string RandomBytes(std::mt19937& random, size_t n) {
  std::string out(n, 0);
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

}  // namespace

TEST_CASE("what was written is read back before, during and after a flush") {
  Volume v;
  const auto [ino, handle] = v.NewFile("f");
  const std::string text = "the quick brown fox";
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, text, false).ok());
  CHECK(v.ReadAll(ino) == text);
  REQUIRE(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
  CHECK(v.ReadAll(ino) == text);
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 4, std::string("slow "), false).ok());
  CHECK(v.ReadAll(ino) == "the slow  brown fox");
}

TEST_CASE("a small file leaves no object, many small files share one") {
  Volume v;
  const auto count = [&] {
    size_t n = 0;
    REQUIRE(v.store_->List("", [&](const object::ObjectInfo&) { return ++n, true; }).ok());
    return n;
  };
  const size_t before = count();
  for (int i = 0; i < 20; ++i) {
    const auto [ino, handle] = v.NewFile("tiny" + std::to_string(i));
    REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(100, 'x'), false).ok());
    v.vfs_->Release(ino, handle);
  }
  REQUIRE(v.vfs_->Drain().ok());
  CHECK(count() == before);
  for (int i = 0; i < 20; ++i) {
    const auto [ino, handle] = v.NewFile("small" + std::to_string(i));
    REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(9000, 'x'), false).ok());
    v.vfs_->Release(ino, handle);
  }
  REQUIRE(v.vfs_->Drain().ok());
  CHECK(count() == before + 1);
}

TEST_CASE("an open file outlives its last name, its data goes with the last handle") {
  Volume v;
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(100'000, 'a'), false).ok());
  REQUIRE(v.vfs_->Unlink(kNobody, kRootIno, "f").ok());
  CHECK(v.vfs_->GetAttr(kNobody, ino)->nlink == 0);
  CHECK(v.ReadAll(ino).size() == 100'000);
  v.Crash();
  v.Start();
  CHECK(v.ReadAll(ino) == std::string(100'000, 'a'));
  v.vfs_->Release(ino, handle);
  CHECK_FALSE(v.vfs_->GetAttr(kNobody, ino));
  CHECK(v.vfs_->Stats().dirty_bytes == 0);
  CHECK(v.vfs_->Open(kNobody, ino, O_RDONLY).error().err() == ESTALE);
}

TEST_CASE("a write beyond the memory budget waits for a flush instead of failing") {
  Volume v(1_MiB);
  const auto [ino, handle] = v.NewFile("f");
  std::string block(256 << 10, 'z');
  for (uint64_t i = 0; i < 40; ++i) {
    REQUIRE(v.vfs_->Write(kNobody, ino, handle, i * block.size(), block, false).ok());
  }
  CHECK(v.ReadAll(ino) == std::string(40 * block.size(), 'z'));
}

TEST_CASE("many overwrites of one file are compacted and stay true") {
  std::mt19937 random(5);
  Volume v;
  const auto [ino, handle] = v.NewFile("f");
  std::string model = RandomBytes(random, 1_MiB);
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, model, false).ok());
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 30; ++i) {
      const uint64_t at = random() % 250 * 4096;
      const std::string bytes = RandomBytes(random, 4096);
      REQUIRE(v.vfs_->Write(kNobody, ino, handle, at, bytes, false).ok());
      model.replace(at, bytes.size(), bytes);
    }
    REQUIRE(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
  }
  for (int i = 0; i < 100 && v.vfs_->Stats().compactions == 0; ++i) usleep(50'000);
  CHECK(v.vfs_->Stats().compactions > 0);
  CHECK(v.meta_->LoadSlices(ino, 0)->size() < 700);
  CHECK((v.ReadAll(ino) == model));
}

TEST_CASE("random operations on files match byte arrays, across crashes") {
  const auto seed = GENERATE(1u, 2u, 3u, 4u);
  CAPTURE(seed);
  std::mt19937 random(seed);
  Volume v;
  struct File {
    Ino ino;
    Handle handle;
    std::string bytes;
  };
  std::vector<File> files;
  for (int i = 0; i < 3; ++i) {
    const auto [ino, handle] = v.NewFile("f" + std::to_string(i));
    files.push_back({ino, handle, ""});
  }
  const auto grow = [](std::string& bytes, uint64_t length) {
    if (bytes.size() < length) bytes.resize(length, '\0');
  };
  for (int step = 0; step < 3000; ++step) {
    File& f = files[random() % files.size()];
    // Small offsets most of the time, so that inline files stay in play.
    const uint64_t scale = seed == 1 ? 3000 : 400'000;
    const uint64_t at = random() % scale;
    const uint64_t len = 1 + random() % (random() % 4 == 0 ? 60'000 : 3000);
    switch (random() % 12) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const std::string bytes = RandomBytes(random, len);
        REQUIRE(v.vfs_->Write(kNobody, f.ino, f.handle, at, bytes, false).ok());
        grow(f.bytes, at + len);
        f.bytes.replace(at, len, bytes);
        break;
      }
      case 4: {  // append
        const std::string bytes = RandomBytes(random, len);
        REQUIRE(v.vfs_->Write(kNobody, f.ino, f.handle, f.bytes.size(), bytes, false).ok());
        f.bytes += bytes;
        break;
      }
      case 5: {
        SetAttr request;
        request.length = random() % 3 == 0 ? at : std::min<uint64_t>(at, f.bytes.size());
        Result<Attr> attr = v.vfs_->SetAttribute(kNobody, f.ino, request);
        REQUIRE(attr);
        CHECK(attr->length == *request.length);
        f.bytes.resize(*request.length, '\0');
        break;
      }
      case 6: {
        const bool punch = random() % 2 == 0;
        const int mode = punch ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
        REQUIRE(v.vfs_->Fallocate(kNobody, f.ino, f.handle, mode, at, len).ok());
        if (!punch) grow(f.bytes, at + len);
        for (uint64_t i = at; i < std::min<uint64_t>(at + len, f.bytes.size()); ++i) f.bytes[i] = '\0';
        break;
      }
      case 7: {
        File& g = files[random() % files.size()];
        if (&g == &f) break;
        const uint64_t to = random() % scale;
        Result<uint64_t> copied = v.vfs_->CopyFileRange(kNobody, f.ino, f.handle, at, g.ino, g.handle, to, len);
        REQUIRE(copied);
        const uint64_t there = at < f.bytes.size() ? f.bytes.size() - at : 0;
        REQUIRE(*copied <= std::min(len, there));
        if (*copied != 0) {
          grow(g.bytes, to + *copied);
          g.bytes.replace(to, *copied, f.bytes.substr(at, *copied));
        }
        break;
      }
      case 8:
        REQUIRE(v.vfs_->Fsync(kNobody, f.ino, f.handle, false).ok());
        break;
      case 9: {
        const uint64_t n = random() % 5000;
        std::string out(n, '?');
        Result<size_t> got = v.vfs_->Read(kNobody, f.ino, f.handle, at, out);
        REQUIRE(got);
        const std::string expected = at < f.bytes.size() ? f.bytes.substr(at, n) : "";
        out.resize(*got);
        REQUIRE((out == expected));
        break;
      }
      case 10: {
        Result<uint64_t> data = v.vfs_->Seek(kNobody, f.ino, f.handle, at, Whence::kData);
        if (at >= f.bytes.size()) {
          CHECK(data.error().err() == ENXIO);
          break;
        }
        // Bytes before the first data are zeros.
        const uint64_t found = data ? *data : f.bytes.size();
        for (uint64_t i = at; i < found; ++i) REQUIRE(f.bytes[i] == '\0');
        Result<uint64_t> hole = v.vfs_->Seek(kNobody, f.ino, f.handle, at, Whence::kHole);
        REQUIRE(hole);
        CHECK(*hole <= f.bytes.size());
        break;
      }
      case 11:
        if (random() % 20 != 0) break;
        v.Crash();
        v.Start();
        break;
    }
    Result<Attr> attr = v.vfs_->GetAttr(kNobody, f.ino);
    REQUIRE(attr);
    REQUIRE(attr->length == f.bytes.size());
    if (step % 50 == 0) {
      for (const File& each : files) REQUIRE((v.ReadAll(each.ino) == each.bytes));
    }
  }
  for (const File& each : files) REQUIRE((v.ReadAll(each.ino) == each.bytes));
  REQUIRE(v.vfs_->Drain().ok());
  for (const File& each : files) REQUIRE((v.ReadAll(each.ino) == each.bytes));
}

TEST_CASE("a store that refuses keeps data in memory, says so, and recovers") {
  Volume v;
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(50'000, 'q'), false).ok());
  v.faults_->AddRule({test::Op::kPut, ENOSPC});
  const Status refused = v.vfs_->Fsync(kNobody, ino, handle, false);
  CHECK(refused.err() == ENOSPC);
  CHECK(v.vfs_->Flush(kNobody, ino, handle, 0).err() == ENOSPC);
  CHECK(v.ReadAll(ino) == std::string(50'000, 'q'));
  v.faults_->Heal();
  CHECK(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
  CHECK(v.vfs_->Flush(kNobody, ino, handle, 0).ok());
  CHECK(v.ReadAll(ino) == std::string(50'000, 'q'));
}

TEST_CASE("with a full store and memory a writer gets ENOSPC, and room again later") {
  Volume v(1_MiB);
  const auto [ino, handle] = v.NewFile("f");
  v.faults_->AddRule({test::Op::kPut, ENOSPC});
  const std::string block(256 << 10, 'z');
  Status status;
  uint64_t written = 0;
  while (status.ok() && written < 4_MiB) {
    status = v.vfs_->Write(kNobody, ino, handle, written, block, false);
    if (status.ok()) written += block.size();
  }
  CHECK(status.err() == ENOSPC);
  CHECK(v.vfs_->GetAttr(kNobody, ino)->length == written);
  v.faults_->Heal();
  CHECK(v.vfs_->Write(kNobody, ino, handle, written, block, false).ok());
  REQUIRE(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
  CHECK((v.ReadAll(ino) == std::string(written + block.size(), 'z')));
}

TEST_CASE("blocks that a power cut took give way to the data before them, fsynced data stays") {
  Volume v;
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(20'000, 'o'), false).ok());
  REQUIRE(v.vfs_->Fsync(kNobody, ino, handle, false).ok());
  // Committed, but nobody asked for it to be durable yet.
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 10'000, std::string(20'000, 'n'), false).ok());
  REQUIRE(v.vfs_->CopyFileRange(kNobody, ino, handle, 15'000, ino, handle, 40'000, 5'000));
  std::vector<ObjectId> recent = *v.meta_->UndurableObjects();
  REQUIRE(recent.size() == 1);
  v.Crash();
  REQUIRE(v.store_->Delete(v.blocks_->NameOf(recent[0])).ok());
  v.Start();
  Result<LostBlocks> lost = DropLostBlocks(*v.meta_, *v.blocks_);
  REQUIRE(lost);
  CHECK(lost->lost == 1);
  v.Crash();
  v.Start();
  const std::string bytes = v.ReadAll(ino);
  REQUIRE(bytes.size() == 45'000);
  CHECK((bytes.substr(0, 20'000) == std::string(20'000, 'o')));
  CHECK((bytes.substr(20'000) == std::string(25'000, '\0')));
  CHECK(v.meta_->UndurableObjects()->empty());
}

TEST_CASE("a block that is merely out of reach is not given up") {
  Volume v;
  const auto [ino, handle] = v.NewFile("f");
  REQUIRE(v.vfs_->Write(kNobody, ino, handle, 0, std::string(20'000, 'o'), false).ok());
  REQUIRE(v.vfs_->CopyFileRange(kNobody, ino, handle, 0, ino, handle, 30'000, 100));
  v.faults_->AddRule({test::Op::kHead, ETIMEDOUT});
  CHECK_FALSE(DropLostBlocks(*v.meta_, *v.blocks_));
  v.faults_->Heal();
  REQUIRE(DropLostBlocks(*v.meta_, *v.blocks_));
  CHECK((v.ReadAll(ino).substr(0, 20'000) == std::string(20'000, 'o')));
}

}  // namespace moorfs::vfs
