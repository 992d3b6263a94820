// SPDX-License-Identifier: Apache-2.0
//
// The protocol of references, over interfaces: records, clients, targets,
// locks. The manager gives it the real ones, the model check its own, which
// stop it at every call.
//
// Publish, and what a death of the agent after a step leaves:
//   1 lock the target         nothing. (Locks die with the agent.)
//   2 check the request       nothing.
//   3 look at the target      at most a missing reference added or a flag set.
//   4 add the reference       a reference without a mount: the next start drops
//                             it, and the record with it when it was the first.
//   5 ensure the client       the same, and a client; it is ended when no other
//                             reference holds it. One that was being started
//                             ends with its starter, or is adopted and ended.
//   6 prepare the root        the same, and a directory in the volume, which
//                             the request asked for anyway.
//   7 bind                    a mount with its reference: all is well, and a
//                             repeated publish says so. Between bind and flags
//                             it may be writable: the start sets the flag.
//   8 verify                  nothing is missing.
// A failure undoes in reverse: mount, directory, reference, and the client when
// that was the last one.
//
// Unpublish:
//   1 lock the target         nothing.
//   2 take mounts off         a reference with fewer mounts or none: without a
//                             mount the next start drops it.
//   3 remove the directory    the same.
//   4 drop the reference      a client without references: the next start ends it.
//   5 end the client          5a phase "ending" is written, with the version on
//                             which no reference was seen: the start goes on.
//                             5b the client is gone: the start deletes the record.
//                             5c the record is deleted: nothing is left.
//
// A new generation, when keeper and client died with targets in place: the
// record names generation g+1 and remembers the dead device (G1), the client is
// started (G2), the record names the device (G3), every target gets a live bind
// stacked on its dead one (G4), the dead source is detached (G5). A death in
// between is repaired by Repair(), which sees a record without a live client
// and begins again with g+2.

#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/mount/launcher.h"
#include "common/mount/name_locks.h"
#include "common/mount/record_store.h"
#include "common/mount/target.h"

namespace moorfs::mount {

// A checked publish request.
struct PublishPlan {
  TargetName target;
  std::string mount_key;
  ClientSpec spec;
  Reference reference;
  bool create_root = false;
  std::optional<gid_t> group;
  unsigned long mount_flags = 0;
};

struct PublishOutcome {
  std::string device;
  bool already = false;
};

class Core {
 public:
  struct Parts {
    RecordStore& store;
    Launcher& launcher;
    Targets& targets;
    NameLocks& locks;
    std::string boot_id;
    // Called between numbered steps ("publish-4"); a test dies in it.
    std::function<void(const char* step)> step;
    // Somebody uses the client without a target; it is not ended. May be empty.
    std::function<bool(const std::string& mount_key)> in_use;
  };
  explicit Core(Parts parts) : p_(std::move(parts)) {}

  Result<PublishOutcome> Publish(const PublishPlan& plan, Deadline deadline);
  Status Unpublish(const TargetName& target, Deadline deadline);

  // The client, started when it does not serve, for work that has no target. The
  // caller sees to it that `in_use` says so.
  Result<ClientRecord> Use(const std::string& mount_key, const ClientSpec& spec, Deadline deadline);
  // Ends it when nothing refers to it.
  Status EndIfUnused(const std::string& mount_key, Deadline deadline);

  struct RepairResult {
    std::vector<std::string> repaired;
    // Something is on its way, or failed: look again soon.
    bool again = false;
  };
  // `start`: may clients be started and ended, which can take long.
  RepairResult Repair(bool start);

  // The record and reference of a target.
  struct Found {
    ClientRecord record;
    Reference reference;
  };
  Result<std::optional<Found>> Find(const TargetName& target);

 private:
  struct View {
    std::vector<ClientRecord> records;
    std::vector<os::MountEntry> table;
    std::vector<os::MountEntry> layers;  // at the target
  };
  Result<View> Look(const TargetName& target);
  void Step(const char* name) const {
    if (p_.step) p_.step(name);
  }

  struct Before {
    std::optional<PublishOutcome> done;
    size_t layers = 0;
  };
  Result<Before> CheckTarget(const PublishPlan& plan, Deadline deadline);
  Result<PublishOutcome> Establish(const PublishPlan& plan, Deadline deadline, bool* made_directory);
  Status Stack(const TargetName& target, const ClientRecord& record, const Reference& reference,
               unsigned long mount_flags, Deadline deadline);
  Status Verify(const PublishPlan& plan, const std::string& device);
  void Undo(const PublishPlan& plan, size_t layers_before, bool made_directory);

  Status AddReference(const PublishPlan& plan, Deadline deadline);
  Status DropReference(const std::string& mount_key, const std::string& hash);
  // Makes the record, or changes it with `change`; waits while it is ending.
  Status Enlist(const std::string& mount_key, const ClientSpec& spec,
                const std::function<bool(ClientRecord&)>& change, Deadline deadline);
  Result<ClientRecord> EnsureClient(const std::string& mount_key, Deadline deadline);
  Status EndLocked(const std::string& mount_key, Deadline deadline);
  Status DiscardOthers(const ClientRecord& record);

  // Reads, changes, writes, again after a conflict. `change` returns false to
  // leave the record as it is.
  Result<std::optional<ClientRecord>> Mutate(const std::string& mount_key,
                                             const std::function<bool(ClientRecord&)>& change);

  class Repairer;
  Parts p_;
};

// The record that a mount at a target belongs to; nullptr: not ours.
const ClientRecord* OwnerOf(const os::MountEntry& mount, const std::vector<ClientRecord>& records);

}  // namespace moorfs::mount
