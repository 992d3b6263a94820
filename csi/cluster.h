// SPDX-License-Identifier: Apache-2.0
//
// What the roles need of a Kubernetes cluster beyond CSI: a connection to its
// API, and volumes made by the agent of the node that serves their file system,
// for a controller that reaches no file system itself.

#pragma once

#include <memory>

#include "common/base/status.h"
#include "common/kube/api.h"
#include "common/mount/pods/volume_leases.h"
#include "csi/arguments.h"
#include "csi/volumes.h"

namespace moorfs::csi {

// What a pod finds around itself, unless the arguments say otherwise.
Result<kube::ApiConfig> KubeConfigOf(const KubeArguments& arguments);
Result<std::unique_ptr<kube::Api>> OpenKube(const KubeArguments& arguments);

// `caller` outlives it.
std::unique_ptr<Volumes> MakeAgentVolumes(mount::LeaseCaller& caller);

}  // namespace moorfs::csi
