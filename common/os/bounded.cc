// SPDX-License-Identifier: Apache-2.0

#include "common/os/bounded.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "common/os/process.h"

namespace moorfs::os {
namespace {

constexpr size_t kMaxKept = 8;
// How long a killed child may take to disappear before it counts as stuck.
constexpr int kDeathMs = 200;

// Inherited descriptors would keep locks and sockets of the parent alive in a
// child that hangs.
void CloseOthers(std::array<int, kMaxKept>& kept, size_t count) {
  std::sort(kept.begin(), kept.begin() + static_cast<long>(count));
  unsigned from = 3;
  for (size_t i = 0; i < count; ++i) {
    const auto fd = static_cast<unsigned>(kept[i]);
    if (fd > from) syscall(SYS_close_range, from, fd - 1, 0);
    if (fd >= from) from = fd + 1;
  }
  syscall(SYS_close_range, from, ~0U, 0);
}

[[noreturn]] void RunChild(BoundedCalls::Work work, void* argument, std::array<int, kMaxKept> kept, size_t count,
                           int answer_fd, pid_t parent) {
  // It does not go on behind the back of the parent's successor.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  sigset_t none;
  sigemptyset(&none);
  // A signal handler of the parent must not run on this copy of its memory.
  for (int s : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD}) signal(s, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  CloseOthers(kept, count);
  const BoundedAnswer answer = work(argument);
  [[maybe_unused]] const ssize_t n = write(answer_fd, &answer, sizeof answer);
  _exit(0);
}

void Reap(int pidfd) {
  siginfo_t info;
  while (waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED) != 0 && errno == EINTR) {
  }
}

}  // namespace

bool BoundedCalls::ReapStuck() {
  const std::lock_guard lock(mutex_);
  if (!stuck_) return true;
  if (!WaitPidfd(stuck_.get(), 0)) return false;
  Reap(stuck_.get());
  stuck_.reset();
  return true;
}

bool BoundedCalls::Stuck() { return !ReapStuck(); }

Result<BoundedAnswer> BoundedCalls::Run(Work work, void* argument, std::initializer_list<int> keep, int timeout_ms) {
  std::unique_lock turn(turn_, std::chrono::milliseconds(timeout_ms));
  if (!turn) return Error(ETIMEDOUT, "wait for an earlier request to a mount: it takes too long");
  if (!ReapStuck()) return Error(EBUSY, "ask a mount: an earlier request still hangs in the kernel");
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return Error(Status::FromErrno("make a pipe"));
  UniqueFd read_end(pipe_fds[0]), write_end(pipe_fds[1]);
  std::array<int, kMaxKept> kept{};
  size_t count = 0;
  for (int fd : keep) kept[count++] = fd;
  kept[count++] = write_end.get();
  // Blocked until the child has no handlers left.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t parent = getpid();
  const pid_t pid = _Fork();
  if (pid == 0) RunChild(work, argument, kept, count, write_end.get(), parent);
  const int err = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return Error(Status::FromErrno("fork", err));
  write_end.reset();
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    const Status s = Status::FromErrno("watch a child");
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return Error(s);
  }
  const bool ended = WaitPidfd(pidfd.get(), timeout_ms);
  if (!ended) {
    kill(pid, SIGKILL);
    if (!WaitPidfd(pidfd.get(), kDeathMs)) {
      const std::lock_guard lock(mutex_);
      stuck_ = std::move(pidfd);
      return Error(ETIMEDOUT, "ask a mount: it does not answer");
    }
  }
  Reap(pidfd.get());
  BoundedAnswer answer;
  if (read(read_end.get(), &answer, sizeof answer) == static_cast<ssize_t>(sizeof answer)) return answer;
  if (!ended) return Error(ETIMEDOUT, "ask a mount: it does not answer");
  return Error(EIO, "ask a mount: the helper ended without an answer");
}

}  // namespace moorfs::os
