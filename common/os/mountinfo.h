// SPDX-License-Identifier: Apache-2.0
//
// /proc/self/mountinfo: the kernel's own list of mounts, the only witness this
// code believes about what is mounted where. Parsing is separate from reading,
// so that tests and a fuzzer feed it bytes.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs::os {

struct MountEntry {
  int id = 0;
  int parent = 0;
  uint32_t major = 0;
  uint32_t minor = 0;
  std::string root;
  std::string mountpoint;
  std::string options;  // per mount: "rw,nosuid,relatime"
  std::string fstype;   // with the subtype: "fuse.moorfs"
  std::string source;
  std::string super_options;
  bool shared = false;  // propagates to a peer group

  std::string Device() const { return std::to_string(major) + ":" + std::to_string(minor); }
};

// EPROTO with the line's number for a line of the wrong shape: a mount table
// that is half understood must not be acted on.
Result<std::vector<MountEntry>> ParseMountInfo(std::string_view text);
Result<std::vector<MountEntry>> ReadMountInfo();

// The mount on top at exactly this path (no symlinks are followed).
std::optional<MountEntry> FindMountAt(const std::vector<MountEntry>& mounts, std::string_view path);
// Any mount of a device; nullopt once it is unmounted everywhere in this
// mount namespace.
std::optional<MountEntry> FindDevice(const std::vector<MountEntry>& mounts, uint32_t major, uint32_t minor);

// Absolute path without symlinks, "." or "..". Unlike realpath(3), the last
// component is not touched when everything before it resolves: a mount point
// whose server is dead answers ENOTCONN to lstat, and must still be found.
Result<std::string> CanonicalPath(std::string_view path);

}  // namespace moorfs::os
