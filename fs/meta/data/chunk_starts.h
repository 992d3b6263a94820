// SPDX-License-Identifier: Apache-2.0
//
// ChunkStarts: below which sequence number a chunk is known to have no slice
// records. Records that were removed still cost every scan that passes over
// them until the engine compacts them away (LevelDB steps over each), so a file
// whose slices come and go would get slower and slower; scans start here.
//
// A start once true stays true, in this process and any other: new records get
// sequence numbers above all that the inode ever had, and ReplaceSlices uses
// none below the oldest record it finds. Thread-safe, bounded, internal to fs/meta.

#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "fs/format/types.h"

namespace moorfs::meta {

class ChunkStarts {
 public:
  // 0 when nothing is known.
  uint64_t Of(Ino ino, uint32_t chunk) const {
    std::lock_guard lock(mutex_);
    const Entry& entry = entries_[Place(ino, chunk)];
    return entry.ino == ino && entry.chunk == chunk ? entry.seq : 0;
  }
  // Only from a read that was consistent and saw no uncommitted removal.
  void Learn(Ino ino, uint32_t chunk, uint64_t seq) {
    if (seq < kWorthwhile) return;
    std::lock_guard lock(mutex_);
    Entry& entry = entries_[Place(ino, chunk)];
    if (entry.ino == ino && entry.chunk == chunk && entry.seq >= seq) return;
    entry = {ino, chunk, seq};
  }

 private:
  // Fewer removed records than this cost no more than the entry.
  static constexpr uint64_t kWorthwhile = 64;
  struct Entry {
    Ino ino = 0;
    uint32_t chunk = 0;
    uint64_t seq = 0;
  };
  static size_t Place(Ino ino, uint32_t chunk) { return ((ino + chunk) * 0x9e3779b97f4a7c15) >> 54; }

  mutable std::mutex mutex_;
  std::array<Entry, 1024> entries_;
};

}  // namespace moorfs::meta
