// SPDX-License-Identifier: Apache-2.0
//
// The door's command line: kubelet's calls as they are, with an operator's own
// switches before the verb (kubelet never sends any).

#pragma once

#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/config/volume_options.h"

namespace moorfs::flex {

struct Call {
  std::string verb;
  std::vector<std::string> arguments;  // behind the verb
  bool standalone = false;             // --standalone: without an agent
  bool trusted = false;                // --trust-volume: options as in a PersistentVolume
  config::FsNames fs_names;            // --fs NAME=META, for --standalone and explain
  int timeout_ms = 0;                  // --timeout SECONDS; 0 = the verb's own
};

// `words` without the program's name. EINVAL says how it is called.
Result<Call> ParseCall(const std::vector<std::string>& words);

}  // namespace moorfs::flex
