// SPDX-License-Identifier: Apache-2.0
//
// The client as its keeper or supervisor sees it: a child with its descriptors,
// a channel it speaks over, and an end. Used by their loop only.

#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/base/status.h"
#include "common/control/line_socket.h"
#include "common/os/process.h"

namespace moorfs::keeper {

struct ClientFds {
  int fuse = -1;
  int arena = -1;
  int listener = -1;
  int lock = -1;
};

struct ClientProgram {
  std::string executable;  // started as `<executable> client`
  std::optional<os::SpawnRequest::User> user;
  // Killed when the process that started it ends.
  bool dies_with_parent = false;
  // Its parent protected itself from the OOM killer; the client shall not be.
  bool reset_oom_score = false;
};

class ClientProcess {
 public:
  // `client_json` is sent as the channel's first line.
  static Result<std::unique_ptr<ClientProcess>> Start(const ClientProgram& program, const ClientFds& fds,
                                                      const std::string& client_json);
  // A client never outlives this object unnoticed: the destructor kills and
  // reaps one that still runs.
  ~ClientProcess();

  pid_t pid() const { return child_.pid; }
  int pidfd() const { return child_.pidfd.get(); }
  // -1 after the client closed it.
  int channel_fd() const { return channel_ ? channel_->fd() : -1; }

  struct Message {
    enum class Kind { kProgress, kReady, kFailed } kind = Kind::kProgress;
    std::string text;  // progress, or the details of "ready" as JSON
    Status failure;
  };
  // The next message that arrived; nullopt when none did. A channel that ended
  // or speaks nonsense is closed; the end of the process says the rest.
  std::optional<Message> TakeMessage();

  Status Signal(int signal);
  // Call when pidfd() is readable.
  Result<os::ExitStatus> Reap();

 private:
  ClientProcess() = default;
  os::Child child_;
  bool reaped_ = false;
  std::optional<control::LineSocket> channel_;
};

}  // namespace moorfs::keeper
