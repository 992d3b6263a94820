// SPDX-License-Identifier: Apache-2.0
//
// Applications that check every answer they get, and how long it took.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "test/unit/fs_fuse/takeover_rig.h"

namespace moorfs::fuse {

// Each is to be run in a process of its own.
std::vector<std::function<void()>> StandardLoad(const std::string& dir, RigShared& shared);

}  // namespace moorfs::fuse
