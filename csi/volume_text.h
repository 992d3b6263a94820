// SPDX-License-Identifier: Apache-2.0
//
// From the words of a request to the options of a volume: attributes, mount
// flags and secrets are one option language, read with the trust of whoever
// wrote them. What kubelet and the provisioner add of their own is left out.

#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/config/volume_options.h"
#include "csi/file_systems.h"

namespace moorfs::csi {

struct VolumeText {
  std::string volume_id;
  std::map<std::string, std::string> context;
  std::map<std::string, std::string> secrets;
  std::vector<std::string> mount_flags;
  bool read_only = false;
};

// An inline volume (kubelet marks it ephemeral) has its options from whoever
// may create a pod: it names its file system, `fs`, and nothing of the host.
// EINVAL names the key and never quotes a value.
Result<config::VolumeOptions> ParseVolumeText(const VolumeText& text, const FileSystems& file_systems);

// A StorageClass's parameters: `fs`, `inodes`, and options that every volume of
// the class gets.
struct ClassParameters {
  std::string fs;
  uint64_t inodes = 0;
  std::map<std::string, std::string> options;
};
// EINVAL names a parameter that is not known or may not be set here.
Result<ClassParameters> ParseClassParameters(const std::map<std::string, std::string>& parameters,
                                             const FileSystems& file_systems);
// Mount flags alone, as a StorageClass's mountOptions bring them.
Status CheckMountFlags(const std::vector<std::string>& flags);

}  // namespace moorfs::csi
