// SPDX-License-Identifier: Apache-2.0
//
// Where this host's kubelet looks for FlexVolume drivers: what its command line
// or its configuration says; where no kubelet is visible, the one directory of
// the well-known distributions that exists.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "installer/host.h"

namespace moorfs::installer {

inline constexpr char kDefaultPluginDir[] = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec";

struct PluginDir {
  std::string path;  // the host's
  std::string how;   // "kubelet's --volume-plugin-dir (pid 12)"
};
Result<PluginDir> FindPluginDir(const Host& host);

// The pieces, for tests.
//
// The directory that a kubelet with this command line uses; empty for a process
// that is no kubelet. `read` gives a file of the host, or "".
using ReadHostFile = std::function<std::string(const std::string& path)>;
std::string PluginDirOfCommand(const std::vector<std::string>& argv, const ReadHostFile& read);
// volumePluginDir of a KubeletConfiguration in YAML or JSON; empty when it has none.
std::string PluginDirOfConfig(const std::string& text);

}  // namespace moorfs::installer
