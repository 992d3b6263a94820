// SPDX-License-Identifier: Apache-2.0

#include "common/control/client.h"

#include <nlohmann/json.hpp>

#include "common/control/json_line.h"
#include "common/control/line_socket.h"

namespace moorfs::control {
namespace {

void Tell(const std::function<void(std::string_view)>& to, const Json& text) {
  if (to && text.is_string()) to(text.get_ref<const std::string&>());
}

Status DecodeError(const Json& error) {
  if (!error.is_object() || !error.contains("errno") || !error["errno"].is_number_integer() ||
      !error.contains("message") || !error["message"].is_string()) {
    return Status(EPROTO, "read a control answer: its error has an unknown shape");
  }
  const int err = error["errno"].get<int>();
  return Status(err > 0 ? err : EPROTO, error["message"].get<std::string>());
}

}  // namespace

Result<Json> Call(const std::string& socket_path, const Json& request, const CallOptions& options) {
  ASSIGN_OR_RETURN(LineSocket socket, ConnectUnix(socket_path, options.timeout_ms));
  TRY_VOID(socket.Send(request.dump(-1, ' ', false, Json::error_handler_t::replace), options.timeout_ms));
  for (;;) {
    ASSIGN_OR_RETURN(const std::string line, socket.Receive(options.timeout_ms));
    Json answer = ParseLine(line);
    if (!answer.is_object()) return Error(EPROTO, "read a control answer: it is no JSON object");
    if (answer.contains("ok")) return std::move(answer["ok"]);
    if (answer.contains("error")) return Error(DecodeError(answer["error"]));
    if (answer.contains("progress")) Tell(options.on_progress, answer["progress"]);
    if (answer.contains("line")) Tell(options.on_line, answer["line"]);
  }
}

}  // namespace moorfs::control
