// SPDX-License-Identifier: Apache-2.0
//
// Mounting: the checks that need a volume, then a keeper that does the rest.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/config/volume_options.h"
#include "fs/admin/client_config.h"
#include "fs/admin/locate.h"
#include "fs/admin/output.h"

namespace moorfs::admin {

// What a new mount needs, wherever its client runs. The memory budget is shared
// out here; the rest of it is for metadata, requests in flight and the program
// itself.
Result<UniqueFd> MakeArena(const config::VolumeOptions& options);
// `uuid` may be empty: then a client serves the volume that is there.
ClientConfig MakeClientConfig(const MetaUrl& meta, const config::VolumeOptions& options, const std::string& uuid,
                              const std::string& host);

struct MountRequest {
  std::string meta;
  std::string mountpoint;
  config::VolumeOptions options;  // checked
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
