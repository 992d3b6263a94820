// SPDX-License-Identifier: Apache-2.0
//
// What is known of a mount, shared by the keeper's loop (which writes it) and
// the threads that answer its control socket (which read it, and ask for an
// end).

#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/unique_fd.h"
#include "common/keeper/keeper_config.h"
#include "common/keeper/runtime_dir.h"

namespace moorfs::keeper {

enum class Phase {
  kStarting,    // the first client is not ready yet
  kServing,
  kRestarting,  // a client ended, its successor is not ready yet
  kAborted,     // nobody served for too long; the kernel answers errors
  kFinished,    // everything is stored, the keeper is about to leave
};
const char* PhaseName(Phase phase);

struct MountState {
  MountState(KeeperConfig c, uint32_t device_major, uint32_t device_minor);

  const KeeperConfig config;
  const uint32_t major;
  const uint32_t minor;
  const int64_t started_ns;

  std::mutex mutex;
  std::condition_variable changed;  // phase
  Phase phase = Phase::kStarting;
  bool mounted = true;      // in this mount namespace
  bool unmounting = false;  // somebody's request is under way
  bool discard = false;     // end the client and drop what is not stored
  pid_t client_pid = 0;
  std::string client_details = "{}";  // from its "ready"
  int64_t client_ready_ns = 0;
  uint64_t restarts = 0;
  std::string last_exit;
  std::string last_error;
  RuntimePaths paths;

  // An eventfd that wakes the loop.
  UniqueFd wake;
  void Wake();
  // For `status`.
  nlohmann::json ToJson();
};

}  // namespace moorfs::keeper
