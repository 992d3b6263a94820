// SPDX-License-Identifier: Apache-2.0
//
// An orderly end of a mount: store what is only in memory, unmount, wait until
// the client has stored the rest and everyone is gone. Runs on a control
// thread; the keeper's loop sees the outcome as the client's exit.

#pragma once

#include <nlohmann/json_fwd.hpp>

#include "common/base/status.h"
#include "common/control/server.h"
#include "common/keeper/mount_state.h"

namespace moorfs::keeper {

struct UnmountOptions {
  bool lazy = false;     // detach although it is in use
  bool discard = false;  // when the store refuses: drop what it does not take
};

// EBUSY names the holders, and the mount serves on. An error of the store
// leaves everything as it was, too.
Result<nlohmann::json> Unmount(MountState& state, const UnmountOptions& options, control::Reply& reply);

}  // namespace moorfs::keeper
