// SPDX-License-Identifier: Apache-2.0
//
// When to look: the mount table changed, a keeper or client died, somebody
// asked, something was not through, or half a minute went by.

#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace moorfs::mount {

class Reconciler {
 public:
  struct Pass {
    bool again = false;        // look again soon
    std::vector<pid_t> watch;  // processes whose end is a reason to look
  };
  // `pass` runs on the reconciler's thread.
  static Result<std::unique_ptr<Reconciler>> Start(std::function<Pass()> pass);
  // Waits for a pass that runs.
  ~Reconciler();
  void Wake();

 private:
  struct Impl;
  explicit Reconciler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moorfs::mount
