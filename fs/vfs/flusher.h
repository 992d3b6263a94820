// SPDX-License-Identifier: Apache-2.0
//
// Flusher: moves dirty data from the arena into block objects and commits it.
//
// One round, for one or several inodes whose data_mutex it holds:
//   1. freeze segments of the inodes, oldest first, up to a size: one that
//      hides older bytes never leaves the arena before these
//   2. pack their visible bytes into objects of at most one block, small
//      writes of many files side by side; Put the objects
//   3. commit slices, lengths and times in one transaction per few objects
//   4. free the segments
// A crash after 2 leaves objects nobody refers to (gc); after 3, segments that
// the successor commits once more, with the same bytes in the same order.
// A failed Put or commit leaves the segments dirty: nothing later of that
// inode is committed past them, and the next round tries again.
//
// It also makes committed objects durable (before they can matter after a
// power cut), compacts chunks with many slices, and gives memory back.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fs/vfs/vfs.h"

namespace moorfs::vfs {

class Flusher {
 public:
  explicit Flusher(Vfs& vfs);
  ~Flusher();

  void Start();
  void Stop();

  // The inode has become dirty.
  void Enqueue(const InodePtr& inode);
  // Memory is short: flush now, whatever its age.
  void Kick();

  // Commits what is dirty in the inode at the time of the call. Takes
  // data_mutex, or is told that the caller holds it.
  Status FlushInode(const InodePtr& inode);
  Status FlushInodeLocked(const InodePtr& inode);
  // Commits everything dirty now.
  Status FlushAll();

  // Makes committed objects durable; `objects` or all that are not yet.
  Status MakeDurable(std::vector<ObjectId> objects);
  Status MakeAllDurable();
  // Objects that the previous client committed and did not make durable. Whose
  // they are is not known: every fsync covers them, until they are.
  void Inherit(std::vector<ObjectId> objects);

  // Records an access time to be written in the background.
  void QueueAtime(Ino ino, Timestamp atime);
  // Somebody set it: what was queued before is void.
  void DropAtime(Ino ino);
  void QueueCompaction(Ino ino, uint32_t chunk);

  // Status of the last round that ended.
  Status last_error();
  uint64_t rounds_done() const { return rounds_done_; }

  std::atomic<uint64_t> flushed_bytes{0}, flushes{0}, flush_errors{0}, compactions{0};

 private:
  struct Item;
  struct Round;

  void WorkerLoop();
  void MaintenanceLoop();
  // Takes inodes to flush off the queue; empty = nothing due. `mutex_` held.
  std::vector<InodePtr> Pick();
  Status RunRound(const std::vector<InodePtr>& inodes, uint64_t budget_bytes);
  void Freeze(const InodePtr& inode, uint64_t budget_bytes, Round* round);
  Status StoreObjects(Round* round);
  Status Commit(Round* round);
  void Finish(Round* round, const Status& status);
  bool TryInline(const InodePtr& inode, Round* round, size_t first_item);
  Status CompactChunk(const InodePtr& inode, uint32_t chunk);
  void WriteAtimes();
  // Forgets objects that are durable by now, and inodes kept for their sake.
  void SettleDurable();
  // Those of `objects` that something still points at.
  Result<std::vector<ObjectId>> Referenced(const std::vector<ObjectId>& objects);
  ObjectId NewObjectId();

  Vfs& vfs_;
  const uint64_t nonce_;
  std::atomic<uint64_t> next_object_{1};

  std::mutex mutex_;  // guards down to the threads
  std::condition_variable wake_;
  struct Queued {
    InodePtr inode;
    int64_t since_ns;
  };
  std::list<Queued> queue_;  // oldest first
  std::multiset<InodePtr> busy_;  // taken off the queue and being flushed just now
  bool stopping_ = false;
  bool kicked_ = false;
  int64_t retry_at_ns_ = 0;
  Status last_error_;
  std::set<ObjectId> unsynced_;  // committed, not known durable
  std::vector<ObjectId> inherited_;  // of those, the previous client's
  std::unordered_map<Ino, Timestamp> atimes_;
  std::deque<std::pair<Ino, uint32_t>> compact_;
  std::condition_variable maintain_;

  std::atomic<uint64_t> rounds_done_{0};
  std::vector<std::thread> threads_;
};

}  // namespace moorfs::vfs
