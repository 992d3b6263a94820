// SPDX-License-Identifier: Apache-2.0
//
// "Did you mean …?" for mistyped words.

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moorfs::config {

// The candidate with the fewest edits, if few enough to be a slip; else empty.
std::string Nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace moorfs::config
