// SPDX-License-Identifier: Apache-2.0
//
// The asking side of a control socket.

#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace moorfs::control {

using Json = nlohmann::json;

struct CallOptions {
  // Longest silence: between request and answer, and between two lines.
  int timeout_ms = 30'000;
  // Of the whole call, however much is said meanwhile; -1: no limit. For peers
  // that are not trusted to come to an end.
  int total_ms = -1;
  std::function<void(std::string_view)> on_progress;  // may be empty
  std::function<void(std::string_view)> on_line;      // may be empty
};

// One request over a connection of its own. The server's own error comes back
// with its errno and message. ENOENT/ECONNREFUSED: nobody serves the socket.
// EPIPE: the server died before it answered.
Result<Json> Call(const std::string& socket_path, const Json& request, const CallOptions& options);

}  // namespace moorfs::control
