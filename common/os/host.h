// SPDX-License-Identifier: Apache-2.0
//
// What this machine is called: for messages and records that another machine
// may read, and as a node's name where nobody gives one.

#pragma once

#include <string>

namespace moorfs::os {

// Empty when the kernel does not say.
std::string HostName();

}  // namespace moorfs::os
