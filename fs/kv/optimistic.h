// SPDX-License-Identifier: Apache-2.0
//
// OptimisticStore: serializable transactions for engines that live in this
// process and can only read their latest state and apply a batch.
//
// A transaction notes the commit sequence at its start. Reads go to the latest
// state, overlaid with its own writes; hashes of the keys read and the ranges
// scanned are kept. The keys of recent commits stand in a ring (the window);
// a commit conflicts when a key committed after its start is one it read or
// lies in a range it scanned. A transaction older than the window conflicts
// too. Readers take no lock of ours; only commits follow one another.

#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory_resource>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "fs/kv/kv.h"

namespace moorfs::kv {

// What a transaction wants done to one key. `adds` comes after `kind`: first
// put or delete, then add to the outcome.
struct PendingWrite {
  enum class Kind : uint8_t { kNone, kPut, kDelete };
  using allocator_type = std::pmr::polymorphic_allocator<>;
  explicit PendingWrite(const allocator_type& allocator) : value(allocator) {}

  Kind kind = Kind::kNone;
  bool adds = false;
  int64_t delta = 0;
  std::pmr::string value;
};
using WriteSet = std::pmr::map<std::pmr::string, PendingWrite, std::less<>>;

// Keys [begin, end) as whole byte strings; an empty end is the end of all keys.
struct KeyInterval {
  std::string begin;
  std::string end;
};
KeyInterval IntervalOf(const Range& range);

// The keys of the most recent commits, oldest overwritten first.
class CommitWindow {
 public:
  explicit CommitWindow(size_t slots) : slots_(slots) {}
  void Push(uint64_t sequence, const WriteSet& writes);
  // Was anything read written by a commit later than `start`?
  bool Conflicts(uint64_t start, std::vector<uint64_t>* read_hashes, const std::vector<KeyInterval>& ranges) const;

 private:
  struct Slot {
    uint64_t sequence = 0;
    uint64_t hash = 0;
    std::string key;
  };
  std::vector<Slot> slots_;
  uint64_t pushed_ = 0;           // slots ever written
  uint64_t forgotten_sequence_ = 0;  // newest commit with an overwritten slot
};

class OptimisticTransaction;

class OptimisticStore : public KvStore {
 protected:
  explicit OptimisticStore(bool read_only) : read_only_(read_only) {}

  // False stops the scan.
  using Visitor = std::function<bool(std::string_view key, std::string_view value)>;

  // The engine: latest state, any thread. ReadLatest leaves `value` empty for
  // an absent key. ScanLatest shows one consistent state per call.
  virtual Result<std::optional<std::string>> ReadLatest(std::string_view key) = 0;
  virtual Status ScanLatest(const KeyInterval& interval, const Visitor& visit) = 0;
  // Applies puts and deletes as one unit; one caller at a time. A failure
  // means that nothing was applied.
  virtual Status Apply(const WriteSet& writes) = 0;

  Status TransactOnce(const Body& body, int attempt) final;

  // Changes whenever a commit becomes visible.
  uint64_t CommitSequence() const { return published_.load(std::memory_order_acquire); }
  // For an engine that must keep commits out for a moment.
  std::mutex& commit_mutex() { return commit_mutex_; }

 private:
  friend class OptimisticTransaction;
  Status Commit(OptimisticTransaction* transaction, bool holds_commit_mutex);
  bool Consistent(OptimisticTransaction* transaction);
  Status ResolveAdds(WriteSet* writes);

  static constexpr size_t kWindowSlots = 16384;

  const bool read_only_;
  std::mutex commit_mutex_;
  std::mutex window_mutex_;  // taken after commit_mutex_
  CommitWindow window_{kWindowSlots};
  // Commits in the window, the last perhaps not applied yet. Ahead of
  // published_ only while a commit is being applied.
  std::atomic<uint64_t> announced_{0};
  std::atomic<uint64_t> published_{0};
};

}  // namespace moorfs::kv
