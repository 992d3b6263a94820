// SPDX-License-Identifier: Apache-2.0
//
// The mount manager with clients in mount pods: its parts, put together. What
// the controller asks of this node's volumes is answered here as well.

#pragma once

#include <memory>
#include <string>

#include "common/config/cluster_config.h"
#include "common/kube/api.h"
#include "common/mount/mount_manager.h"

namespace moorfs::mount {

struct PodManagerConfig {
  ManagerConfig manager;
  std::string node;           // its name in the cluster
  std::string keeper_socket;  // of the node's depot; empty: none
  kube::ApiConfig api;
  config::MountPodConfig pods;
};
// Does not wait for the API server: what can be done without it is done.
Result<std::unique_ptr<MountManager>> StartPodManager(const PodManagerConfig& config);

}  // namespace moorfs::mount
