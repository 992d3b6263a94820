// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/locate.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/os/file.h"
#include "common/os/lock_file.h"
#include "common/os/mountinfo.h"
#include "fs/admin/output.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kLevelDb = "leveldb:";
constexpr std::string_view kFile = "file:";
constexpr char kOurType[] = "fuse.moorfs";

bool IsBelow(std::string_view path, std::string_view mountpoint) {
  if (mountpoint == "/") return true;
  return path.starts_with(mountpoint) && (path.size() == mountpoint.size() || path[mountpoint.size()] == '/');
}

}  // namespace

std::string MetaUrl::Shown() const { return RedactUrl(url); }

bool LooksLikeMeta(std::string_view text) { return text.starts_with(kLevelDb); }

Result<MetaUrl> ParseMeta(std::string_view text) {
  if (!text.starts_with(kLevelDb)) {
    return Error(EINVAL, "understand META \"" + RedactUrl(text) + "\": known is leveldb:DIR, for example leveldb:/srv/meta");
  }
  const std::string_view directory = text.substr(kLevelDb.size());
  if (directory.empty()) return Error(EINVAL, "understand META \"leveldb:\": a directory is missing; write leveldb:DIR");
  MetaUrl out;
  auto canonical = os::CanonicalPath(directory);
  if (!canonical) return Error(canonical.error().Annotate("understand META \"" + std::string(text) + "\""));
  out.directory = *canonical;
  out.url = std::string(kLevelDb) + out.directory;
  out.lock_path = out.directory + "/moorfs.lock";
  return out;
}

Result<std::string> AbsoluteStoreUrl(std::string_view text) {
  if (!text.starts_with(kFile)) return std::string(text);
  std::string_view directory = text.substr(kFile.size());
  if (directory.starts_with("//")) directory.remove_prefix(2);
  if (directory.empty()) return Error(EINVAL, "understand STORE \"file:\": a directory is missing; write file:DIR");
  auto canonical = os::CanonicalPath(directory);
  if (!canonical) return Error(canonical.error().Annotate("understand STORE \"" + std::string(text) + "\""));
  return std::string(kFile) + *canonical;
}

Result<LiveMount> LocateMount(const std::string& path) {
  // Textually first: resolving a path below a mount asks its server.
  std::string absolute = path;
  if (!path.starts_with('/')) {
    char cwd[4096];
    if (getcwd(cwd, sizeof cwd) == nullptr) return Error(Status::FromErrno("find the current directory"));
    absolute = std::string(cwd) + "/" + path;
  }
  ASSIGN_OR_RETURN(const auto mounts, os::ReadMountInfo());
  ASSIGN_OR_RETURN(const std::string canonical, os::CanonicalPath(absolute));
  // The deepest mount the path lies in; of two at one path the later is on top.
  const os::MountEntry* best = nullptr;
  for (const os::MountEntry& m : mounts) {
    if (IsBelow(canonical, m.mountpoint) && (!best || m.mountpoint.size() >= best->mountpoint.size())) best = &m;
  }
  if (!best || best->fstype != kOurType) {
    return Error(ENOENT, "look for a MoorFS mount at " + path + ": there is none" +
                             (best ? " (it is on " + best->fstype + ", mounted at " + best->mountpoint + ")" : "") +
                             "; `moorfs status` lists all mounts");
  }
  LiveMount out;
  out.mountpoint = best->mountpoint;
  out.device = best->Device();
  out.paths = keeper::PathsOf(keeper::RuntimeRoot(), best->major, best->minor);
  return out;
}

Result<std::optional<Holder>> FindHolder(const MetaUrl& meta) {
  auto locked = os::IsLocked(meta.lock_path);
  if (!locked) {
    if (locked.error().err() == ENOENT || locked.error().err() == ENOTDIR) return std::nullopt;
    return Error(locked.error());
  }
  if (!*locked) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string text, os::ReadLockContent(meta.lock_path));
  const Json words = Json::parse(text, nullptr, false);
  Holder out;
  if (!words.is_object()) {
    out.description = "in use by another process; `fuser -v " + meta.lock_path + "` names it";
    return out;
  }
  const std::string host = words.value("host", "");
  const std::string on = host.empty() ? "" : " on host " + host;
  out.mountpoint = words.value("mountpoint", "");
  out.pod = words.value("pod", "");
  if (!out.pod.empty()) {
    out.description = "served by mount pod " + out.pod + on + "; commands for it run in that pod";
    // Its socket is in its own /run, which is ours only inside.
    char own[256] = {};
    if (gethostname(own, sizeof own - 1) == 0 && out.pod == own) out.paths.directory = words.value("runtime_dir", "");
    return out;
  }
  if (out.mountpoint.empty()) {
    out.description = "in use by `" + words.value("command", "another command") + "` (pid " +
                      std::to_string(words.value("pid", 0)) + on + ")";
    return out;
  }
  out.paths.directory = words.value("runtime_dir", "");
  out.description =
      "mounted at " + out.mountpoint + " (keeper pid " + std::to_string(words.value("keeper_pid", 0)) + on + ")";
  return out;
}

}  // namespace moorfs::admin
