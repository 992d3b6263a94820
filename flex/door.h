// SPDX-License-Identifier: Apache-2.0
//
// The FlexVolume door: one process for each of kubelet's calls. `init` and
// whatever needs no mount are answered here; mount and unmount by the node
// agent, within a deadline.

#pragma once

namespace moorfs::flex {

// The main() of the role. `full_program` is what --standalone executes; null:
// look for an installed moorfs.
int DoorMain(int argc, char** argv, const char* full_program);

}  // namespace moorfs::flex
