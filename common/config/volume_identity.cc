// SPDX-License-Identifier: Apache-2.0
//
// Which volume: META URLs, names for them, volume handles, and the key that
// decides whether two targets share a client.

#include <algorithm>
#include <cctype>

#include "common/base/text.h"
#include "common/config/nearest.h"
#include "common/config/shown.h"
#include "common/config/volume_options.h"

namespace moorfs::config {
namespace {

bool IsUrl(std::string_view text) {
  const size_t colon = text.find(':');
  return colon != std::string_view::npos && colon > 0 && std::islower(static_cast<unsigned char>(text[0])) != 0 &&
         std::all_of(text.begin(), text.begin() + static_cast<long>(colon), [](unsigned char c) {
           return std::islower(c) || std::isdigit(c) || c == '+' || c == '-' || c == '.';
         });
}

// "/a//b/" and "/a/./b" are "/a/b". ".." is refused: what it means depends on
// symbolic links.
Status PlainPath(std::string_view path, std::string* out) {
  std::string plain;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part == "..") return Status(EINVAL, "its directory has a \"..\"; write it without");
    if (!part.empty() && part != ".") plain += "/" + std::string(part);
  }
  if (plain.empty()) return Status(EINVAL, "its directory is missing; write leveldb:/DIR");
  *out = plain;
  return Status::Ok();
}

}  // namespace

std::string Shown(std::string_view text) {
  constexpr size_t kMost = 64;
  if (text.size() <= kMost) return Printable(text);
  // Not inside a character.
  size_t cut = kMost;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;
  return Printable(text.substr(0, cut)) + "…";
}

Status MetaInto(std::string_view value, std::string* out) {
  if (!IsUrl(value)) return Status(EINVAL, "it is no META URL; write it like leveldb:/srv/vol/meta");
  if (!value.starts_with(kLevelDb)) {
    *out = value;
    return Status::Ok();
  }
  const std::string_view directory = value.substr(kLevelDb.size());
  if (!directory.starts_with('/')) {
    return Status(EINVAL, "its directory is not absolute; write it like leveldb:/srv/vol/meta");
  }
  std::string plain;
  RETURN_IF_ERROR(PlainPath(directory, &plain));
  *out = std::string(kLevelDb) + plain;
  return Status::Ok();
}

Status CheckFsName(std::string_view name) {
  const bool good = !name.empty() && name.size() <= 63 && std::isalnum(static_cast<unsigned char>(name[0])) &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return std::isalnum(c) || c == '-' || c == '_' || c == '.';
                    });
  if (good) return Status::Ok();
  return Status(EINVAL, "\"" + Shown(name) + "\" is no name: at most 63 letters, digits, '-', '_', '.'");
}

Status AddFsName(std::string_view name_and_meta, FsNames* names) {
  const size_t equals = name_and_meta.find('=');
  if (equals == std::string_view::npos) {
    return Status(EINVAL, "--fs wants NAME=META, for example --fs main=leveldb:/srv/vol/meta");
  }
  const std::string_view name = name_and_meta.substr(0, equals);
  if (const Status s = CheckFsName(name); !s.ok()) return s.Annotate("--fs");
  std::string meta;
  if (const Status s = MetaInto(name_and_meta.substr(equals + 1), &meta); !s.ok()) {
    return s.Annotate("--fs " + std::string(name));
  }
  if (!names->emplace(name, meta).second) return Status(EINVAL, "--fs " + std::string(name) + " is given twice");
  return Status::Ok();
}

Status ResolveVolume(const FsNames& names, Trust trust, std::string_view handle_fs, VolumeOptions* options) {
  if (!options->meta.empty()) return Status::Ok();
  const std::string_view wanted = options->fs.empty() ? handle_fs : std::string_view(options->fs);
  if (wanted.empty()) {
    return Status(EINVAL, trust == Trust::kPod
                              ? "no option says which volume: set fs=NAME, which `moorfs node --fs NAME=META` knows"
                              : "no option says which volume: set meta=META, or fs=NAME, which `moorfs node --fs "
                                "NAME=META` knows");
  }
  if (const auto it = names.find(wanted); it != names.end()) {
    options->meta = it->second;
    return Status::Ok();
  }
  if (options->fs.empty() && trust != Trust::kPod && IsUrl(wanted)) {
    return MetaInto(wanted, &options->meta).Annotate("the volume handle's META");
  }
  std::vector<std::string> known;
  for (const auto& [name, meta] : names) known.push_back(name);
  const std::string near = Nearest(wanted.substr(0, 64), known);
  return Status(EINVAL, "no file system is called \"" + Shown(wanted) + "\" here" +
                            (near.empty() ? "" : ", did you mean \"" + near + "\"?") +
                            "; `moorfs node --fs NAME=META` gives names, in a cluster fileSystems of the ConfigMap "
                            "moorfs");
}

Status CheckOpenToPods(const PodFsNames& open, Trust trust, const VolumeOptions& options) {
  if (trust != Trust::kPod || open.contains(options.fs)) return Status::Ok();
  return Status(EPERM, "the file system \"" + options.fs + "\" is not open to volumes that a pod describes itself: "
                       "use a PersistentVolume, or ask the administrator for `moorfs node --pod-fs " + options.fs +
                       "`, in a cluster for openToPods in the ConfigMap moorfs");
}

std::string MountKeyText(const VolumeOptions& options) {
  // An embedded engine has one owner: whatever else two targets ask for, a
  // second client of the same volume could never start. So META alone is what
  // another client is; all other options are of the client's next start.
  return "moorfs-mount-key 1\nmeta=" + options.meta + "\n";
}

VolumeHandle ParseHandle(std::string_view handle) {
  const size_t hash = handle.find('#');
  VolumeHandle out;
  out.fs = handle.substr(0, hash);
  if (hash != std::string_view::npos) out.suffix = handle.substr(hash + 1);
  return out;
}

}  // namespace moorfs::config
