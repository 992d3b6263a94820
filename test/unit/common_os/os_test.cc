// SPDX-License-Identifier: Apache-2.0
//
// The mount table, processes with an explicit descriptor list, lock files and
// descriptor passing, against the real kernel.

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "common/os/fd_passing.h"
#include "common/os/file.h"
#include "common/os/lock_file.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"
#include "common/os/process.h"

using namespace moorfs;
using namespace moorfs::os;

namespace {

struct TempDir {
  TempDir() {
    char name[] = "/tmp/moorfs-os-XXXXXX";
    path = mkdtemp(name);
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};

std::string RunShell(const std::string& script, std::vector<int> fds, std::optional<SpawnRequest::User> user = {}) {
  int p[2];
  REQUIRE(pipe2(p, O_CLOEXEC) == 0);
  UniqueFd read_end(p[0]), write_end(p[1]);
  SpawnRequest request;
  request.executable = "/bin/sh";
  request.argv = {"sh", "-c", script};
  request.fds = std::move(fds);
  request.stdout_fd = write_end.get();
  request.user = user;
  auto child = Spawn(request);
  REQUIRE(child);
  write_end.reset();
  std::string out;
  char buffer[4096];
  for (ssize_t n; (n = read(read_end.get(), buffer, sizeof buffer)) > 0;) out.append(buffer, static_cast<size_t>(n));
  auto status = WaitChild(*child, 10'000);
  REQUIRE(status);
  REQUIRE(status->has_value());
  return out;
}

}  // namespace

TEST_CASE("a mount table line is understood with all its escapes") {
  auto mounts = ParseMountInfo(
      "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
      "90 27 0:55 /sub\\040dir /mnt/a\\040b\\134c rw,nosuid shared:7 master:2 - fuse.moorfs moorfs:my\\040vol rw,user_id=0\n"
      "91 27 0:56 / /empty rw - fuse  rw\n");
  REQUIRE(mounts);
  REQUIRE(mounts->size() == 3);
  const MountEntry& m = (*mounts)[1];
  CHECK(m.Device() == "0:55");
  CHECK(m.root == "/sub dir");
  CHECK(m.mountpoint == "/mnt/a b\\c");
  CHECK(m.fstype == "fuse.moorfs");
  CHECK(m.source == "moorfs:my vol");
  CHECK(m.shared);
  CHECK((*mounts)[2].source.empty());
}

TEST_CASE("a mount table that is half understood is refused with the line's number") {
  for (const char* bad : {"22 27 0:21 / /proc rw - proc proc rw\nnonsense\n", "22 27 021 / /proc rw - proc proc rw\n",
                          "22 27 0:21 / /proc rw shared:1\n", "x 27 0:21 / /proc rw - proc proc rw\n"}) {
    auto mounts = ParseMountInfo(bad);
    REQUIRE_FALSE(mounts);
    CHECK(mounts.error().err() == EPROTO);
    CHECK(mounts.error().message().find("line ") != std::string::npos);
  }
  auto ours = ReadMountInfo();
  REQUIRE(ours);
  CHECK(FindMountAt(*ours, "/proc"));
}

TEST_CASE("of two mounts at one path the upper one is found") {
  auto mounts = ParseMountInfo(
      "22 27 0:21 / /m rw - tmpfs a rw\n"
      "23 22 0:22 / /m rw - tmpfs b rw\n");
  REQUIRE(mounts);
  CHECK(FindMountAt(*mounts, "/m")->source == "b");
  CHECK_FALSE(FindMountAt(*mounts, "/m/x"));
  CHECK(FindDevice(*mounts, 0, 21)->source == "a");
}

TEST_CASE("a canonical path follows symlinks and keeps a last component that is no link") {
  TempDir dir;
  REQUIRE(mkdir((dir.path + "/real").c_str(), 0755) == 0);
  REQUIRE(symlink("real", (dir.path + "/link").c_str()) == 0);
  CHECK(CanonicalPath(dir.path + "/link").value() == dir.path + "/real");
  CHECK(CanonicalPath(dir.path + "/link/../real/").value() == dir.path + "/real");
  CHECK(CanonicalPath(dir.path + "/absent").value() == dir.path + "/absent");
  CHECK(CanonicalPath("/").value() == "/");
  CHECK(CanonicalPath(dir.path + "/no/such").error().err() == ENOENT);
}

TEST_CASE("mount words set and clear the kernel's flags") {
  unsigned long flags = MS_RELATIME;
  CHECK(ApplyMountFlag("ro", &flags));
  CHECK(ApplyMountFlag("nosuid", &flags));
  CHECK(ApplyMountFlag("noatime", &flags));
  CHECK(flags == (MS_RDONLY | MS_NOSUID | MS_NOATIME));
  CHECK(ApplyMountFlag("rw", &flags));
  CHECK(flags == (MS_NOSUID | MS_NOATIME));
  CHECK_FALSE(ApplyMountFlag("rubbish", &flags));
}

TEST_CASE("a child has the descriptors it was given and no other") {
  TempDir dir;
  UniqueFd leaked(open("/dev/null", O_RDONLY));  // on purpose without O_CLOEXEC
  UniqueFd given(open((dir.path + "/given").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  // Also when the given number is itself a target number of another one.
  const std::string out = RunShell("echo hello >&4; ls /proc/self/fd | tr '\\n' ' '", {leaked.get(), given.get()});
  // ls has its own descriptor on the directory: 5, as the first free one.
  CHECK(out == "0 1 2 3 4 5 ");
  CHECK(ReadFile(dir.path + "/given", 100).value() == "hello\n");
}

TEST_CASE("a child that runs as nobody has no capability and no group of root") {
  if (geteuid() != 0) return;
  auto user = LookUpUser("nobody");
  REQUIRE(user);
  const std::string out = RunShell("id -u; id -G; grep -E '^(CapEff|CapPrm|NoNewPrivs)' /proc/self/status", {}, *user);
  CHECK(out.find("65534\n") == 0);
  CHECK(out.find("CapPrm:\t0000000000000000") != std::string::npos);
  CHECK(out.find("CapEff:\t0000000000000000") != std::string::npos);
  CHECK(out.find("NoNewPrivs:\t1") != std::string::npos);
  CHECK(LookUpUser("no-such-user").error().message().find("no-such-user") != std::string::npos);
}

TEST_CASE("a program that cannot be started says which step failed") {
  SpawnRequest request;
  request.executable = "/no/such/program";
  request.argv = {"x"};
  auto child = Spawn(request);
  REQUIRE_FALSE(child);
  CHECK(child.error().err() == ENOENT);
  CHECK(child.error().message().find("exec") != std::string::npos);
}

TEST_CASE("the way a child ends is told in words") {
  SpawnRequest request;
  request.executable = "/bin/sleep";
  request.argv = {"sleep", "60"};
  auto child = Spawn(request);
  REQUIRE(child);
  CHECK_FALSE(WaitChild(*child, 10).value());
  REQUIRE(SignalPidfd(child->pidfd.get(), SIGKILL).ok());
  auto status = WaitChild(*child, 5'000);
  REQUIRE(status);
  REQUIRE(*status);
  CHECK((*status)->Describe() == "killed by signal 9 (Killed)");
}

TEST_CASE("a lock lasts as long as any process that got the descriptor") {
  TempDir dir;
  const std::string path = dir.path + "/moorfs.lock";
  std::optional<Child> child;
  {
    auto lock = LockFile::Acquire(path);
    REQUIRE(lock);
    REQUIRE(lock->SetContent("first, a longer text").ok());
    REQUIRE(lock->SetContent("second").ok());
    CHECK(LockFile::Acquire(path).error().err() == EBUSY);
    CHECK(ReadLockContent(path).value() == "second");
    SpawnRequest request;
    request.executable = "/bin/sleep";
    request.argv = {"sleep", "60"};
    request.fds = {lock->fd()};
    auto spawned = Spawn(request);
    REQUIRE(spawned);
    child = std::move(*spawned);
  }
  CHECK(IsLocked(path).value());
  REQUIRE(SignalPidfd(child->pidfd.get(), SIGKILL).ok());
  REQUIRE(WaitChild(*child, 5'000).value());
  CHECK_FALSE(IsLocked(path).value());
  CHECK(LockFile::Acquire(path));
}

TEST_CASE("descriptors travel with bytes over a socket") {
  TempDir dir;
  auto pair = SocketPair();
  REQUIRE(pair);
  UniqueFd file(open((dir.path + "/f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  REQUIRE(SendFds(pair->first.get(), "x", {file.get()}).ok());
  auto got = ReceiveFds(pair->second.get(), 16);
  REQUIRE(got);
  CHECK(got->data == "x");
  REQUIRE(got->fds.size() == 1);
  CHECK((fcntl(got->fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  REQUIRE(write(got->fds[0].get(), "abc", 3) == 3);
  CHECK(ReadFile(dir.path + "/f", 10).value() == "abc");
  pair->first.reset();
  CHECK(ReceiveFds(pair->second.get(), 16).error().err() == EPIPE);
  CHECK(GetPeerCredentials(pair->second.get()).value().pid == getpid());
}

TEST_CASE("whoever keeps a mount busy is named") {
  if (geteuid() != 0) return;
  TempDir dir;
  REQUIRE(mount("none", dir.path.c_str(), "tmpfs", 0, "") == 0);
  struct Cleanup {
    std::string path;
    ~Cleanup() { umount2(path.c_str(), MNT_DETACH); }
  } cleanup{dir.path};
  auto mounts = ReadMountInfo();
  REQUIRE(mounts);
  auto entry = FindMountAt(*mounts, dir.path);
  REQUIRE(entry);
  CHECK(FindHolders(entry->major, entry->minor, 10).empty());
  UniqueFd file(open((dir.path + "/f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  auto holders = FindHolders(entry->major, entry->minor, 10);
  REQUIRE(holders.size() == 1);
  CHECK(holders[0].pid == getpid());
  CHECK(DescribeHolders(holders).find("fd " + std::to_string(file.get())) != std::string::npos);
}

TEST_CASE("a file is replaced whole and a tree is removed whole") {
  TempDir dir;
  REQUIRE(MakeDirs(dir.path + "/a/b/c", 0700).ok());
  REQUIRE(MakeDirs(dir.path + "/a/b/c", 0700).ok());
  REQUIRE(ReplaceFile(dir.path + "/a/b/c/f", "one", 0600).ok());
  REQUIRE(ReplaceFile(dir.path + "/a/b/c/f", "2", 0600).ok());
  CHECK(ReadFile(dir.path + "/a/b/c/f", 10).value() == "2");
  CHECK(ReadFile(dir.path + "/a/b/c/f", 0).error().err() == EFBIG);
  CHECK(MakeDirs(dir.path + "/a/b/c/f", 0700).err() == ENOTDIR);
  REQUIRE(RemoveTree(dir.path + "/a").ok());
  CHECK(access((dir.path + "/a").c_str(), F_OK) != 0);
  CHECK(RemoveTree(dir.path + "/a").ok());
}
