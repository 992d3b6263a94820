// SPDX-License-Identifier: Apache-2.0

#include "common/control/client.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
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
  const int64_t begun_ns = MonotonicNs();
  const auto patience_ms = [&]() -> int {
    if (options.total_ms < 0) return options.timeout_ms;
    const int64_t left = options.total_ms - (MonotonicNs() - begun_ns) / 1'000'000;
    return static_cast<int>(std::clamp<int64_t>(left, 0, options.timeout_ms));
  };
  ASSIGN_OR_RETURN(LineSocket socket, ConnectUnix(socket_path, options.timeout_ms));
  TRY_VOID(socket.Send(request.dump(-1, ' ', false, Json::error_handler_t::replace), options.timeout_ms));
  for (;;) {
    if (options.total_ms >= 0 && patience_ms() == 0) {
      return Error(ETIMEDOUT, "wait for a control answer: it did not come in " + std::to_string(options.total_ms) +
                                  " ms");
    }
    ASSIGN_OR_RETURN(const std::string line, socket.Receive(patience_ms()));
    Json answer = ParseLine(line);
    if (!answer.is_object()) return Error(EPROTO, "read a control answer: it is no JSON object");
    if (answer.contains("ok")) return std::move(answer["ok"]);
    if (answer.contains("error")) return Error(DecodeError(answer["error"]));
    if (answer.contains("progress")) Tell(options.on_progress, answer["progress"]);
    if (answer.contains("line")) Tell(options.on_line, answer["line"]);
  }
}

}  // namespace moorfs::control
