// SPDX-License-Identifier: Apache-2.0
//
// A line of a socket, or any other text of somebody who may mean harm, as JSON.
// Copying and writing nested values takes stack: a text of 200 KB that is all
// brackets would end the process that does it.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace moorfs::control {

// Discarded (it is no object) when it is no JSON, or deeper than 64 levels.
nlohmann::json ParseLine(std::string_view text);

}  // namespace moorfs::control
