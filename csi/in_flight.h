// SPDX-License-Identifier: Apache-2.0
//
// What is being worked on, by name: beyond a number of callers for one name
// (one, unless said otherwise) the next is turned away at once (EAGAIN), instead
// of waiting behind them with a thread in its hands.

#pragma once

#include <map>
#include <mutex>
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

  explicit InFlight(int limit = 1) : limit_(limit) {}

  // `shown` is what a message calls it: a name may hold a secret.
  Result<Hold> Enter(const std::string& name, const std::string& shown) {
    std::lock_guard lock(mutex_);
    int& callers = names_[name];
    if (callers >= limit_) {
      return Error(EAGAIN, (limit_ == 1 ? "another call works" : std::to_string(limit_) + " calls work") + " on " + shown +
                               " at this moment; ask again");
    }
    ++callers;
    return Hold(this, name);
  }

 private:
  void Release(const std::string& name) {
    std::lock_guard lock(mutex_);
    const auto found = names_.find(name);
    if (--found->second == 0) names_.erase(found);
  }
  const int limit_;
  std::mutex mutex_;
  std::map<std::string, int> names_;
};

}  // namespace moorfs::csi
