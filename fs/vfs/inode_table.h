// SPDX-License-Identifier: Apache-2.0
//
// InodeTable: the inodes that matter right now - open, dirty or being read -
// and what this client knows of each. An inode nobody needs is forgotten; all
// it held is in metadata or in the arena.
//
// Locks of one inode, in the order they are taken:
//   data_mutex  held by whoever changes the committed data map: a flush, a
//               truncation, compaction. May be held over store and engine calls.
//   mutex       the fields; shared to read. Held over an engine call at most.
//   maps_mutex  the cache of chunk maps; leaf.

#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fs/chunk/chunk_map.h"
#include "fs/vfs/dirty_map.h"

namespace moorfs::vfs {

struct Inode {
  explicit Inode(Ino number) : ino(number) {}

  const Ino ino;

  std::mutex data_mutex;
  uint64_t frozen_up_to = 0;   // highest sequence number that the last round took; by data_mutex
  bool left_over = false;      // that round left dirty bytes behind; by data_mutex

  std::shared_mutex mutex;  // guards down to the next blank line
  DirtyMap dirty;
  PendingAttr pending;
  std::optional<Attr> attr;  // committed; absent = load it
  std::optional<std::string> inline_bytes;
  Status write_error;  // of the last flush; cleared by one that succeeds
  std::set<ObjectId> unsynced;  // committed objects not known durable

  // Claim of the unflushed data on its quota (vfs_quota.cc); by `mutex`.
  Ino quota = 0;
  uint64_t reserved = 0;
  uint64_t written = 0;  // at most so many bytes will be committed

  std::mutex maps_mutex;  // guards `maps`; a map's contents are guarded by `mutex`
  std::map<uint32_t, std::shared_ptr<chunk::ChunkMap>> maps;

  uint32_t open_count = 0;  // guarded by the table's shard
  bool queued = false;      // guarded by the flusher: waits to be flushed

  // Length that a reader sees. Needs `attr` or a pending record.
  uint64_t length() const { return pending.index != 0 ? pending.length : attr ? attr->length : 0; }
};
using InodePtr = std::shared_ptr<Inode>;

class InodeTable {
 public:
  // Finds or adds.
  InodePtr Get(Ino ino);
  // nullptr when unknown.
  InodePtr Find(Ino ino);
  // One more handle. Waits while the inode's last link is being removed, so
  // that it is either open before (and sustained) or gone.
  InodePtr Open(Ino ino);
  // One handle less; true when it was the last.
  bool Close(const InodePtr& inode);
  // Forgets the inode when it is closed, clean and durable and only the caller
  // holds it.
  void Settle(InodePtr inode);
  // Visits every inode, without a lock held, and settles it.
  void VisitAll(const std::function<void(Inode&)>& visit);

  // For Meta: is the inode open? A "no" is a promise, kept until the calling
  // thread's FinishUnlink(): Open() waits.
  bool IsOpen(Ino ino);
  void FinishUnlink();

  // Drops cached maps of chunks until about `bytes` are gone.
  void EvictMaps(size_t bytes);
  size_t size();
  void AddMapBytes(int64_t delta) { map_bytes_.fetch_add(delta, std::memory_order_relaxed); }
  uint64_t map_bytes() const { return static_cast<uint64_t>(std::max<int64_t>(0, map_bytes_.load())); }

 private:
  static constexpr size_t kShards = 64;
  struct Shard {
    std::mutex mutex;
    std::unordered_map<Ino, InodePtr> inodes;
    std::unordered_multiset<Ino> unlinking;
    std::condition_variable unlinked;
  };
  Shard& ShardOf(Ino ino) { return shards_[(ino * 0x9E3779B97F4A7C15ull) >> 58]; }

  std::array<Shard, kShards> shards_;
  std::atomic<int64_t> map_bytes_{0};
  std::atomic<size_t> evict_cursor_{0};
};

}  // namespace moorfs::vfs
