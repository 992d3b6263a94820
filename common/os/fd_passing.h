// SPDX-License-Identifier: Apache-2.0
//
// Descriptors over a unix socket (SCM_RIGHTS), and who sits at its other end.

#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::os {

inline constexpr size_t kMaxPassedFds = 16;

// Sends `data` (not empty) and duplicates of `fds` as one message.
Status SendFds(int socket, std::string_view data, const std::vector<int>& fds);
struct Received {
  std::string data;
  std::vector<UniqueFd> fds;  // close-on-exec
};
// At most `max_bytes` of data. EPIPE at the end of the stream.
Result<Received> ReceiveFds(int socket, size_t max_bytes);

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
Result<PeerCredentials> GetPeerCredentials(int socket);

// Connected stream pair, close-on-exec.
Result<std::pair<UniqueFd, UniqueFd>> SocketPair();

}  // namespace moorfs::os
