// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/runtime_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/units.h"
#include "common/control/line_socket.h"
#include "common/os/file.h"

namespace moorfs::keeper {

std::string RuntimeRoot() {
  const char* configured = std::getenv("MOORFS_RUNTIME_DIR");
  return configured && *configured ? configured : "/run/moorfs";
}

RuntimePaths PathsOf(const std::string& root, uint32_t major, uint32_t minor) {
  return {root + "/" + std::to_string(major) + ":" + std::to_string(minor)};
}

std::vector<RuntimePaths> ListRuntimeDirs(const std::string& root) {
  std::vector<RuntimePaths> out;
  DIR* dir = opendir(root.c_str());
  if (dir == nullptr) return out;
  while (const dirent* entry = readdir(dir)) {
    const std::string path = root + "/" + entry->d_name;
    if (entry->d_name[0] != '.' && access((path + "/info.json").c_str(), F_OK) == 0) out.push_back({path});
  }
  closedir(dir);
  return out;
}

Result<RuntimeDir> RuntimeDir::Claim(const std::string& root, uint32_t major, uint32_t minor) {
  TRY_VOID(os::MakeDirs(root, 0700));
  const RuntimePaths paths = PathsOf(root, major, minor);
  if (access(paths.directory.c_str(), F_OK) == 0) {
    if (control::ConnectUnix(paths.KeeperSocket(), 1000)) {
      const std::string aside = paths.directory + ".draining-" + std::to_string(MonotonicNs());
      if (rename(paths.directory.c_str(), aside.c_str()) != 0) {
        return Error(Status::FromErrno("rename " + paths.directory));
      }
    } else {
      TRY_VOID(os::RemoveTree(paths.directory));
    }
  }
  TRY_VOID(os::MakeDirs(paths.directory, 0700));
  UniqueFd fd(open(paths.directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return Error(Status::FromErrno("open " + paths.directory));
  return RuntimeDir(std::move(fd), paths.directory);
}

RuntimePaths RuntimeDir::paths() const {
  char buffer[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd_.get());
  const ssize_t n = readlink(link.c_str(), buffer, sizeof buffer);
  return {n > 0 ? std::string(buffer, static_cast<size_t>(n)) : claimed_as_};
}

Status RuntimeDir::WriteInfo(std::string_view json) { return os::ReplaceFile(paths().InfoFile(), json, 0600); }

Status RuntimeDir::Remove() { return os::RemoveTree(paths().directory); }

}  // namespace moorfs::keeper
