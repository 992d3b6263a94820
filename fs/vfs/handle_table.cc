// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/handle_table.h"

#include <algorithm>

namespace moorfs::vfs {
namespace {

Handle Number(uint32_t index, uint32_t generation) { return uint64_t{generation} << 32 | index; }

}  // namespace

HandleTable::HandleTable(Arena& arena)
    : records_(reinterpret_cast<HandleRecord*>(arena.section(SectionId::kHandles).data)),
      count_(arena.geometry().handle_count) {}

void HandleTable::Recover(const std::function<void(Handle, const Info&)>& visit) {
  const auto high = static_cast<uint32_t>(std::min<uint64_t>(records_[0].ino, count_ - 1));
  for (uint32_t i = high; i >= 1; --i) {
    HandleRecord& r = records_[i];
    const uint32_t state = r.state.load(std::memory_order_acquire);
    if (state == 0) {
      free_.push_back(i);
      continue;
    }
    const Handle handle = Number(i, r.generation);
    open_count_.fetch_add(1, std::memory_order_relaxed);
    if (r.unique != 0) recovered_by_unique_[r.unique] = handle;
    visit(handle, Info{r.ino, r.flags, state == 2});
  }
}

Result<Handle> HandleTable::Allocate(Ino ino, int flags, bool directory, uint64_t unique, bool resent,
                                     bool* existed) {
  std::lock_guard lock(mutex_);
  *existed = false;
  if (resent) {
    const auto it = recovered_by_unique_.find(unique);
    if (it != recovered_by_unique_.end()) {
      const Handle handle = it->second;
      recovered_by_unique_.erase(it);
      *existed = true;
      return handle;
    }
  }
  uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    index = static_cast<uint32_t>(records_[0].ino) + 1;
    if (index >= count_) return Error(ENFILE, "open: the handle table of this mount is full");
    records_[0].ino = index;
  }
  HandleRecord& r = records_[index];
  // Never 0, so that a valid handle is never the number 0.
  r.generation = std::max(r.generation + 1, 1u);
  r.ino = ino;
  r.flags = flags;
  r.unique = unique;
  r.state.store(directory ? 2 : 1, std::memory_order_release);
  open_count_.fetch_add(1, std::memory_order_relaxed);
  return Number(index, r.generation);
}

bool HandleTable::Free(Handle handle) {
  const auto index = static_cast<uint32_t>(handle);
  if (index == 0 || index >= count_) return false;
  std::lock_guard lock(mutex_);
  HandleRecord& r = records_[index];
  if (r.state.load(std::memory_order_acquire) == 0 || r.generation != handle >> 32) return false;
  r.state.store(0, std::memory_order_release);
  free_.push_back(index);
  open_count_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

std::optional<HandleTable::Info> HandleTable::Find(Handle handle) const {
  const auto index = static_cast<uint32_t>(handle);
  if (index == 0 || index >= count_) return std::nullopt;
  const HandleRecord& r = records_[index];
  const uint32_t state = r.state.load(std::memory_order_acquire);
  if (state == 0 || r.generation != handle >> 32) return std::nullopt;
  return Info{r.ino, r.flags, state == 2};
}

}  // namespace moorfs::vfs
