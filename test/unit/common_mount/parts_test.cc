// SPDX-License-Identifier: Apache-2.0
//
// The parts of the mount manager one by one: records and their store, target
// paths, layers, locks, bounded calls, a client's numbers.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/base/units.h"
#include "common/control/line_socket.h"
#include "common/control/server.h"
#include "common/mount/command.h"
#include "common/mount/file_record_store.h"
#include "common/mount/process_launcher.h"
#include "common/mount/record.h"
#include "common/mount/stats.h"
#include "common/mount/target.h"
#include "common/mount/volume_admin.h"
#include "common/os/bounded.h"
#include "common/os/file.h"
#include "test/support/temp_dir.h"

using namespace moorfs;
using namespace moorfs::mount;
using moorfs::test::TempDir;

namespace {

ClientRecord Sample() {
  ClientRecord r;
  r.mount_key = "0123456789abcdef";
  r.generation = 3;
  r.phase = RecordPhase::kServing;
  r.spec = {"leveldb:/srv/v/meta", "memory=512MiB", 7};
  r.boot_id = "boot";
  r.device = "0:57";
  r.old_devices = {"0:50", "0:51"};
  r.references[TargetHash("/var/lib/kubelet/pods/x")] = {"pods/x", "id#1", "a/\"b\"\n", true};
  r.references[TargetHash("/var/lib/kubelet/pods/y")] = {"pods/y", "", "", false};
  return r;
}

os::MountEntry Mount(int id, int parent, const std::string& where) {
  os::MountEntry m;
  m.id = id;
  m.parent = parent;
  m.mountpoint = where;
  return m;
}

}  // namespace

TEST_CASE("a record survives its JSON form, and its references are annotations") {
  const ClientRecord r = Sample();
  const auto back = DecodeRecord(EncodeRecord(r));
  REQUIRE(back);
  CHECK(back->references == r.references);
  CHECK(back->spec == r.spec);
  CHECK(back->old_devices == r.old_devices);
  CHECK(EncodeRecord(*back) == EncodeRecord(r));
  const auto j = nlohmann::json::parse(EncodeRecord(r));
  const std::string hash = TargetHash("/var/lib/kubelet/pods/x");
  CHECK(hash.size() == 40);
  CHECK(j["annotations"]["moorfs.io/ref-" + hash] == "pods/x");
  CHECK(nlohmann::json::parse(j["annotations"]["moorfs.io/vol-" + hash].get<std::string>())["ro"] == true);
}

TEST_CASE("a record of a wrong shape is refused by the name of its member") {
  const auto refused = [](auto change) {
    auto j = nlohmann::json::parse(EncodeRecord(Sample()));
    change(j);
    const auto back = DecodeRecord(j.dump());
    return back ? std::string() : back.error().message();
  };
  CHECK(refused([](auto& j) { j.erase("phase"); }).find("phase") != std::string::npos);
  CHECK(refused([](auto& j) { j["phase"] = "asleep"; }).find("phase") != std::string::npos);
  CHECK(refused([](auto& j) { j["format"] = 2; }).find("format 2") != std::string::npos);
  CHECK(refused([](auto& j) { j["generation"] = "x"; }).find("generation") != std::string::npos);
  CHECK(refused([](auto& j) { j["annotations"] = 1; }).find("annotations") != std::string::npos);
  CHECK(refused([](auto& j) { j["annotations"]["moorfs.io/ref-zz"] = "t"; }).find("vol-zz") != std::string::npos);
  for (const char* text : {"", "[]", "{", "null", "{\"format\":1}"}) CHECK_FALSE(DecodeRecord(text));
}

TEST_CASE("the store compares versions, also across a deletion") {
  const TempDir dir;
  auto store = OpenFileRecordStore(dir / "clients");
  REQUIRE(store);
  RecordStore& s = **store;
  CHECK_FALSE(*s.Get("0123456789abcdef"));
  const auto made = s.Create(Sample());
  REQUIRE(made);
  CHECK(s.Create(Sample()).error().err() == kErrnoConflict);
  auto second = *made;
  second.device = "0:60";
  const auto updated = s.Update(second);
  REQUIRE(updated);
  CHECK(s.Update(second).error().err() == kErrnoConflict);
  CHECK(s.Delete(made->mount_key, made->version).err() == kErrnoConflict);
  CHECK((*s.Get(made->mount_key))->device == "0:60");
  REQUIRE(s.Delete(made->mount_key, updated->version).ok());
  CHECK(s.Delete(made->mount_key, updated->version).err() == kErrnoConflict);
  REQUIRE(s.Create(Sample()));
  CHECK(s.Update(*updated).error().err() == kErrnoConflict);
  CHECK(s.List()->size() == 1);
}

TEST_CASE("two stores on one directory see each other's records") {
  const TempDir dir;
  auto one = OpenFileRecordStore(dir / "clients"), two = OpenFileRecordStore(dir / "clients");
  std::atomic<int> added{0};
  REQUIRE((*one)->Create(Sample()));
  const auto add = [&](RecordStore& store, const std::string& prefix) {
    for (int i = 0; i < 20; ++i) {
      for (;;) {
        auto record = **store.Get("0123456789abcdef");
        record.references[prefix + std::to_string(i)] = {"t", "", "", false};
        const auto written = store.Update(record);
        if (written) break;
        REQUIRE(written.error().err() == kErrnoConflict);
      }
      ++added;
    }
  };
  std::thread a([&] { add(**one, "a"); }), b([&] { add(**two, "b"); });
  a.join();
  b.join();
  CHECK((*(*one)->Get("0123456789abcdef"))->references.size() == 42);
}

TEST_CASE("a damaged record is put aside, and the others are read") {
  const TempDir dir;
  auto store = OpenFileRecordStore(dir / "clients");
  REQUIRE((*store)->Create(Sample()));
  std::ofstream(dir / "clients/bad.json") << "{ broken";
  const auto all = (*store)->List();
  REQUIRE(all);
  CHECK(all->size() == 1);
  CHECK(std::filesystem::exists(dir / "clients/bad.json.damaged"));
}

TEST_CASE("target paths: what is cleaned and what is refused") {
  CHECK(*CleanTargetPath("//a///b/") == "/a/b");
  CHECK(*CleanTargetPath("/a/...") == "/a/...");
  using namespace std::string_literals;
  for (const std::string& bad : {""s, "a"s, "/"s, "/a/../b"s, "/a/."s, "/a\0b"s, "/" + std::string(256, 'n'),
                                 "/a\xff"s, "/\xc0\xaf"s, "/\xed\xa0\x80"s, std::string(5000, '/') + "a"}) {
    const auto cleaned = CleanTargetPath(bad);
    INFO(bad);
    REQUIRE_FALSE(cleaned);
    CHECK(cleaned.error().err() == EINVAL);
    CHECK(cleaned.error().message().starts_with("target: "));
  }
  CHECK(CheckVolumeDirectory("").ok());
  CHECK(CheckVolumeDirectory("a/b c/\xe2\x98\x83").ok());
  for (const char* bad : {"/a", "a/", "a//b", "..", "a/../b", "."}) CHECK(CheckVolumeDirectory(bad).err() == EINVAL);
}

TEST_CASE("layers are ordered by their parents, not by their lines") {
  const std::vector<os::MountEntry> table = {Mount(1, 0, "/"), Mount(9, 7, "/t"), Mount(5, 1, "/t"),
                                             Mount(7, 5, "/t"), Mount(8, 1, "/other")};
  const auto layers = LayersAt(table, "/t");
  REQUIRE(layers.size() == 3);
  CHECK(layers[0].id == 5);
  CHECK(layers[1].id == 7);
  CHECK(layers[2].id == 9);
}

TEST_CASE("nothing is opened outside, whatever lies in the way") {
  const TempDir dir;
  namespace fs = std::filesystem;
  fs::create_directories(dir / "root/real/below");
  fs::create_directories(dir / "outside/x");
  fs::create_directory_symlink(dir / "outside", dir / "root/absolute");
  fs::create_directory_symlink("../outside", dir / "root/up");
  fs::create_directory_symlink("real", dir / "root/inside");
  std::ofstream(dir / "root/file") << "x";
  const UniqueFd root(open((dir / "root").c_str(), O_PATH | O_DIRECTORY));
  CHECK(OpenBeneath(root.get(), "real/below", 0));
  CHECK(OpenBeneath(root.get(), "", 0));
  for (const char* path : {"absolute", "absolute/x", "up/x", "inside", "inside/below", "file", "file/x", "none"}) {
    INFO(path);
    CHECK_FALSE(OpenBeneath(root.get(), path, 0));
  }
  CHECK_FALSE(OpenBeneath(root.get(), "up/made", 0755));
  CHECK_FALSE(fs::exists(dir / "outside/made"));
  CHECK(OpenBeneath(root.get(), "new/deep/er", 0750));
  CHECK(fs::is_directory(dir / "root/new/deep/er"));
}

TEST_CASE("a named lock has one holder, and waiting ends at the deadline") {
  const auto locks = MakeNameLocks();
  std::atomic<int> inside{0}, worst{0}, done{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) {
        const NameLock lock = NameLock::Wait(*locks, "x", Deadline::In(20'000));
        if (!lock) continue;
        worst = std::max(worst.load(), ++inside);
        --inside;
        ++done;
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(worst == 1);
  CHECK(done == 16 * 50);
  const NameLock held = NameLock::Try(*locks, "x");
  CHECK(held);
  CHECK_FALSE(NameLock::Try(*locks, "x"));
  CHECK(NameLock::Try(*locks, "y"));
  const int64_t begin = MonotonicNs();
  CHECK_FALSE(NameLock::Wait(*locks, "x", Deadline::In(50)));
  CHECK(MonotonicNs() - begin < 2'000'000'000);
}

TEST_CASE("a bounded call answers, is killed at its deadline, and has no other descriptors") {
  os::BoundedCalls calls;
  const auto answer = calls.Run([](void*) { return os::BoundedAnswer{ENOTDIR, 4}; }, nullptr, {}, 5'000);
  REQUIRE(answer);
  CHECK(answer->err == ENOTDIR);
  CHECK(answer->step == 4);

  const int64_t begin = MonotonicNs();
  const auto late = calls.Run(
      [](void*) {
        for (;;) pause();
        return os::BoundedAnswer{};
      },
      nullptr, {}, 100);
  CHECK(late.error().err() == ETIMEDOUT);
  CHECK(MonotonicNs() - begin < 3'000'000'000);
  CHECK_FALSE(calls.Stuck());

  UniqueFd kept(open("/dev/null", O_RDONLY)), other(open("/dev/null", O_RDONLY));
  int numbers[2] = {kept.get(), other.get()};
  const auto fds = calls.Run(
      [](void* argument) {
        const int* n = static_cast<int*>(argument);
        return os::BoundedAnswer{fcntl(n[0], F_GETFD) >= 0, fcntl(n[1], F_GETFD) >= 0};
      },
      numbers, {kept.get()}, 5'000);
  REQUIRE(fds);
  CHECK(fds->err == 1);
  CHECK(fds->step == 0);
}

TEST_CASE("numbers of a client: one open question, however many ask") {
  const TempDir dir;
  REQUIRE(os::MakeDirs(dir / "0:77", 0700).ok());
  auto listener = control::ListenUnix(ClientSocketOf(dir.path(), "0:77"));
  REQUIRE(listener);
  std::atomic<int> questions{0};
  std::atomic<bool> hang{false};
  auto server = control::Server::Start(
      std::move(*listener), [&](const control::Json& request, const control::Peer&, control::Reply&) {
        ++questions;
        while (hang) usleep(5'000);
        CHECK(request["cmd"] == "volume-stat");
        return Result<control::Json>(control::Json{{"total_bytes", 100}, {"used_bytes", 40},
                                                   {"available_bytes", 60}, {"total_inodes", 10},
                                                   {"used_inodes", 4}, {"available_inodes", 6}});
      });
  REQUIRE(server);
  const auto launcher = MakeProcessLauncher({dir / "mounts", "/bin/false", dir.path()});
  REQUIRE(launcher);
  StatsProber prober(**launcher);
  ClientRecord k;
  k.mount_key = "k";
  k.device = "0:77";
  auto stats = prober.Ask(k, "", Deadline::In(5'000));
  REQUIRE(stats);
  CHECK_FALSE(stats->abnormal);
  CHECK(stats->used_bytes == 40);

  hang = true;
  std::vector<std::thread> threads;
  std::atomic<int> abnormal{0};
  for (int i = 0; i < 20; ++i) {
    threads.emplace_back([&] {
      const int64_t begin = MonotonicNs();
      auto old = prober.Ask(k, "", Deadline::In(300));
      if (old && old->abnormal && old->used_bytes == 40 && MonotonicNs() - begin < 3'000'000'000) ++abnormal;
    });
  }
  for (auto& t : threads) t.join();
  CHECK(abnormal == 20);
  CHECK(questions == 2);
  hang = false;
  for (int i = 0; i < 50 && stats && (stats->abnormal || i == 0); ++i) {
    usleep(100'000);
    stats = prober.Ask(k, "", Deadline::In(2'000));
  }
  REQUIRE(stats);
  CHECK_FALSE(stats->abnormal);
  server->reset();
  stats = prober.Ask(k, "", Deadline::In(500));
  REQUIRE(stats);
  CHECK(stats->abnormal);
  CHECK(stats->used_bytes == 40);
}

TEST_CASE("volumes by command: answers and errors of the command come through") {
  const TempDir dir;
  const std::string fake = dir / "moorfs";
  std::ofstream(fake) << R"sh(#!/bin/sh
echo "$@" >>"$(dirname "$0")/calls"
case "$2" in
  create) echo '{"name":"pvc-1","directory":"volumes/pvc-1","bytes":1000,"inodes":0,"used_bytes":0,"used_inodes":0,"parameters":{"a":"b"},"created":true}';;
  show) echo '{"error":{"errno":2,"message":"no volume pvc-2"}}'; exit 1;;
  list) echo '{"volumes":[{"name":"x","directory":"d","bytes":1,"inodes":2,"used_bytes":3,"used_inodes":4,"parameters":{}}]}';;
  capacity) echo '{"total_bytes":100,"available_bytes":7}';;
  delete) sleep 30;;
esac
)sh";
  REQUIRE(chmod(fake.c_str(), 0755) == 0);
  VolumeAdmin admin(fake);
  VolumeRecord wanted;
  wanted.name = "pvc-1";
  wanted.bytes = 1000;
  wanted.parameters = {{"a", "b"}};
  const auto made = admin.Create("leveldb:/m", wanted, 20'000);
  REQUIRE(made);
  CHECK(made->directory == "volumes/pvc-1");
  CHECK(made->parameters.at("a") == "b");
  const auto missing = admin.Get("leveldb:/m", "pvc-2", 20'000);
  CHECK(missing.error().err() == ENOENT);
  CHECK(missing.error().message() == "no volume pvc-2");
  CHECK(admin.List("leveldb:/m", "w", 5, 20'000)->at(0).used_inodes == 4);
  CHECK(admin.GetCapacity("leveldb:/m", 20'000)->available_bytes == 7);
  CHECK(admin.Delete("leveldb:/m", "pvc-1", 200).err() == ETIMEDOUT);
  const auto calls = os::ReadFile(dir / "calls", 4096);
  CHECK(calls->find("volume create leveldb:/m pvc-1 --bytes 1000 --parameter a=b --json\n") == 0);
  CHECK(calls->find("volume list leveldb:/m --after w --limit 5 --json\n") != std::string::npos);
}
