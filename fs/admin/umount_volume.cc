// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/umount_volume.h"

#include <sys/mount.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "common/control/client.h"
#include "common/control/line_socket.h"
#include "common/os/file.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"
#include "common/os/process.h"
#include "fs/admin/locate.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr int64_t kOrphanEndNs = 60'000'000'000;

bool NobodyServes(const Status& s) { return s.err() == ENOENT || s.err() == ECONNREFUSED; }

// The keeper died. Its client, if it lives, stores what it has; then the mount
// goes without anyone to ask.
Status UmountOrphan(const UmountRequest& request, const LiveMount& mount, Output& out) {
  control::CallOptions options;
  options.on_progress = [&](std::string_view text) { out.Progress(text); };
  const auto drained = control::Call(mount.paths.ClientSocket(), {{"cmd", "drain"}}, options);
  if (!drained && !NobodyServes(drained.error()) && !request.discard_unsaved) {
    return drained.error().Annotate("store unsaved data of " + mount.mountpoint).Annotate(
        "its keeper is gone and its client does not store everything; drop the rest with --discard-unsaved");
  }
  const Status s = os::Unmount(mount.mountpoint, request.lazy ? MNT_DETACH : 0);
  if (s.err() == EBUSY) {
    const size_t colon = mount.device.find(':');
    const auto holders = os::FindHolders(static_cast<uint32_t>(std::stoul(mount.device.substr(0, colon))),
                                         static_cast<uint32_t>(std::stoul(mount.device.substr(colon + 1))), 8);
    return Status(EBUSY, "unmount " + mount.mountpoint + ": it is in use by " + os::DescribeHolders(holders) +
                             "; end them, or detach it with --lazy");
  }
  RETURN_IF_ERROR(s);
  // The client holds its socket as long as it lives.
  const int64_t deadline = MonotonicNs() + kOrphanEndNs;
  while (control::ConnectUnix(mount.paths.ClientSocket(), 1'000)) {
    if (MonotonicNs() > deadline) {
      out.Note("moorfs umount: the client still stores data; `moorfs status` shows it");
      return Status::Ok();
    }
    usleep(20'000);
  }
  out.Note("moorfs umount: the keeper of " + mount.mountpoint + " was gone; its mount is cleaned up");
  return os::RemoveTree(mount.paths.directory);
}

}  // namespace

Status UmountVolume(const UmountRequest& request, Output& out) {
  ASSIGN_OR_RETURN_STATUS(const std::string path, os::CanonicalPath(request.mountpoint));
  ASSIGN_OR_RETURN_STATUS(const auto mounts, os::ReadMountInfo());
  const auto entry = os::FindMountAt(mounts, path);
  if (!entry) {
    return Status(EINVAL, "unmount " + path + ": nothing is mounted there; `moorfs status` lists all mounts");
  }
  ASSIGN_OR_RETURN_STATUS(const LiveMount mount, LocateMount(path));
  // A shell's directory inside the mount is the shell's business, not ours.
  if (chdir("/") != 0) return Status::FromErrno("change to /");
  if (geteuid() != 0) return Status(EPERM, "unmount " + path + ": unmounting needs root; use sudo");

  control::CallOptions options;
  options.timeout_ms = 120'000;
  options.on_progress = [&](std::string_view text) { out.Progress(text); };
  // To see it go: an answer is sent a moment before the keeper has ended.
  pid_t keeper_pid = 0;
  const auto status = control::Call(mount.paths.KeeperSocket(), {{"cmd", "status"}}, options);
  if (!status) {
    if (NobodyServes(status.error())) return UmountOrphan(request, mount, out);
    return status.error().Annotate("ask the keeper of " + path);
  }
  keeper_pid = status->value("keeper_pid", 0);
  auto pidfd = os::OpenPidfd(keeper_pid);
  const auto result = control::Call(
      mount.paths.KeeperSocket(),
      {{"cmd", "unmount"}, {"lazy", request.lazy}, {"discard", request.discard_unsaved}}, options);
  if (!result) return result.error();
  if (result->value("finished", false)) {
    if (pidfd) os::WaitPidfd(pidfd->get(), 10'000);
  } else {
    out.Note("moorfs umount: " + result->value("note", ""));
  }
  return Status::Ok();
}

}  // namespace moorfs::admin
