// SPDX-License-Identifier: Apache-2.0
//
// The whole program for a host that has none of its libraries:
//
//   DIR/VERSION-HASH/bin/moorfs         asks the kernel for the loader below
//   DIR/VERSION-HASH/lib/moorfs/        every library, and the loader
//   DIR/bin -> VERSION-HASH/bin         switched by one rename
//   /sbin/mount.moorfs, … -> DIR/bin/moorfs
//
// The binary is built with the search path $ORIGIN/../lib/moorfs, so that
// /proc/self/exe stays moorfs itself and nothing is handed down in the
// environment. Only the path of the loader has to be absolute.

#pragma once

#include <string>
#include <vector>

#include "installer/manifest.h"

namespace moorfs::installer {

// One thing on the host: a file's bytes, or a link's target.
struct Item {
  std::string path;  // the host's
  Entry::Kind kind = Entry::Kind::kFile;
  std::string content;
  std::string value;  // as in the manifest
  unsigned mode = 0755;
};

struct FullPlan {
  std::string directory;    // /opt/moorfs
  std::string version_dir;  // /opt/moorfs/0.1.0-0123456789ab
  std::string program, loader;
  std::vector<Item> files;
  Item bin;                   // the link that makes this version the one in use
  std::vector<Item> helpers;  // in /sbin
};
// From the program that runs here and the libraries it has loaded. `sbin` "none": no helpers.
Result<FullPlan> PlanFull(const std::string& directory, const std::string& sbin);

// "0.1.0" of the link target "0.1.0-0123456789ab/bin"; empty for anything else.
std::string VersionOfBin(const std::string& link_target);
// The placed program, run by its own loader, needs nothing of this machine.
Status CheckFull(const Host& host, const FullPlan& plan);
// Makes the kernel load `elf` with this loader. The loader's name inside stays.
Status SetInterpreter(std::string* elf, const std::string& path);

}  // namespace moorfs::installer
