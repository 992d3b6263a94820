// SPDX-License-Identifier: Apache-2.0
//
// FaultyObjectStore: an object store that fails or dawdles on request, in front
// of a real one. Rules are kept in order; the first that fits a call decides.

#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fs/object/object_store.h"

namespace moorfs::test {

enum class Op { kPut, kBarrier, kGet, kHead, kDelete, kList, kSpace };

class FaultyObjectStore final : public object::ObjectStore {
 public:
  struct Rule {
    Op op;
    int err = 0;            // 0: only delay
    std::string name_part;  // fits names that contain it
    int times = -1;         // then the rule is spent; -1: for ever
    int after = 0;          // lets that many fitting calls pass first
    std::chrono::milliseconds delay{0};
  };

  // `base` outlives this.
  explicit FaultyObjectStore(object::ObjectStore& base) : base_(base) {}

  void AddRule(Rule rule) {
    std::lock_guard lock(mutex_);
    rules_.push_back(std::move(rule));
  }
  void Heal() {
    std::lock_guard lock(mutex_);
    rules_.clear();
  }
  uint64_t calls(Op op) const {
    std::lock_guard lock(mutex_);
    auto it = calls_.find(op);
    return it == calls_.end() ? 0 : it->second;
  }

  Status Put(std::string_view name, std::span<const iovec> pieces) override {
    RETURN_IF_ERROR(Enter(Op::kPut, name));
    return base_.Put(name, pieces);
  }
  Status Barrier(std::span<const std::string> names) override {
    RETURN_IF_ERROR(Enter(Op::kBarrier, names.empty() ? "" : names.front()));
    return base_.Barrier(names);
  }
  Result<size_t> Get(std::string_view name, uint64_t offset, std::span<char> out) override {
    TRY_VOID(Enter(Op::kGet, name));
    return base_.Get(name, offset, out);
  }
  Result<size_t> GetV(std::string_view name, uint64_t offset, std::span<const iovec> out) override {
    TRY_VOID(Enter(Op::kGet, name));
    return base_.GetV(name, offset, out);
  }
  Result<object::ObjectInfo> Head(std::string_view name) override {
    TRY_VOID(Enter(Op::kHead, name));
    return base_.Head(name);
  }
  Status Delete(std::string_view name) override {
    RETURN_IF_ERROR(Enter(Op::kDelete, name));
    return base_.Delete(name);
  }
  Status List(std::string_view prefix, const std::function<bool(const object::ObjectInfo&)>& visit) override {
    RETURN_IF_ERROR(Enter(Op::kList, prefix));
    return base_.List(prefix, visit);
  }
  Result<object::Space> GetSpace() override {
    TRY_VOID(Enter(Op::kSpace, ""));
    return base_.GetSpace();
  }
  Status InitStore(const Uuid& uuid, bool force) override { return base_.InitStore(uuid, force); }
  Status CheckStore(const Uuid& uuid) override { return base_.CheckStore(uuid); }
  std::string Url() const override { return base_.Url(); }

 private:
  Status Enter(Op op, std::string_view name) {
    std::chrono::milliseconds delay{0};
    int err = 0;
    {
      std::lock_guard lock(mutex_);
      calls_[op]++;
      for (Rule& rule : rules_) {
        if (rule.op != op || rule.times == 0 || name.find(rule.name_part) == std::string_view::npos) continue;
        if (rule.after > 0) {
          rule.after--;
          continue;
        }
        if (rule.times > 0) rule.times--;
        delay = rule.delay;
        err = rule.err;
        break;
      }
    }
    if (delay.count() > 0) std::this_thread::sleep_for(delay);
    return err == 0 ? Status()
                    : Status::FromErrno("object " + std::string(name) + " (fault on request)", err);
  }

  object::ObjectStore& base_;
  mutable std::mutex mutex_;
  std::vector<Rule> rules_;
  std::map<Op, uint64_t> calls_;
};

}  // namespace moorfs::test
