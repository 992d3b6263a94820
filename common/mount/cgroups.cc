// SPDX-License-Identifier: Apache-2.0

#include "common/mount/cgroups.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <mutex>
#include <set>
#include <string>

#include "common/base/status.h"
#include "common/log/log.h"
#include "common/os/file.h"
#include "common/os/mountinfo.h"

namespace moorfs::mount {
namespace {

constexpr char kName[] = "/moorfs";

void Complain(const std::string& where, const Status& why) {
  static std::mutex mutex;
  static std::set<std::string> told;
  const std::lock_guard lock(mutex);
  if (!told.insert(where).second) return;
  LOG_WARNING("mount") << "clients stay in the agent's cgroup below " << where << ": " << why.message()
                       << "; ending the agent's service ends them too";
}

// A new cpuset has no processors and no memory, and takes no process.
Status InheritCpuset(const std::string& parent, const std::string& group) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    ASSIGN_OR_RETURN_STATUS(const std::string now, os::ReadFile(group + file, 1 << 16));
    if (now.find_first_not_of(" \n") != std::string::npos) continue;
    ASSIGN_OR_RETURN_STATUS(const std::string inherited, os::ReadFile(parent + file, 1 << 16));
    RETURN_IF_ERROR(os::WriteExisting(group + file, inherited));
  }
  return Status::Ok();
}

Result<UniqueFd> OpenGroup(const os::MountEntry& hierarchy) {
  const std::string group = hierarchy.mountpoint + kName;
  if (mkdir(group.c_str(), 0755) != 0 && errno != EEXIST) return Error(Status::FromErrno("make " + group));
  if (hierarchy.super_options.find("cpuset") != std::string::npos && hierarchy.fstype == "cgroup") {
    TRY_VOID(InheritCpuset(hierarchy.mountpoint, group));
  }
  UniqueFd fd(open((group + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return Error(Status::FromErrno("open " + group + "/cgroup.procs"));
  return fd;
}

}  // namespace

std::vector<UniqueFd> OpenClientCgroups() {
  std::vector<UniqueFd> out;
  const auto mounts = os::ReadMountInfo();
  if (!mounts) {
    Complain("/sys/fs/cgroup", mounts.error());
    return out;
  }
  std::set<std::string> seen;
  for (const os::MountEntry& m : *mounts) {
    if (m.fstype != "cgroup" && m.fstype != "cgroup2") continue;
    if (!seen.insert(m.Device()).second) continue;  // the same hierarchy elsewhere
    auto fd = OpenGroup(m);
    if (fd) {
      out.push_back(std::move(*fd));
    } else {
      Complain(m.mountpoint, fd.error());
    }
  }
  return out;
}

}  // namespace moorfs::mount
