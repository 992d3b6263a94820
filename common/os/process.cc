// SPDX-License-Identifier: Apache-2.0

#include "common/os/process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace moorfs::os {
namespace {

// What the child tells through a close-on-exec pipe when it cannot exec.
struct ChildFailure {
  int err;
  char step[60];
};

[[noreturn]] void Fail(int pipe, const char* step) {
  ChildFailure f{errno, {}};
  std::strncpy(f.step, step, sizeof f.step - 1);
  [[maybe_unused]] const ssize_t n = write(pipe, &f, sizeof f);
  _exit(127);
}

// Between fork and exec only async-signal-safe calls: other threads of the
// parent may hold any lock.
struct ChildPlan {
  const char* executable;
  char* const* argv;
  const int* fds;  // stdin, stdout, stderr, then 3...; -1 = leave (1, 2)
  int fd_count;
  int* moved;  // scratch of fd_count ints
  const SpawnRequest::User* user;
  bool new_session;
  const char* directory;  // or null
  const int* cgroups;
  size_t cgroup_count;
  int parent_death_signal;
  pid_t parent;
};

[[noreturn]] void RunChild(const ChildPlan& plan, int pipe) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int s : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD}) signal(s, SIG_DFL);
  if (plan.new_session && setsid() < 0) Fail(pipe, "start a session");
  for (size_t i = 0; i < plan.cgroup_count; ++i) {
    // A hierarchy that refuses leaves the child where it is.
    [[maybe_unused]] const ssize_t n = write(plan.cgroups[i], "0", 1);
  }
  // First out of the way of the target numbers, then into place.
  const int above = plan.fd_count + 3;
  pipe = fcntl(pipe, F_DUPFD_CLOEXEC, above);
  if (pipe < 0) _exit(127);
  for (int i = 0; i < plan.fd_count; ++i) {
    plan.moved[i] = plan.fds[i] < 0 ? -1 : fcntl(plan.fds[i], F_DUPFD_CLOEXEC, above);
    if (plan.fds[i] >= 0 && plan.moved[i] < 0) Fail(pipe, "duplicate a descriptor");
  }
  for (int i = 0; i < plan.fd_count; ++i) {
    if (plan.moved[i] >= 0 && dup2(plan.moved[i], i) < 0) Fail(pipe, "place a descriptor");
  }
  if (syscall(SYS_close_range, plan.fd_count, ~0U, CLOSE_RANGE_CLOEXEC) != 0) Fail(pipe, "close other descriptors");
  if (plan.directory && chdir(plan.directory) != 0) Fail(pipe, "change directory");
  if (plan.user) {
    if (setgroups(0, nullptr) != 0) Fail(pipe, "drop groups");
    if (setresgid(plan.user->gid, plan.user->gid, plan.user->gid) != 0) Fail(pipe, "change group");
    if (setresuid(plan.user->uid, plan.user->uid, plan.user->uid) != 0) Fail(pipe, "change user");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) Fail(pipe, "forbid new privileges");
  }
  // After a change of user, which would clear it.
  if (plan.parent_death_signal != 0) {
    if (prctl(PR_SET_PDEATHSIG, plan.parent_death_signal) != 0) Fail(pipe, "tie to the parent");
    if (getppid() != plan.parent) _exit(127);
  }
  execv(plan.executable, plan.argv);
  Fail(pipe, "exec");
}

Result<ExitStatus> Reap(pid_t pid) {
  int status = 0;
  pid_t r;
  do {
    r = waitpid(pid, &status, 0);
  } while (r < 0 && errno == EINTR);
  if (r < 0) return Error(Status::FromErrno("wait for process " + std::to_string(pid)));
  ExitStatus out;
  out.signaled = WIFSIGNALED(status);
  out.code = out.signaled ? WTERMSIG(status) : WEXITSTATUS(status);
  return out;
}

}  // namespace

std::string ExitStatus::Describe() const {
  if (!signaled) return "exited with " + std::to_string(code);
  const char* name = sigdescr_np(code);
  return "killed by signal " + std::to_string(code) + (name ? " (" + std::string(name) + ")" : "");
}

Result<Child> Spawn(const SpawnRequest& request) {
  UniqueFd null_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null_fd) return Error(Status::FromErrno("open /dev/null"));
  std::vector<int> fds = {request.stdin_fd < 0 ? null_fd.get() : request.stdin_fd, request.stdout_fd,
                          request.stderr_fd};
  fds.insert(fds.end(), request.fds.begin(), request.fds.end());
  std::vector<int> moved(fds.size(), -1);
  std::vector<char*> argv;
  for (const std::string& a : request.argv) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  ChildPlan plan{};
  plan.executable = request.executable.c_str();
  plan.argv = argv.data();
  plan.fds = fds.data();
  plan.fd_count = static_cast<int>(fds.size());
  plan.moved = moved.data();
  plan.user = request.user ? &*request.user : nullptr;
  plan.new_session = request.new_session;
  plan.directory = request.directory.empty() ? nullptr : request.directory.c_str();
  plan.cgroups = request.cgroups.data();
  plan.cgroup_count = request.cgroups.size();
  plan.parent_death_signal = request.parent_death_signal;
  plan.parent = getpid();

  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return Error(Status::FromErrno("make a pipe"));
  UniqueFd pipe_read(pipe_fds[0]), pipe_write(pipe_fds[1]);
  const pid_t pid = fork();
  if (pid < 0) return Error(Status::FromErrno("fork"));
  if (pid == 0) RunChild(plan, pipe_write.get());
  pipe_write.reset();
  ChildFailure failure;
  ssize_t n;
  do {
    n = read(pipe_read.get(), &failure, sizeof failure);
  } while (n < 0 && errno == EINTR);
  if (n == static_cast<ssize_t>(sizeof failure)) {
    if (auto reaped = Reap(pid); !reaped) return Error(reaped.error());
    return Error(Status::FromErrno("start " + request.executable + ": " + failure.step, failure.err));
  }
  Child child;
  child.pid = pid;
  child.pidfd = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!child.pidfd) return Error(Status::FromErrno("watch process " + std::to_string(pid)));
  return child;
}

Result<std::optional<ExitStatus>> WaitChild(const Child& child, int timeout_ms) {
  if (!WaitPidfd(child.pidfd.get(), timeout_ms)) return std::nullopt;
  ASSIGN_OR_RETURN(ExitStatus status, Reap(child.pid));
  return status;
}

Result<UniqueFd> OpenPidfd(pid_t pid) {
  UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return Error(Status::FromErrno("watch process " + std::to_string(pid)));
  return fd;
}

bool WaitPidfd(int pidfd, int timeout_ms) {
  pollfd p{pidfd, POLLIN, 0};
  int r;
  do {
    r = poll(&p, 1, timeout_ms);
  } while (r < 0 && errno == EINTR);
  return r > 0;
}

Status SignalPidfd(int pidfd, int sig) {
  if (syscall(SYS_pidfd_send_signal, pidfd, sig, nullptr, 0) == 0) return Status::Ok();
  return Status::FromErrno("signal a process");
}

Result<SpawnRequest::User> LookUpUser(const std::string& text) {
  const size_t colon = text.find(':');
  const std::string user = text.substr(0, colon);
  SpawnRequest::User out{};
  char* end = nullptr;
  const unsigned long uid = std::strtoul(user.c_str(), &end, 10);
  const bool numeric = !user.empty() && *end == '\0';
  const passwd* pw = numeric ? getpwuid(static_cast<uid_t>(uid)) : getpwnam(user.c_str());
  if (!numeric && pw == nullptr) return Error(EINVAL, "look up user \"" + user + "\": there is none; see `getent passwd`");
  out.uid = numeric ? static_cast<uid_t>(uid) : pw->pw_uid;
  out.gid = pw ? pw->pw_gid : static_cast<gid_t>(uid);
  if (colon == std::string::npos) return out;
  const std::string group = text.substr(colon + 1);
  const unsigned long gid = std::strtoul(group.c_str(), &end, 10);
  if (!group.empty() && *end == '\0') {
    out.gid = static_cast<gid_t>(gid);
    return out;
  }
  const struct group* gr = getgrnam(group.c_str());
  if (gr == nullptr) return Error(EINVAL, "look up group \"" + group + "\": there is none; see `getent group`");
  out.gid = gr->gr_gid;
  return out;
}

}  // namespace moorfs::os
