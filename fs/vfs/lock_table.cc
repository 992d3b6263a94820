// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/lock_table.h"

#include <algorithm>
#include <set>

namespace moorfs::vfs {
namespace {

bool Overlap(const Lock& a, const Lock& b) { return a.start <= b.end && b.start <= a.end; }

bool Incompatible(const Lock& a, const Lock& b) {
  return a.owner != b.owner && Overlap(a, b) && (a.type == Lock::Type::kWrite || b.type == Lock::Type::kWrite);
}

}  // namespace

LockTable::LockTable(Arena& arena)
    : records_(reinterpret_cast<LockRecord*>(arena.section(SectionId::kLocks).data)),
      count_(arena.geometry().lock_count) {}

void LockTable::Recover() {
  std::lock_guard lock(mutex_);
  const auto high = static_cast<uint32_t>(std::min<uint64_t>(records_[0].ino, count_ - 1));
  for (uint32_t i = high; i >= 1; --i) {
    LockRecord& r = records_[i];
    const uint32_t state = r.state.load(std::memory_order_acquire);
    if (state == 0) {
      free_.push_back(i);
      continue;
    }
    Held held;
    held.lock = {r.type == 1 ? Lock::Type::kWrite : Lock::Type::kRead, r.start, r.end, r.owner, r.pid};
    held.handle = r.handle;
    held.record = i;
    InodeLocks& locks = inodes_[r.ino];
    (state == 2 ? locks.flock : locks.posix).push_back(held);
  }
}

uint32_t LockTable::NewRecord(Ino ino, const Held& held, bool flock) {
  uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    index = static_cast<uint32_t>(records_[0].ino) + 1;
    if (index >= count_) return 0;
    records_[0].ino = index;
  }
  LockRecord& r = records_[index];
  r.type = held.lock.type == Lock::Type::kWrite ? 1 : 0;
  r.ino = ino;
  r.owner = held.lock.owner;
  r.start = held.lock.start;
  r.end = held.lock.end;
  r.handle = held.handle;
  r.pid = held.lock.pid;
  r.state.store(flock ? 2 : 1, std::memory_order_release);
  return index;
}

void LockTable::FreeRecord(uint32_t record) {
  records_[record].state.store(0, std::memory_order_release);
  free_.push_back(record);
}

const LockTable::Held* LockTable::Conflict(const InodeLocks& locks, const Lock& lock, bool flock) const {
  for (const Held& held : flock ? locks.flock : locks.posix) {
    if (Incompatible(held.lock, lock)) return &held;
  }
  return nullptr;
}

Lock LockTable::Get(Ino ino, const Lock& lock) const {
  std::lock_guard guard(mutex_);
  const auto it = inodes_.find(ino);
  if (it != inodes_.end()) {
    if (const Held* held = Conflict(it->second, lock, false)) return held->lock;
  }
  Lock none = lock;
  none.type = Lock::Type::kUnlock;
  return none;
}

// POSIX: the owner's locks inside the range are replaced by the new one;
// those that reach out of it are cut; equal neighbours merge. New records are
// written before old ones go, so that a crash in between leaves the owner
// with more lock, never with less.
Status LockTable::ApplyPosix(Ino ino, InodeLocks* locks, Handle handle, const Lock& lock) {
  std::vector<Held> kept;
  std::vector<Held> fresh;
  std::vector<uint32_t> gone;
  Lock merged = lock;
  for (const Held& held : locks->posix) {
    const Lock& old = held.lock;
    const bool adjacent = (old.end != UINT64_MAX && old.end + 1 == merged.start) ||
                          (merged.end != UINT64_MAX && merged.end + 1 == old.start);
    if (old.owner != lock.owner || (!Overlap(old, merged) && !(adjacent && old.type == merged.type))) {
      kept.push_back(held);
      continue;
    }
    gone.push_back(held.record);
    if (old.type == lock.type) {
      merged.start = std::min(merged.start, old.start);
      merged.end = std::max(merged.end, old.end);
      continue;
    }
    if (old.start < lock.start) {
      Held left = held;
      left.lock.end = lock.start - 1;
      fresh.push_back(left);
    }
    if (old.end > lock.end) {
      Held right = held;
      right.lock.start = lock.end + 1;
      fresh.push_back(right);
    }
  }
  if (lock.type != Lock::Type::kUnlock) fresh.push_back(Held{merged, handle, 0});
  for (Held& held : fresh) {
    held.record = NewRecord(ino, held, false);
    if (held.record == 0) {
      for (const Held& undo : fresh) {
        if (undo.record != 0) FreeRecord(undo.record);
      }
      return Status(ENOLCK, "lock: the lock table of this mount is full");
    }
  }
  for (uint32_t record : gone) FreeRecord(record);
  kept.insert(kept.end(), fresh.begin(), fresh.end());
  locks->posix = std::move(kept);
  return Status::Ok();
}

Status LockTable::ApplyFlock(Ino ino, InodeLocks* locks, Handle handle, const Lock& lock) {
  auto& list = locks->flock;
  const auto mine = std::find_if(list.begin(), list.end(), [&](const Held& h) { return h.lock.owner == lock.owner; });
  Held held{lock, handle, 0};
  if (lock.type != Lock::Type::kUnlock) {
    held.record = NewRecord(ino, held, true);
    if (held.record == 0) return Status(ENOLCK, "flock: the lock table of this mount is full");
  }
  if (mine != list.end()) {
    FreeRecord(mine->record);
    list.erase(mine);
  }
  if (lock.type != Lock::Type::kUnlock) list.push_back(held);
  return Status::Ok();
}

// Would `owner`, waiting for `lock`, close a circle of waiters? Follows every
// holder in the way to what that holder waits for.
bool LockTable::WouldDeadlock(uint64_t owner, Ino ino, const Lock& lock) const {
  std::set<uint64_t> seen;
  std::vector<std::pair<Ino, Lock>> todo = {{ino, lock}};
  while (!todo.empty()) {
    const auto [at, wanted] = todo.back();
    todo.pop_back();
    const auto it = inodes_.find(at);
    if (it == inodes_.end()) continue;
    for (const Held& held : it->second.posix) {
      if (!Incompatible(held.lock, wanted)) continue;
      const uint64_t holder = held.lock.owner;
      if (holder == owner) return true;
      if (!seen.insert(holder).second) continue;
      for (const Waiter& waiter : waiters_) {
        if (!waiter.flock && waiter.lock.owner == holder) todo.emplace_back(waiter.ino, waiter.lock);
      }
    }
  }
  return false;
}

void LockTable::Set(Ino ino, Handle handle, const Lock& lock, bool flock, bool wait, uint64_t unique,
                    std::function<void(Status)> done) {
  Done answers;
  {
    std::lock_guard guard(mutex_);
    InodeLocks& locks = inodes_[ino];
    const bool blocked = lock.type != Lock::Type::kUnlock && Conflict(locks, lock, flock) != nullptr;
    if (!blocked) {
      Status status = flock ? ApplyFlock(ino, &locks, handle, lock) : ApplyPosix(ino, &locks, handle, lock);
      answers.emplace_back(std::move(done), std::move(status));
      // An unlock or a downgrade may let others in.
      WakeWaiters(ino, &answers);
    } else if (!wait) {
      answers.emplace_back(std::move(done), Status(EAGAIN, "lock: held by another owner"));
    } else if (!flock && WouldDeadlock(lock.owner, ino, lock)) {
      answers.emplace_back(std::move(done), Status(EDEADLK, "lock: waiting would never end"));
    } else {
      waiters_.push_back({ino, handle, lock, flock, unique, std::move(done)});
    }
    Forget(ino);
  }
  for (auto& [answer, status] : answers) answer(std::move(status));
}

void LockTable::Forget(Ino ino) {
  const auto it = inodes_.find(ino);
  if (it != inodes_.end() && it->second.empty()) inodes_.erase(it);
}

void LockTable::WakeWaiters(Ino ino, Done* done) {
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    if (it->ino != ino) {
      ++it;
      continue;
    }
    InodeLocks& locks = inodes_[ino];
    if (Conflict(locks, it->lock, it->flock) != nullptr) {
      ++it;
      continue;
    }
    Status status = it->flock ? ApplyFlock(ino, &locks, it->handle, it->lock)
                              : ApplyPosix(ino, &locks, it->handle, it->lock);
    done->emplace_back(std::move(it->done), std::move(status));
    it = waiters_.erase(it);
  }
}

void LockTable::Cancel(uint64_t unique) {
  std::function<void(Status)> done;
  {
    std::lock_guard guard(mutex_);
    const auto it =
        std::find_if(waiters_.begin(), waiters_.end(), [&](const Waiter& w) { return w.unique == unique; });
    if (it == waiters_.end()) return;
    done = std::move(it->done);
    waiters_.erase(it);
  }
  done(Status(EINTR, "lock: interrupted"));
}

void LockTable::ReleaseOwner(Ino ino, uint64_t owner) {
  Done answers;
  {
    std::lock_guard guard(mutex_);
    const auto it = inodes_.find(ino);
    if (it == inodes_.end()) return;
    std::erase_if(it->second.posix, [&](const Held& held) {
      if (held.lock.owner != owner) return false;
      FreeRecord(held.record);
      return true;
    });
    WakeWaiters(ino, &answers);
    Forget(ino);
  }
  for (auto& [answer, status] : answers) answer(std::move(status));
}

void LockTable::ReleaseHandle(Ino ino, Handle handle) {
  Done answers;
  {
    std::lock_guard guard(mutex_);
    const auto it = inodes_.find(ino);
    if (it == inodes_.end()) return;
    const auto drop = [&](const Held& held) {
      if (held.handle != handle) return false;
      FreeRecord(held.record);
      return true;
    };
    std::erase_if(it->second.flock, drop);
    std::erase_if(it->second.posix, drop);
    WakeWaiters(ino, &answers);
    Forget(ino);
  }
  for (auto& [answer, status] : answers) answer(std::move(status));
}

size_t LockTable::held_count() const {
  std::lock_guard guard(mutex_);
  size_t count = 0;
  for (const auto& [ino, locks] : inodes_) count += locks.posix.size() + locks.flock.size();
  return count;
}

}  // namespace moorfs::vfs
