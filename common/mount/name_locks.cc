// SPDX-License-Identifier: Apache-2.0

#include "common/mount/name_locks.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>

#include "common/base/units.h"

namespace moorfs::mount {
namespace {

class ProcessLocks final : public NameLocks {
 public:
  bool TryLock(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    return entries_.try_emplace(name).second;
  }
  bool Lock(const std::string& name, Deadline deadline) override {
    std::unique_lock lock(mutex_);
    const auto [it, mine] = entries_.try_emplace(name);
    if (mine) return true;
    // The entry stays while somebody holds it or waits; a thousand waiters for
    // one client do not wake each other.
    Entry& entry = it->second;
    ++entry.waiters;
    const bool got = entry.freed.wait_for(lock, std::chrono::milliseconds(deadline.LeftMs()),
                                          [&] { return !entry.held; });
    --entry.waiters;
    if (got) entry.held = true;
    return got;
  }
  void Unlock(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    const auto it = entries_.find(name);
    it->second.held = false;
    if (it->second.waiters == 0) {
      entries_.erase(it);
    } else {
      it->second.freed.notify_one();
    }
  }

 private:
  struct Entry {
    bool held = true;
    int waiters = 0;
    std::condition_variable freed;
  };
  std::mutex mutex_;
  std::map<std::string, Entry> entries_;
};

}  // namespace

Deadline Deadline::In(int ms) { return {MonotonicNs() + int64_t{ms} * 1'000'000}; }

int Deadline::LeftMs() const {
  return static_cast<int>(std::clamp<int64_t>((ns - MonotonicNs()) / 1'000'000, 0, 86'400'000));
}

std::unique_ptr<NameLocks> MakeNameLocks() { return std::make_unique<ProcessLocks>(); }

}  // namespace moorfs::mount
