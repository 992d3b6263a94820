// SPDX-License-Identifier: Apache-2.0
//
// One mount that pods serve: its descriptors, and who serves it now. Made and
// read by the launcher; see there.

#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/keeper/supervisor_link.h"
#include "common/mount/record.h"

namespace moorfs::mount {

struct PodMount {
  std::string mount_key;
  int generation = 1;
  ClientSpec spec;
  std::string device;  // "0:57"
  std::string uuid;    // of the volume, once a client has said it: no other is served

  // ---- under the launcher's mutex ------------------------------------------
  UniqueFd fuse, arena;
  UniqueFd client_socket;  // O_PATH, of the pod that serves
  bool serving = false;
  bool ever_ready = false;
  bool finished = false;   // unmounted, and everything stored
  bool aborted = false;
  bool leaving = false;    // nobody wants it any more: the thread lets go of it
  Status failure;          // of a first start
  std::string trouble;     // why nobody serves it
  int64_t unserved_since_ns = 0;
  int64_t trouble_since_ns = 0;  // of its pod

  // ---- of the launcher's thread --------------------------------------------
  std::unique_ptr<keeper::SupervisorLink> link;
  UniqueFd directory;      // the pod's, of `link`
  std::string pod_uid;     // of `link`
  std::string settled_uid; // the pod for which everything was done that serving asks for
  bool told_ready = false;  // the pod's readiness says that it serves
  int64_t next_tidy_ns = 0;
  std::string image;       // of the pod that served last: this node has it
  bool deposited = false, deposited_arena = false;
  // Found after a start of the agent: whoever names it has its descriptors.
  bool adopted = false;
  // The pods that were given them since. Another one that names it means a mount
  // of before, whose name was free again.
  std::set<std::string> handed;
  int64_t next_try_ns = 0;      // to make a pod
  int64_t next_connect_ns = 0;  // to hand over
  int delay_ms = 0;

  // What supervisors and the depot call it.
  std::string Name() const { return mount_key + "/" + std::to_string(generation); }
};

}  // namespace moorfs::mount
