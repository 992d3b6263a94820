// SPDX-License-Identifier: Apache-2.0
//
// Where a mount's processes are found: <root>/<major>:<minor>/ with
// keeper.sock, client.sock and info.json; private to root. The device number
// is what mountinfo gives for a path, so no name has to be guessed.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::keeper {

// $MOORFS_RUNTIME_DIR, or /run/moorfs.
std::string RuntimeRoot();

struct RuntimePaths {
  std::string directory;
  std::string KeeperSocket() const { return directory + "/keeper.sock"; }
  std::string ClientSocket() const { return directory + "/client.sock"; }
  std::string InfoFile() const { return directory + "/info.json"; }
};
RuntimePaths PathsOf(const std::string& root, uint32_t major, uint32_t minor);
// Every mount with a directory below `root`, dead ones included.
std::vector<RuntimePaths> ListRuntimeDirs(const std::string& root);

// The directory as its keeper owns it.
class RuntimeDir {
 public:
  // A directory left by a dead keeper is replaced. One whose keeper still
  // stores the data of an unmounted volume, whose device number the kernel
  // gave away again, is renamed aside.
  static Result<RuntimeDir> Claim(const std::string& root, uint32_t major, uint32_t minor);
  // Where it is now: another keeper may have renamed it.
  RuntimePaths paths() const;
  Status WriteInfo(std::string_view json);
  Status Remove();

 private:
  explicit RuntimeDir(UniqueFd fd, std::string path) : fd_(std::move(fd)), claimed_as_(std::move(path)) {}
  UniqueFd fd_;
  std::string claimed_as_;
};

}  // namespace moorfs::keeper
