// SPDX-License-Identifier: Apache-2.0

#include "common/os/fuse_device.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "common/os/file.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"

namespace moorfs::os {
namespace {

constexpr char kFusectl[] = "/sys/fs/fuse/connections";

std::string ConnectionFile(uint32_t minor, const char* name) {
  return std::string(kFusectl) + "/" + std::to_string(minor) + "/" + name;
}

}  // namespace

Result<UniqueFd> OpenFuseDevice() {
  UniqueFd fd(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (fd) return fd;
  const int err = errno;
  if (err == ENOENT || err == ENODEV || err == ENXIO) {
    return Error(err, "open /dev/fuse: the kernel has no FUSE here; `modprobe fuse`, or give the container the device");
  }
  return Error(Status::FromErrno("open /dev/fuse", err));
}

Result<FuseMount> MountFuse(const std::string& source, const std::string& mountpoint, const std::string& fstype,
                            unsigned long flags) {
  FuseMount out;
  ASSIGN_OR_RETURN(out.fuse, OpenFuseDevice());
  const std::string data = "fd=" + std::to_string(out.fuse.get()) + ",rootmode=40000,user_id=" +
                           std::to_string(geteuid()) + ",group_id=" + std::to_string(getegid()) +
                           ",default_permissions,allow_other";
  TRY_VOID(Mount(source, mountpoint, fstype, flags, data));
  auto mounts = ReadMountInfo();
  const auto entry = mounts ? FindMountAt(*mounts, mountpoint) : std::nullopt;
  if (entry && entry->fstype == fstype && entry->source == source) {
    out.major = entry->major;
    out.minor = entry->minor;
    return out;
  }
  TRY_VOID(Unmount(mountpoint, MNT_DETACH));
  if (!mounts) return Error(mounts.error());
  return Error(EIO, "mount " + mountpoint + ": the mount table does not show it; another mount was made at the same "
                    "moment");
}

Status SetReadAhead(uint32_t major, uint32_t minor, uint32_t kib) {
  const std::string file =
      "/sys/class/bdi/" + std::to_string(major) + ":" + std::to_string(minor) + "/read_ahead_kb";
  const Status s = WriteExisting(file, std::to_string(kib));
  // A container's /sys may be read-only; the host's, reached through its first
  // process, is not.
  if (s.err() == EROFS && WriteExisting("/proc/1/root" + file, std::to_string(kib)).ok()) return Status::Ok();
  return s;
}

Status AbortFuseConnection(uint32_t minor) {
  if (access(kFusectl, X_OK) == 0 && access(ConnectionFile(minor, "abort").c_str(), F_OK) != 0) {
    // Minimal systems do not mount it; a second mount elsewhere is harmless.
    RETURN_IF_ERROR(Mount("fusectl", kFusectl, "fusectl", 0, ""));
  }
  return WriteExisting(ConnectionFile(minor, "abort"), "1");
}

int64_t WaitingRequests(uint32_t minor) {
  auto text = ReadFile(ConnectionFile(minor, "waiting"), 64);
  if (!text) return -1;
  return std::strtoll(text->c_str(), nullptr, 10);
}

}  // namespace moorfs::os
