// SPDX-License-Identifier: Apache-2.0
//
// The file systems a role was started with (--fs NAME=META, or those of the
// cluster's configuration file), and the names of
// volumes in them: a volume id is "FS#NAME", FS being one of these names, or a
// META URL in the handle of a PersistentVolume that somebody wrote by hand.

#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/config/cluster_config.h"
#include "common/config/volume_options.h"

namespace moorfs::csi {

class FileSystems {
 public:
  // EINVAL names the word that is no NAME=META, a name that is given twice, or
  // a default or name for pods that is not among them. With one file system, it is the default.
  static Result<FileSystems> Parse(const std::vector<std::string>& words, const std::string& default_name,
                                   const std::vector<std::string>& open_to_pods = {});

  static FileSystems Of(const config::ClusterConfig& config);

  // EINVAL: not known, with the remedy.
  Result<std::string> MetaOf(std::string_view name) const;
  bool Knows(std::string_view name) const { return metas_.contains(name); }
  // Empty when there are several and no default.
  const std::string& default_name() const { return default_name_; }
  const config::FsNames& all() const { return metas_; }
  const config::PodFsNames& open_to_pods() const { return open_to_pods_; }

 private:
  config::FsNames metas_;
  config::PodFsNames open_to_pods_;
  std::string default_name_;
  bool of_config_ = false;
};

struct VolumeId {
  std::string fs;
  std::string name;
};
std::string FormatVolumeId(const VolumeId& id);
// nullopt for what CreateVolume never made: no '#', a META URL, no name.
std::optional<VolumeId> ParseVolumeId(std::string_view text);

}  // namespace moorfs::csi
