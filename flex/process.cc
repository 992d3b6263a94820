// SPDX-License-Identifier: Apache-2.0

#include "flex/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace moorfs::flex {
namespace {

constexpr int kFirstForeignFd = 3;

// Linux before 5.9 has no close_range.
void CloseOneByOne() {
  DIR* dir = opendir("/proc/self/fd");
  if (dir == nullptr) {
    for (int fd = kFirstForeignFd; fd < 1024; ++fd) close(fd);
    return;
  }
  std::vector<int> fds;
  while (const dirent* entry = readdir(dir)) {
    const int fd = std::atoi(entry->d_name);
    if (fd >= kFirstForeignFd && fd != dirfd(dir)) fds.push_back(fd);
  }
  closedir(dir);
  for (int fd : fds) close(fd);
}

}  // namespace

std::vector<std::string> TakeArguments(int argc, char** argv) {
  std::vector<std::string> out;
  for (int i = 0; i < argc; ++i) {
    out.emplace_back(argv[i]);
    // Not only what starts like an object: a mistyped one holds Secrets too.
    if (std::strpbrk(argv[i], "{\"") != nullptr) explicit_bzero(argv[i], std::strlen(argv[i]));
  }
  return out;
}

void CleanProcess() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  signal(SIGPIPE, SIG_IGN);
  // Kubelet's mask and dispositions are not ours to know.
  sigset_t empty;
  sigemptyset(&empty);
  sigprocmask(SIG_SETMASK, &empty, nullptr);
  umask(022);
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null_fd >= 0) {
    dup2(null_fd, 0);
    if (fcntl(1, F_GETFD) < 0 || null_fd == 1) dup2(null_fd, 1);
    dup2(null_fd, 2);
    // What was closed before may be what open() returned: it stays open then.
    for (int fd = 0; fd < kFirstForeignFd; ++fd) fcntl(fd, F_SETFD, 0);
  }
  if (syscall(SYS_close_range, kFirstForeignFd, ~0U, 0) != 0) CloseOneByOne();
}

void WriteStdout(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(1, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // nobody reads: nobody to tell
    text.remove_prefix(static_cast<size_t>(n));
  }
}

Result<std::string> FindFullProgram() {
  if (const char* given = std::getenv("MOORFS_EXECUTABLE"); given != nullptr && *given != '\0') return std::string(given);
  std::vector<std::string> places = {"/usr/local/bin/moorfs", "/usr/bin/moorfs", "/opt/moorfs/bin/moorfs"};
  char self[PATH_MAX];
  if (const ssize_t n = readlink("/proc/self/exe", self, sizeof self); n > 0) {
    const std::string path(self, static_cast<size_t>(n));
    places.insert(places.begin(), path.substr(0, path.rfind('/') + 1) + "moorfs");
  }
  std::string looked;
  for (const std::string& place : places) {
    if (access(place.c_str(), X_OK) == 0) return place;
    looked += (looked.empty() ? "" : ", ") + place;
  }
  return Error(ENOENT, "--standalone needs the full moorfs program; this host has only the door (looked for " + looked +
                           "): install it, set MOORFS_EXECUTABLE, or start the agent and leave --standalone out");
}

Status BecomeProgram(const std::string& program, const char* role, std::string_view input) {
  const int memory = memfd_create("moorfs-flex-request", 0);
  if (memory < 0) return Status::FromErrno("keep the request in memory");
  if (write(memory, input.data(), input.size()) != static_cast<ssize_t>(input.size()) ||
      lseek(memory, 0, SEEK_SET) != 0 || dup2(memory, 0) != 0) {
    return Status::FromErrno("hand the request over");
  }
  close(memory);
  signal(SIGPIPE, SIG_DFL);
  std::string name = "moorfs", role_word = role;
  char* argv[] = {name.data(), role_word.data(), nullptr};
  execv(program.c_str(), argv);
  return Status::FromErrno("execute " + program + " for --standalone");
}

}  // namespace moorfs::flex
