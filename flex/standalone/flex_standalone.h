// SPDX-License-Identifier: Apache-2.0
//
// `moorfs flex-standalone`: one request of the agent's protocol from stdin,
// done by a mount manager that lives for this call only. Executed by the door
// (--standalone); the clients it starts live on, in their own cgroup, and an
// agent that starts later takes them over from the records.

#pragma once

namespace moorfs::standalone {

int FlexStandaloneMain();

}  // namespace moorfs::standalone
