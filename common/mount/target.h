// SPDX-License-Identifier: Apache-2.0
//
// Targets: the directories kubelet names, and what is mounted at them. The
// kubelet root is opened once; everything below it is reached from there
// without following a symlink or leaving it, whoever plants one.

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/mount/name_locks.h"
#include "common/os/bounded.h"
#include "common/os/mountinfo.h"

namespace moorfs::mount {

// One target by its three names.
struct TargetName {
  std::string path;  // as the mount table has it
  std::string ref;   // as the record has it
  std::string hash;
};

// Text rules only: absolute, UTF-8, no NUL, no "." or "..", lengths. Returns the path
// without doubled and trailing slashes. EINVAL names the field and the rule.
Result<std::string> CleanTargetPath(std::string_view target);
// The same for a directory inside a volume; "" is allowed, leading '/' is not.
Status CheckVolumeDirectory(std::string_view directory);
Status CheckVolumeId(std::string_view id);

// Bottom first, by the chain of parents.
std::vector<os::MountEntry> LayersAt(const std::vector<os::MountEntry>& table, std::string_view path);
// False for a mount whose directory was deleted.
bool ShowsRoot(const os::MountEntry& mount, std::string_view volume_directory);
bool IsReadOnly(const os::MountEntry& mount);
// MS_* of the mount, not of its file system.
unsigned long FlagsOf(const os::MountEntry& mount);

// The kernel's side of targets; an interface for the model check.
class Targets {
 public:
  virtual ~Targets() = default;
  virtual Result<TargetName> Name(std::string_view target) = 0;
  // From a record.
  virtual TargetName FromRef(const std::string& ref) = 0;
  // For a mount of ours that no record mentions: empty when it is no target
  // (kubelet's own bind for subPath, a copy outside the kubelet root).
  virtual std::string RefOfMount(const os::MountEntry& mount) = 0;
  virtual Result<std::vector<os::MountEntry>> Table() = 0;
  // Missing parents too. True: it was not there.
  virtual Result<bool> MakeDirectory(const TargetName& target) = 0;
  // OK when absent. ENOTEMPTY: it holds files of the node.
  virtual Status RemoveDirectory(const TargetName& target) = 0;
  struct Binding {
    std::string mount_key;  // whose server may hang
    std::string source;
    std::string root;       // directory below the source
    bool read_only = false;
    unsigned long flags = 0;  // MS_*, added to those of the source
  };
  // On top of whatever is there. ETIMEDOUT: it may still happen.
  virtual Status Bind(const TargetName& target, const Binding& binding, Deadline deadline) = 0;
  virtual Status SetReadOnly(const TargetName& target, const os::MountEntry& mount, bool read_only) = 0;
  // Takes the top mount off; detaches it when it stays in use.
  virtual Status Pop(const TargetName& target, const os::MountEntry& top, Deadline deadline) = 0;
  // Copies of dead mounts that are no targets, in containers and by subPath, get
  // a live mount of the same directory (dead_copies.h). How many did.
  virtual Result<int> RepairCopies(const std::vector<std::string>& dead_devices, const Binding& live,
                                   Deadline deadline) = 0;
  // A bind of this client may still happen.
  virtual bool BindPending(const std::string& mount_key) = 0;
};

struct KernelTargetsConfig {
  std::string kubelet_root;
  bool confine = true;
};
Result<std::unique_ptr<Targets>> MakeKernelTargets(const KernelTargetsConfig& config);

// The same by system calls alone, for a forked child: a descriptor, or -1 with
// errno. Where the kernel has no openat2(2), part by part. "." is `root` itself
// with it only.
int OpenDirectoryBeneath(int root, const char* path);

// The directory `path` (relative, clean) below `root`: no symlink, no way out.
// Missing parts are made when `create` says with which mode. O_PATH.
Result<UniqueFd> OpenBeneath(int root, const std::string& path, unsigned create_mode);

}  // namespace moorfs::mount
