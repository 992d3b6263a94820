// SPDX-License-Identifier: Apache-2.0
//
// What only the file store does: bad disks and directories, leftovers of
// crashes, descriptors, reads that must not wait.

#include "fs/object/file/file_store.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "fs/object/file/temp_name.h"
#include "test/contract/object_contract.h"
#include "test/support/temp_dir.h"

namespace moorfs::test {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

std::unique_ptr<object::ObjectStore> OpenStore(const std::string& dir) {
  return object::OpenObjectStore("file:" + dir, true).value();
}

void MakeOld(const std::string& path) {
  const timespec times[2] = {{::time(nullptr) - 7200, 0}, {::time(nullptr) - 7200, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) count++;
  return count;
}

// A small tmpfs, to be full or read-only; gone with the object.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& path) : path_(path) {
    fs::create_directories(path);
    mounted_ = ::mount("moorfs-test", path.c_str(), "tmpfs", 0, "size=1m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  void MakeReadOnly() { REQUIRE(::mount("", path_.c_str(), "", MS_REMOUNT | MS_RDONLY, "") == 0); }

 private:
  const std::string path_;
  bool mounted_ = false;
};

TEST_CASE("the URL of a file store") {
  TempDir dir;
  CHECK(OpenStore(dir / "a")->Url() == "file:" + (dir / "a"));
  CHECK(object::OpenObjectStore("file://" + (dir / "a"), false).value()->Url() == "file:" + (dir / "a"));
  CHECK(object::OpenObjectStore("file:", true).error().err() == EINVAL);
  const auto missing = object::OpenObjectStore("file:" + (dir / "b"), false);
  CHECK(missing.error().err() == ENOENT);
  CHECK_THAT(missing.error().message(), Contains(dir / "b") && Contains("mount the disk"));
  const auto unknown = object::OpenObjectStore("ftp:there", false);
  CHECK(unknown.error().err() == EINVAL);
  CHECK_THAT(unknown.error().message(), Contains("file:DIR"));
  std::ofstream(dir / "file") << "x";
  CHECK(object::OpenObjectStore("file:" + (dir / "file"), false).error().err() == ENOTDIR);
}

TEST_CASE("a directory that holds other things is not formatted, even by force") {
  TempDir dir;
  const auto store = OpenStore(dir.path());
  std::ofstream(dir / "precious") << "x";
  const Status status = store->InitStore(RandomUuid(), true);
  CHECK(status.err() == ENOTEMPTY);
  CHECK_THAT(status.message(), Contains("precious") && Contains(dir.path()));
  fs::remove(dir / "precious");
  fs::create_directory(dir / "lost+found");
  CHECK(store->InitStore(RandomUuid(), false).ok());
}

TEST_CASE("a marker that is damaged, newer or gone keeps a volume from mounting") {
  TempDir dir;
  const auto store = OpenStore(dir.path());
  const Uuid uuid = RandomUuid();
  REQUIRE(store->InitStore(uuid, false).ok());
  const std::string marker = dir / object::kMarkerName;
  std::ofstream(marker) << "{\"kind\":\"moorfs object store\",\"version\":2,\"volume\":\"" << FormatUuid(uuid)
                        << "\"}";
  CHECK(store->CheckStore(uuid).err() == EPROTONOSUPPORT);
  for (const char* text : {"", "{", "[]", "{\"kind\":7}", "{\"kind\":\"moorfs object store\",\"version\":1}",
                           "{\"kind\":\"moorfs object store\",\"version\":\"x\",\"volume\":\"y\"}"}) {
    INFO(text);
    std::ofstream(marker, std::ios::trunc) << text;
    CHECK(store->CheckStore(uuid).err() == EINVAL);
  }
  fs::remove(marker);
  const Status gone = store->CheckStore(uuid);
  CHECK(gone.err() == ENOENT);
  CHECK_THAT(gone.message(), Contains("mount the disk") && Contains(dir.path()));
}

TEST_CASE("a store whose directory was removed says so and does not come back by itself") {
  TempDir dir;
  const auto store = OpenStore(dir / "s");
  REQUIRE(store->InitStore(RandomUuid(), false).ok());
  REQUIRE(PutString(*store, "v/a/1", "x").ok());
  fs::remove_all(dir / "s");
  const Status put = PutString(*store, "v/b/2", "x");
  CHECK(put.err() == ENOENT);
  CHECK_THAT(put.message(), Contains(dir / "s") && Contains("removed"));
  CHECK(PutString(*store, "v/a/2", "x").err() == ENOENT);
  CHECK(store->Delete("v/a/9").err() == ENOENT);
  CHECK(store->List("", [](const object::ObjectInfo&) { return true; }).err() == ENOENT);
  CHECK(store->CheckStore(RandomUuid()).err() == ENOENT);
  CHECK_FALSE(fs::exists(dir / "s"));
}

TEST_CASE("a full disk leaves nothing torn and serves again when there is room") {
  TempDir dir;
  SmallDisk disk(dir / "disk");
  if (!disk.mounted()) {
    WARN("skipped: mounting a tmpfs needs root");
    return;
  }
  auto store = OpenStore(dir / "disk");
  const std::string big(600 << 10, 'b');
  REQUIRE(PutString(*store, "v/a/1", big).ok());
  const Status full = PutString(*store, "v/a/2", big);
  CHECK(full.err() == ENOSPC);
  CHECK_THAT(full.message(), Contains("v/a/2") && Contains(dir / "disk") && Contains("free space"));
  CHECK(ListNames(*store, "") == std::set<std::string>{"v/a/1"});
  CHECK(GetString(*store, "v/a/1", 0, big.size()).value() == big);
  for (const auto& entry : fs::directory_iterator(dir / "disk/v/a")) CHECK(entry.path().filename() == "1");
  CHECK(store->GetSpace()->total_bytes == 1 << 20);
  REQUIRE(store->Delete("v/a/1").ok());
  CHECK(PutString(*store, "v/a/2", big).ok());
  const std::vector<std::string> names{"v/a/2"};
  CHECK(store->Barrier(names).ok());

  store.reset();  // open files keep the kernel from making the disk read-only
  disk.MakeReadOnly();
  store = OpenStore(dir / "disk");
  const Status read_only = PutString(*store, "v/a/3", "x");
  CHECK(read_only.err() == EROFS);
  CHECK_THAT(read_only.message(), Contains("read-only"));
  CHECK(store->Delete("v/a/2").err() == EROFS);
  CHECK(GetString(*store, "v/a/2", 0, 3).value() == "bbb");
}

// A disk that promises 64 MiB and has 8: writes succeed, writing back fails.
class LyingDisk {
 public:
  explicit LyingDisk(const std::string& path) : path_(path) {
    fs::create_directories(path + "/backing");
    fs::create_directories(path + "/disk");
    backed_ = ::mount("moorfs-test", (path + "/backing").c_str(), "tmpfs", 0, "size=8m") == 0;
    const std::string image = path + "/backing/image";
    if (backed_) std::ofstream(image).close();
    mounted_ = backed_ && ::truncate(image.c_str(), 64 << 20) == 0 &&
               std::system(("mkfs.ext4 -q -O ^has_journal " + image + " && mount -o loop,errors=continue " +
                            image + " " + path + "/disk")
                               .c_str()) == 0;
  }
  ~LyingDisk() {
    if (mounted_) ::umount2((path_ + "/disk").c_str(), MNT_DETACH);
    if (backed_) ::umount2((path_ + "/backing").c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  void KeepPromise() { REQUIRE(::mount("", (path_ + "/backing").c_str(), "", MS_REMOUNT, "size=80m") == 0); }

 private:
  const std::string path_;
  bool backed_ = false, mounted_ = false;
};

TEST_CASE("an object that the disk lost stays lost, however often a barrier asks") {
  TempDir dir;
  LyingDisk disk(dir.path());
  if (!disk.mounted()) {
    WARN("skipped: needs root, mkfs.ext4 and a loop device");
    return;
  }
  const auto store = OpenStore(dir / "disk/store");
  const std::vector<std::string> names{"v/a/lost"};
  REQUIRE(PutString(*store, names[0], std::string(20 << 20, 'x')).ok());
  // The kernel itself reports the failure once or twice, then success.
  for (int i = 0; i < 6; i++) CHECK_FALSE(store->Barrier(names).ok());
  CHECK(store->Barrier(names).err() == EIO);
  disk.KeepPromise();
  CHECK(store->Barrier(names).err() == EIO);
  REQUIRE(PutString(*store, names[0], "small enough").ok());
  CHECK(store->Barrier(names).ok());
}

TEST_CASE("a listing ignores what a crash left behind, and removes it when it is old") {
  TempDir dir;
  const auto store = OpenStore(dir.path());
  REQUIRE(store->InitStore(RandomUuid(), false).ok());
  REQUIRE(PutString(*store, "v/a/1", "x").ok());
  const std::string young = dir / ("v/a/" + object::NewTempName());
  const std::string old = dir / ("v/a/" + object::NewTempName());
  std::ofstream(young) << "half";
  std::ofstream(old) << "half";
  MakeOld(old);
  fs::create_directories(dir / "v/empty-young");
  fs::create_directories(dir / "v/empty-old");
  MakeOld(dir / "v/empty-old");
  CHECK(ListNames(*store, "") == std::set<std::string>{"v/a/1"});
  CHECK(fs::exists(young));
  CHECK_FALSE(fs::exists(old));
  CHECK(fs::exists(dir / "v/empty-young"));
  CHECK_FALSE(fs::exists(dir / "v/empty-old"));
}

TEST_CASE("a folder that another process removed while empty is made again") {
  TempDir dir;
  const auto store = OpenStore(dir.path());
  REQUIRE(PutString(*store, "v/a/1", "x").ok());
  REQUIRE(store->Delete("v/a/1").ok());
  fs::remove(dir / "v/a");
  REQUIRE(PutString(*store, "v/a/2", "y").ok());
  const std::vector<std::string> names{"v/a/2"};
  CHECK(store->Barrier(names).ok());
  // The same between a put by another process and our barrier.
  fs::remove_all(dir / "v/a");
  fs::create_directory(dir / "v/a");
  std::ofstream(dir / "v/a/3") << "z";
  const std::vector<std::string> third{"v/a/3"};
  CHECK(store->Barrier(third).ok());
}

TEST_CASE("however many objects there are, at most 256 descriptors stay open") {
  TempDir dir;
  const size_t before = OpenDescriptors();
  const auto store = OpenStore(dir.path());
  std::vector<std::string> names;
  for (int i = 0; i < 600; i++) {
    names.push_back("v/" + std::to_string(i % 150) + "/" + std::to_string(i));
    REQUIRE(PutString(*store, names.back(), std::to_string(i)).ok());
  }
  CHECK(OpenDescriptors() - before <= 256);
  REQUIRE(store->Barrier(names).ok());
  for (int i = 0; i < 600; i++) REQUIRE(GetString(*store, names[i], 0, 10).value() == std::to_string(i));
  CHECK(OpenDescriptors() - before <= 256);
}

TEST_CASE("a read that must not wait answers from memory or not at all") {
  TempDir dir;
  const auto store = OpenStore(dir.path());
  const std::string bytes(200000, 'p');
  REQUIRE(PutString(*store, "v/a/1", bytes).ok());
  std::string out(1000, '\0');
  const iovec piece{out.data(), out.size()};
  const auto got = store->TryGet("v/a/1", 199500, {&piece, 1});
  if (got) {  // a file system that cannot tell answers EWOULDBLOCK always
    CHECK(*got == 500);
    CHECK(out.substr(0, 500) == bytes.substr(0, 500));
  } else {
    CHECK(got.error().err() == EWOULDBLOCK);
  }
  CHECK(store->TryGet("v/a/none", 0, {&piece, 1}).error().err() == EWOULDBLOCK);
  CHECK(store->WillNeed("v/a/1", 0, 200000));
}

}  // namespace
}  // namespace moorfs::test
