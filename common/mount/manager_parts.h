// SPDX-License-Identifier: Apache-2.0
//
// What a mount manager is made of. Clients as processes: MountManager::Start();
// in pods: pods/pod_manager.h.

#pragma once

#include <memory>
#include <string>

#include "common/mount/launcher.h"
#include "common/mount/mount_manager.h"
#include "common/mount/name_locks.h"
#include "common/mount/record_store.h"
#include "common/mount/target.h"
#include "common/os/lock_file.h"

namespace moorfs::mount {

struct ManagerParts {
  // Declared in the order they are made; destroyed in the other.
  std::unique_ptr<os::LockFile> lock;
  std::unique_ptr<NameLocks> locks;
  std::unique_ptr<Targets> targets;
  std::shared_ptr<void> context;  // whatever store and launcher use
  std::unique_ptr<RecordStore> store;
  std::unique_ptr<Launcher> launcher;
  std::string boot_id;
  // A client nobody refers to any more stays so long.
  int end_delay_s = 0;
};

// The parts that both kinds share: the state root, its lock, targets.
Result<ManagerParts> BeginManagerParts(const ManagerConfig& config);

class ManagerBase : public MountManager {
 public:
  // A reason to look; on any thread, never blocks.
  virtual void WakeReconciler() = 0;
};
Result<std::unique_ptr<ManagerBase>> MakeManager(ManagerParts parts);

}  // namespace moorfs::mount
