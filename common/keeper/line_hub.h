// SPDX-License-Identifier: Apache-2.0
//
// The answering side of a socket whose lines carry descriptors: any number of
// callers, one thread, nothing that waits for one of them. It belongs into its
// owner's poll loop.

#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/keeper/fd_line_socket.h"

namespace moorfs::keeper {

class LineHub {
 public:
  using Id = uint64_t;
  struct Hooks {
    std::function<bool(uid_t)> admits;
    std::function<std::string()> greeting;
    std::function<void(Id, FdLine)> on_line;
  };
  // `listener`: not blocking. Callers beyond `max_callers` are hung up on.
  LineHub(UniqueFd listener, size_t max_callers, Hooks hooks);

  // Appends what to wait for; then give the same entries to Handle.
  void AddTo(std::vector<pollfd>* polled) const;
  void Handle(const pollfd* polled, size_t count);

  // A caller that went away or does not read is forgotten.
  void Send(Id to, std::string_view line, std::vector<UniqueFd> fds = {});
  void Broadcast(std::string_view line);
  // Before the process ends: what is queued goes out, as far as it is read.
  void Finish(int timeout_ms);

 private:
  struct Caller {
    FdLineSocket socket;
    bool gone = false;
  };
  void Accept();
  void Hear(Id id, Caller& caller);

  UniqueFd listener_;
  const size_t max_callers_;
  const Hooks hooks_;
  std::map<Id, Caller> callers_;
  Id next_id_ = 1;
};

}  // namespace moorfs::keeper
