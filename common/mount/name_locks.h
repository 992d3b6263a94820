// SPDX-License-Identifier: Apache-2.0
//
// Locks that have names: one per target, one per client. An interface, so that
// the model check decides who runs when.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace moorfs::mount {

// A point in time that a call may not pass; CLOCK_MONOTONIC.
struct Deadline {
  int64_t ns = 0;
  static Deadline In(int ms);
  // Never negative.
  int LeftMs() const;
};

class NameLocks {
 public:
  virtual ~NameLocks() = default;
  virtual bool TryLock(const std::string& name) = 0;
  // False: the deadline passed.
  virtual bool Lock(const std::string& name, Deadline deadline) = 0;
  virtual void Unlock(const std::string& name) = 0;
};
std::unique_ptr<NameLocks> MakeNameLocks();

class NameLock {
 public:
  static NameLock Try(NameLocks& locks, std::string name) {
    const bool held = locks.TryLock(name);
    return NameLock(held ? &locks : nullptr, std::move(name));
  }
  static NameLock Wait(NameLocks& locks, std::string name, Deadline deadline) {
    const bool held = locks.Lock(name, deadline);
    return NameLock(held ? &locks : nullptr, std::move(name));
  }
  ~NameLock() {
    if (locks_ != nullptr) locks_->Unlock(name_);
  }
  NameLock(NameLock&& o) noexcept : locks_(std::exchange(o.locks_, nullptr)), name_(std::move(o.name_)) {}
  NameLock& operator=(NameLock&&) = delete;
  explicit operator bool() const { return locks_ != nullptr; }

 private:
  NameLock(NameLocks* locks, std::string name) : locks_(locks), name_(std::move(name)) {}
  NameLocks* locks_;
  std::string name_;
};

}  // namespace moorfs::mount
