// SPDX-License-Identifier: Apache-2.0
//
// Putting MoorFS onto a host and taking it away again: the FlexVolume door for
// kubelet and, when asked, the whole program. Each may be run at any time and
// again; a kill at any instant leaves what was there before, or the new.

#pragma once

#include <string>

#include "common/base/status.h"

namespace moorfs::installer {

struct Options {
  std::string host_root = "/";
  std::string host_proc;   // empty: proc below host_root
  std::string plugin_dir;  // the host's; empty: look for it, "none": no door
  std::string source;      // the door to install; empty: moorfs-flex beside this program
  bool full = false;
  std::string directory = "/opt/moorfs";  // of the whole program
  std::string sbin = "/sbin";             // of mount.moorfs and its like; "none"
  std::string state = "/var/lib/moorfs/installer";
  bool allow_downgrade = false;
  bool force = false;  // uninstall under live mounts
};

// What was done, for a person: one or more lines.
Result<std::string> Install(const Options& options);
// OK when everything is as Install would leave it. Changes nothing.
Result<std::string> Check(const Options& options);
Result<std::string> Uninstall(const Options& options);

// The roles `moorfs install …` and `moorfs uninstall …`.
int InstallMain(int argc, char** argv);
int UninstallMain(int argc, char** argv);

}  // namespace moorfs::installer
