// SPDX-License-Identifier: Apache-2.0
//
// The cluster's one configuration file, from its ConfigMap: which file systems
// there are and what mount pods look like. JSON; unknown members are refused by
// name with the nearest known one.
//   {"fileSystems": {"main": {"meta": "leveldb:/volumes/main/meta", "openToPods": false}},
//    "defaultFileSystem": "main",
//    "mountPods": {"namespace": "moorfs-mounts", "image": "moorfs.io/moorfs:0.1.0", …}}
// In a mount pod the claim CLAIM of that namespace is mounted at /volumes/CLAIM:
// an embedded engine's META begins with it, and so does its store.

#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/config/volume_options.h"

namespace moorfs::config {

struct MountPodConfig {
  std::string ns = "moorfs-mounts";
  std::string image;                 // required
  std::string image_pull_policy;     // empty: Kubernetes' default
  std::vector<std::string> image_pull_secrets;
  std::string priority_class = "moorfs-mount";  // empty: none
  std::string cpu_request = "50m", memory_request = "128Mi";
  std::string cpu_limit;             // empty: none
  std::string memory_limit;          // empty: by the client's memory option
  std::string tolerations_json = R"([{"operator": "Exists"}])";
  std::map<std::string, std::string> labels, annotations;  // added to those of our own
  int delete_delay_s = 0;            // a pod without references stays this long
  int64_t run_as_user = 65532;       // also its group
};

struct ClusterConfig {
  FsNames file_systems;
  PodFsNames open_to_pods;
  std::string default_fs;
  MountPodConfig mount_pods;
};
// EINVAL names the member and the remedy.
Result<ClusterConfig> ParseClusterConfig(std::string_view json);
Result<ClusterConfig> ReadClusterConfig(const std::string& path);

// The claim in "leveldb:/volumes/CLAIM/…"; EINVAL says how to write it, for an
// embedded engine elsewhere. Empty for an engine that is not embedded.
Result<std::string> ClaimOf(std::string_view meta);

}  // namespace moorfs::config
