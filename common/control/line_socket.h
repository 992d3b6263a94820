// SPDX-License-Identifier: Apache-2.0
//
// Lines over a connected stream socket: a length limit, so that a peer cannot
// make us hold its memory, and a deadline on every call, so that a peer that
// stops cannot hold a thread for ever.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::control {

inline constexpr size_t kMaxLineBytes = 1 << 20;

class LineSocket {
 public:
  explicit LineSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  // Sends `line` and a newline. EPIPE: the peer is gone. EMSGSIZE: too long.
  // `timeout_ms` < 0 waits for ever.
  Status Send(std::string_view line, int timeout_ms);
  // The next line without its newline. EPIPE: the peer closed (also inside a
  // line); ETIMEDOUT; EMSGSIZE.
  Result<std::string> Receive(int timeout_ms);
  // What arrived already, without waiting; EAGAIN when no whole line did.
  Result<std::string> TryReceive();

  int fd() const { return fd_.get(); }
  UniqueFd Release() { return std::move(fd_); }

 private:
  bool TakeLine(std::string* line);
  Status Fill(bool* got);

  UniqueFd fd_;
  std::string buffer_;
};

// Connects to a unix socket. ENOENT/ECONNREFUSED: nobody serves it.
Result<LineSocket> ConnectUnix(const std::string& path, int timeout_ms);
// Binds and listens, replacing a stale socket file. Mode 0600.
Result<UniqueFd> ListenUnix(const std::string& path);

}  // namespace moorfs::control
