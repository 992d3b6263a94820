// SPDX-License-Identifier: Apache-2.0
//
// LockTable: flock(2) and POSIX/OFD record locks of one mount. Granted locks
// live in the arena and survive the client; waiting requests live here only,
// because the kernel sends them again to a successor. No thread waits: a
// waiter is a callback. Deadlocks among POSIX waiters answer EDEADLK.
//
// Thread-safe. Callbacks run on the thread that released the lock, without
// the table's mutex held.

#pragma once

#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fs/vfs/arena_layout.h"
#include "fs/vfs/file_system.h"

namespace moorfs::vfs {

class LockTable {
 public:
  explicit LockTable(Arena& arena);

  // Reads the previous client's locks; call once, before anything else.
  void Recover();

  Lock Get(Ino ino, const Lock& lock) const;
  // As FileSystem::SetLock. `unique` names the request for Cancel().
  void Set(Ino ino, Handle handle, const Lock& lock, bool flock, bool wait, uint64_t unique,
           std::function<void(Status)> done);
  void Cancel(uint64_t unique);
  // close(2) of a descriptor: the owner's POSIX locks on the inode go.
  void ReleaseOwner(Ino ino, uint64_t owner);
  // RELEASE of a handle: flock and OFD locks taken through it go.
  void ReleaseHandle(Ino ino, Handle handle);
  size_t held_count() const;

 private:
  struct Held {
    Lock lock;
    Handle handle = 0;
    uint32_t record = 0;  // index in the arena
  };
  struct Waiter {
    Ino ino = 0;
    Handle handle = 0;
    Lock lock;
    bool flock = false;
    uint64_t unique = 0;
    std::function<void(Status)> done;
  };
  struct InodeLocks {
    std::vector<Held> posix;
    std::vector<Held> flock;
    bool empty() const { return posix.empty() && flock.empty(); }
  };
  using Done = std::vector<std::pair<std::function<void(Status)>, Status>>;

  const Held* Conflict(const InodeLocks& locks, const Lock& lock, bool flock) const;
  Status ApplyPosix(Ino ino, InodeLocks* locks, Handle handle, const Lock& lock);
  Status ApplyFlock(Ino ino, InodeLocks* locks, Handle handle, const Lock& lock);
  bool WouldDeadlock(uint64_t owner, Ino ino, const Lock& lock) const;
  // Grants what became possible on the inode; answers go to `done`.
  void WakeWaiters(Ino ino, Done* done);
  void Forget(Ino ino);

  uint32_t NewRecord(Ino ino, const Held& held, bool flock);
  void FreeRecord(uint32_t record);

  LockRecord* records_;  // entry 0 is the header: `ino` = high-water mark
  uint32_t count_;
  mutable std::mutex mutex_;  // guards all below and the records
  std::vector<uint32_t> free_;
  std::unordered_map<Ino, InodeLocks> inodes_;
  std::list<Waiter> waiters_;  // in order of arrival
};

}  // namespace moorfs::vfs
