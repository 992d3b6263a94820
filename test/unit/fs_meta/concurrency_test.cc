// SPDX-License-Identifier: Apache-2.0
//
// Threads of one client in the same directories, on the embedded engine: all
// answers are ones that some order explains, and the counts are exact.

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <random>
#include <thread>

#include "fs/kv/leveldb/leveldb_store.h"
#include "test/unit/fs_meta/volume.h"

using namespace moorfs;
using namespace moorfs::meta;
using namespace moorfs::meta::testing;

namespace {

// Gone with the test, also a failed one.
struct TempDir {
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "moorfs-meta-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

struct LevelDbVolume {
  explicit LevelDbVolume(uint32_t trash_days) {
    kv::Options options;
    options.create_if_missing = true;
    kv = Ok(kv::LevelDbStore::Open(dir.path + "/meta", options));
    Ok(Meta::FormatVolume(*kv, TestFormat(trash_days), 0, 0));
    meta = Ok(Meta::Open(*kv, {}));
    Ok(meta->StartSession({}, false));
  }
  TempDir dir;
  std::unique_ptr<kv::KvStore> kv;
  std::unique_ptr<Meta> meta;
};

struct Seen {
  uint64_t inodes = 0, names = 0;
};

// Walks the tree; link counts of directories must be what it finds.
void Walk(Meta& meta, Ino dir, std::set<Ino>* inodes, uint64_t* names) {
  uint32_t subdirs = 0;
  inodes->insert(dir);
  for (const DirEntry& entry : Ok(meta.ReadDir(dir, 0, 1'000'000, true))) {
    ++*names;
    inodes->insert(entry.ino);
    CHECK(Ok(meta.Lookup(dir, entry.name)).ino == entry.ino);
    if (entry.type != FileType::kDirectory) continue;
    CHECK(entry.attr.parent == dir);
    ++subdirs;
    Walk(meta, entry.ino, inodes, names);
  }
  CHECK(Ok(meta.GetAttr(dir)).nlink == 2 + subdirs);
}

bool IsOneOf(int err, std::initializer_list<int> allowed) {
  return std::find(allowed.begin(), allowed.end(), err) != allowed.end();
}

}  // namespace

TEST_CASE("threads in shared directories leave exact counts") {
  const uint32_t trash_days = GENERATE(0u, 1u);
  LevelDbVolume v(trash_days);
  std::vector<Ino> dirs;
  for (int i = 0; i < 3; ++i) dirs.push_back(Ok(v.meta->MakeDir({}, kRootIno, "d" + std::to_string(i), 0755)).ino);

  std::atomic<int> unexpected{0};
  const auto work = [&](uint32_t seed) {
    std::mt19937 random(seed);
    const auto expect = [&](int err, std::initializer_list<int> allowed) {
      if (!IsOneOf(err, allowed)) unexpected = err;
    };
    for (int i = 0; i < 3000; ++i) {
      const Ino a = dirs[random() % 3], b = dirs[random() % 3];
      const std::string x = "n" + std::to_string(random() % 20), y = "n" + std::to_string(random() % 20);
      switch (random() % 8) {
        case 0: expect(Err(v.meta->MakeNode({}, a, x, S_IFREG | 0644, 0)), {0, EEXIST}); break;
        case 1: expect(Err(v.meta->MakeDir({}, a, x, 0755)), {0, EEXIST}); break;
        case 2: expect(Err(v.meta->Unlink({}, a, x)), {0, ENOENT, EISDIR}); break;
        case 3: expect(Err(v.meta->RemoveDir({}, a, x)), {0, ENOENT, ENOTDIR, ENOTEMPTY}); break;
        case 4: {
          const auto found = v.meta->Lookup(a, x);
          if (found) expect(Err(v.meta->Link({}, found->ino, b, y)), {0, EEXIST, EPERM, ENOENT, ESTALE});
          break;
        }
        case 5:
          expect(Err(v.meta->Rename({}, a, x, b, y, kRenameExchange)), {0, ENOENT, EINVAL});
          break;
        case 6: expect(Err(v.meta->ReadDir(a, 0, 100, true)), {0}); break;
        default:
          expect(Err(v.meta->Rename({}, a, x, b, y, 0)), {0, ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, EINVAL});
      }
    }
  };
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) threads.emplace_back(work, 100 + t);
  for (std::thread& t : threads) t.join();
  CHECK(unexpected == 0);

  std::set<Ino> inodes;
  uint64_t names = 0;
  Walk(*v.meta, kRootIno, &inodes, &names);
  uint64_t trashed = 0;
  Ok(v.meta->ListTrash([&](const TrashEntry&) {
    ++trashed;
    return true;
  }));
  CHECK((trash_days == 0) == (trashed == 0));
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == inodes.size() + trashed);
  CheckClean(*v.kv);
  // And what another client would sum up is the same.
  v.meta = Ok(Meta::Open(*v.kv, {}));
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == inodes.size() + trashed);
}

TEST_CASE("directories moved into each other at once never make a loop") {
  LevelDbVolume v(0);
  for (int round = 0; round < 200; ++round) {
    const std::string n = std::to_string(round);
    const Ino a = Ok(v.meta->MakeDir({}, kRootIno, "a" + n, 0755)).ino;
    const Ino b = Ok(v.meta->MakeDir({}, kRootIno, "b" + n, 0755)).ino;
    int first = 0, second = 0;
    std::thread t([&] { first = Err(v.meta->Rename({}, kRootIno, "a" + n, b, "x", 0)); });
    second = Err(v.meta->Rename({}, kRootIno, "b" + n, a, "x", 0));
    t.join();
    INFO(first << " " << second);
    CHECK((first == 0) != (second == 0));
  }
}

TEST_CASE("of threads that make one name, one wins") {
  LevelDbVolume v(0);
  for (int round = 0; round < 100; ++round) {
    std::atomic<int> made{0}, exists{0};
    const auto work = [&] {
      const int err = Err(v.meta->MakeNode({}, kRootIno, "f" + std::to_string(round), S_IFREG | 0644, 0));
      made += err == 0 ? 1 : 0;
      exists += err == EEXIST ? 1 : 0;
    };
    std::thread t(work), u(work);
    work();
    t.join();
    u.join();
    CHECK(made == 1);
    CHECK(exists == 2);
  }
}
