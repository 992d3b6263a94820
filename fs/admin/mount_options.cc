// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <charconv>

#include "common/log/log.h"
#include "common/os/mounts.h"
#include "fs/admin/nearest.h"

namespace moorfs::admin {
namespace {

constexpr uint64_t kMinMemory = 16_MiB;

Status BytesInto(std::string_view value, uint64_t* out) {
  ASSIGN_OR_RETURN_STATUS(*out, ParseBytes(value));
  return Status::Ok();
}

Status SecondsInto(std::string_view value, int* out) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), *out);
  if (error != std::errc() || end != value.data() + value.size() || *out < 1 || *out > 86'400) {
    return Status(EINVAL, "\"" + std::string(value) + "\" is no number of seconds between 1 and 86400");
  }
  return Status::Ok();
}

Status AbsolutePathInto(std::string_view value, std::string* out) {
  if (!value.starts_with('/')) return Status(EINVAL, "\"" + std::string(value) + "\" is no absolute path");
  *out = value;
  return Status::Ok();
}

struct Row {
  MountOptionSpec spec;
  Status (*set)(std::string_view value, MountOptions* o);
};

const Row kRows[] = {
    {{"memory", "SIZE", "256MiB",
      "memory budget: half holds data not yet stored, a quarter caches blocks, the rest is for metadata"},
     [](std::string_view v, MountOptions* o) { return BytesInto(v, &o->memory_bytes); }},
    {{"cache-dir", "DIR", "none", "keep blocks read from the store on a local disk"},
     [](std::string_view v, MountOptions* o) { return AbsolutePathInto(v, &o->cache_dir); }},
    {{"cache-size", "SIZE", "1GiB", "how much of that disk"},
     [](std::string_view v, MountOptions* o) { return BytesInto(v, &o->cache_bytes); }},
    {{"subdir", "PATH", "/", "show only this directory of the volume"},
     [](std::string_view v, MountOptions* o) {
       o->subdir = v;
       return Status::Ok();
     }},
    {{"read-ahead", "SIZE", "4MiB", "how far the kernel reads ahead"},
     [](std::string_view v, MountOptions* o) { return BytesInto(v, &o->read_ahead_bytes); }},
    {{"client-user", "USER[:GROUP]", "the caller", "run the client, which needs no privilege, as this user"},
     [](std::string_view v, MountOptions* o) {
       o->client_user = v;
       return Status::Ok();
     }},
    {{"abort-after", "SECONDS", "300", "give applications errors when no client could serve for so long"},
     [](std::string_view v, MountOptions* o) { return SecondsInto(v, &o->abort_after_s); }},
    {{"start-timeout", "SECONDS", "60", "give the mount up when the first client is not ready by then"},
     [](std::string_view v, MountOptions* o) { return SecondsInto(v, &o->start_timeout_s); }},
    {{"log-level", "LEVEL", "info", "debug, info, warning or error"},
     [](std::string_view v, MountOptions* o) {
       log::Level level;
       if (!log::ParseLevel(v, &level)) {
         return Status(EINVAL, "\"" + std::string(v) + "\" is none of debug, info, warning, error");
       }
       o->log_level = v;
       return Status::Ok();
     }},
    {{"log-file", "FILE", "/var/log/moorfs/VOLUME.log", "where keeper and client write their log"},
     [](std::string_view v, MountOptions* o) { return AbsolutePathInto(v, &o->log_file); }},
};

// Words that fstab and mount(8) use among themselves.
bool IsForOthers(std::string_view word) {
  static constexpr std::string_view kWords[] = {"defaults", "auto",  "noauto", "user",  "nouser", "users",
                                                "owner",    "group", "nofail", "_netdev"};
  return std::find(std::begin(kWords), std::end(kWords), word) != std::end(kWords) || word.starts_with("x-") ||
         word.starts_with("X-") || word.starts_with("comment=") || word.starts_with("uhelper=") ||
         word.starts_with("helper=");
}

std::string Normal(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

std::vector<std::string> KnownWords() {
  std::vector<std::string> words = {"ro",      "rw",       "nosuid",      "suid", "nodev",   "dev", "noexec", "exec",
                                    "noatime", "relatime", "strictatime", "sync", "dirsync", "noauto", "nofail"};
  for (const Row& row : kRows) words.emplace_back(row.spec.name);
  return words;
}

Status Unknown(std::string_view word) {
  const std::string near = Nearest(Normal(word), KnownWords());
  return Status(EINVAL, "mount option \"" + std::string(word) + "\" is unknown" +
                            (near.empty() ? "" : "; did you mean \"" + near + "\"?") +
                            (near.empty() ? "; " : " ") + "`moorfs mount --help` lists all");
}

}  // namespace

const std::vector<MountOptionSpec>& MountOptionTable() {
  static const std::vector<MountOptionSpec> table = [] {
    std::vector<MountOptionSpec> t;
    for (const Row& row : kRows) t.push_back(row.spec);
    return t;
  }();
  return table;
}

Status ApplyMountOption(std::string_view name, std::string_view value, MountOptions* options) {
  const std::string normal = Normal(name);
  for (const Row& row : kRows) {
    if (normal != row.spec.name) continue;
    if (value.empty()) return Status(EINVAL, "mount option \"" + normal + "\" needs a value: " + normal + "=" + row.spec.metavar);
    return row.set(value, options).Annotate("mount option " + normal);
  }
  return Unknown(name);
}

Status ApplyMountOptions(std::string_view text, MountOptions* options) {
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    if (word.empty() || IsForOthers(word)) continue;
    const size_t equals = word.find('=');
    if (equals != std::string_view::npos) {
      RETURN_IF_ERROR(ApplyMountOption(word.substr(0, equals), word.substr(equals + 1), options));
    } else if (os::ApplyMountFlag(word, &options->mount_flags)) {
      options->read_only = (options->mount_flags & MS_RDONLY) != 0;
    } else {
      RETURN_IF_ERROR(ApplyMountOption(word, "", options));
    }
  }
  return Status::Ok();
}

Status CheckMountOptions(const MountOptions& o) {
  if (o.memory_bytes < kMinMemory) {
    return Status(EINVAL, "mount option memory=" + FormatBytes(o.memory_bytes) + ": at least " +
                              FormatBytes(kMinMemory) + " is needed");
  }
  if (o.memory_bytes > 1_TiB) return Status(EINVAL, "mount option memory: at most 1 TiB");
  if (!o.cache_dir.empty() && o.cache_bytes < 16_MiB) {
    return Status(EINVAL, "mount option cache-size=" + FormatBytes(o.cache_bytes) + ": at least 16 MiB is needed");
  }
  return Status::Ok();
}

}  // namespace moorfs::admin
