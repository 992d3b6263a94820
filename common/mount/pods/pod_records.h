// SPDX-License-Identifier: Apache-2.0
//
// Records in the annotations of mount pods, with a copy of each in a file of the
// node. The annotation is the record: a change is made there first, under its
// preconditions, and then in the copy. The copy is what the node goes by while
// the API server cannot be asked, and while a client has no pod: before its
// first one is made, and between one that was deleted and its successor.

#pragma once

#include <memory>

#include "common/mount/pods/node_pods.h"
#include "common/mount/record_store.h"

namespace moorfs::mount {

class PodRecords : public RecordStore {
 public:
  // `copies`: of this node. Both outlive it.
  static std::unique_ptr<PodRecords> Over(NodePods& pods, RecordStore& copies);
  // Takes into the copies what the pods say: after a list, and after events.
  // True: a copy changed.
  virtual bool Adopt() = 0;
  // Puts the record into a pod of the next generation; no change of it comes in
  // between.
  virtual Result<kube::Pod> CreatePod(const std::string& mount_key, const std::string& image) = 0;
};

}  // namespace moorfs::mount
