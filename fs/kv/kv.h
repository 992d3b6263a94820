// SPDX-License-Identifier: Apache-2.0
//
// KvStore: the small transactional, ordered key-value interface that metadata
// lives on. LevelDB embeds it, memory fakes it for tests, PostgreSQL, etcd and
// Redis will serve it to many hosts. One conformance suite
// (test/contract/kv_contract.h) runs on every engine.
//
// A key is (partition, suffix). Point operations reach any key; a scan stays
// inside one partition (Redis keeps a partition as one sorted set). Order
// inside a partition is the byte order of suffixes.
//
// Transactions are optimistic and serializable: every key read and every range
// scanned belongs to the conflict set; a transaction whose conflict set was
// written by another since it was read does not commit, and Transact() runs it
// again. A transaction sees its own writes. Code inside must be free of side
// effects other than on the transaction.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs::kv {

// Longest partition and suffix, and largest value, that every engine takes.
inline constexpr size_t kMaxPartitionBytes = 64;
inline constexpr size_t kMaxSuffixBytes = 512;
inline constexpr size_t kMaxValueBytes = 128 << 10;
// Caps on one transaction. A caller with more work splits it and says in its
// comment what a crash in between leaves.
inline constexpr size_t kMaxTransactionOps = 4096;
inline constexpr size_t kMaxTransactionBytes = 4 << 20;

// Owns its bytes; partition and suffix lie side by side, so that an embedded
// engine uses them as they are. Partitions are prefix-free by construction
// (fs/format/keys.h makes each family fixed-length).
class Key {
 public:
  Key() = default;
  Key(std::string_view partition, std::string_view suffix)
      : partition_bytes_(static_cast<uint32_t>(partition.size())) {
    bytes_.reserve(partition.size() + suffix.size());
    bytes_.append(partition).append(suffix);
  }
  std::string_view bytes() const { return bytes_; }
  std::string_view partition() const { return std::string_view(bytes_).substr(0, partition_bytes_); }
  std::string_view suffix() const { return std::string_view(bytes_).substr(partition_bytes_); }
  friend bool operator==(const Key& a, const Key& b) { return a.bytes_ == b.bytes_; }
  friend auto operator<=>(const Key& a, const Key& b) { return a.bytes_ <=> b.bytes_; }

 private:
  std::string bytes_;
  uint32_t partition_bytes_ = 0;
};

struct Entry {
  std::string suffix;
  std::string value;
};

// Suffixes in [begin, end) of one partition; an empty `end` means "to the end
// of the partition".
struct Range {
  std::string partition;
  std::string begin;
  std::string end;
};

// All suffixes that start with `prefix`.
Range PrefixRange(std::string_view partition, std::string_view prefix);

// The operations inside one transaction. Used by one thread. References to it
// die with the function given to Transact().
class Transaction {
 public:
  virtual ~Transaction() = default;

  // Absent key: nullopt. Errors are the engine's (EIO, ETIMEDOUT).
  virtual Result<std::optional<std::string>> Get(const Key& key) = 0;
  // Same order as `keys`. One trip on engines behind a network.
  // Any read may see a commit that an earlier read of this attempt did not: a
  // body that finds nonsense returns an error (never asserts) and is run again.
  virtual Result<std::vector<std::optional<std::string>>> MultiGet(const std::vector<Key>& keys);
  // At most `limit` entries in suffix order. The range read so far (up to the
  // last entry returned, or the whole range when fewer than `limit` came) is
  // in the conflict set. Meant for small answers: `limit` <= 4096.
  virtual Result<std::vector<Entry>> Scan(const Range& range, size_t limit) = 0;

  // Buffered until commit; cannot fail before. kMaxTransactionOps/Bytes hold.
  virtual void Put(const Key& key, std::string_view value) = 0;
  virtual void Delete(const Key& key) = 0;
  // Adds to a little-endian int64 (absent counts as 0), without putting the
  // key into the conflict set: two transactions that add to one key do not
  // conflict. Not visible to Get in the same transaction.
  virtual void Add(const Key& key, int64_t delta) = 0;
};

// A frozen view for long walks (readdir, dump, fsck, gc): consistent, outside
// every conflict set, bounded memory. Movable between threads, used by one.
class Snapshot {
 public:
  virtual ~Snapshot() = default;
  virtual Result<std::optional<std::string>> Get(const Key& key) = 0;
  virtual Result<std::vector<Entry>> Scan(const Range& range, size_t limit) = 0;
  // Walks the whole store in an order that keeps a partition together, from
  // `after` (exclusive; empty = start). For dump, fsck and gc of engines that
  // can; ENOTSUP elsewhere. `key` is partition and suffix run together.
  virtual Status Walk(std::string_view after,
                      const std::function<bool(std::string_view key, std::string_view value)>& visit) = 0;
};

struct Options {
  bool create_if_missing = false;
  // Read-only use (status of a foreign engine): writes answer EROFS.
  bool read_only = false;
};

class KvStore {
 public:
  virtual ~KvStore() = default;

  using Body = std::function<Status(Transaction&)>;

  // Runs `body` and commits. On conflict `body` runs again (bounded attempts
  // with jitter, then kErrnoConflict becomes EAGAIN). When `body` fails
  // nothing is written, its Status is returned - but only once its reads are
  // known to have been a consistent view; else it runs again too.
  // Thread-safe. Once it returns OK the change survives the death of this
  // process; it survives the machine after the next Sync().
  // kErrnoUnknown: the commit may or may not have happened.
  Status Transact(const Body& body);

  // Everything committed before the call is durable against power loss when it
  // returns OK. Concurrent callers share one flush.
  virtual Status Sync() = 0;

  virtual Result<std::unique_ptr<Snapshot>> NewSnapshot() = 0;

  // True when this process is the only one that can use the engine: counters
  // need no per-session split, cached reads cannot go stale.
  virtual bool exclusive() const = 0;
  // Name as in the META URL: "leveldb", "mem".
  virtual std::string_view engine() const = 0;
  // Bytes the engine occupies where that is known, else nullopt.
  virtual std::optional<uint64_t> ApproximateBytes() { return std::nullopt; }
  // One line a person can read about the engine's health.
  virtual std::string Stats() { return {}; }

 protected:
  // One attempt. kErrnoConflict when validation failed. `attempt` counts from
  // 0: an engine inside one process may from some attempt on shut others out
  // while the body runs, so that even a body slower than its rivals gets done.
  virtual Status TransactOnce(const Body& body, int attempt) = 0;
};

}  // namespace moorfs::kv
