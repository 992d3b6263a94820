// SPDX-License-Identifier: Apache-2.0
//
// The version of this build, from project() in CMakeLists.txt: the only place
// where the number is written.

#pragma once

#include <string_view>

namespace moorfs {

inline constexpr std::string_view kVersion = MOORFS_VERSION;

}  // namespace moorfs
