// SPDX-License-Identifier: Apache-2.0
//
// SlotTable: where requests live from read(2) on /dev/fuse until they are
// answered. The table lies in the arena, so that a successor sees what its
// dead predecessor had in hand. Knows the bytes of a request's header, but
// neither libfuse nor what an operation does.
//
// A slot is a 256-byte header and a buffer of slot_bytes:
//
//   free -> reading -> received -> replying -> free (or reading again)
//
// "reading" means a thread is (or was) in read(2); the kernel fills the buffer
// with one copy, and because the buffer's header was zeroed before, a request
// that arrived without our noticing is recognized by its length. "replying" is
// set, together with the reply itself if the operation changed something,
// before the reply is written: a successor repeats that reply instead of the
// operation.
//
// Replay numbers. An operation that changes metadata leaves its result in a
// replay record, whose place is named by a small number: the slot the request
// is in (OpContext::slot). The kernel resends a request into any slot; so a
// successor keeps every slot with an unanswered request out of use, moves the
// resent request (recognized by its `unique`) back into the slot it had before,
// and runs it there. No other request can have that number meanwhile, and a
// second, third, ... successor finds things just the same. A leftover that the
// kernel does not resend had been answered already; its slot is freed when all
// resent requests have been read. (Until a resent request is back in its old
// slot, the slot it was read into says "reading", which counts for less.)
//
// Small requests that may wait long (a blocked lock, a read from a slow store)
// are copied to the parking area and leave their slot to others. They change
// nothing that needs a replay number.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "common/base/status.h"
#include "fs/vfs/arena.h"

struct fuse_in_header;

namespace moorfs::fuse {

inline constexpr uint32_t kNoSlot = UINT32_MAX;
// Bit 63 of a request's `unique`: the kernel sends it for a second time.
inline constexpr uint64_t kResentBit = uint64_t{1} << 63;

enum class SlotState : uint32_t { kFree = 0, kReading = 1, kReceived = 2, kReplying = 3 };

inline constexpr size_t kSavedReplyBytes = 224;
inline constexpr size_t kParkedBytes = 112;

// In shared memory; a hostile client may have written anything here, so every
// number is checked when a successor reads it.
struct SlotHeader {
  std::atomic<uint32_t> state;
  std::atomic<uint32_t> interrupted;
  uint64_t unique;  // without kResentBit; valid from kReceived on
  uint32_t reply_bytes;  // 0: the reply was not saved (the operation may be repeated)
  std::atomic<uint32_t> held_large;  // a request of more than kSmallBytes was here
  uint32_t reserved[2];
  char reply[kSavedReplyBytes];  // fuse_out_header and payload
};
static_assert(sizeof(SlotHeader) == 256);

enum class ParkedState : uint32_t { kFree = 0, kWaiting = 1, kAnswered = 2 };

struct ParkedRequest {
  std::atomic<uint32_t> state;
  std::atomic<uint32_t> interrupted;
  uint32_t bytes;
  uint32_t error;  // of the answer, in kAnswered
  char request[kParkedBytes];
};
static_assert(sizeof(ParkedRequest) == 128);

// What a predecessor left in a slot.
struct Leftover {
  uint32_t slot = kNoSlot;
  uint64_t unique = 0;
  bool has_reply = false;
};

struct ParkedLeftover {
  uint32_t index = kNoSlot;
  uint64_t unique = 0;    // as the kernel sent it
  bool answered = false;  // with `error`; the kernel may not have got it
  uint32_t error = 0;
};

class SlotTable {
 public:
  // EPROTO when the section cannot hold the geometry's slots.
  static Result<std::unique_ptr<SlotTable>> Open(vfs::Arena& arena);

  uint32_t count() const { return count_; }
  size_t buffer_bytes() const { return buffer_bytes_; }
  char* buffer(uint32_t slot) { return buffers_ + uint64_t{slot} * stride_; }
  SlotHeader& header(uint32_t slot) { return headers_[slot]; }
  const fuse_in_header* request(uint32_t slot) { return reinterpret_cast<const fuse_in_header*>(buffer(slot)); }

  // ---- a predecessor's requests; before any Acquire() --------------------
  // Scans the table. Slots with leftovers are kept back, all others are free.
  // One entry per request, though several crashes may have left it in several slots.
  std::vector<Leftover> FindLeftovers();
  // Before any Park(): nothing is parked over these.
  std::vector<ParkedLeftover> FindParked();
  void DropAllParked();
  // Claims the leftover of a request; slot kNoSlot when there is none.
  Leftover Claim(uint64_t unique);
  // Puts the request that was read into `from` back into its old slot.
  void MoveBack(uint32_t from, uint32_t old_slot);
  // Frees the slots of a claimed request, or of all that nobody claimed.
  void ReleaseLeftovers(uint64_t unique);
  size_t ReleaseUnclaimed();

  // ---- slots ------------------------------------------------------------
  // Most recently used first, so that few slots are ever touched. Waits when
  // all are in use. One is never given out but for taking over: a successor
  // that finds all others occupied needs it to read what will empty them.
  uint32_t Acquire(bool taking_over = false);
  void Release(uint32_t slot);
  // Before read(2): empties the header, and makes sure that the pages which
  // the kernel will fill are mapped: a SIGKILL during a page fault inside the
  // kernel's copy would fail the request with EIO.
  void BeginRead(uint32_t slot);
  // After read(2) of `bytes`: whether the buffer holds exactly one request.
  bool HasRequest(uint32_t slot, size_t bytes) const;
  // Marks it as received.
  void FinishRead(uint32_t slot);
  // Frees memory of large buffers that are not in use. Called now and then.
  void Trim();
  uint32_t used() const { return used_.load(std::memory_order_relaxed); }

  // ---- parking ----------------------------------------------------------
  // Copies the request; the slot can be reused at once. kNoSlot when it is too
  // large or the area is full: then it keeps its slot.
  uint32_t Park(uint32_t slot);
  void Unpark(uint32_t parked, uint64_t unique);
  // Before the answer is sent: a lock that was granted and given up since must
  // not be taken a second time. Only for operations whose answer is its errno.
  void SaveParkedAnswer(uint32_t parked, uint32_t opcode, int error);
  // Brings a parked request of a predecessor into a slot, to be processed; it
  // stays parked.
  void CopyParked(uint32_t parked, uint32_t into_slot);
  // Marks the request as interrupted, wherever it is.
  void MarkInterrupted(uint64_t unique);
  bool IsInterrupted(uint64_t unique);
  size_t parked_count();

 private:
  struct Kept {
    uint32_t slot;
    SlotState state;  // a higher one counts for more
    bool has_reply;
    bool claimed;
  };

  explicit SlotTable(vfs::Arena& arena) : arena_(arena) {}
  void Populate(uint32_t slot, size_t bytes);
  void FreeLocked(uint32_t slot);
  const Kept* BestLocked(uint64_t unique) const;

  vfs::Arena& arena_;
  SlotHeader* headers_ = nullptr;
  char* buffers_ = nullptr;
  ParkedRequest* parked_ = nullptr;
  uint32_t count_ = 0;
  uint32_t parked_capacity_ = 0;
  size_t buffer_bytes_ = 0;
  size_t stride_ = 0;

  // Bytes at the front of each buffer whose pages this process has mapped.
  std::vector<uint32_t> populated_;
  std::vector<bool> used_since_trim_;
  // A request larger than kSmallBytes was seen, by this client or one before:
  // map whole buffers from now on.
  std::atomic<bool> large_seen_{false};
  std::atomic<uint32_t> used_{0};

  std::mutex mutex_;  // guards what follows
  std::condition_variable freed_;
  std::vector<uint32_t> free_;
  std::unordered_multimap<uint64_t, Kept> leftovers_;  // by unique
  std::vector<uint32_t> free_parked_;
  std::unordered_map<uint64_t, uint32_t> parked_by_unique_;
};

}  // namespace moorfs::fuse
