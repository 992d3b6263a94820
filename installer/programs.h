// SPDX-License-Identifier: Apache-2.0
//
// Asking programs: run one with a deadline and take what it prints; the door's
// own words about itself; which of two versions is the newer one.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs::installer {

// Both output streams of `argv`, at most 1 MiB. An error when it does not start,
// exits with another code than 0 or takes longer than ten seconds.
Result<std::string> RunProgram(const std::vector<std::string>& argv);

// Executes `init` as kubelet does: OK when the answer is one.
Status CheckDoor(const std::string& path);
// Empty for a door that does not tell (one before this verb existed).
Result<std::string> DoorVersion(const std::string& path);

// Negative: a is older. "1.2.0-rc1" is older than "1.2.0"; an empty one is older than any.
int CompareVersions(std::string_view a, std::string_view b);

}  // namespace moorfs::installer
