// SPDX-License-Identifier: Apache-2.0
//
// Where clients' own mounts are: ROOT/<mount key>/<generation>. Nothing here
// looks below one of them. Thread-safe.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/mount/launcher.h"
#include "common/os/bounded.h"

namespace moorfs::mount {

inline constexpr char kFsType[] = "fuse.moorfs";

// Of "0:57"; zeros for what is no device.
struct DeviceNumbers {
  uint32_t major = 0, minor = 0;
};
DeviceNumbers NumbersOf(std::string_view device);

class SourceMounts {
 public:
  // Makes the directory, and every mount below it private: a bind of a shared
  // mount joins its peer group, and a repair of one target would then appear on
  // all of them, and on the host. What a new mount namespace inherits comes back
  // shared.
  static Result<std::unique_ptr<SourceMounts>> Open(const std::string& root);

  std::string PathOf(const std::string& mount_key, int generation) const;
  // "0:57", when our file system is mounted there.
  Result<std::optional<std::string>> DeviceAt(const std::string& path) const;
  // Where else the device is mounted; empty: nowhere.
  Result<std::string> OtherMount(const std::string& device) const;
  Result<std::vector<Source>> All() const;
  int NextGeneration(const std::string& mount_key) const;
  static Status MakePrivate(const std::string& path);
  // Detaches it, whoever still uses it, and removes its directory.
  Status Discard(const std::string& mount_key, int generation);
  Status RemoveDirectory(const std::string& mount_key, int generation);

 private:
  explicit SourceMounts(std::string root) : root_(std::move(root)) {}
  const std::string root_;  // as the mount table has it
  os::BoundedCalls detach_;
};

}  // namespace moorfs::mount
