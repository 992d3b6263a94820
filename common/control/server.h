// SPDX-License-Identifier: Apache-2.0
//
// The answering side of a control socket. One thread accepts; each connection
// gets a thread while fewer than `max_connections` are served, else it is told
// to come again. Only root and the server's own user are answered.

#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::control {

using Json = nlohmann::json;

// The stream of a command that answers bit by bit. A failure means the caller
// hung up or does not read: the command should stop.
class Reply {
 public:
  virtual ~Reply() = default;
  // A sentence about how far the work is, for people.
  virtual Status Progress(std::string_view text) = 0;
  // A line of the command's own output.
  virtual Status Line(std::string_view text) = 0;
  // True once the caller hung up. For long work between lines.
  virtual bool Cancelled() = 0;
};

struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
};

// Runs on a connection's thread; may take as long as it wants. `request` is an
// object with a string "cmd".
using Handler = std::function<Result<Json>(const Json& request, const Peer& peer, Reply& reply)>;

class Server {
 public:
  // `listener` is a bound, listening socket; who made it may be another
  // process, which then survives this one with its queue of callers.
  static Result<std::unique_ptr<Server>> Start(UniqueFd listener, Handler handler, int max_connections = 16);
  // Stops accepting, cancels what runs (Reply::Cancelled), and waits for the
  // handlers and their answers.
  ~Server();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moorfs::control
