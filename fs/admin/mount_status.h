// SPDX-License-Identifier: Apache-2.0
//
// What is known of a mount, from everyone who can be asked: mount table,
// keeper, client.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "common/base/status.h"
#include "fs/admin/locate.h"

namespace moorfs::admin {

// Never fails for a dead part: its state says so. "state" is serving,
// restarting, detached, aborted, starting, "keeper gone" or "dead".
nlohmann::json QueryMount(const keeper::RuntimePaths& paths);
// Every MoorFS mount of this machine.
std::vector<keeper::RuntimePaths> AllMounts();

}  // namespace moorfs::admin
