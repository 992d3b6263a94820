// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/slot_table.h"

#include <linux/fuse.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace moorfs::fuse {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHeaderAreaBytes = 1 << 20;
// Nearly every request but large writes fits; mapped for each slot in use.
constexpr uint32_t kSmallBytes = 20 << 10;

uint64_t RoundUp(uint64_t n) { return (n + kPage - 1) / kPage * kPage; }

// The kernel may be copying into the buffer right now. A torn number matches
// nothing, and the mark names the request: not a race for ThreadSanitizer.
[[gnu::no_sanitize_thread]] uint64_t LoadUnique(const char* buffer) {
  uint64_t unique;
  __atomic_load(&reinterpret_cast<const fuse_in_header*>(buffer)->unique, &unique, __ATOMIC_ACQUIRE);
  return unique & ~kResentBit;
}

// What says in a slot that the request `unique` was interrupted: a mark that
// comes too late, in a slot that has moved on, must not hit the next request.
// The kernel's numbers are even.
uint32_t InterruptMark(uint64_t unique) { return static_cast<uint32_t>(unique) | 1; }

// A slot's `unique`, which MarkInterrupted() looks at in slots of other threads.
std::atomic_ref<uint64_t> Shared(uint64_t& unique) { return std::atomic_ref<uint64_t>(unique); }

// `size`: what read(2) returned, 0 when not known.
bool IsWholeRequest(const char* bytes, size_t size, size_t capacity) {
  const auto* in = reinterpret_cast<const fuse_in_header*>(bytes);
  return in->len >= sizeof(fuse_in_header) && in->len <= capacity && (size == 0 || in->len == size);
}

}  // namespace

Result<std::unique_ptr<SlotTable>> SlotTable::Open(vfs::Arena& arena) {
  const vfs::Arena::Section section = arena.section(vfs::SectionId::kSlots);
  const uint64_t count = arena.geometry().slot_count;
  const uint64_t stride = RoundUp(arena.geometry().slot_bytes);
  if (count * sizeof(SlotHeader) > kHeaderAreaBytes || kHeaderAreaBytes + count * stride > section.bytes) {
    return Error(EPROTO, "open the request slots: the arena has no room for " + std::to_string(count) + " of them");
  }
  auto table = std::unique_ptr<SlotTable>(new SlotTable(arena));
  table->count_ = static_cast<uint32_t>(count);
  table->buffer_bytes_ = arena.geometry().slot_bytes;
  table->stride_ = stride;
  table->headers_ = reinterpret_cast<SlotHeader*>(section.data);
  table->buffers_ = section.data + kHeaderAreaBytes;
  table->parked_ = reinterpret_cast<ParkedRequest*>(table->buffers_ + count * stride);
  table->parked_capacity_ =
      static_cast<uint32_t>((section.bytes - kHeaderAreaBytes - count * stride) / sizeof(ParkedRequest));
  table->populated_.resize(count);
  table->used_since_trim_.resize(count);
  for (uint32_t i = table->parked_capacity_; i-- > 0;) table->free_parked_.push_back(i);
  return table;
}

std::vector<Leftover> SlotTable::FindLeftovers() {
  std::lock_guard lock(mutex_);
  free_.clear();
  for (uint32_t slot = count_; slot-- > 0;) {
    SlotHeader& h = headers_[slot];
    if (h.held_large.load(std::memory_order_relaxed) != 0) large_seen_ = true;
    const auto state = static_cast<SlotState>(h.state.load(std::memory_order_acquire));
    const bool in_use = state == SlotState::kReading || state == SlotState::kReceived || state == SlotState::kReplying;
    if (!in_use || !IsWholeRequest(buffer(slot), 0, buffer_bytes_) || request(slot)->unique == 0) {
      FreeLocked(slot);
      continue;
    }
    const uint64_t unique = request(slot)->unique & ~kResentBit;
    const bool has_reply = state == SlotState::kReplying && h.unique == unique &&
                           h.reply_bytes >= sizeof(fuse_out_header) && h.reply_bytes <= kSavedReplyBytes;
    h.unique = unique;
    leftovers_.emplace(unique, Kept{slot, state, has_reply, false});
  }
  // A resent copy whose reader died before it was back in its old slot: it must
  // not take the last free slot, which receiving the others needs.
  for (auto it = leftovers_.begin(); it != leftovers_.end();) {
    if (it->second.slot == BestLocked(it->first)->slot) {
      ++it;
      continue;
    }
    FreeLocked(it->second.slot);
    it = leftovers_.erase(it);
  }
  used_ = static_cast<uint32_t>(leftovers_.size());
  std::vector<Leftover> out;
  for (auto it = leftovers_.begin(); it != leftovers_.end(); it = leftovers_.equal_range(it->first).second) {
    const Kept* best = BestLocked(it->first);
    out.push_back({best->slot, it->first, best->has_reply});
  }
  return out;
}

const SlotTable::Kept* SlotTable::BestLocked(uint64_t unique) const {
  const Kept* best = nullptr;
  const auto [begin, end] = leftovers_.equal_range(unique);
  for (auto it = begin; it != end; ++it) {
    const Kept& kept = it->second;
    if (!best || std::pair(kept.has_reply, kept.state) > std::pair(best->has_reply, best->state)) best = &kept;
  }
  return best;
}

std::vector<ParkedLeftover> SlotTable::FindParked() {
  std::vector<ParkedLeftover> out;
  std::lock_guard lock(mutex_);
  std::erase_if(free_parked_, [&](uint32_t i) {
    const ParkedRequest& p = parked_[i];
    const auto state = static_cast<ParkedState>(p.state.load(std::memory_order_acquire));
    if (state != ParkedState::kWaiting && state != ParkedState::kAnswered) return false;
    if (p.bytes > kParkedBytes || !IsWholeRequest(p.request, p.bytes, kParkedBytes)) return false;
    const uint64_t as_sent = reinterpret_cast<const fuse_in_header*>(p.request)->unique;
    const uint64_t unique = as_sent & ~kResentBit;
    // A second entry: its client died while it parked the request anew.
    if (unique == 0 || !parked_by_unique_.emplace(unique, i).second) return false;
    out.push_back({i, as_sent, state == ParkedState::kAnswered, p.error});
    return true;
  });
  return out;
}

void SlotTable::DropAllParked() {
  std::lock_guard lock(mutex_);
  for (uint32_t i = 0; i < parked_capacity_; ++i) {
    std::atomic<uint32_t>& state = parked_[i].state;
    // Only looked at, an entry that was never used costs no memory of its own.
    if (state.load(std::memory_order_relaxed) != 0) state.store(0, std::memory_order_release);
  }
}

Leftover SlotTable::Claim(uint64_t unique) {
  std::lock_guard lock(mutex_);
  const Kept* best = BestLocked(unique);
  if (!best) return {};
  const auto [begin, end] = leftovers_.equal_range(unique);
  for (auto it = begin; it != end; ++it) it->second.claimed = true;
  return {best->slot, unique, best->has_reply};
}

void SlotTable::MoveBack(uint32_t from, uint32_t old_slot) {
  SlotHeader& h = headers_[old_slot];
  // The bytes are the same as those lying there, if the predecessor was sane;
  // taking the kernel's fresh copy does not depend on that. Its `unique` with
  // the resent bit is what the answer must carry.
  const uint32_t bytes = request(from)->len;
  Populate(old_slot, bytes);
  std::memcpy(buffer(old_slot), buffer(from), bytes);
  h.interrupted.store(0, std::memory_order_relaxed);
  h.reply_bytes = 0;
  h.state.store(static_cast<uint32_t>(SlotState::kReceived), std::memory_order_release);
}

void SlotTable::ReleaseLeftovers(uint64_t unique) {
  std::lock_guard lock(mutex_);
  const auto [begin, end] = leftovers_.equal_range(unique);
  for (auto it = begin; it != end; ++it) {
    FreeLocked(it->second.slot);
    used_.fetch_sub(1, std::memory_order_relaxed);
  }
  leftovers_.erase(begin, end);
}

size_t SlotTable::ReleaseUnclaimed() {
  std::lock_guard lock(mutex_);
  return std::erase_if(leftovers_, [&](const auto& entry) {
    if (entry.second.claimed) return false;
    FreeLocked(entry.second.slot);
    used_.fetch_sub(1, std::memory_order_relaxed);
    return true;
  });
}

// Does not write to the header of a slot that was never used: it has no page.
void SlotTable::FreeLocked(uint32_t slot) {
  SlotHeader& h = headers_[slot];
  if (h.state.load(std::memory_order_relaxed) != 0) {
    h.state.store(static_cast<uint32_t>(SlotState::kFree), std::memory_order_release);
  }
  free_.push_back(slot);
  // Not notify_one: the one might be waiting for more than this.
  freed_.notify_all();
}

uint32_t SlotTable::Acquire(bool taking_over) {
  const size_t reserve = taking_over ? 0 : 1;
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return free_.size() > reserve; });
  const uint32_t slot = free_.back();
  free_.pop_back();
  used_since_trim_[slot] = true;
  used_.fetch_add(1, std::memory_order_relaxed);
  return slot;
}

void SlotTable::Release(uint32_t slot) {
  std::lock_guard lock(mutex_);
  FreeLocked(slot);
  used_.fetch_sub(1, std::memory_order_relaxed);
}

void SlotTable::Populate(uint32_t slot, size_t bytes) {
  bytes = std::min(RoundUp(bytes), stride_);
  if (populated_[slot] >= bytes) return;
  if (madvise(buffer(slot), bytes, MADV_POPULATE_WRITE) != 0) {
    // Linux before 5.14: touch the pages.
    for (size_t i = populated_[slot]; i < bytes; i += kPage) {
      auto* byte = reinterpret_cast<volatile char*>(buffer(slot)) + i;
      *byte = *byte;
    }
  }
  populated_[slot] = static_cast<uint32_t>(bytes);
}

void SlotTable::BeginRead(uint32_t slot) {
  SlotHeader& h = headers_[slot];
  Populate(slot, large_seen_.load(std::memory_order_relaxed) ? buffer_bytes_ : kSmallBytes);
  // From "reading" on, a successor believes the buffer; so it is emptied first.
  // The reader of this memory is a later process, so what matters is the order
  // in the program, not between processors.
  h.state.store(static_cast<uint32_t>(SlotState::kFree), std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memset(buffer(slot), 0, sizeof(fuse_in_header));
  h.interrupted.store(0, std::memory_order_relaxed);
  h.reply_bytes = 0;
  Shared(h.unique).store(0, std::memory_order_relaxed);
  h.state.store(static_cast<uint32_t>(SlotState::kReading), std::memory_order_release);
}

bool SlotTable::HasRequest(uint32_t slot, size_t bytes) const {
  return bytes >= sizeof(fuse_in_header) &&
         IsWholeRequest(buffers_ + uint64_t{slot} * stride_, bytes, buffer_bytes_);
}

void SlotTable::FinishRead(uint32_t slot) {
  const uint32_t bytes = request(slot)->len;
  if (bytes > populated_[slot]) {
    // The kernel's copy has mapped them.
    populated_[slot] = static_cast<uint32_t>(std::min(RoundUp(bytes), uint64_t{stride_}));
  }
  SlotHeader& h = headers_[slot];
  if (bytes > kSmallBytes) {
    h.held_large.store(1, std::memory_order_relaxed);
    large_seen_.store(true, std::memory_order_relaxed);
  }
  Shared(h.unique).store(request(slot)->unique & ~kResentBit, std::memory_order_relaxed);
  h.state.store(static_cast<uint32_t>(SlotState::kReceived), std::memory_order_release);
}

void SlotTable::Trim() {
  std::vector<uint32_t> idle;
  {
    std::lock_guard lock(mutex_);
    std::erase_if(free_, [&](uint32_t slot) {
      const bool trim = populated_[slot] > kSmallBytes && !used_since_trim_[slot];
      if (trim) idle.push_back(slot);
      return trim;
    });
    std::fill(used_since_trim_.begin(), used_since_trim_.end(), false);
  }
  for (uint32_t slot : idle) {
    arena_.Punch(buffer(slot) + kSmallBytes, stride_ - kSmallBytes);
    populated_[slot] = kSmallBytes;
    headers_[slot].held_large.store(0, std::memory_order_relaxed);
  }
  std::lock_guard lock(mutex_);
  // To the cold end of the list.
  free_.insert(free_.begin(), idle.begin(), idle.end());
  if (!idle.empty()) {
    large_seen_.store(false, std::memory_order_relaxed);
    freed_.notify_all();
  }
}

uint32_t SlotTable::Park(uint32_t slot) {
  const uint32_t bytes = request(slot)->len;
  if (bytes > kParkedBytes) return kNoSlot;
  std::lock_guard lock(mutex_);
  if (free_parked_.empty()) return kNoSlot;
  const uint32_t parked = free_parked_.back();
  const uint64_t unique = headers_[slot].unique;
  if (!parked_by_unique_.emplace(unique, parked).second) return kNoSlot;
  free_parked_.pop_back();
  ParkedRequest& p = parked_[parked];
  p.bytes = bytes;
  p.interrupted.store(headers_[slot].interrupted.load() == InterruptMark(unique) ? 1 : 0);
  std::memcpy(p.request, buffer(slot), bytes);
  p.state.store(static_cast<uint32_t>(ParkedState::kWaiting), std::memory_order_release);
  return parked;
}

void SlotTable::SaveParkedAnswer(uint32_t parked, uint32_t opcode, int error) {
  if (opcode != FUSE_SETLKW) return;
  ParkedRequest& p = parked_[parked];
  p.error = static_cast<uint32_t>(error);
  p.state.store(static_cast<uint32_t>(ParkedState::kAnswered), std::memory_order_release);
}

void SlotTable::Unpark(uint32_t parked, uint64_t unique) {
  std::lock_guard lock(mutex_);
  parked_[parked].state.store(0, std::memory_order_release);
  parked_by_unique_.erase(unique);
  free_parked_.push_back(parked);
}

void SlotTable::CopyParked(uint32_t parked, uint32_t into_slot) {
  const ParkedRequest& p = parked_[parked];
  BeginRead(into_slot);
  std::memcpy(buffer(into_slot), p.request, std::min<uint32_t>(p.bytes, kParkedBytes));
  FinishRead(into_slot);
}

void SlotTable::MarkInterrupted(uint64_t unique) {
  std::lock_guard lock(mutex_);
  if (const auto it = parked_by_unique_.find(unique); it != parked_by_unique_.end()) {
    parked_[it->second].interrupted.store(1);
    return;
  }
  for (uint32_t slot = 0; slot < count_; ++slot) {
    SlotHeader& h = headers_[slot];
    const auto state = static_cast<SlotState>(h.state.load(std::memory_order_acquire));
    // A request that read(2) delivered but whose thread has not run since.
    const bool here = (state == SlotState::kReading && LoadUnique(buffer(slot)) == unique) ||
                      (state == SlotState::kReceived &&
                       Shared(h.unique).load(std::memory_order_relaxed) == unique);
    if (here) h.interrupted.store(InterruptMark(unique));
  }
}

bool SlotTable::IsInterrupted(uint64_t unique) {
  std::lock_guard lock(mutex_);
  const auto it = parked_by_unique_.find(unique);
  return it != parked_by_unique_.end() && parked_[it->second].interrupted.load() != 0;
}

size_t SlotTable::parked_count() {
  std::lock_guard lock(mutex_);
  return parked_by_unique_.size();
}

}  // namespace moorfs::fuse
