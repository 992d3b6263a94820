// SPDX-License-Identifier: Apache-2.0
//
// The agent's socket: what the FlexVolume door asks (common/agent), done by the
// mount manager. Options are read here, with the trust that the node gives to
// flexVolumes, and names of file systems become META URLs.
//
// A door has no "maybe": kubelet forgets a target whose mount failed. What did
// not end in time is therefore taken back before the failure is reported,
// unless the target was published before the call.

#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/agent/protocol.h"
#include "common/base/status.h"
#include "common/config/volume_options.h"
#include "common/mount/mount_manager.h"

namespace moorfs::mount {

struct AgentConfig {
  std::string socket_path;
  config::FsNames fs_names;
  config::PodFsNames pod_fs;
  // For inline flexVolumes: kPod, or kVolume where only administrators create
  // pods.
  config::Trust flex_trust = config::Trust::kPod;
};

// What the words ask for. EINVAL names the option.
Result<PublishRequest> ReadPublish(const agent::FlexPublish& words, const AgentConfig& config);
// One request of the protocol; also what the door does without an agent.
Result<nlohmann::json> AnswerAgent(MountManager& manager, const AgentConfig& config, const nlohmann::json& request);

class AgentServer {
 public:
  // Listens at `config.socket_path` (root only), replacing a dead agent's
  // socket. `manager` must live longer.
  static Result<std::unique_ptr<AgentServer>> Start(MountManager& manager, const AgentConfig& config);
  // Waits for the calls under way; unmounts nothing.
  ~AgentServer();

 private:
  struct Impl;
  explicit AgentServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moorfs::mount
