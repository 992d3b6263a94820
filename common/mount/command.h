// SPDX-License-Identifier: Apache-2.0
//
// Running `moorfs …` and reading what it says, within a deadline.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/mount/name_locks.h"
#include "common/os/process.h"

namespace moorfs::mount {

class Command {
 public:
  struct Options {
    std::string executable;
    std::vector<std::string> arguments;  // after the program's name
    bool own_cgroup = false;             // of clients, see cgroups.h
    bool ends_with_caller = false;       // killed when the calling thread dies
  };
  static Result<Command> Start(const Options& options);

  // The answer: stdout's last line as JSON. A failure has the command's own
  // errno and words. ETIMEDOUT: it still runs, Wait again or Kill.
  Result<nlohmann::json> Wait(Deadline deadline);
  // Ends it, and waits until it is gone.
  void Kill();
  bool Running();

 private:
  Result<nlohmann::json> Answer(const os::ExitStatus& ended) const;
  void ReadSome(int timeout_ms);

  os::Child child_;
  UniqueFd out_, err_;
  std::string out_text_, err_text_;
  std::string name_;  // for messages
};

}  // namespace moorfs::mount
