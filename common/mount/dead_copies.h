// SPDX-License-Identifier: Apache-2.0
//
// Copies of a dead mount that no target shows: in mount namespaces of running
// containers, which a mount made on the host does not reach without
// mountPropagation, and kubelet's binds for subPath. When the descriptor of a
// mount was lost, these get a live mount too. Open files stay dead; a path that
// is opened anew works.
//
// The live mount goes beneath the dead one, which is then taken off, so that
// there is no moment without either (Linux 6.5); before that it is stacked on
// top. Needs open_tree(2) and move_mount(2) (Linux 5.2): ENOSYS otherwise, and
// such containers have to be restarted.

#pragma once

#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/os/bounded.h"
#include "common/os/mountinfo.h"

namespace moorfs::mount {

struct DeadCopy {
  int pid = 0;              // a process that sees it; 0: we do
  std::string mountpoint;   // as that process names it
  std::string root;         // of the copy, in the file system: "/a/b"
  bool read_only = false;
};

// All that any process of this PID namespace sees, each namespace once. What we
// see ourselves counts only below a volume-subpaths directory; what the process 1
// sees is a peer of it.
std::vector<DeadCopy> FindDeadCopies(const std::vector<std::string>& devices);

// Puts a live mount of `source`'s directory at the same place. `calls` bounds
// the path walk, which the client answers.
Status ReplaceDeadCopy(const DeadCopy& copy, const std::string& source, os::BoundedCalls& calls, int timeout_ms);

}  // namespace moorfs::mount
