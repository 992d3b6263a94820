// SPDX-License-Identifier: Apache-2.0
//
// Unmounting: through the keeper, which stores unsaved data first; or around
// it when it is dead.

#pragma once

#include <string>

#include "common/base/status.h"
#include "fs/admin/output.h"

namespace moorfs::admin {

struct UmountRequest {
  std::string mountpoint;
  bool lazy = false;
  bool discard_unsaved = false;
};
Status UmountVolume(const UmountRequest& request, Output& out);

}  // namespace moorfs::admin
