// SPDX-License-Identifier: Apache-2.0
//
// Clients as processes of this host: `moorfs mount` starts keeper and client,
// `moorfs umount` ends them.

#pragma once

#include <memory>
#include <string>

#include "common/mount/launcher.h"

namespace moorfs::mount {

struct ProcessLauncherConfig {
  std::string mounts_root;  // STATE/mounts
  std::string executable;
  std::string runtime_root;  // where keepers have their sockets
};
Result<std::unique_ptr<Launcher>> MakeProcessLauncher(const ProcessLauncherConfig& config);

// The control socket of the client that serves "0:57".
std::string ClientSocketOf(const std::string& runtime_root, const std::string& device);
std::string KeeperSocketOf(const std::string& runtime_root, const std::string& device);

}  // namespace moorfs::mount
