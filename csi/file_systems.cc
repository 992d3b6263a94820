// SPDX-License-Identifier: Apache-2.0

#include "csi/file_systems.h"

namespace moorfs::csi {

Result<FileSystems> FileSystems::Parse(const std::vector<std::string>& words, const std::string& default_name,
                                       const std::vector<std::string>& open_to_pods) {
  FileSystems out;
  for (const std::string& word : words) TRY_VOID(config::AddFsName(word, &out.metas_));
  out.default_name_ = default_name;
  if (default_name.empty() && out.metas_.size() == 1) out.default_name_ = out.metas_.begin()->first;
  if (!default_name.empty() && !out.Knows(default_name)) {
    return Error(EINVAL, "read --default-fs: " + default_name + " is not given with --fs");
  }
  for (const std::string& name : open_to_pods) {
    if (!out.Knows(name)) return Error(EINVAL, "read --pod-fs: " + name + " is not given with --fs");
    out.open_to_pods_.insert(name);
  }
  return out;
}

FileSystems FileSystems::Of(const config::ClusterConfig& config) {
  FileSystems out;
  out.metas_ = config.file_systems;
  out.open_to_pods_ = config.open_to_pods;
  out.default_name_ = config.default_fs;
  out.of_config_ = true;
  return out;
}

Result<std::string> FileSystems::MetaOf(std::string_view name) const {
  if (name.empty()) return Error(EINVAL, "no file system is named: say fs=NAME");
  const auto found = metas_.find(name);
  if (found != metas_.end()) return found->second;
  std::string known;
  for (const auto& [each, meta] : metas_) known += (known.empty() ? "" : ", ") + each;
  return Error(EINVAL, "the file system '" + std::string(name) + "' is not known here (known: " +
                           (known.empty() ? "none" : known) + "); " +
                           (of_config_ ? "add it to fileSystems in the configuration file and restart"
                                       : "start moorfs with --fs " + std::string(name) + "=META"));
}

std::string FormatVolumeId(const VolumeId& id) { return id.fs + "#" + id.name; }

std::optional<VolumeId> ParseVolumeId(std::string_view text) {
  const size_t hash = text.find('#');
  if (hash == std::string_view::npos || hash + 1 == text.size()) return std::nullopt;
  if (!config::CheckFsName(text.substr(0, hash)).ok()) return std::nullopt;
  return VolumeId{std::string(text.substr(0, hash)), std::string(text.substr(hash + 1))};
}

}  // namespace moorfs::csi
