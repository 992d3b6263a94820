// SPDX-License-Identifier: Apache-2.0
//
// One server on a real mount, in this process: what libfuse and the kernel do
// with our answers.

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "common/base/units.h"
#include "fs/fuse/fuse_server.h"
#include "test/bench/null_file_system.h"
#include "test/unit/fs_fuse/takeover_rig.h"

namespace moorfs::fuse {
namespace {

// The null file system with what a test wants to see or to say.
class ProbeFileSystem : public bench::NullFileSystem {
 public:
  using NullFileSystem::NullFileSystem;

  Result<Attr> GetAttr(const OpContext&, Ino ino) override { return Shown(ino); }
  Result<Entry> Lookup(const OpContext& ctx, Ino parent, std::string_view name) override {
    auto entry = NullFileSystem::Lookup(ctx, parent, name);
    if (entry) entry->attr = Shown(entry->ino);
    return entry;
  }
  Result<size_t> TryRead(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                         std::span<char> out) override {
    if (slow_reads) return Error(EWOULDBLOCK, "read: later");
    return NullFileSystem::TryRead(ctx, ino, handle, offset, out);
  }
  Result<size_t> Read(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, std::span<char> out) override {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return !slow_reads; });
    }
    return NullFileSystem::TryRead(ctx, ino, handle, offset, out);
  }
  Status TryWrite(const OpContext&, Ino, Handle, uint64_t, std::span<const char>, bool kill_suidgid) override {
    kill_flags += kill_suidgid;
    return write_status;
  }
  Status SetXattr(const OpContext&, Ino, std::string_view name, std::string_view value, meta::XattrSet how) override {
    std::lock_guard lock(mutex);
    xattr = std::string(name) + "=" + std::string(value) + (how == meta::XattrSet::kCreate ? " create" : "");
    return Status::Ok();
  }
  Result<std::string> GetXattr(const OpContext&, Ino, std::string_view name) override {
    capability_questions += name == "security.capability";
    if (name != "user.long") return Error(ENODATA, "get xattr: none");
    return std::string(100, 'v');
  }
  Status Flush(const OpContext& ctx, Ino ino, Handle handle, uint64_t owner) override {
    ++flushes;
    return NullFileSystem::Flush(ctx, ino, handle, owner);
  }
  std::string Xattr() {
    std::lock_guard lock(mutex);
    return xattr;
  }
  void EndSlowReads() {
    std::lock_guard lock(mutex);
    slow_reads = false;
    changed.notify_all();
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<bool> slow_reads{false};
  std::atomic<uint64_t> length{5000};
  std::atomic<uint16_t> mode{0666};
  std::atomic<int> kill_flags{0}, flushes{0}, capability_questions{0};
  Status write_status;
  std::string xattr;

 private:
  Attr Shown(Ino ino) const {
    Attr attr = AttrOf(ino);
    if (attr.type == FileType::kFile) {
      attr.length = length;
      attr.mode = mode;
    }
    return attr;
  }
};

class Mounted {
 public:
  explicit Mounted(uint32_t slot_count = 64) {
    static const int once = unshare(CLONE_NEWNS) | mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    REQUIRE(once == 0);
    char name[] = "/tmp/moorfs-fuse-XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    dir = name;
    vfs::ArenaGeometry geometry;
    geometry.slot_count = slot_count;
    geometry.handle_count = geometry.lock_count = 4096;
    geometry.data_bytes = 1 << 20;
    arena = vfs::Arena::Map(vfs::Arena::CreateMemfd(geometry).value()).value();
    fuse_fd.reset(open("/dev/fuse", O_RDWR | O_CLOEXEC));
    const std::string data = "fd=" + std::to_string(fuse_fd.get()) +
                             ",rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions";
    REQUIRE(mount("probe", dir.c_str(), "fuse.probe", MS_NODEV, data.c_str()) == 0);
    fs = std::make_unique<ProbeFileSystem>(*arena);
    watchdog_ = std::thread([this] {
      std::unique_lock lock(mutex_);
      // A test that hangs on its own mount could not even be killed.
      if (!changed_.wait_for(lock, std::chrono::seconds(60), [&] { return ended_; })) {
        umount2(dir.c_str(), MNT_FORCE);
      }
    });
  }
  ~Mounted() {
    fs->EndSlowReads();
    if (runner_.joinable()) {
      umount2(dir.c_str(), MNT_FORCE | MNT_DETACH);
      server->Stop();
      runner_.join();
    }
    umount2(dir.c_str(), MNT_DETACH);
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
      changed_.notify_all();
    }
    watchdog_.join();
    server.reset();
    rmdir(dir.c_str());
  }
  void Start(FuseOptions options = {}) {
    std::atomic<bool> ready{false};
    options.on_ready = [&] { ready = true; };
    server = FuseServer::Create(UniqueFd(dup(fuse_fd.get())), *arena, options).value();
    runner_ = std::thread([this] { outcome = server->Run(*fs); });
    while (!ready) usleep(1'000);
  }
  Result<Outcome> Join() {
    runner_.join();
    return outcome;
  }
  std::string Path(const char* name) const { return dir + "/" + name; }
  // A request is counted after its reply is sent, which the caller may overtake.
  uint64_t AwaitCountOf(const char* op, uint64_t expected) const {
    for (int i = 0; i < 1000 && CountOf(op) < expected; ++i) usleep(1'000);
    return CountOf(op);
  }
  uint64_t CountOf(const char* op) const {
    for (const OpStats& s : server->stats().ops) {
      if (std::strcmp(s.name, op) == 0) return s.count;
    }
    return 0;
  }

  std::string dir;
  std::unique_ptr<vfs::Arena> arena;
  UniqueFd fuse_fd;
  std::unique_ptr<ProbeFileSystem> fs;
  std::unique_ptr<FuseServer> server;
  Result<Outcome> outcome = Outcome::kStopped;

 private:
  std::thread runner_, watchdog_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
};

struct stat Stat(const std::string& path) {
  struct stat st {};
  REQUIRE(stat(path.c_str(), &st) == 0);
  return st;
}

TEST_CASE("slow reads, more than there are slots, do not hold up statfs") {
  if (!TakeoverRig::Possible()) return;
  Mounted m(8);
  m.Start();
  m.fs->slow_reads = true;
  std::vector<std::thread> readers;
  std::atomic<int> failed{0};
  for (int i = 0; i < 40; ++i) {
    readers.emplace_back([&, i] {
      char byte;
      UniqueFd fd(open(m.Path(("f" + std::to_string(i)).c_str()).c_str(), O_RDONLY));
      if (pread(fd.get(), &byte, 1, 0) != 1) ++failed;
    });
  }
  while (m.server->stats().parked < 40) usleep(1'000);
  const int64_t start = MonotonicNs();
  struct statvfs st;
  CHECK(statvfs(m.dir.c_str(), &st) == 0);
  CHECK(MonotonicNs() - start < Timestamp::kNsPerSec);
  CHECK(st.f_namemax == 255);
  CHECK(m.server->stats().slots_used <= 8);
  m.fs->EndSlowReads();
  for (auto& reader : readers) reader.join();
  CHECK(failed == 0);
}

TEST_CASE("waiting locks, more than there are slots, use neither slots nor threads") {
  if (!TakeoverRig::Possible()) return;
  Mounted m(8);
  m.Start();
  // OFD locks: each descriptor is an owner of its own.
  const auto lock = [&](int fd, int type) {
    struct flock l {};
    l.l_type = static_cast<short>(type);
    l.l_len = 1;
    return fcntl(fd, F_OFD_SETLKW, &l);
  };
  UniqueFd holder(open(m.Path("l").c_str(), O_RDWR));
  REQUIRE(lock(holder.get(), F_WRLCK) == 0);
  std::vector<std::thread> waiters;
  std::atomic<int> granted{0};
  for (int i = 0; i < 30; ++i) {
    waiters.emplace_back([&] {
      UniqueFd fd(open(m.Path("l").c_str(), O_RDWR));
      if (lock(fd.get(), F_WRLCK) == 0) ++granted;
      lock(fd.get(), F_UNLCK);
    });
  }
  while (m.server->stats().parked < 30) usleep(1'000);
  CHECK(m.server->stats().executor_threads == 0);
  CHECK(Stat(m.Path("x")).st_size == 5000);
  REQUIRE(lock(holder.get(), F_UNLCK) == 0);
  for (auto& waiter : waiters) waiter.join();
  CHECK(granted == 30);
  CHECK(m.server->stats().parked == 0);
}

TEST_CASE("what the kernel knows is not asked again until it is invalidated") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.Start();
  CHECK(Stat(m.Path("f")).st_size == 5000);
  m.fs->length = 7000;
  CHECK(Stat(m.Path("f")).st_size == 5000);
  m.server->invalidator().InvalidateInode(Stat(m.Path("f")).st_ino);
  for (int i = 0; i < 1000 && m.server->stats().invalidations < 1; ++i) usleep(1'000);
  for (int i = 0; i < 1000 && Stat(m.Path("f")).st_size != 7000; ++i) usleep(1'000);
  CHECK(Stat(m.Path("f")).st_size == 7000);

  const uint64_t lookups = m.AwaitCountOf("LOOKUP", 1);
  m.server->invalidator().InvalidateEntry(kRootIno, "f");
  for (int i = 0; i < 1000 && m.server->stats().invalidations < 2; ++i) usleep(1'000);
  for (int i = 0; i < 1000 && m.CountOf("LOOKUP") == lookups; ++i) {
    usleep(1'000);
    Stat(m.Path("f"));
  }
  CHECK(m.CountOf("LOOKUP") == lookups + 1);
}

TEST_CASE("a name that does not exist is looked up once") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.Start();
  for (int i = 0; i < 5; ++i) {
    CHECK(access(m.Path("new").c_str(), F_OK) == -1);
    CHECK(errno == ENOENT);
  }
  CHECK(m.AwaitCountOf("LOOKUP", 1) == 1);
  CHECK(mkdir(m.Path("new").c_str(), 0755) == 0);
  CHECK(access(m.Path("new").c_str(), F_OK) == 0);
}

TEST_CASE("every close sends FLUSH") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.Start();
  for (int i = 0; i < 3; ++i) close(open(m.Path("f").c_str(), O_RDONLY));
  CHECK(m.fs->flushes == 3);
}

TEST_CASE("a write without privilege to a set-id file says so, one with privilege does not") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.fs->mode = 06777;
  m.Start();
  const auto write_as = [&](uid_t uid) {
    const pid_t pid = fork();
    if (pid == 0) {
      if (setgid(uid) != 0 || setuid(uid) != 0) _exit(1);
      const int fd = open(m.Path("f").c_str(), O_WRONLY);
      for (int i = 0; i < 10; ++i) {
        if (write(fd, "x", 1) != 1) _exit(2);
      }
      _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return status;
  };
  chmod(m.dir.c_str(), 0755);
  CHECK(write_as(0) == 0);
  CHECK(m.fs->kill_flags == 0);
  CHECK(write_as(65534) == 0);
  CHECK(m.fs->kill_flags > 0);
}

TEST_CASE("writes do not ask for security.capability again and again") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.Start();
  UniqueFd fd(open(m.Path("f").c_str(), O_WRONLY));
  for (int i = 0; i < 50; ++i) CHECK(pwrite(fd.get(), "x", 1, i) == 1);
  CHECK(m.fs->capability_questions <= 1);
}

TEST_CASE("extended attributes arrive whole") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.Start();
  const std::string path = m.Path("f");
  CHECK(setxattr(path.c_str(), "user.a", "value", 5, 0) == 0);
  CHECK(m.fs->Xattr() == "user.a=value");
  CHECK(setxattr(path.c_str(), "user.b", "", 0, XATTR_CREATE) == 0);
  CHECK(m.fs->Xattr() == "user.b= create");
  char small[10], large[200];
  CHECK(getxattr(path.c_str(), "user.long", nullptr, 0) == 100);
  CHECK(getxattr(path.c_str(), "user.long", large, sizeof large) == 100);
  CHECK(getxattr(path.c_str(), "user.long", small, sizeof small) == -1);
  CHECK(errno == ERANGE);
}

TEST_CASE("an errno of our own reaches the application as one it knows") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.fs->write_status = Status(kErrnoConflict, "commit: lost every race");
  m.Start();
  UniqueFd fd(open(m.Path("f").c_str(), O_WRONLY));
  CHECK(write(fd.get(), "x", 1) == -1);
  CHECK(errno == EAGAIN);
}

TEST_CASE("a node is found again by its file handle") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.Start();
  alignas(file_handle) char room[sizeof(file_handle) + 128];
  auto* handle = reinterpret_cast<file_handle*>(room);
  handle->handle_bytes = 128;
  int mount_id = 0;
  REQUIRE(name_to_handle_at(AT_FDCWD, m.Path("f").c_str(), handle, &mount_id, 0) == 0);
  UniqueFd root(open(m.dir.c_str(), O_RDONLY | O_DIRECTORY));
  REQUIRE(mount("none", m.dir.c_str(), nullptr, MS_REMOUNT | MS_NODEV, nullptr) == 0);  // drops what is cached
  UniqueFd fd(open_by_handle_at(root.get(), handle, O_RDONLY));
  CHECK(fd.valid());
}

TEST_CASE("unmounting ends the server, stopping leaves the mount to a successor") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.Start();
  CHECK(Stat(m.Path("f")).st_size == 5000);
  m.server->Stop();
  CHECK(m.Join().value() == Outcome::kStopped);
  CHECK(m.server->drained());
  m.Start();
  CHECK(m.server->stats().took_over);
  CHECK(access(m.Path("g").c_str(), F_OK) == 0);
  REQUIRE(umount2(m.dir.c_str(), 0) == 0);
  CHECK(m.Join().value() == Outcome::kUnmounted);
}

TEST_CASE("a successor that would agree on something else is refused and says on what") {
  if (!TakeoverRig::Possible()) return;
  Mounted m;
  m.Start();
  m.server->Stop();
  CHECK(m.Join().value() == Outcome::kStopped);
  FuseOptions other;
  other.exclusive = false;
  auto server = FuseServer::Create(UniqueFd(dup(m.fuse_fd.get())), *m.arena, other).value();
  const auto outcome = server->Run(*m.fs);
  REQUIRE_FALSE(outcome);
  CHECK(outcome.error().err() == EPROTO);
  CHECK(outcome.error().message().find("flags 0x") != std::string::npos);
  m.Start();
  CHECK(Stat(m.Path("f")).st_size == 5000);
}

}  // namespace
}  // namespace moorfs::fuse
