// SPDX-License-Identifier: Apache-2.0
//
// The agent's end of a supervisor's socket. The directory is writable by the
// pod: the socket is opened without following a link, and who sits at the other
// end is checked.

#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::keeper {

struct SupervisorState {
  enum class Phase { kIdle, kStarting, kServing, kRestarting, kFinished, kFailed } phase = Phase::kIdle;
  std::string mount;
  pid_t pid = 0;         // of the supervisor, in its own namespace
  pid_t client_pid = 0;  // the same
  uint64_t restarts = 0;
  std::string last_exit, last_error;
  std::string uuid;      // of the volume; empty until a client told it
  bool sigterm = false;  // kubelet wants the pod gone
  std::string progress;  // while starting: the last word about it
};

// Not thread-safe, except where said.
class SupervisorLink {
 public:
  // `directory`: the pod's directory, opened by the caller (O_PATH). ENOENT,
  // ECONNREFUSED: nobody serves there yet. EPERM: the peer is not `uid`. ENOTSOCK:
  // something else lies there. EPROTO: it speaks another version, or nonsense.
  static Result<std::unique_ptr<SupervisorLink>> Connect(int directory, uid_t uid, int timeout_ms);

  // Readable: call Update(). Events that another call read on its way count.
  int fd() const;
  // Takes in what arrived; EPIPE when the supervisor is gone. True: the state
  // changed since the last Update() or since Connect().
  Result<bool> Update();
  const SupervisorState& state() const { return state_; }

  struct Serve {
    std::string mount;   // names the mount, for whoever asks later
    std::string meta;    // which volume
    std::string words;   // options, as after -o
    std::string device;  // "0:57"
    std::string host;    // the node's name: sessions show it
    int start_timeout_s = 60;
    int abort_after_s = 300;
    int fuse = -1;
    int arena = -1;      // -1: a new mount, make one
    std::string uuid;    // of the volume that must be served; empty: any
  };
  // After a call that timed out the link is of no use: EPIPE from then on.
  Status StartServing(const Serve& serve, int timeout_ms);
  struct Fetched {
    std::string mount, device, uuid;
    UniqueFd fuse, arena;
  };
  Result<Fetched> Fetch(int timeout_ms);
  Status StepAside(int timeout_ms);

  // A descriptor (O_PATH) of the client's control socket in `directory`, checked
  // to be a socket; "/proc/self/fd/N" is then its path for control::Call.
  static Result<UniqueFd> OpenClientSocket(int directory);

 private:
  struct Impl;
  explicit SupervisorLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
  SupervisorState state_;

 public:
  ~SupervisorLink();
};

}  // namespace moorfs::keeper
