// SPDX-License-Identifier: Apache-2.0

#include "common/config/volume_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <charconv>

#include "common/base/text.h"
#include "common/config/nearest.h"
#include "common/config/shown.h"
#include "common/os/mounts.h"

namespace moorfs::config {
namespace {

constexpr size_t kMaxValueBytes = 4096;
constexpr unsigned kDoors = kFlex | kCsiVolume | kCsiClass;
constexpr unsigned kVolumes = kFlex | kCsiVolume;

// ---- values -------------------------------------------------------------------

Status BytesInto(std::string_view value, uint64_t low, uint64_t high, uint64_t* out) {
  if (value.size() > 32) return Status(EINVAL, "\"" + Shown(value) + "\" is not a size");
  ASSIGN_OR_RETURN_STATUS(const uint64_t n, ParseBytes(value));
  if (n < low) return Status(EINVAL, FormatBytes(n) + " is too little: at least " + FormatBytes(low) + " is needed");
  if (n > high) return Status(EINVAL, FormatBytes(n) + " is too much: at most " + FormatBytes(high));
  *out = n;
  return Status::Ok();
}

Status SecondsInto(std::string_view value, int* out) {
  int n = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
  if (error != std::errc() || end != value.data() + value.size() || n < 1 || n > 86'400) {
    return Status(EINVAL, "\"" + Shown(value) + "\" is no number of seconds between 1 and 86400");
  }
  *out = n;
  return Status::Ok();
}

Status AbsolutePathInto(std::string_view value, std::string* out) {
  if (!value.starts_with('/')) return Status(EINVAL, "\"" + Shown(value) + "\" is no absolute path");
  *out = value;
  return Status::Ok();
}

Status LogLevelInto(std::string_view value, std::string* out) {
  if (value != "debug" && value != "info" && value != "warning" && value != "error") {
    return Status(EINVAL, "\"" + Shown(value) + "\" is none of debug, info, warning, error");
  }
  *out = value;
  return Status::Ok();
}

Status UserInto(std::string_view value, std::string* out) {
  if (value.front() == '-' || value.find(' ') != std::string_view::npos) {
    return Status(EINVAL, "\"" + Shown(value) + "\" is no USER or USER:GROUP");
  }
  *out = value;
  return Status::Ok();
}

// A path below the volume's root that leads nowhere else.
Status SubdirInto(std::string_view value, std::string* out) {
  while (value.starts_with('/')) value.remove_prefix(1);
  while (value.ends_with('/')) value.remove_suffix(1);
  for (std::string_view rest = value; !rest.empty();) {
    const size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    rest.remove_prefix(slash == std::string_view::npos ? rest.size() : slash + 1);
    if (part.empty() || part == "." || part == "..") {
      return Status(EINVAL, "\"" + Shown(value) + "\" has an empty, \".\" or \"..\" part; write it like a/b");
    }
    if (part.size() > 255) return Status(EINVAL, "\"" + Shown(value) + "\" has a part of more than 255 bytes");
  }
  *out = value;
  return Status::Ok();
}

// ---- the table ----------------------------------------------------------------

struct Row {
  OptionSpec spec;
  // Null: a word for the kernel's mount flags.
  Status (*set)(std::string_view value, VolumeOptions* o);
};

Status SetText(std::string_view, VolumeOptions*);

const Row kRows[] = {
    {{"meta", OptionType::kText, "META", "none", OptionClass::kIdentity, Trust::kVolume, kDoors,
      "the volume's metadata, an absolute URL such as leveldb:/srv/vol/meta"},
     [](std::string_view v, VolumeOptions* o) { return MetaInto(v, &o->meta); }},
    {{"fs", OptionType::kText, "NAME", "none", OptionClass::kIdentity, Trust::kPod, kDoors,
      "the volume by the name that node and controller know it by (--fs NAME=META)",
      "at most 63 letters, digits, '-', '_', '.'"},
     [](std::string_view v, VolumeOptions* o) {
       RETURN_IF_ERROR(CheckFsName(v));
       o->fs = v;
       return Status::Ok();
     }},
    {{"subdir", OptionType::kPath, "PATH", "/", OptionClass::kRestart, Trust::kAdministrator, kMount,
      "show only this directory of the volume"},
     [](std::string_view v, VolumeOptions* o) {
       o->subdir = v;
       return Status::Ok();
     }},
    {{"subdir", OptionType::kPath, "PATH", "/", OptionClass::kTarget, Trust::kPod, kVolumes,
      "show only this directory of the volume", "no empty, \".\" or \"..\" part"},
     [](std::string_view v, VolumeOptions* o) { return SubdirInto(v, &o->subdir); }},
    {{"create-subdir", OptionType::kFlag, "", "false", OptionClass::kTarget, Trust::kPod, kVolumes,
      "make that directory when it does not exist"},
     [](std::string_view v, VolumeOptions* o) {
       o->create_subdir = v != "false";
       return Status::Ok();
     }},
    {{"memory", OptionType::kBytes, "SIZE", "256MiB", OptionClass::kRestart, Trust::kVolume, kMount | kDoors,
      "memory budget: half holds data not yet stored, a quarter caches blocks, the rest is for metadata",
      "16MiB to 1TiB"},
     [](std::string_view v, VolumeOptions* o) { return BytesInto(v, 16_MiB, 1_TiB, &o->memory_bytes); }},
    {{"cache-dir", OptionType::kPath, "DIR", "none", OptionClass::kRestart, Trust::kVolume, kMount | kDoors,
      "keep blocks read from the store on a local disk", "an absolute path"},
     [](std::string_view v, VolumeOptions* o) { return AbsolutePathInto(v, &o->cache_dir); }},
    {{"cache-size", OptionType::kBytes, "SIZE", "1GiB", OptionClass::kRestart, Trust::kVolume, kMount | kDoors,
      "how much of that disk", "16MiB to 1PiB"},
     [](std::string_view v, VolumeOptions* o) { return BytesInto(v, 16_MiB, 1_PiB, &o->cache_bytes); }},
    {{"read-ahead", OptionType::kBytes, "SIZE", "4MiB", OptionClass::kRestart, Trust::kVolume, kMount | kDoors,
      "how far the kernel reads ahead", "0 to 1GiB"},
     [](std::string_view v, VolumeOptions* o) { return BytesInto(v, 0, 1_GiB, &o->read_ahead_bytes); }},
    {{"client-user", OptionType::kUser, "USER[:GROUP]", "the caller", OptionClass::kRestart, Trust::kVolume,
      kMount | kDoors, "run the client, which needs no privilege, as this user", "a user of the host"},
     [](std::string_view v, VolumeOptions* o) { return UserInto(v, &o->client_user); }},
    {{"abort-after", OptionType::kSeconds, "SECONDS", "300", OptionClass::kRestart, Trust::kVolume, kMount | kDoors,
      "give applications errors when no client could serve for so long", "1 to 86400"},
     [](std::string_view v, VolumeOptions* o) { return SecondsInto(v, &o->abort_after_s); }},
    {{"start-timeout", OptionType::kSeconds, "SECONDS", "60", OptionClass::kRestart, Trust::kVolume, kMount | kDoors,
      "give the mount up when the first client is not ready by then", "1 to 86400"},
     [](std::string_view v, VolumeOptions* o) { return SecondsInto(v, &o->start_timeout_s); }},
    {{"log-level", OptionType::kChoice, "LEVEL", "info", OptionClass::kRestart, Trust::kVolume, kMount | kDoors,
      "debug, info, warning or error", "one of these words"},
     [](std::string_view v, VolumeOptions* o) { return LogLevelInto(v, &o->log_level); }},
    {{"log-file", OptionType::kPath, "FILE", "/var/log/moorfs/VOLUME.log", OptionClass::kRestart,
      Trust::kAdministrator, kMount | kVolumes, "where keeper and client write their log", "an absolute path"},
     [](std::string_view v, VolumeOptions* o) { return AbsolutePathInto(v, &o->log_file); }},
    // Its words come back through the parser one by one: SetOption knows it.
    {{"mount-options", OptionType::kText, "A,B=C", "none", OptionClass::kTarget, Trust::kPod, kDoors,
      "the words of this table as one list, as behind `moorfs mount -o`"},
     SetText},
    {{"ro", OptionType::kFlag, "", "false", OptionClass::kTarget, Trust::kPod, kMount | kDoors, "read-only"}, nullptr},
    {{"rw", OptionType::kFlag, "", "true", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "writable; a claim or pod that says read-only wins"},
     nullptr},
    {{"nosuid", OptionType::kFlag, "", "false", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "set-user-id bits have no effect"},
     nullptr},
    {{"suid", OptionType::kFlag, "", "true", OptionClass::kTarget, Trust::kVolume, kMount | kDoors,
      "the opposite of nosuid"},
     nullptr},
    {{"nodev", OptionType::kFlag, "", "false", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "device files cannot be opened"},
     nullptr},
    {{"dev", OptionType::kFlag, "", "true", OptionClass::kTarget, Trust::kVolume, kMount | kDoors,
      "the opposite of nodev"},
     nullptr},
    {{"noexec", OptionType::kFlag, "", "false", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "programs cannot be executed"},
     nullptr},
    {{"exec", OptionType::kFlag, "", "true", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "the opposite of noexec"},
     nullptr},
    {{"noatime", OptionType::kFlag, "", "false", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "reading does not change access times"},
     nullptr},
    {{"relatime", OptionType::kFlag, "", "true", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "access times change once after a write, or once a day"},
     nullptr},
    {{"strictatime", OptionType::kFlag, "", "false", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "each reading changes access times"},
     nullptr},
    {{"nodiratime", OptionType::kFlag, "", "false", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "as noatime, for directories only"},
     nullptr},
    {{"diratime", OptionType::kFlag, "", "true", OptionClass::kTarget, Trust::kPod, kMount | kDoors,
      "the opposite of nodiratime"},
     nullptr},
    // Of the whole mount in the kernel: a target cannot have its own.
    {{"sync", OptionType::kFlag, "", "false", OptionClass::kRestart, Trust::kAdministrator, kMount,
      "each write is stored before it returns"},
     nullptr},
    {{"async", OptionType::kFlag, "", "true", OptionClass::kRestart, Trust::kAdministrator, kMount,
      "the opposite of sync"},
     nullptr},
    {{"dirsync", OptionType::kFlag, "", "false", OptionClass::kRestart, Trust::kAdministrator, kMount,
      "as sync, for changes of directories only"},
     nullptr},
};

// Never called: SetOption takes the list apart before it looks at the row.
Status SetText(std::string_view, VolumeOptions*) { return Status(EINVAL, "a list of options where one is expected"); }

const Row* FindRow(std::string_view name, unsigned place) {
  const auto row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) {
    return name == r.spec.name && (r.spec.places & place) != 0;
  });
  return row == std::end(kRows) ? nullptr : row;
}

// Words of one family contradict each other.
std::string_view Family(std::string_view word) {
  if (word == "rw") return "ro";
  if (word == "relatime" || word == "strictatime") return "noatime";
  if (word == "suid") return "nosuid";
  if (word == "dev") return "nodev";
  if (word == "exec") return "noexec";
  if (word == "diratime") return "nodiratime";
  if (word == "async") return "sync";
  return word;
}

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

// Whether any place knows the name, and where it has a meaning, in words.
std::string PlacesOf(std::string_view name) {
  unsigned places = 0;
  for (const Row& row : kRows) places |= name == row.spec.name ? row.spec.places : 0u;
  std::string out;
  for (const auto& [bit, text] : {std::pair{kMount, "moorfs mount"}, {kFlex, "flexVolume options"},
                                  {kCsiVolume, "volumeAttributes"}, {kCsiClass, "StorageClass parameters"}}) {
    if (places & bit) out += (out.empty() ? "" : ", ") + std::string(text);
  }
  return out;
}

Status CheckBytes(std::string_view value, bool comma_allowed) {
  if (value.size() > kMaxValueBytes) return Status(EINVAL, "its value is longer than 4096 bytes");
  const bool control = std::any_of(value.begin(), value.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u < 0x20 || u == 0x7f;
  });
  if (control) return Status(EINVAL, "its value holds a line break or another control character");
  // It would become a second option on the client's command line.
  if (!comma_allowed && value.find(',') != std::string_view::npos) return Status(EINVAL, "its value holds a comma");
  return Status::Ok();
}

}  // namespace

const std::vector<OptionSpec>& OptionTable() {
  static const std::vector<OptionSpec> table = [] {
    std::vector<OptionSpec> t;
    for (const Row& row : kRows) t.push_back(row.spec);
    return t;
  }();
  return table;
}

bool IsKubernetesKey(std::string_view name) {
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view domain = name.substr(0, slash);
  return domain == "kubernetes.io" || domain == "k8s.io" || domain.ends_with(".kubernetes.io") ||
         domain.ends_with(".k8s.io");
}

const char* TrustName(Trust trust) {
  switch (trust) {
    case Trust::kAdministrator: return "administrator";
    case Trust::kVolume: return "volume";
    case Trust::kPod: return "pod";
  }
  return "?";
}

// ---- the parser -----------------------------------------------------------------

std::string OptionParser::Called(std::string_view name) const {
  return (place_ == kMount ? "mount option \"" : "option \"") + Shown(name) + "\"";
}

Status OptionParser::Unknown(std::string_view name) const {
  const std::string normal = Normal(name.substr(0, 64));
  const std::string list = place_ == kMount ? "`moorfs mount --help` lists all" : "`moorfs options` lists all";
  if (const std::string places = PlacesOf(normal); !places.empty() && name.size() <= 64) {
    return Status(EINVAL, Called(name) + " has no meaning here, only in " + places);
  }
  std::vector<std::string> words = {"noauto", "nofail"};
  for (const Row& row : kRows) {
    if ((row.spec.places & place_) != 0) words.emplace_back(row.spec.name);
  }
  const std::string near = Nearest(normal, words);
  return Status(EINVAL, Called(name) + " is unknown" + (near.empty() ? "; " : "; did you mean \"" + near + "\"? ") + list);
}

Status OptionParser::CheckAllowed(const OptionSpec& spec) const {
  if (trust_ <= spec.trust) return Status::Ok();
  if (spec.trust == Trust::kAdministrator) {
    return Status(EINVAL, Called(spec.name) + " may be set by the administrator only, with `moorfs mount`");
  }
  std::string text = Called(spec.name) + " may not be set by a pod, only by a PersistentVolume, a StorageClass or the "
                                         "administrator";
  if (std::string_view(spec.name) == "meta") text += "; name the volume instead: fs=NAME, which `moorfs node --fs NAME=META` knows";
  return Status(EINVAL, text);
}

Status OptionParser::CheckDuplicate(const OptionSpec& spec) {
  // mount(8) puts the command line behind fstab: there the last one wins.
  if (place_ == kMount) return Status::Ok();
  const auto [before, fresh] = seen_.emplace(Family(spec.name), spec.name);
  if (fresh) return Status::Ok();
  if (before->second == spec.name) return Status(EINVAL, Called(spec.name) + " is given twice");
  return Status(EINVAL, Called(spec.name) + " contradicts \"" + before->second + "\"; leave one of them out");
}

Status OptionParser::SetFlag(const OptionSpec& spec, std::string_view value) {
  if (place_ == kMount && !value.empty()) return Status(EINVAL, Called(spec.name) + " takes no value");
  if (!value.empty() && value != "true" && value != "false") {
    return Status(EINVAL, Called(spec.name) + ": write \"true\" or \"false\"");
  }
  const Row* row = FindRow(spec.name, place_);
  if (row->set != nullptr) return row->set(value, &options_);
  if (value == "false") return Status::Ok();
  os::ApplyMountFlag(spec.name, &options_.mount_flags);
  options_.read_only = (options_.mount_flags & MS_RDONLY) != 0;
  return Status::Ok();
}

Status OptionParser::SetOption(const OptionSpec& spec, std::string_view value) {
  RETURN_IF_ERROR(CheckAllowed(spec));
  RETURN_IF_ERROR(CheckDuplicate(spec));
  const bool stays_here = spec.option_class == OptionClass::kTarget || spec.option_class == OptionClass::kIdentity;
  if (const Status s = CheckBytes(value, stays_here); !s.ok()) return s.Annotate(Called(spec.name));
  if (spec.type == OptionType::kFlag) return SetFlag(spec, value);
  const std::string_view name = spec.name;
  if (value.empty() && (place_ == kMount || name != "subdir")) {
    return Status(EINVAL, Called(name) + " needs a value: " + spec.name + "=" + spec.metavar);
  }
  if (name == "mount-options") return SetWords(value);
  return FindRow(name, place_)->set(value, &options_).Annotate(Called(name));
}

Status OptionParser::Set(std::string_view name, std::string_view value) {
  if (name.empty()) return Status(EINVAL, "an option has no name");
  if (place_ != kMount && IsKubernetesKey(name)) return Status::Ok();
  const Row* row = FindRow(Normal(name), place_);
  return row == nullptr ? Unknown(name) : SetOption(row->spec, value);
}

Status OptionParser::SetWords(std::string_view words) {
  while (!words.empty()) {
    const size_t comma = words.find(',');
    const std::string_view word = words.substr(0, comma);
    words.remove_prefix(comma == std::string_view::npos ? words.size() : comma + 1);
    if (word.empty() || IsForOthers(word)) continue;
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos) {
      RETURN_IF_ERROR(Set(word, ""));
    } else {
      RETURN_IF_ERROR(Set(word.substr(0, equals), word.substr(equals + 1)));
    }
  }
  return Status::Ok();
}

Result<VolumeOptions> OptionParser::Finish() {
  if (!options_.meta.empty() && !options_.fs.empty()) {
    return Error(EINVAL, "options \"meta\" and \"fs\" both name the volume; leave one of them out");
  }
  if (options_.create_subdir && options_.subdir.empty()) {
    return Error(EINVAL, "option \"create-subdir\" needs the option \"subdir\": which directory to make");
  }
  return options_;
}

// ---- back to words ----------------------------------------------------------------

std::string ClientOptionWords(const VolumeOptions& o) {
  static const VolumeOptions kDefaults;
  std::string out;
  const auto add = [&out](const char* name, const std::string& value) {
    out += (out.empty() ? "" : ",") + std::string(name) + "=" + value;
  };
  // Same order as the table.
  if (o.memory_bytes != kDefaults.memory_bytes) add("memory", std::to_string(o.memory_bytes));
  if (!o.cache_dir.empty()) add("cache-dir", o.cache_dir);
  if (o.cache_bytes != kDefaults.cache_bytes) add("cache-size", std::to_string(o.cache_bytes));
  if (o.read_ahead_bytes != kDefaults.read_ahead_bytes) add("read-ahead", std::to_string(o.read_ahead_bytes));
  if (!o.client_user.empty()) add("client-user", o.client_user);
  if (o.abort_after_s != kDefaults.abort_after_s) add("abort-after", std::to_string(o.abort_after_s));
  if (o.start_timeout_s != kDefaults.start_timeout_s) add("start-timeout", std::to_string(o.start_timeout_s));
  if (o.log_level != kDefaults.log_level) add("log-level", o.log_level);
  if (!o.log_file.empty()) add("log-file", o.log_file);
  return out;
}

}  // namespace moorfs::config
