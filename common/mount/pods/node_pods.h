// SPDX-License-Identifier: Apache-2.0
//
// The mount pods of this node: a copy kept by a watch, and the few changes that
// are made to them. What was changed through here is in the copy at once.
// Thread-safe.

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "common/kube/api.h"
#include "common/kube/pod.h"
#include "common/mount/pods/mount_pod.h"

namespace moorfs::mount {

class NodePods {
 public:
  struct Config {
    std::string node;
    config::MountPodConfig pods;
    // Something changed; on any thread, must not block.
    std::function<void()> on_change;
  };
  static std::unique_ptr<NodePods> Start(kube::Api& api, Config config);
  virtual ~NodePods() = default;

  // The first list is through: from then on what is not there does not exist.
  virtual bool Synced() const = 0;
  // By generation, lowest first; terminating and ended ones included.
  virtual std::vector<kube::Pod> Of(const std::string& mount_key) const = 0;
  // The one with the highest generation whose record was not ended on purpose.
  virtual std::optional<kube::Pod> Current(const std::string& mount_key) const = 0;
  virtual std::vector<std::string> MountKeys() const = 0;

  // The next generation, with the record in it; `image` empty: the configured one.
  virtual Result<kube::Pod> Create(const ClientRecord& record, const std::string& image) = 0;
  // Makes the current pod's annotations those of `to`, if they are those of
  // `from` (other changes of the pod, kubelet's, do not count; null: whatever
  // they are). kErrnoConflict: they are not.
  virtual Status Change(const ClientRecord* from, const ClientRecord& to) = 0;
  // Ends the record: the current pod, if its annotations are those of `record`,
  // and then all others of its key.
  virtual Status End(const ClientRecord& record) = 0;
  // One pod and no other of that name.
  virtual Status Delete(const kube::Pod& pod, int grace_s) = 0;
  virtual Status SetServing(const kube::Pod& pod, bool serving, const std::string& why) = 0;
};

}  // namespace moorfs::mount
