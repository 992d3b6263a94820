// SPDX-License-Identifier: Apache-2.0
//
// A pod as the mount manager needs it. Pure.

#pragma once

#include <map>
#include <string>

#include "common/base/status.h"
#include "common/kube/api.h"

namespace moorfs::kube {

struct Pod {
  std::string name, ns, uid;
  std::string resource_version;
  std::map<std::string, std::string> labels, annotations;
  std::string node;     // empty: not scheduled yet
  std::string phase;    // Pending, Running, Succeeded, Failed, Unknown
  bool deleting = false;
  std::string image;    // of its first container
  // Of the first container: what it waits for, and how it ended last.
  std::string waiting_reason, waiting_message;        // "ImagePullBackOff", …
  std::string terminated_reason;                      // "OOMKilled", "Error", …
  int exit_code = 0;
  int restarts = 0;
  bool container_running = false;
  // Of the pod: why it failed or is not scheduled ("Evicted", "Unschedulable", …).
  std::string reason, message;

  bool Ended() const { return phase == "Failed" || phase == "Succeeded"; }
};
// EPROTO names the member.
Result<Pod> ParsePod(const Json& object);

// Why a pod that should run does not, as a sentence with a remedy where there is
// one; empty while nothing speaks against it. ENOSPC for what more room would
// cure (unschedulable, OutOfcpu, quota), EIO otherwise.
Status Trouble(const Pod& pod);

}  // namespace moorfs::kube
