// SPDX-License-Identifier: Apache-2.0
//
// The mount manager: what both doors call. It starts a client for a volume when
// the first target asks for it, shares it between all targets of the node,
// counts them in the client's record, and ends it with the last. It knows
// neither CSI nor FlexVolume, and holds no state that is not in the records and
// in the kernel's mount table: killed at any point it converges after a start.
//
// Thread-safe. No call blocks longer than its deadline, whatever a client does.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/config/volume_options.h"
#include "common/control/client.h"

namespace moorfs::mount {

struct ManagerConfig {
  std::string state_root = "/var/lib/moorfs";  // records, mount sources, sockets, the agent's lock
  std::string kubelet_root = "/var/lib/kubelet";
  // Targets must lie below the kubelet root. Off for an operator's own calls
  // (`moorfs flex --standalone mount /mnt/x …`).
  bool confine_targets = true;
  std::string executable = "/proc/self/exe";   // the full moorfs
};

struct PublishRequest {
  std::string target;     // absolute
  std::string volume_id;  // for messages, stats and "is this target mine"
  config::VolumeOptions options;
  // fsGroup: group and set-gid bit of the volume's root, once.
  std::optional<gid_t> group;
  int timeout_ms = 90'000;
};
struct Published {
  std::string mount_key;
  std::string device;      // "0:57", as mountinfo has it
  bool already = false;    // it was published exactly so before
};

struct UnpublishRequest {
  std::string target;
  int timeout_ms = 60'000;
};

// A target as record and kernel have it.
struct TargetInfo {
  std::string target;
  std::string volume_id;
  std::string subdir;
  bool read_only = false;
  bool mounted = false;  // mountinfo shows our mount of this volume there
};
struct ClientInfo {
  std::string mount_key;
  std::string meta;        // redacted
  std::string source;      // where the client's own mount is
  std::string state;       // "starting", "serving", "restarting", "ending", "dead"
  pid_t client_pid = 0;
  pid_t keeper_pid = 0;
  std::vector<TargetInfo> targets;
};

struct VolumeStats {
  uint64_t total_bytes = 0, used_bytes = 0, available_bytes = 0;
  uint64_t total_inodes = 0, used_inodes = 0, available_inodes = 0;
  bool abnormal = false;
  std::string condition;  // a sentence, "healthy" when not abnormal
};

class MountManager {
 public:
  // Takes the state root's lock: EBUSY names the agent that holds it. Makes
  // every source mount private, finishes or undoes what a dead predecessor
  // began, and starts the reconciler.
  static Result<std::unique_ptr<MountManager>> Start(const ManagerConfig& config);
  // Stops the reconciler. Never unmounts.
  virtual ~MountManager() = default;

  // OK means mounted: mountinfo shows our live client's device and the right
  // root at the target. Errors leave nothing behind, except ETIMEDOUT and
  // EAGAIN, which mean "maybe": ask again or unpublish.
  //   EAGAIN      another call works on this target, or the client is ending
  //   EEXIST      the target shows this volume in another way (ro, subdir, volume)
  //   EBUSY       something that is not ours is mounted at the target
  //   EINVAL      names the field; EPERM a target outside the kubelet root
  //   ENOENT      the volume's directory does not exist
  //   ECONNREFUSED, EIO, ENOSPC, …  the client's own reason
  virtual Result<Published> Publish(const PublishRequest& request) = 0;

  // Needs only the path. OK when nothing is published there (any more): the
  // mounts are gone, so is the directory, and the reference is dropped. EBUSY:
  // what is mounted there is not ours.
  virtual Status Unpublish(const UnpublishRequest& request) = 0;

  // nullopt: nothing is published there.
  virtual std::optional<TargetInfo> FindTarget(std::string_view target) = 0;
  virtual std::vector<ClientInfo> List() = 0;

  // Of the volume at a target, from its client; never touches a path. A client
  // that does not answer gives `abnormal` and the last numbers known. ENOENT:
  // nothing is published there.
  virtual Result<VolumeStats> Stats(std::string_view target, int timeout_ms) = 0;

  // A request to the client of `meta`, which is started when it does not serve
  // and ended again when nothing else uses it.
  virtual Result<control::Json> AskVolume(const std::string& meta, const control::Json& request, int timeout_ms) = 0;

  // One pass over records, mounts and targets; also runs by itself when
  // mountinfo changes. Returns what it repaired, a sentence each.
  virtual std::vector<std::string> Reconcile() = 0;

  struct Counters {
    uint64_t publishes = 0, publish_failures = 0, unpublishes = 0, unpublish_failures = 0, repairs = 0;
    size_t clients = 0, targets = 0;
    int64_t last_reconcile_ns = 0;  // CLOCK_MONOTONIC
  };
  virtual Counters GetCounters() = 0;
};

}  // namespace moorfs::mount
