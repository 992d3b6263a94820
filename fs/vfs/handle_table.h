// SPDX-License-Identifier: Apache-2.0
//
// HandleTable: the files and directories the kernel has open, in the arena, so
// that a successor of this client honours handle numbers it never gave out.
// A number is index | generation << 32; a number whose generation is not the
// record's is stale (EBADF). Thread-safe.

#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "fs/vfs/arena_layout.h"
#include "fs/vfs/file_system.h"

namespace moorfs::vfs {

class HandleTable {
 public:
  explicit HandleTable(Arena& arena);

  struct Info {
    Ino ino = 0;
    int flags = 0;
    bool directory = false;
  };

  // Visits every handle of the previous client; call once, before anything else.
  void Recover(const std::function<void(Handle, const Info&)>& visit);

  // ENFILE when the table is full. `unique` is the OPEN's or CREATE's request:
  // with `resent`, the handle that the previous client made for that very
  // request is found and returned instead of a second one.
  Result<Handle> Allocate(Ino ino, int flags, bool directory, uint64_t unique, bool resent, bool* existed);
  // False when the handle is stale.
  bool Free(Handle handle);
  std::optional<Info> Find(Handle handle) const;
  uint64_t open_count() const { return open_count_.load(std::memory_order_relaxed); }

 private:
  HandleRecord* records_;  // entry 0 is the header: `ino` = high-water mark
  uint32_t count_;
  std::mutex mutex_;  // guards allocation
  std::vector<uint32_t> free_;
  std::unordered_map<uint64_t, Handle> recovered_by_unique_;
  std::atomic<uint64_t> open_count_{0};
};

}  // namespace moorfs::vfs
