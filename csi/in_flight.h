// SPDX-License-Identifier: Apache-2.0
//
// What is being worked on, by name: the second caller for a name is turned away
// at once (EAGAIN) instead of waiting behind the first.

#pragma once

#include <mutex>
#include <set>
#include <string>

#include "common/base/status.h"

namespace moorfs::csi {

class InFlight {
 public:
  class Hold {
   public:
    Hold(InFlight* owner, std::string name) : owner_(owner), name_(std::move(name)) {}
    ~Hold() {
      if (owner_ != nullptr) owner_->Release(name_);
    }
    Hold(Hold&& other) noexcept : owner_(other.owner_), name_(std::move(other.name_)) { other.owner_ = nullptr; }
    Hold& operator=(Hold&&) = delete;

   private:
    InFlight* owner_;
    std::string name_;
  };

  Result<Hold> Enter(const std::string& name) {
    std::lock_guard lock(mutex_);
    if (!names_.insert(name).second) {
      return Error(EAGAIN, "another call works on " + name + " at this moment; ask again");
    }
    return Hold(this, name);
  }

 private:
  void Release(const std::string& name) {
    std::lock_guard lock(mutex_);
    names_.erase(name);
  }
  std::mutex mutex_;
  std::set<std::string> names_;
};

}  // namespace moorfs::csi
