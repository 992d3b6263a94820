// SPDX-License-Identifier: Apache-2.0

#include "installer/host.h"

#include <dirent.h>
#include <limits.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <deque>
#include <set>

#include "common/os/file.h"
#include "common/os/mountinfo.h"

namespace moorfs::installer {
namespace {

constexpr int kMaxLinks = 40;
constexpr size_t kMaxCommandLine = 4 << 20;
constexpr size_t kMaxMountTable = 64 << 20;

void PrependParts(const std::string& path, std::deque<std::string>* parts) {
  std::vector<std::string> found;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) found.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  parts->insert(parts->begin(), found.begin(), found.end());
}

std::string ReadLink(const std::string& path) {
  char link[PATH_MAX];
  const ssize_t n = readlink(path.c_str(), link, sizeof link);
  return n > 0 ? std::string(link, static_cast<size_t>(n)) : "";
}

// argv[0] of a process; empty for a kernel thread.
std::string NameOf(const std::string& process) {
  const auto text = os::ReadFile(process + "/cmdline", kMaxCommandLine);
  return text ? text->substr(0, text->find('\0')) : "";
}

bool IsBelow(const std::string& path, const std::string& directory) {
  return directory == "/" || path == directory || path.starts_with(directory + "/");
}

// " (mounted at /usr, ext4)"; empty when the table cannot be read.
std::string DescribeMount(const std::string& path) {
  const auto mounts = os::ReadMountInfo();
  const os::MountEntry* best = nullptr;
  if (!mounts) return "";
  for (const os::MountEntry& m : *mounts) {
    if (IsBelow(path, m.mountpoint) && (best == nullptr || m.mountpoint.size() >= best->mountpoint.size())) best = &m;
  }
  return best == nullptr ? "" : " (" + best->fstype + " mounted at " + best->mountpoint + ")";
}

void AddOurs(const std::string& table, const std::string& root, std::set<std::string>* out, Status* status) {
  const auto text = os::ReadFile(table, kMaxMountTable);
  if (!text) {
    *status = text.error();
    return;
  }
  const auto mounts = os::ParseMountInfo(*text);
  if (!mounts) {
    *status = mounts.error();
    return;
  }
  for (const os::MountEntry& m : *mounts) {
    if (m.fstype != "fuse.moorfs" || !IsBelow(m.mountpoint, root.empty() ? "/" : root)) continue;
    out->insert(m.mountpoint.substr(root.size()));
  }
}

}  // namespace

Host::Host(std::string root, std::string proc) : root_(std::move(root)), proc_(std::move(proc)) {
  while (!root_.empty() && root_.back() == '/') root_.pop_back();
  if (proc_.empty()) proc_ = root_ + "/proc";
}

Result<std::string> Host::Resolve(const std::string& path) const {
  if (path.empty() || path.front() != '/') return Error(EINVAL, "resolve " + path + ": an absolute path is needed");
  std::deque<std::string> todo;
  PrependParts(path, &todo);
  std::string out;  // below root_
  for (int links = 0; !todo.empty();) {
    const std::string part = todo.front();
    todo.pop_front();
    if (part == ".") continue;
    if (part == "..") {
      out.resize(out.empty() ? 0 : out.rfind('/'));
      continue;
    }
    const std::string link = ReadLink(root_ + out + "/" + part);
    if (link.empty()) {
      out += "/" + part;
      continue;
    }
    if (++links > kMaxLinks) return Error(ELOOP, "resolve " + path + ": its symlinks lead nowhere");
    if (link.front() == '/') out.clear();
    PrependParts(link, &todo);
  }
  return root_ + (out.empty() && root_.empty() ? "/" : out);
}

Status Host::CheckTakesPrograms(const std::string& path, const std::string& what, const std::string& remedy) const {
  std::string existing = path;
  struct statvfs fs;
  while (statvfs(existing.c_str(), &fs) != 0) {
    if (errno != ENOENT || existing.size() <= 1) return Status::FromErrno("look at " + existing);
    existing = existing.substr(0, std::max<size_t>(existing.rfind('/'), 1));
  }
  const std::string where = what + " " + path.substr(root_.size());
  if ((fs.f_flag & ST_RDONLY) != 0) {
    return Status(EROFS, "install into " + where + ": its file system is read-only" + DescribeMount(existing) +
                             "; " + remedy);
  }
  if ((fs.f_flag & ST_NOEXEC) != 0) {
    return Status(EACCES, "install into " + where + ": its file system is mounted noexec" + DescribeMount(existing) +
                              ", so nothing there can be executed; mount it without noexec, or " + remedy);
  }
  return Status::Ok();
}

Result<std::vector<std::string>> Host::OurMounts() const {
  std::set<std::string> found;
  // Ours shows what is mounted below /host; the first process' table is the host's where it can be read.
  Status ours, first;
  AddOurs("/proc/self/mountinfo", root_, &found, &ours);
  AddOurs(proc_ + "/1/mountinfo", "", &found, &first);
  if (!ours.ok()) return Error(ours.Annotate("look for mounts in use"));
  return std::vector<std::string>(found.begin(), found.end());
}

bool Host::RunsFrom(const std::string& path) const {
  DIR* dir = opendir(proc_.c_str());
  if (dir == nullptr) return true;
  bool runs = false;
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    errno = 0;
    const std::string exe = ReadLink(proc_ + "/" + entry->d_name + "/exe");
    // The programs of some are shown to CAP_SYS_PTRACE only, or to nobody; our processes' command lines start
    // with our name.
    const bool hidden = exe.empty() && (errno == EACCES || errno == EPERM) &&
                        NameOf(proc_ + "/" + entry->d_name).find("moorfs") != std::string::npos;
    // Ours reads as the host's path, or as the path below its root.
    runs = runs || hidden || exe.starts_with(path + "/") || exe.starts_with(root_ + path + "/");
  }
  closedir(dir);
  return runs;
}

}  // namespace moorfs::installer
