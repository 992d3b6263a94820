// SPDX-License-Identifier: Apache-2.0
//
// The words between the FlexVolume door and the agent: one JSON object per
// line over a unix socket (common/control), version 1.
//
//   {"cmd": "publish", "protocol": 1, "target": PATH, "options": {NAME: VALUE},
//    "secrets": {NAME: VALUE}, "volume_id": TEXT, "read_only": BOOL,
//    "fs_group": GID or absent, "trust": "pod" | "volume"}
//   {"cmd": "unpublish", "protocol": 1, "target": PATH}
//   {"cmd": "list", "protocol": 1}
//   {"cmd": "ping", "protocol": 1}
//
// The answer is an object, or an error with its errno and message. Both sides
// ignore members they do not know; a peer of another protocol number answers
// EPROTONOSUPPORT and names both. Depends on nothing but common/control, so that
// the door links statically and alone.

#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "common/base/status.h"

namespace moorfs::agent {

inline constexpr int kProtocol = 1;
// $MOORFS_AGENT_SOCKET, or this.
inline constexpr char kDefaultSocket[] = "/run/moorfs/agent.sock";
std::string SocketPath();

struct FlexPublish {
  std::string target;
  std::map<std::string, std::string> options;
  std::map<std::string, std::string> secrets;  // decoded
  std::string volume_id;
  bool read_only = false;
  std::optional<uint32_t> fs_group;
  bool from_pod = true;  // an inline volume: whoever may create a pod chose the options
};
nlohmann::json EncodePublish(const FlexPublish& request);
// EINVAL names the member.
Result<FlexPublish> DecodePublish(const nlohmann::json& request);
nlohmann::json EncodeUnpublish(const std::string& target);

}  // namespace moorfs::agent
