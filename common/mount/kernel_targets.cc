// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "common/log/log.h"
#include "common/mount/dead_copies.h"
#include "common/mount/record.h"
#include "common/mount/target.h"

namespace moorfs::mount {
namespace {

// kubelet makes what lies above a target with this mode.
constexpr unsigned kDirectoryMode = 0750;
constexpr int kMaxBindMs = 15'000;
constexpr int kMaxPopMs = 10'000;
constexpr int kBusyTries = 20;
constexpr useconds_t kBusyPauseUs = 50'000;

enum BindStep { kOpenRoot = 1, kBindMount = 2, kSetFlags = 3 };

// All that the forked child needs; it may not allocate.
struct BindWork {
  int source = -1;
  const char* root = "";      // below the source
  char target_path[32];       // "/proc/self/fd/<target>", below what is mounted there
  const char* top_path = "";  // "/proc/self/fd/<parent>/<leaf>", what is mounted there
  bool remount = false;
  unsigned long flags = 0;
};

// "/proc/self/fd/<fd>" by nothing but arithmetic.
void FdPath(int fd, char (&out)[32]) {
  constexpr std::string_view kPrefix = "/proc/self/fd/";
  char digits[12];
  size_t n = 0;
  do {
    digits[n++] = static_cast<char>('0' + fd % 10);
    fd /= 10;
  } while (fd > 0);
  size_t at = 0;
  for (char c : kPrefix) out[at++] = c;
  while (n > 0) out[at++] = digits[--n];
  out[at] = '\0';
}

os::BoundedAnswer DoBind(void* argument) {
  const auto& w = *static_cast<const BindWork*>(argument);
  int root = w.source;
  if (w.root[0] != '\0') {
    root = OpenDirectoryBeneath(w.source, w.root);
    if (root < 0) return {errno, kOpenRoot};
  }
  char root_path[32];
  FdPath(root, root_path);
  if (::mount(root_path, w.target_path, nullptr, MS_BIND, nullptr) != 0) return {errno, kBindMount};
  if (w.remount && ::mount(nullptr, w.top_path, nullptr, MS_REMOUNT | MS_BIND | w.flags, nullptr) != 0) {
    const int err = errno;
    umount2(w.top_path, MNT_DETACH | UMOUNT_NOFOLLOW);
    return {err, kSetFlags};
  }
  return {};
}

os::BoundedAnswer DoUnmount(void* argument) {
  const char* path = static_cast<const char*>(argument);
  for (int i = 0; i < kBusyTries; ++i) {
    if (umount2(path, UMOUNT_NOFOLLOW) == 0) return {};
    if (errno != EBUSY) return {errno, 0};
    usleep(kBusyPauseUs);
  }
  // Somebody still has a file open. The pod is gone for kubelet, so the name
  // goes; the open file keeps its file system until it is closed.
  if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return {};
  return {errno, 0};
}

struct Place {
  UniqueFd parent;
  std::string leaf;
  std::string TopPath() const { return "/proc/self/fd/" + std::to_string(parent.get()) + "/" + leaf; }
};

class KernelTargets final : public Targets {
 public:
  KernelTargets(KernelTargetsConfig config, std::string canonical_root, UniqueFd root, UniqueFd slash)
      : config_(std::move(config)), canonical_(std::move(canonical_root)), root_(std::move(root)),
        slash_(std::move(slash)) {}

  Result<TargetName> Name(std::string_view target) override {
    ASSIGN_OR_RETURN(std::string path, CleanTargetPath(target));
    for (const std::string& root : {config_.kubelet_root, canonical_}) {
      if (path.starts_with(root + "/")) return FromRef(path.substr(root.size() + 1));
    }
    if (config_.confine) {
      return Error(EPERM, "target: " + path + " does not lie below the kubelet root " + config_.kubelet_root +
                              "; --kubelet-root sets another");
    }
    // An operator's own path may lead through symlinks; the mount table names
    // what they lead to.
    if (auto canonical = os::CanonicalPath(path)) path = *canonical;
    return FromRef(path);
  }

  TargetName FromRef(const std::string& ref) override {
    // One hash, however the root is spelled, now or by the next agent.
    const std::string path = ref.starts_with('/') ? ref : canonical_ + "/" + ref;
    return {path, ref, TargetHash(path)};
  }

  std::string RefOfMount(const os::MountEntry& mount) override {
    if (!mount.mountpoint.starts_with(canonical_ + "/")) return {};
    std::string ref = mount.mountpoint.substr(canonical_.size() + 1);
    if (("/" + ref + "/").find("/volume-subpaths/") != std::string::npos) return {};
    if (!CleanTargetPath("/" + ref)) return {};  // a name that publish would refuse
    return ref;
  }

  Result<std::vector<os::MountEntry>> Table() override { return os::ReadMountInfo(); }

  Result<bool> MakeDirectory(const TargetName& target) override {
    ASSIGN_OR_RETURN(const Place place, Open(target, kDirectoryMode));
    if (mkdirat(place.parent.get(), place.leaf.c_str(), kDirectoryMode) == 0) return true;
    if (errno == EEXIST) return false;
    return Error(Status::FromErrno("make " + target.path));
  }

  Status RemoveDirectory(const TargetName& target) override {
    const auto place = Open(target, 0);
    if (!place) return place.error().err() == ENOENT ? Status::Ok() : place.error();
    if (unlinkat(place->parent.get(), place->leaf.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return Status::Ok();
    if (errno == ENOTEMPTY || errno == EEXIST) {
      return Status(ENOTEMPTY, "remove " + target.path + ": it holds files that are not of the volume; something "
                                                         "wrote there while nothing was mounted; move them away");
    }
    return Status::FromErrno("remove " + target.path);
  }

  Status Bind(const TargetName& target, const Binding& binding, Deadline deadline) override {
    ASSIGN_OR_RETURN_STATUS(const Place place, Open(target, 0));
    const UniqueFd directory(
        openat(place.parent.get(), place.leaf.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory) return Status::FromErrno("open " + target.path);
    // O_PATH asks nothing of the server.
    const UniqueFd source(open(binding.source.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!source) return Status::FromErrno("open " + binding.source);
    ASSIGN_OR_RETURN_STATUS(const auto table, Table());
    const auto source_layers = LayersAt(table, binding.source);
    if (source_layers.empty()) return Status(EIO, "bind " + binding.source + ": the client's mount is gone");
    const std::string top = place.TopPath();
    BindWork work;
    work.source = source.get();
    work.root = binding.root.c_str();
    FdPath(directory.get(), work.target_path);
    work.top_path = top.c_str();
    const unsigned long now = FlagsOf(source_layers.back());
    work.flags = now | binding.flags | (binding.read_only ? static_cast<unsigned long>(MS_RDONLY) : 0ul);
    work.remount = work.flags != now;
    ASSIGN_OR_RETURN_STATUS(
        const os::BoundedAnswer answer,
        CallsOf(binding.mount_key)->Run(DoBind, &work, {source.get(), directory.get(), place.parent.get()},
                                        std::min(deadline.LeftMs(), kMaxBindMs)));
    switch (answer.err == 0 ? 0 : answer.step) {
      case 0:
        return Status::Ok();
      case kOpenRoot:
        if (answer.err == ENOENT) {
          return Status(ENOENT, "the volume has no directory \"" + binding.root + "\"");
        }
        if (answer.err == ENOTDIR || answer.err == ELOOP || answer.err == EXDEV) {
          return Status(answer.err, "\"" + binding.root + "\" is no directory of the volume (a symlink is none)");
        }
        return Status::FromErrno("open \"" + binding.root + "\" in the volume", answer.err);
      case kBindMount:
        return Status::FromErrno("bind the volume to " + target.path, answer.err);
      default:
        return Status::FromErrno("set the mount flags of " + target.path, answer.err);
    }
  }

  Status SetReadOnly(const TargetName& target, const os::MountEntry& mount_entry, bool read_only) override {
    ASSIGN_OR_RETURN_STATUS(const Place place, Open(target, 0));
    const unsigned long flags = (FlagsOf(mount_entry) & ~static_cast<unsigned long>(MS_RDONLY)) |
                                (read_only ? static_cast<unsigned long>(MS_RDONLY) : 0ul);
    // Changes the mount alone, so it asks nothing of the server.
    if (::mount(nullptr, place.TopPath().c_str(), nullptr, MS_REMOUNT | MS_BIND | flags, nullptr) == 0) {
      return Status::Ok();
    }
    return Status::FromErrno("set the mount flags of " + target.path);
  }

  Status Pop(const TargetName& target, const os::MountEntry& top, Deadline deadline) override {
    ASSIGN_OR_RETURN_STATUS(const Place place, Open(target, 0));
    std::string path = place.TopPath();
    ASSIGN_OR_RETURN_STATUS(const os::BoundedAnswer answer,
                            CallsOf("device/" + top.Device())->Run(DoUnmount, path.data(), {place.parent.get()},
                                                                   std::min(deadline.LeftMs(), kMaxPopMs)));
    // Not a mount point: somebody was quicker.
    if (answer.err == 0 || answer.err == EINVAL) return Status::Ok();
    return Status::FromErrno("unmount " + target.path, answer.err);
  }

  Result<int> RepairCopies(const std::vector<std::string>& dead_devices, const Binding& live,
                           Deadline deadline) override {
    int repaired = 0;
    for (const DeadCopy& copy : FindDeadCopies(dead_devices)) {
      const Status s = ReplaceDeadCopy(copy, live.source, *CallsOf(live.mount_key), deadline.LeftMs());
      if (s.err() == ETIMEDOUT || s.err() == EBUSY) return Error(s);
      if (s.ok()) {
        ++repaired;
      } else {
        LOG_WARNING("mount") << s.ToString() << "; a restart of the container cures it";
      }
    }
    return repaired;
  }

  bool BindPending(const std::string& mount_key) override { return CallsOf(mount_key)->Stuck(); }

 private:
  Result<Place> Open(const TargetName& target, unsigned create_mode) {
    const bool below = !target.ref.starts_with('/');
    const std::string path = below ? target.ref : target.ref.substr(1);
    const size_t slash = path.rfind('/');
    Place place;
    place.leaf = path.substr(slash == std::string::npos ? 0 : slash + 1);
    auto parent = OpenBeneath(below ? root_.get() : slash_.get(),
                              slash == std::string::npos ? "" : path.substr(0, slash), create_mode);
    if (!parent) {
      const int err = parent.error().err();
      if (err == ELOOP || err == ENOTDIR) {
        return Error(err, "open the directory of " + target.path + ": a symlink or a file is in its way");
      }
      return Error(parent.error().Annotate("open the directory of " + target.path));
    }
    place.parent = std::move(*parent);
    return place;
  }

  std::shared_ptr<os::BoundedCalls> CallsOf(const std::string& name) {
    const std::lock_guard lock(mutex_);
    // What nobody uses and nothing hangs in is not kept.
    if (calls_.size() > 64) {
      std::erase_if(calls_, [](const auto& e) { return e.second.use_count() == 1 && !e.second->Stuck(); });
    }
    auto& calls = calls_[name];
    if (!calls) calls = std::make_shared<os::BoundedCalls>();
    return calls;
  }

  const KernelTargetsConfig config_;
  const std::string canonical_;
  const UniqueFd root_;
  const UniqueFd slash_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<os::BoundedCalls>> calls_;
};

}  // namespace

Result<std::unique_ptr<Targets>> MakeKernelTargets(const KernelTargetsConfig& config) {
  auto cleaned = CleanTargetPath(config.kubelet_root);
  if (!cleaned) return Error(EINVAL, "kubelet root \"" + config.kubelet_root + "\": an absolute path is needed");
  char canonical[PATH_MAX];
  if (realpath(config.kubelet_root.c_str(), canonical) == nullptr) {
    return Error(Status::FromErrno("find the kubelet root " + config.kubelet_root));
  }
  UniqueFd root(open(canonical, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return Error(Status::FromErrno("open the kubelet root " + config.kubelet_root));
  UniqueFd slash(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!slash) return Error(Status::FromErrno("open /"));
  return std::make_unique<KernelTargets>(KernelTargetsConfig{*cleaned, config.confine}, canonical, std::move(root), std::move(slash));
}

}  // namespace moorfs::mount
