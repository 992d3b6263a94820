// SPDX-License-Identifier: Apache-2.0

#include "common/os/mounts.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "common/base/unique_fd.h"
#include "common/os/file.h"

namespace moorfs::os {
namespace {

struct FlagWord {
  std::string_view word;
  unsigned long set;
  unsigned long clear;
};

constexpr unsigned long kAtimeFlags = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;

constexpr FlagWord kFlagWords[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"noatime", MS_NOATIME, kAtimeFlags},
    {"relatime", MS_RELATIME, kAtimeFlags},
    {"strictatime", MS_STRICTATIME, kAtimeFlags},
    {"nodiratime", MS_NODIRATIME, 0},
    {"diratime", 0, MS_NODIRATIME},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0},
};

// Device of an open file, cwd or root of a process, without asking the file
// system it lives on: with AT_STATX_DONT_SYNC statx answers from memory, so a
// mount that hangs does not hang this.
std::optional<std::pair<uint32_t, uint32_t>> DeviceOf(int dir, const char* name) {
  struct statx st;
  if (statx(dir, name, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0) return std::nullopt;
  return std::pair(st.stx_dev_major, st.stx_dev_minor);
}

struct CloseDir {
  void operator()(DIR* d) const { closedir(d); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

// What ties the process in /proc/<pid> (an open directory) to the device;
// empty when nothing does.
std::string FindUse(int process, uint32_t major, uint32_t minor) {
  const auto matches = [&](int dir, const char* name) {
    const auto device = DeviceOf(dir, name);
    return device && device->first == major && device->second == minor;
  };
  for (const char* link : {"cwd", "root", "exe"}) {
    if (matches(process, link)) return link;
  }
  UniqueFd fds(openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fds) {
    Dir dir(fdopendir(dup(fds.get())));
    while (dirent* entry = dir ? readdir(dir.get()) : nullptr) {
      if (entry->d_name[0] != '.' && matches(fds.get(), entry->d_name)) return "fd " + std::string(entry->d_name);
    }
  }
  char device[24];
  std::snprintf(device, sizeof device, " %02x:%02x ", major, minor);
  const auto maps = ReadFile("/proc/self/fd/" + std::to_string(process) + "/maps", 16 << 20);
  if (maps && maps->find(device) != std::string::npos) return "mapping";
  return {};
}

}  // namespace

bool ApplyMountFlag(std::string_view word, unsigned long* flags) {
  for (const FlagWord& f : kFlagWords) {
    if (f.word == word) {
      *flags = (*flags & ~f.clear) | f.set;
      return true;
    }
  }
  return false;
}

Status Mount(const std::string& source, const std::string& target, const std::string& fstype, unsigned long flags,
             const std::string& data) {
  if (mount(source.c_str(), target.c_str(), fstype.c_str(), flags, data.c_str()) == 0) return Status::Ok();
  const int err = errno;
  const std::string what = "mount " + source + " at " + target;
  if (err == EPERM) {
    return Status(err, what + ": the kernel forbids it; mounting needs root (CAP_SYS_ADMIN)");
  }
  if (err == ENODEV) {
    return Status(err, what + ": the kernel has no FUSE; load it with `modprobe fuse`");
  }
  return Status::FromErrno(what, err);
}

Status Unmount(const std::string& target, int flags) {
  if (umount2(target.c_str(), flags | UMOUNT_NOFOLLOW) == 0) return Status::Ok();
  return Status::FromErrno("unmount " + target);
}

std::vector<Holder> FindHolders(uint32_t major, uint32_t minor, size_t limit) {
  std::vector<Holder> holders;
  Dir proc(opendir("/proc"));
  while (dirent* entry = proc && holders.size() < limit ? readdir(proc.get()) : nullptr) {
    pid_t pid = 0;
    const char* name_end = entry->d_name + std::strlen(entry->d_name);
    if (const auto [end, error] = std::from_chars(entry->d_name, name_end, pid);
        error != std::errc() || end != name_end) {
      continue;
    }
    UniqueFd process(openat(dirfd(proc.get()), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!process) continue;  // gone meanwhile
    std::string what = FindUse(process.get(), major, minor);
    if (what.empty()) continue;
    auto command = ReadFile("/proc/" + std::string(entry->d_name) + "/comm", 4096);
    if (command && !command->empty() && command->back() == '\n') command->pop_back();
    holders.push_back({pid, command ? *command : "?", std::move(what)});
  }
  return holders;
}

std::string DescribeHolders(const std::vector<Holder>& holders) {
  std::string out;
  for (const Holder& h : holders) {
    if (!out.empty()) out += ", ";
    out += h.command + " (pid " + std::to_string(h.pid) + ", " + h.what + ")";
  }
  return out;
}

}  // namespace moorfs::os
