// SPDX-License-Identifier: Apache-2.0
//
// One holder for each volume with an embedded engine, and a way to ask it. The
// Lease "moorfs-<mount key>" in the mount pods' namespace says which node may
// serve the volume; it is not renewed: a node that is gone does not lose it by
// itself, since nobody can know that its client is dead (`moorfs` documentation
// says how an administrator takes it away: kubectl delete lease). The controller,
// which serves no volume itself, writes what it asks as an annotation
//   moorfs.io/ask-<id>     {"cmd": …}          a request for the client's socket
// and the holder's agent answers beside it
//   moorfs.io/answer-<id>  {"ok": …} or {"error": {"errno", "message"}}
// Both are removed by who asked. Annotations are changed under the Lease's
// resourceVersion. Requests may be executed twice and must bear it.
//
// Thread-safe.

#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "common/kube/api.h"
#include "common/mount/name_locks.h"

namespace moorfs::mount {

inline constexpr char kVolumeLeaseLabel[] = "app.kubernetes.io/name=moorfs-volume";

class VolumeLeases {
 public:
  struct Ask {
    std::string mount_key;
    std::string meta;  // of the volume, from the lease
    std::string id;
    kube::Json request;
  };
  struct Config {
    std::string ns;    // of the mount pods
    std::string node;  // ours
    // An ask of a volume that this node holds; once for each id, and again when
    // Answer() failed. `request` is an object with a text "cmd". On the watch's
    // thread, perhaps before Start() has returned: must not block. Empty for an
    // agent that answers none.
    std::function<void(Ask)> on_ask;
  };
  static std::unique_ptr<VolumeLeases> Start(kube::Api& api, Config config);
  virtual ~VolumeLeases() = default;

  // OK: this node holds it (no request when the watch shows that already).
  // EBUSY: another does; the message names it and the remedy.
  virtual Status Acquire(const std::string& mount_key, const std::string& meta) = 0;
  // The holder is cleared, if it is us. OK when absent.
  virtual Status Release(const std::string& mount_key) = 0;
  // Every ask gets an answer, an error too. ENOENT: nobody waits for it any more.
  virtual Status Answer(const std::string& mount_key, const std::string& id, const kube::Json& answer) = 0;
};

// The asking side, in the controller: as VolumeAdmin, but through the agent of
// the node that holds the volume. A volume nobody holds is given to the node
// whose PersistentVolume ties the claim there, else to `fallback_node`.
class LeaseCaller {
 public:
  struct Config {
    std::string ns;
    std::string fallback_node;
  };
  static Result<std::unique_ptr<LeaseCaller>> Start(kube::Api& api, Config config);
  virtual ~LeaseCaller() = default;
  // The answer of the client, or its error. ETIMEDOUT: nobody answered; the
  // message names the node that should have. ENXIO: the volume's claim does not
  // exist. ENOENT is only ever the client's.
  virtual Result<kube::Json> Call(const std::string& mount_key, const std::string& meta, const kube::Json& request,
                                  int timeout_ms) = 0;
};

}  // namespace moorfs::mount
