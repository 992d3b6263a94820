// SPDX-License-Identifier: Apache-2.0
//
// Arena: one sealed shared-memory file that outlives the client. All that the
// kernel believes of a client (request slots, handles, locks) and all data it
// acknowledged but has not stored yet lie here, so that a successor finds it.
// The keeper creates the memfd and holds it; the client maps it.
//
// Layout (docs/formats/arena.md): a header with a table of sections, each
// with an id, a version, an offset and a size. Offsets, never pointers. The
// memfd is sparse: a page costs memory from the first touch until Punch().
// What one store publishes (a descriptor's state word) is released after the
// bytes it describes and acquired before they are read.
//
// Byte 0 is the active client's POSIX record lock (F_SETLK): the kernel lets
// one process serve at a time and hands the lock over when that dies.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::vfs {

enum class SectionId : uint32_t {
  kInit = 1,      // INIT request and reply bytes, mount epoch      (fs/fuse)
  kSlots = 2,     // request slots                                  (fs/fuse)
  kHandles = 3,   // open files and directories                     (fs/vfs)
  kLocks = 4,     // granted flock and POSIX locks                  (fs/vfs)
  kInodes = 5,    // pending length and times of dirty inodes       (fs/vfs)
  kSegments = 6,  // descriptors of dirty data                      (fs/vfs)
  kPages = 7,     // dirty data                                     (fs/vfs)
};

struct ArenaGeometry {
  uint32_t slot_count = 128;
  uint32_t slot_bytes = (1u << 20) + 8192;  // one request of max_write bytes
  uint32_t handle_count = 1u << 20;
  uint32_t lock_count = 1u << 16;
  uint64_t data_bytes = uint64_t{256} << 20;  // the budget of dirty data
};

class Arena {
 public:
  // A sealed memfd (F_SEAL_SHRINK|GROW|SEAL) of the right size with a written
  // header. CLOEXEC.
  static Result<UniqueFd> CreateMemfd(const ArenaGeometry& geometry);
  // Maps an existing one after checking magic, version, size and every
  // section's bounds (its bytes are foreign). EPROTO names what is wrong.
  static Result<std::unique_ptr<Arena>> Map(UniqueFd fd);
  ~Arena();

  // Waits until no other process serves this arena, then holds byte 0 until
  // the process ends. ETIMEDOUT after `timeout_ms`.
  Status BecomeActive(int timeout_ms);

  struct Section {
    char* data = nullptr;
    uint64_t bytes = 0;
    uint32_t version = 0;
  };
  Section section(SectionId id) const;
  const ArenaGeometry& geometry() const { return geometry_; }
  // Random, drawn when the memfd was made: names this mount (replay records).
  uint64_t epoch() const;
  int fd() const { return fd_.get(); }

  // Gives whole pages inside [p, p+bytes) back to the system; they read as
  // zeros afterwards.
  void Punch(char* p, uint64_t bytes);

 private:
  Arena() = default;
  UniqueFd fd_;
  char* base_ = nullptr;
  uint64_t bytes_ = 0;
  ArenaGeometry geometry_;
};

}  // namespace moorfs::vfs
