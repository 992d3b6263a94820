// SPDX-License-Identifier: Apache-2.0
//
// Mounting: the checks that need a volume, then a keeper that does the rest.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/status.h"
#include "fs/admin/mount_options.h"
#include "fs/admin/output.h"

namespace moorfs::admin {

struct MountRequest {
  std::string meta;
  std::string mountpoint;
  MountOptions options;
  // Stay until the mount ends; log to stderr.
  bool foreground = false;
  // mount(8) asks again for what fstab lists: the same volume at the same
  // place is no error then.
  bool already_mounted_is_fine = false;
};

// Returns when the volume serves (with what `status` shows), or, in the
// foreground, when it is unmounted.
Result<nlohmann::json> MountVolume(const MountRequest& request, Output& out);

}  // namespace moorfs::admin
