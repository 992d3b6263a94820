// SPDX-License-Identifier: Apache-2.0
//
// A client must outlive the service that started it: `systemctl restart
// kubelet` kills kubelet's whole cgroup, and so does the end of the agent's
// container. Clients therefore live in a cgroup "moorfs" of their own, directly
// below what this process sees as the root of each hierarchy (v1 and v2).

#pragma once

#include <vector>

#include "common/base/unique_fd.h"

namespace moorfs::mount {

// The open `cgroup.procs` of every hierarchy that lets us; a hierarchy that
// does not is named in the log once.
std::vector<UniqueFd> OpenClientCgroups();

}  // namespace moorfs::mount
