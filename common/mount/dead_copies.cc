// SPDX-License-Identifier: Apache-2.0

#include "common/mount/dead_copies.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "common/mount/source_mounts.h"
#include "common/mount/target.h"
#include "common/os/file.h"

// Newer than the C library's and the kernel's headers.
#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x00000200
#endif

namespace moorfs::mount {
namespace {

constexpr size_t kMaxTable = 64 << 20;

ino_t MountNamespaceOf(const std::string& process) {
  struct stat st;
  return stat(("/proc/" + process + "/ns/mnt").c_str(), &st) == 0 ? st.st_ino : 0;
}

std::vector<int> Processes() {
  std::vector<int> out;
  DIR* dir = opendir("/proc");
  if (dir == nullptr) return out;
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    int pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error == std::errc() && end == name.data() + name.size()) out.push_back(pid);
  }
  closedir(dir);
  return out;
}

// Tops only: what lies beneath a live mount is seen by nobody.
void Collect(const std::vector<os::MountEntry>& table, const std::vector<std::string>& devices, int pid,
             std::vector<DeadCopy>* out) {
  for (const os::MountEntry& m : table) {
    if (m.fstype != kFsType || std::find(devices.begin(), devices.end(), m.Device()) == devices.end()) continue;
    if (pid == 0 && m.mountpoint.find("/volume-subpaths/") == std::string::npos) continue;
    const auto layers = LayersAt(table, m.mountpoint);
    if (layers.empty() || layers.back().id != m.id) continue;
    out->push_back({pid, m.mountpoint, m.root, IsReadOnly(m)});
  }
}

// All that the forked child needs; it may not allocate.
struct Work {
  int source = -1;
  const char* root = "";  // relative
  int ns = -1;            // -1: our own
  const char* mountpoint = "";
  bool read_only = false;
};
enum Step { kTree = 1, kFlags, kNamespace, kMove };

os::BoundedAnswer Replace(void* argument) {
  const auto& w = *static_cast<const Work*>(argument);
  int directory = w.source;
  if (w.root[0] != '\0') {
    directory = OpenDirectoryBeneath(w.source, w.root);
    if (directory < 0) return {errno, kTree};
  }
  const int tree = static_cast<int>(
      syscall(SYS_open_tree, directory, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH));
  if (tree < 0) return {errno, kTree};
  if (w.read_only) {
    mount_attr attr{};
    attr.attr_set = MOUNT_ATTR_RDONLY;
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) != 0) return {errno, kFlags};
  }
  if (w.ns >= 0 && setns(w.ns, CLONE_NEWNS) != 0) return {errno, kNamespace};
  if (syscall(SYS_move_mount, tree, "", AT_FDCWD, w.mountpoint, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH) == 0) {
    umount2(w.mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
    return {};
  }
  if (syscall(SYS_move_mount, tree, "", AT_FDCWD, w.mountpoint, MOVE_MOUNT_F_EMPTY_PATH) == 0) return {};
  return {errno, kMove};
}

const char* StepName(int step) {
  switch (step) {
    case kTree:
      return "take the live directory";
    case kFlags:
      return "make it read-only";
    case kNamespace:
      return "enter the container's mount namespace";
    default:
      return "put it in place";
  }
}

}  // namespace

std::vector<DeadCopy> FindDeadCopies(const std::vector<std::string>& devices) {
  std::vector<DeadCopy> out;
  if (devices.empty()) return out;
  std::set<ino_t> seen = {MountNamespaceOf("self"), MountNamespaceOf("1")};
  if (const auto table = os::ReadMountInfo()) Collect(*table, devices, 0, &out);
  for (int pid : Processes()) {
    const ino_t ns = MountNamespaceOf(std::to_string(pid));
    if (ns == 0 || !seen.insert(ns).second) continue;
    // A process that ended meanwhile has no mounts to repair.
    const auto text = os::ReadFile("/proc/" + std::to_string(pid) + "/mountinfo", kMaxTable);
    if (!text) continue;
    if (const auto table = os::ParseMountInfo(*text)) Collect(*table, devices, pid, &out);
  }
  return out;
}

Status ReplaceDeadCopy(const DeadCopy& copy, const std::string& source, os::BoundedCalls& calls, int timeout_ms) {
  const std::string what = "mount " + copy.mountpoint + " again" +
                           (copy.pid == 0 ? std::string() : " in the container of process " + std::to_string(copy.pid));
  const UniqueFd source_fd(open(source.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!source_fd) return Status::FromErrno(what);
  UniqueFd ns;
  if (copy.pid != 0) {
    ns = UniqueFd(open(("/proc/" + std::to_string(copy.pid) + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
    if (!ns) return errno == ENOENT ? Status::Ok() : Status::FromErrno(what);
  }
  const std::string root = copy.root.substr(1);
  Work work{source_fd.get(), root.c_str(), ns.get(), copy.mountpoint.c_str(), copy.read_only};
  const auto answer = ns ? calls.Run(Replace, &work, {source_fd.get(), ns.get()}, timeout_ms)
                         : calls.Run(Replace, &work, {source_fd.get()}, timeout_ms);
  if (!answer) return answer.error().Annotate(what);
  if (answer->err == 0) return Status::Ok();
  return Status(answer->err, what + ": " + Status::FromErrno(StepName(answer->step), answer->err).message());
}

}  // namespace moorfs::mount
