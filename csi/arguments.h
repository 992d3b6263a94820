// SPDX-License-Identifier: Apache-2.0
//
// The command lines of `moorfs node` and `moorfs controller`.

#pragma once

#include <optional>
#include <string>

#include "common/config/cluster_config.h"
#include "common/config/volume_options.h"
#include "common/log/log.h"
#include "csi/file_systems.h"

namespace moorfs::csi {

// Where the Kubernetes API is; server empty: as every pod finds it.
struct KubeArguments {
  std::string server, ca_file, token_file;
};

inline constexpr char kMountsInProcesses[] = "processes", kMountsInPods[] = "pods";
inline constexpr char kVolumesByCommands[] = "commands", kVolumesByAgents[] = "agents";

struct NodeArguments {
  std::string csi_socket;
  std::string kubelet_endpoint;  // the CSI socket as kubelet sees it
  std::string node_id;
  std::string state_root;
  std::string kubelet_root;
  std::string registration_dir;  // empty: no registration
  std::string agent_socket;      // empty: no door for FlexVolume
  std::string http;              // empty: none
  FileSystems file_systems;
  int64_t max_volumes = 0;
  config::Trust flex_trust = config::Trust::kPod;
  std::string mounts = kMountsInProcesses;
  std::optional<config::ClusterConfig> config;  // always there for kMountsInPods
  std::string keeper_socket;                    // empty: no second holder
  KubeArguments kube;
};
struct ControllerArguments {
  std::string csi_socket;
  std::string http;
  FileSystems file_systems;
  std::string volumes = kVolumesByCommands;
  std::optional<config::ClusterConfig> config;  // always there for kVolumesByAgents
  std::string node_id;  // who gets a volume that no node is nearer to
  KubeArguments kube;
};

// nullopt: help was printed, or a mistake was named; `exit_code` says which.
// Sets the log's level.
std::optional<NodeArguments> ParseNodeArguments(int argc, char** argv, int* exit_code);
std::optional<ControllerArguments> ParseControllerArguments(int argc, char** argv, int* exit_code);

}  // namespace moorfs::csi
