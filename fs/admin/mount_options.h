// SPDX-License-Identifier: Apache-2.0
//
// The options of a mount: one table for `-o name=value`, for `--name value`
// and for fstab. '-' and '_' in a name are the same.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/base/units.h"

namespace moorfs::admin {

struct MountOptions {
  unsigned long mount_flags = 0;  // MS_*
  bool read_only = false;
  std::string subdir;
  std::string cache_dir;
  uint64_t cache_bytes = 1_GiB;
  uint64_t memory_bytes = 256_MiB;
  uint64_t read_ahead_bytes = 4_MiB;
  std::string client_user;
  int abort_after_s = 300;
  int start_timeout_s = 60;
  std::string log_level = "info";
  std::string log_file;
};

struct MountOptionSpec {
  const char* name;
  const char* metavar;  // empty: a word without a value
  const char* fallback; // the default, for the help
  const char* help;
};
// Options with a value or of our own; the kernel's words (nosuid, noexec,
// relatime, …) are understood besides.
const std::vector<MountOptionSpec>& MountOptionTable();

// "a=1,b,c=2" as after -o. EINVAL names an unknown word and the nearest known
// one, or the value that cannot be used. Words for mount(8) and init systems
// (noauto, _netdev, nofail, x-systemd.…) mean nothing here and are accepted.
Status ApplyMountOptions(std::string_view text, MountOptions* options);
Status ApplyMountOption(std::string_view name, std::string_view value, MountOptions* options);
// Checks what only makes sense together.
Status CheckMountOptions(const MountOptions& options);

// How --memory is shared out; the rest is for metadata, requests in flight and
// the program itself.
inline uint64_t DirtyBudget(const MountOptions& o) { return o.memory_bytes / 2; }
inline uint64_t BlockCacheBytes(const MountOptions& o) { return o.memory_bytes / 4; }

}  // namespace moorfs::admin
