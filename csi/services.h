// SPDX-License-Identifier: Apache-2.0
//
// The services, each made here and implemented in its file. They keep
// references: what they are given outlives them.

#pragma once

#include <grpcpp/impl/service_type.h>

#include <functional>
#include <memory>
#include <string>

#include "common/mount/mount_manager.h"
#include "csi/file_systems.h"
#include "csi/metrics.h"
#include "csi/volumes.h"

namespace moorfs::csi {

inline constexpr char kDriverName[] = "csi.moorfs.io";

// Identity is the same from node and controller: all instances of a version
// answer alike. Probe looks at ourselves only; engines and stores are for /readyz.
std::unique_ptr<grpc::Service> MakeIdentityService(CallObserver& observer);

struct NodeIdentity {
  std::string node_id;
  int64_t max_volumes = 0;  // 0: no limit
};
std::unique_ptr<grpc::Service> MakeNodeService(NodeIdentity identity, const FileSystems& file_systems,
                                               mount::MountManager& manager, CallObserver& observer);

std::unique_ptr<grpc::Service> MakeControllerService(const FileSystems& file_systems, Volumes& volumes,
                                                     CallObserver& observer);

}  // namespace moorfs::csi
