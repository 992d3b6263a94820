// SPDX-License-Identifier: Apache-2.0
//
// Clients in mount pods. The agent opens /dev/fuse, mounts the source and keeps
// the descriptor; the pod's supervisor gets it over the pod's own directory and
// serves it. Whatever happens to a pod, its successor is given the same
// descriptor and arena: applications wait, and see no error.
//
//   mount   ROOT/<mount key>/<generation>, on this node, made here
//   pod     its name ends in a generation of its own; a successor's is one more
//   holders the agent, the node's depot (common/keeper/depot.h), the supervisor
//
// One thread moves every mount towards "served by its current pod": it makes a
// pod where a good one is missing, connects to its supervisor, lets the previous
// one step aside, hands over, and removes what is superseded. It blocks on the
// API server only, and each time for a few seconds at most; clients that die
// inside their pods need nobody but their supervisor.

#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/config/cluster_config.h"
#include "common/kube/api.h"
#include "common/mount/launcher.h"
#include "common/mount/pods/node_pods.h"
#include "common/mount/pods/pod_records.h"
#include "common/mount/pods/volume_leases.h"

namespace moorfs::mount {

struct PodLauncherConfig {
  std::string mounts_root;    // STATE/mounts
  std::string kubelet_root;   // pods' directories are below it
  std::string node;
  std::string keeper_socket;  // of the node's depot; empty: none
  config::MountPodConfig pods;
  // A mount died, or a record changed from outside: a reason to reconcile.
  std::function<void()> on_change;
};

class PodLauncher : public Launcher {
 public:
  struct Parts {
    NodePods& pods;
    PodRecords& records;
    VolumeLeases& leases;
    kube::EventSender& events;
  };
  // Collects the descriptors of mounts that are there already, from the depot
  // and from the supervisors.
  static Result<std::unique_ptr<PodLauncher>> Start(Parts parts, PodLauncherConfig config);
  // The pods changed.
  virtual void Wake() = 0;
};

}  // namespace moorfs::mount
