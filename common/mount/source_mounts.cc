// SPDX-License-Identifier: Apache-2.0

#include "common/mount/source_mounts.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "common/os/file.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"

namespace moorfs::mount {
namespace {

constexpr int kDetachMs = 5'000;

os::BoundedAnswer DoDetach(void* argument) {
  if (umount2(static_cast<const char*>(argument), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return {};
  return {errno, 0};
}

std::optional<int> NumberOf(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

DeviceNumbers NumbersOf(std::string_view device) {
  DeviceNumbers out;
  const size_t colon = device.find(':');
  if (colon == std::string_view::npos) return out;
  std::from_chars(device.data(), device.data() + colon, out.major);
  std::from_chars(device.data() + colon + 1, device.data() + device.size(), out.minor);
  return out;
}

Result<std::unique_ptr<SourceMounts>> SourceMounts::Open(const std::string& root) {
  TRY_VOID(os::MakeDirs(root, 0700));
  // The mount table has no symlinks in it.
  char path[PATH_MAX];
  if (realpath(root.c_str(), path) == nullptr) return Error(Status::FromErrno("resolve " + root));
  auto sources = std::unique_ptr<SourceMounts>(new SourceMounts(path));
  ASSIGN_OR_RETURN(const auto all, sources->All());
  for (const Source& each : all) TRY_VOID(MakePrivate(sources->PathOf(each.mount_key, each.generation)));
  return sources;
}

std::string SourceMounts::PathOf(const std::string& mount_key, int generation) const {
  return root_ + "/" + mount_key + "/" + std::to_string(generation);
}

Result<std::optional<std::string>> SourceMounts::DeviceAt(const std::string& path) const {
  ASSIGN_OR_RETURN(const auto table, os::ReadMountInfo());
  const auto mounted = os::FindMountAt(table, path);
  if (!mounted || mounted->fstype != kFsType) return std::optional<std::string>();
  return std::optional(mounted->Device());
}

Result<std::string> SourceMounts::OtherMount(const std::string& device) const {
  ASSIGN_OR_RETURN(const auto table, os::ReadMountInfo());
  for (const os::MountEntry& m : table) {
    if (m.fstype == kFsType && m.Device() == device) return m.mountpoint;
  }
  return std::string();
}

Result<std::vector<Source>> SourceMounts::All() const {
  ASSIGN_OR_RETURN(const auto table, os::ReadMountInfo());
  const std::string prefix = root_ + "/";
  std::vector<Source> out;
  for (const os::MountEntry& m : table) {
    if (m.fstype != kFsType || !m.mountpoint.starts_with(prefix)) continue;
    const std::string_view rest = std::string_view(m.mountpoint).substr(prefix.size());
    const size_t slash = rest.find('/');
    if (slash == std::string_view::npos) continue;
    const auto generation = NumberOf(rest.substr(slash + 1));
    if (generation) out.push_back({std::string(rest.substr(0, slash)), *generation, m.Device()});
  }
  return out;
}

int SourceMounts::NextGeneration(const std::string& mount_key) const {
  int highest = 0;
  DIR* dir = opendir((root_ + "/" + mount_key).c_str());
  if (dir == nullptr) return 1;
  while (const dirent* entry = readdir(dir)) highest = std::max(highest, NumberOf(entry->d_name).value_or(0));
  closedir(dir);
  return highest + 1;
}

Status SourceMounts::MakePrivate(const std::string& path) {
  if (::mount(nullptr, path.c_str(), nullptr, MS_PRIVATE, nullptr) == 0) return Status::Ok();
  return Status::FromErrno("make " + path + " private");
}

Status SourceMounts::Discard(const std::string& mount_key, int generation) {
  std::string path = PathOf(mount_key, generation);
  for (;;) {
    ASSIGN_OR_RETURN_STATUS(const auto table, os::ReadMountInfo());
    if (!os::FindMountAt(table, path)) break;
    ASSIGN_OR_RETURN_STATUS(const os::BoundedAnswer answer, detach_.Run(DoDetach, path.data(), {}, kDetachMs));
    if (answer.err != 0 && answer.err != EINVAL) return Status::FromErrno("unmount " + path, answer.err);
  }
  return RemoveDirectory(mount_key, generation);
}

Status SourceMounts::RemoveDirectory(const std::string& mount_key, int generation) {
  const std::string path = PathOf(mount_key, generation), parent = root_ + "/" + mount_key;
  if (rmdir(path.c_str()) != 0 && errno != ENOENT) return Status::FromErrno("remove " + path);
  // Left when another generation has its directory there.
  if (rmdir(parent.c_str()) != 0 && errno != ENOENT && errno != ENOTEMPTY) {
    return Status::FromErrno("remove " + parent);
  }
  return Status::Ok();
}

}  // namespace moorfs::mount
