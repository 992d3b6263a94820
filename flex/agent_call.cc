// SPDX-License-Identifier: Apache-2.0

#include "flex/agent_call.h"

#include <nlohmann/json.hpp>

#include "common/agent/protocol.h"
#include "common/control/line_socket.h"

namespace moorfs::flex {
namespace {

using Json = nlohmann::json;

// Connecting to a socket that is served takes no time; a full queue of callers
// is worth a moment.
constexpr int kConnectMs = 800;

Status NoAgent(const std::string& path, const Status& status) {
  switch (status.err()) {
    case ENOENT:
    case ECONNREFUSED:
      return Status(status.err(), "no MoorFS agent serves " + path + ": start `moorfs node` on this host (or its " +
                                      "DaemonSet), or call by hand with --standalone");
    case EACCES:
    case EPERM:
      return Status(status.err(), "the MoorFS agent at " + path + " answers root only: call as root");
    default:
      return status;
  }
}

Status Late(const Status& status, int timeout_ms) {
  if (status.err() == ETIMEDOUT) {
    return Status(ETIMEDOUT, "the MoorFS agent did not answer within " + std::to_string(timeout_ms / 1000) +
                                 " s; the call may be repeated");
  }
  if (status.err() == EPIPE) return Status(EPIPE, "the MoorFS agent ended during the call; the call may be repeated");
  return status;
}

Status AgentError(const Json& error) {
  const bool good = error.is_object() && error.contains("message") && error["message"].is_string() &&
                    error.contains("errno") && error["errno"].is_number_integer();
  if (!good) return Status(EPROTO, "the MoorFS agent's answer is not understood");
  const int err = error["errno"].get<int>();
  return Status(err > 0 ? err : EPROTO, error["message"].get<std::string>());
}

}  // namespace

Result<Json> AskAgent(const Json& request, int timeout_ms) {
  const std::string path = agent::SocketPath();
  auto socket = control::ConnectUnix(path, kConnectMs);
  if (!socket) return Error(NoAgent(path, socket.error()));
  const Status sent = socket->Send(request.dump(-1, ' ', false, Json::error_handler_t::replace), timeout_ms);
  if (!sent.ok()) return Error(Late(sent, timeout_ms));
  const auto line = socket->Receive(timeout_ms);
  if (!line) return Error(Late(line.error(), timeout_ms));
  Json answer = Json::parse(*line, nullptr, /*allow_exceptions=*/false);
  if (answer.is_object() && answer.contains("ok")) return std::move(answer["ok"]);
  if (answer.is_object() && answer.contains("error")) return Error(AgentError(answer["error"]));
  return Error(EPROTO, "the MoorFS agent's answer is not understood");
}

}  // namespace moorfs::flex
