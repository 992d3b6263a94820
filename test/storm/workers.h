// SPDX-License-Identifier: Apache-2.0
//
// The load of a storm. Every worker owns its part of the volume, knows what
// must be there, and reports whatever a local file system would not have done:
// an error, wrong data, a name that is there twice or not at all.

#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "test/storm/ledger.h"

namespace moorfs::storm {

using Clock = std::chrono::steady_clock;

// What all workers share: errors and the time calls took.
class Report {
 public:
  void Error(const std::string& worker, const std::string& what);
  // A call that took `seconds`, without fsync (that waits for the disk).
  void Took(const std::string& call, double seconds);
  void CountCall() { calls_.fetch_add(1, std::memory_order_relaxed); }

  uint64_t calls() const { return calls_.load(); }
  uint64_t errors();
  std::map<std::string, uint64_t> ErrorCounts();
  double longest();
  std::string longest_call();
  void ResetLongest();

 private:
  std::mutex mutex_;
  std::map<std::string, uint64_t> errors_;
  std::atomic<uint64_t> calls_{0};
  std::atomic<double> longest_{0};
  std::string longest_call_;
};

struct Shared {
  std::string root;
  Ledger* ledger = nullptr;
  Report* report = nullptr;
  std::atomic<bool>* stop = nullptr;
  bool direct = true;
};

class Worker {
 public:
  Worker(std::string name, const Shared& shared, uint32_t number)
      : name_(std::move(name)), shared_(shared), number_(number), random_(number * 7919 + 1) {}
  virtual ~Worker() = default;
  virtual void Setup() = 0;
  virtual void Step() = 0;
  // Everything this worker knows, checked again after the storm.
  virtual void Verify() = 0;
  const std::string& name() const { return name_; }

 protected:
  // Runs a system call, times it and reports an error. `expected`: an errno
  // that the model asks for (0: success).
  template <typename Call>
  int64_t Do(const char* what, Call call, int expected = 0);
  void Broken(const std::string& what) { shared_.report->Error(name_, what); }
  std::string Path(const std::string& file) const { return shared_.root + "/" + file; }
  uint64_t Below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(random_); }

  std::string name_;
  Shared shared_;
  uint32_t number_;
  std::mt19937_64 random_;
};

std::vector<std::unique_ptr<Worker>> MakeWorkers(const Shared& shared);

}  // namespace moorfs::storm
