// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/inode_table.h"

#include <algorithm>

namespace moorfs::vfs {
namespace {

// Inodes whose last link the calling thread is removing.
thread_local std::vector<Ino> t_unlinking;

}  // namespace

InodePtr InodeTable::Get(Ino ino) {
  Shard& shard = ShardOf(ino);
  std::lock_guard lock(shard.mutex);
  InodePtr& inode = shard.inodes[ino];
  if (!inode) inode = std::make_shared<Inode>(ino);
  return inode;
}

InodePtr InodeTable::Find(Ino ino) {
  Shard& shard = ShardOf(ino);
  std::lock_guard lock(shard.mutex);
  const auto it = shard.inodes.find(ino);
  return it == shard.inodes.end() ? nullptr : it->second;
}

InodePtr InodeTable::Open(Ino ino) {
  Shard& shard = ShardOf(ino);
  std::unique_lock lock(shard.mutex);
  shard.unlinked.wait(lock, [&] { return !shard.unlinking.contains(ino); });
  InodePtr& inode = shard.inodes[ino];
  if (!inode) inode = std::make_shared<Inode>(ino);
  ++inode->open_count;
  return inode;
}

bool InodeTable::Close(const InodePtr& inode) {
  std::lock_guard lock(ShardOf(inode->ino).mutex);
  return --inode->open_count == 0;
}

void InodeTable::Settle(InodePtr inode) {
  Shard& shard = ShardOf(inode->ino);
  std::lock_guard lock(shard.mutex);
  // Two references: the table's and the caller's. More cannot appear while
  // the shard is locked; a holder that leaves later settles again itself.
  if (inode->open_count != 0 || inode.use_count() > 2) return;
  {
    // Free, since nobody else has the inode; orders this after the last who
    // had. Tried only: holders of inode locks may ask this shard (IsOpen).
    std::unique_lock fields(inode->mutex, std::try_to_lock);
    if (!fields) return;
    if (!inode->dirty.empty() || inode->pending.index != 0) return;
    // An fsync through a later handle still has to cover these.
    if (!inode->unsynced.empty()) return;
  }
  for (const auto& [chunk, map] : inode->maps) AddMapBytes(-static_cast<int64_t>(map->MemoryBytes()));
  shard.inodes.erase(inode->ino);
}

void InodeTable::VisitAll(const std::function<void(Inode&)>& visit) {
  for (Shard& shard : shards_) {
    std::vector<InodePtr> all;
    {
      std::lock_guard lock(shard.mutex);
      all.reserve(shard.inodes.size());
      for (const auto& [ino, inode] : shard.inodes) all.push_back(inode);
    }
    for (InodePtr& inode : all) {
      visit(*inode);
      Settle(std::move(inode));
    }
  }
}

bool InodeTable::IsOpen(Ino ino) {
  Shard& shard = ShardOf(ino);
  std::lock_guard lock(shard.mutex);
  const auto it = shard.inodes.find(ino);
  if (it != shard.inodes.end() && it->second->open_count != 0) return true;
  shard.unlinking.insert(ino);
  t_unlinking.push_back(ino);
  return false;
}

void InodeTable::FinishUnlink() {
  for (Ino ino : t_unlinking) {
    Shard& shard = ShardOf(ino);
    {
      std::lock_guard lock(shard.mutex);
      const auto it = shard.unlinking.find(ino);
      if (it != shard.unlinking.end()) shard.unlinking.erase(it);
    }
    shard.unlinked.notify_all();
  }
  t_unlinking.clear();
}

void InodeTable::EvictMaps(size_t bytes) {
  size_t freed = 0;
  for (size_t i = 0; i < kShards && freed < bytes; ++i) {
    Shard& shard = shards_[evict_cursor_.fetch_add(1) % kShards];
    std::lock_guard lock(shard.mutex);
    for (auto& [ino, inode] : shard.inodes) {
      std::unique_lock maps(inode->maps_mutex, std::try_to_lock);
      if (!maps) continue;
      for (const auto& [chunk, map] : inode->maps) freed += map->MemoryBytes();
      inode->maps.clear();
    }
  }
  AddMapBytes(-static_cast<int64_t>(freed));
}

size_t InodeTable::size() {
  size_t total = 0;
  for (Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    total += shard.inodes.size();
  }
  return total;
}

}  // namespace moorfs::vfs
