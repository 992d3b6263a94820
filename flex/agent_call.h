// SPDX-License-Identifier: Apache-2.0
//
// One request to the node agent.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/status.h"

namespace moorfs::flex {

// The agent's own error keeps its errno and message; that nobody serves the
// socket, or that the answer is late, is said with the remedy.
Result<nlohmann::json> AskAgent(const nlohmann::json& request, int timeout_ms);

}  // namespace moorfs::flex
