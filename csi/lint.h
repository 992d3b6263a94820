// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with PersistentVolumes before a pod waits for them: kubelet
// says nothing when two of them have one volume handle, and only a pod's event
// tells of an option that is refused.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace moorfs::csi {

// `list` is what `kubectl get pv -o json` prints: a List, or one object. A
// sentence for each problem of those that are ours, CSI and FlexVolume alike;
// never a value of an option. EINVAL: it is no such list.
Result<std::vector<std::string>> LintVolumes(const nlohmann::json& list);

}  // namespace moorfs::csi
