// SPDX-License-Identifier: Apache-2.0
//
// A volume that nobody has mounted, opened by a command under the volume's
// lock; and the way of a command to a volume, mounted or not.

#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "common/base/status.h"
#include "common/os/lock_file.h"
#include "fs/admin/locate.h"
#include "fs/admin/output.h"
#include "fs/admin/volume_ops.h"

namespace moorfs::admin {

// Takes the lock, which says by whom. EBUSY names the holder and the remedy.
Result<os::LockFile> LockVolume(const MetaUrl& meta, const std::string& command);

// Closed in reverse order; the lock goes last.
struct OfflineVolume {
  std::optional<os::LockFile> lock;
  std::unique_ptr<kv::KvStore> kv;
  VolumeFormat format;
  std::unique_ptr<object::ObjectStore> store;
  std::unique_ptr<chunk::BlockStore> blocks;
  std::unique_ptr<meta::Meta> meta;
};
// ENOENT: no volume there. The store must be there and be this volume's.
Result<OfflineVolume> OpenOffline(const MetaUrl& meta, const std::string& command);

// Runs an operation of volume_ops.h where the volume is: in the client that
// serves it, or here. `target` is a META URL or a path of a mount. `request`
// has "cmd". Lines of its answer go to `on_line`, or to stdout when empty.
Result<nlohmann::json> CallVolume(const std::string& target, const nlohmann::json& request, Output& out,
                                  const std::function<Status(std::string_view)>& on_line = {});

}  // namespace moorfs::admin
