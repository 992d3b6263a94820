// SPDX-License-Identifier: Apache-2.0
//
// See optimistic.h. Order that makes it safe: a commit enters the window
// (announced_) before the engine shows it, and published_ moves after. So a
// reader that saw any of it finds it in the window, and a transaction that
// starts at published_ sees all of what it will not be checked against.

#include "fs/kv/optimistic.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "common/base/coding.h"

namespace moorfs::kv {
namespace {

// From this attempt on the body runs with other commits shut out. It cannot
// conflict any more, however slow it is.
constexpr int kFirstExclusiveAttempt = 8;
constexpr size_t kMaxScanLimit = 4096;
// Read sets up to this size are searched one by one.
constexpr size_t kLinearReadSet = 16;

uint64_t HashOf(std::string_view key) { return std::hash<std::string_view>{}(key); }

std::string PrintableKey(std::string_view key) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (unsigned char c : key.substr(0, 24)) {
    out.push_back(kHex[c >> 4]);
    out.push_back(kHex[c & 15]);
  }
  return out;
}

bool Contains(const KeyInterval& interval, std::string_view key) {
  return key >= interval.begin && (interval.end.empty() || key < interval.end);
}

}  // namespace

KeyInterval IntervalOf(const Range& range) {
  KeyInterval interval{range.partition + range.begin, {}};
  if (range.end.empty()) {
    interval.end = PrefixRange({}, range.partition).end;
  } else {
    interval.end = range.partition + range.end;
  }
  return interval;
}

void CommitWindow::Push(uint64_t sequence, const WriteSet& writes) {
  for (const auto& [key, write] : writes) {
    Slot& slot = slots_[pushed_++ % slots_.size()];
    forgotten_sequence_ = slot.sequence;
    slot.sequence = sequence;
    slot.hash = HashOf(key);
    slot.key.assign(key);
  }
}

bool CommitWindow::Conflicts(uint64_t start, std::vector<uint64_t>* read_hashes,
                             const std::vector<KeyInterval>& ranges) const {
  if (start < forgotten_sequence_) return true;
  const bool sorted = read_hashes->size() > kLinearReadSet;
  if (sorted) std::sort(read_hashes->begin(), read_hashes->end());
  const uint64_t oldest = pushed_ > slots_.size() ? pushed_ - slots_.size() : 0;
  for (uint64_t i = pushed_; i > oldest; --i) {
    const Slot& slot = slots_[(i - 1) % slots_.size()];
    if (slot.sequence <= start) break;
    const bool was_read = sorted
                              ? std::binary_search(read_hashes->begin(), read_hashes->end(), slot.hash)
                              : std::find(read_hashes->begin(), read_hashes->end(), slot.hash) != read_hashes->end();
    if (was_read) return true;
    for (const KeyInterval& range : ranges) {
      if (Contains(range, slot.key)) return true;
    }
  }
  return false;
}

// One attempt. Writes live in a buffer on the stack, so that a small
// transaction allocates next to nothing.
class OptimisticTransaction final : public Transaction {
 public:
  explicit OptimisticTransaction(OptimisticStore* store)
      : store_(store), start_(store->CommitSequence()), arena_(buffer_.data(), buffer_.size()), writes_(&arena_) {
    read_hashes_.reserve(kLinearReadSet);
  }

  Result<std::optional<std::string>> Get(const Key& key) override;
  Result<std::vector<Entry>> Scan(const Range& range, size_t limit) override;
  void Put(const Key& key, std::string_view value) override;
  void Delete(const Key& key) override;
  void Add(const Key& key, int64_t delta) override;

 private:
  friend class OptimisticStore;

  // The entry for `key`, or null once the transaction broke a cap.
  PendingWrite* Buffer(const Key& key, size_t value_bytes);

  OptimisticStore* store_;
  const uint64_t start_;
  std::array<std::byte, 4096> buffer_;
  std::pmr::monotonic_buffer_resource arena_;
  WriteSet writes_;
  std::vector<uint64_t> read_hashes_;
  std::vector<KeyInterval> ranges_;
  size_t reads_ = 0;
  size_t operations_ = 0;
  size_t bytes_ = 0;
  Status broken_cap_;
};

Result<std::optional<std::string>> OptimisticTransaction::Get(const Key& key) {
  if (!writes_.empty()) {
    const auto it = writes_.find(key.bytes());
    if (it != writes_.end()) {
      if (it->second.kind == PendingWrite::Kind::kPut) return std::string(it->second.value);
      if (it->second.kind == PendingWrite::Kind::kDelete) return std::nullopt;
    }
  }
  ++reads_;
  read_hashes_.push_back(HashOf(key.bytes()));
  return store_->ReadLatest(key.bytes());
}

Result<std::vector<Entry>> OptimisticTransaction::Scan(const Range& range, size_t limit) {
  if (limit > kMaxScanLimit) {
    return Error(EINVAL, "scan in a transaction: limit " + std::to_string(limit) + " is above 4096");
  }
  std::vector<Entry> entries;
  if (limit == 0) return entries;
  ++reads_;
  KeyInterval interval = IntervalOf(range);
  const size_t skip = range.partition.size();
  auto own = writes_.lower_bound(std::string_view(interval.begin));
  const auto own_in_range = [&] { return own != writes_.end() && Contains(interval, own->first); };
  const auto add = [&](std::string_view key, std::string_view value) {
    entries.push_back({std::string(key.substr(skip)), std::string(value)});
    return entries.size() < limit;
  };
  // Own writes up to `key` (all, when null) join; false when the answer is full.
  const auto add_own_before = [&](const std::string_view* key) {
    while (own_in_range() && (key == nullptr || own->first < *key)) {
      const bool put = own->second.kind == PendingWrite::Kind::kPut;
      if (put && !add(own->first, own->second.value)) return false;
      ++own;
    }
    return true;
  };
  bool full = false;
  const Status status = store_->ScanLatest(interval, [&](std::string_view key, std::string_view value) {
    if (!add_own_before(&key)) {
      full = true;
      return false;
    }
    if (own_in_range() && own->first == key && own->second.kind != PendingWrite::Kind::kNone) {
      const bool put = own->second.kind == PendingWrite::Kind::kPut;
      if (put && !add(key, own->second.value)) full = true;
      ++own;
    } else if (!add(key, value)) {
      full = true;
    }
    return !full;
  });
  if (status.ok() && !full) add_own_before(nullptr);
  if (entries.size() == limit) interval.end = range.partition + entries.back().suffix + '\0';
  ranges_.push_back(std::move(interval));
  if (!status.ok()) return Error(status);
  return entries;
}

PendingWrite* OptimisticTransaction::Buffer(const Key& key, size_t value_bytes) {
  if (!broken_cap_.ok()) return nullptr;
  ++operations_;
  bytes_ += key.bytes().size() + value_bytes;
  if (key.partition().size() > kMaxPartitionBytes || key.suffix().size() > kMaxSuffixBytes || key.bytes().empty()) {
    broken_cap_ = Status(EINVAL, "write key " + PrintableKey(key.bytes()) + ": its length is out of bounds");
  } else if (value_bytes > kMaxValueBytes) {
    broken_cap_ = Status(E2BIG, "write key " + PrintableKey(key.bytes()) + ": a value of " +
                                    std::to_string(value_bytes) + " bytes is too large");
  } else if (operations_ > kMaxTransactionOps || bytes_ > kMaxTransactionBytes) {
    broken_cap_ = Status(E2BIG, "transaction: " + std::to_string(operations_) + " writes of " +
                                    std::to_string(bytes_) + " bytes are too many for one commit");
  }
  if (!broken_cap_.ok()) return nullptr;
  return &writes_.try_emplace(std::pmr::string(key.bytes(), &arena_)).first->second;
}

void OptimisticTransaction::Put(const Key& key, std::string_view value) {
  if (PendingWrite* write = Buffer(key, value.size())) {
    write->kind = PendingWrite::Kind::kPut;
    write->adds = false;
    write->value.assign(value);
  }
}

void OptimisticTransaction::Delete(const Key& key) {
  if (PendingWrite* write = Buffer(key, 0)) {
    write->kind = PendingWrite::Kind::kDelete;
    write->adds = false;
  }
}

void OptimisticTransaction::Add(const Key& key, int64_t delta) {
  if (PendingWrite* write = Buffer(key, sizeof delta)) {
    write->delta = write->adds ? write->delta + delta : delta;
    write->adds = true;
  }
}

Status OptimisticStore::TransactOnce(const Body& body, int attempt) {
  std::unique_lock<std::mutex> exclusive;
  if (attempt >= kFirstExclusiveAttempt) exclusive = std::unique_lock(commit_mutex_);
  OptimisticTransaction transaction(this);
  Status status = body(transaction);
  if (status.ok()) status = transaction.broken_cap_;
  if (status.ok() && !transaction.writes_.empty()) {
    if (read_only_) return Status(EROFS, "write to " + std::string(engine()) + ": it was opened read-only");
    return Commit(&transaction, exclusive.owns_lock());
  }
  if (!Consistent(&transaction)) return Status(kErrnoConflict, "transaction: its reads were overtaken");
  return status;
}

bool OptimisticStore::Consistent(OptimisticTransaction* transaction) {
  // A single read or scan shows one state by itself.
  if (transaction->reads_ <= 1) return true;
  if (announced_.load(std::memory_order_acquire) == transaction->start_) return true;
  std::lock_guard lock(window_mutex_);
  return !window_.Conflicts(transaction->start_, &transaction->read_hashes_, transaction->ranges_);
}

Status OptimisticStore::Commit(OptimisticTransaction* transaction, bool holds_commit_mutex) {
  std::unique_lock<std::mutex> commit;
  if (!holds_commit_mutex) commit = std::unique_lock(commit_mutex_);
  const uint64_t sequence = announced_.load(std::memory_order_relaxed) + 1;
  if (sequence - 1 != transaction->start_) {
    std::lock_guard lock(window_mutex_);
    if (window_.Conflicts(transaction->start_, &transaction->read_hashes_, transaction->ranges_)) {
      return Status(kErrnoConflict, "transaction: what it read was overwritten");
    }
  }
  RETURN_IF_ERROR(ResolveAdds(&transaction->writes_));
  {
    std::lock_guard lock(window_mutex_);
    window_.Push(sequence, transaction->writes_);
    announced_.store(sequence, std::memory_order_release);
  }
  Status status = Apply(transaction->writes_);
  // After a failure too: its keys only cause needless conflicts for a while.
  published_.store(sequence, std::memory_order_release);
  return status;
}

Status OptimisticStore::ResolveAdds(WriteSet* writes) {
  for (auto& [key, write] : *writes) {
    if (!write.adds) continue;
    std::optional<std::string> stored;
    if (write.kind == PendingWrite::Kind::kPut) stored.emplace(write.value);
    if (write.kind == PendingWrite::Kind::kNone) {
      ASSIGN_OR_RETURN_STATUS(stored, ReadLatest(key));
    }
    uint64_t sum = static_cast<uint64_t>(write.delta);
    if (stored) {
      if (stored->size() != sizeof sum) {
        return Status(EIO, "add to key " + PrintableKey(key) + ": its value of " + std::to_string(stored->size()) +
                               " bytes is not a counter");
      }
      sum += ValueReader(*stored).Le64();
    }
    std::string encoded;
    PutLe64(&encoded, sum);
    write.kind = PendingWrite::Kind::kPut;
    write.value.assign(encoded);
  }
  return {};
}

}  // namespace moorfs::kv
