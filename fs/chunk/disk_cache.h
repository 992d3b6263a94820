// SPDX-License-Identifier: Apache-2.0
//
// DiskCache: frames as the object holds them, on a local disk, in front of a
// store that is slower than it. A ring over a few preallocated files: new
// entries overwrite the oldest. Every entry carries its key and checksum, both
// looked at on every read, so whatever the disk does to it is a miss. The index
// is a table in memory of 16 bytes for each 16 KiB of cache, sized at open.
//
// The files have no names: they vanish with the process, however it ends, and a
// restart begins with an empty cache.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "fs/chunk/frame_cache.h"

namespace moorfs::chunk {

class DiskCache {
 public:
  // Makes `dir` when missing. `bytes` are taken from the disk at once.
  static Result<std::unique_ptr<DiskCache>> Open(const std::string& dir, uint64_t bytes);
  ~DiskCache();

  // Copies and writes in the background; dropped when the disk cannot follow.
  void Insert(const FrameKey& key, std::string_view bytes);
  // The entry's size when it is here, whole and no larger than `out`.
  std::optional<size_t> Read(const FrameKey& key, std::span<char> out);
  void Erase(const FrameKey& key);
  // Waits until everything inserted so far is readable or dropped.
  void Drain();

  uint64_t used_bytes() const;
  size_t index_bytes() const { return index_.size() * sizeof(Entry); }
  bool failed() const;

 private:
  struct Entry {
    uint64_t hash = 0;   // of the key; 0 = free
    uint64_t place = 0;  // units since the cache began << 16 | units of the entry
  };
  struct Pending {
    FrameKey key;
    std::string bytes;
  };

  DiskCache(std::string dir, uint64_t segment_bytes, std::vector<UniqueFd> segments);
  void WriteLoop();
  void WriteEntry(const Pending& entry);
  // Reserves room and forgets what lay there; the place in units.
  uint64_t Reserve(uint64_t units);
  void Link(const FrameKey& key, uint64_t unit, uint64_t units);
  bool Alive(const Entry& entry) const;
  void Failed(std::string_view what, int err);

  const std::string dir_;
  const uint64_t segment_units_;
  const std::vector<UniqueFd> segments_;

  mutable std::mutex mutex_;
  std::vector<Entry> index_;  // sets of kWays
  uint64_t head_ = 0;         // next unit, counted since the cache began
  uint32_t errors_ = 0;
  bool failed_ = false;

  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::deque<Pending> queue_;
  uint64_t queued_bytes_ = 0;
  bool writing_ = false, stopping_ = false;
  std::thread writer_;
};

}  // namespace moorfs::chunk
