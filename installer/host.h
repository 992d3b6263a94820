// SPDX-License-Identifier: Apache-2.0
//
// The host that is installed on, as seen from here: its root may be a directory
// of ours (a DaemonSet mounts it at /host). A path of the host is one that the
// host's own processes use; a path of ours is where the same file is for us.

#pragma once

#include <string>
#include <vector>

#include "common/base/status.h"

namespace moorfs::installer {

class Host {
 public:
  // `proc`: the host's /proc for us; empty for the one below its root.
  explicit Host(std::string root, std::string proc = "");

  // Ours for a host's path. Symlinks on the way mean the host's directories,
  // absolute ones too. What does not exist yet is taken as it is written.
  Result<std::string> Resolve(const std::string& path) const;
  const std::string& proc() const { return proc_; }

  // EROFS or EACCES with the reason and the remedy when programs cannot be put
  // below this path (ours), or not be executed there.
  Status CheckTakesPrograms(const std::string& path, const std::string& what, const std::string& remedy) const;
  // Where our FUSE mounts are, as the host's paths.
  Result<std::vector<std::string>> OurMounts() const;
  // Somebody runs a program below this path of the host; true when it cannot be known.
  bool RunsFrom(const std::string& path) const;

 private:
  std::string root_;  // "" for "/"
  std::string proc_;
};

}  // namespace moorfs::installer
