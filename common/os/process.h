// SPDX-License-Identifier: Apache-2.0
//
// Starting a process with exactly the descriptors it is meant to have, and
// watching it by pidfd, so that a recycled pid is never mistaken for it.

#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::os {

struct SpawnRequest {
  // argv[0] too; `executable` is what is run ("/proc/self/exe" is allowed).
  std::string executable;
  std::vector<std::string> argv;
  // Become 3, 4, 5, ... in the child; nothing else above 2 is inherited.
  std::vector<int> fds;
  // -1: /dev/null for stdin, inherited for the others.
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  // Drops to this user before exec: groups, ids, hence all capabilities; and
  // no set-id file can give them back.
  struct User {
    uid_t uid;
    gid_t gid;
  };
  std::optional<User> user;
  bool new_session = false;
  std::string directory;  // chdir; empty = stay
  // Open `cgroup.procs` files: the child moves itself there before exec, where
  // it can.
  std::vector<int> cgroups;
  // Sent to the child when the thread that started it ends; 0 = none.
  int parent_death_signal = 0;
};

struct Child {
  pid_t pid = 0;
  UniqueFd pidfd;
};

// Returns once exec succeeded; errors of the child's side name the step.
Result<Child> Spawn(const SpawnRequest& request);

// How a child ended.
struct ExitStatus {
  bool signaled = false;
  int code = 0;  // exit code or signal number
  // "exited with 3", "killed by signal 9 (Killed)".
  std::string Describe() const;
};
// nullopt: still running after `timeout_ms` (-1 = no limit). Reaps.
Result<std::optional<ExitStatus>> WaitChild(const Child& child, int timeout_ms);

// For a process that is not our child. ESRCH: no such process.
Result<UniqueFd> OpenPidfd(pid_t pid);
// True once the process is gone.
bool WaitPidfd(int pidfd, int timeout_ms);
Status SignalPidfd(int pidfd, int signal);

// "nobody" or "nobody:nogroup" or numeric ids. EINVAL names the unknown part.
Result<SpawnRequest::User> LookUpUser(const std::string& text);

}  // namespace moorfs::os
