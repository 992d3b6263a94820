// SPDX-License-Identifier: Apache-2.0
//
// Life cycle of the Vfs and its attribute cache. The operations lie in
// vfs_names.cc (name space), vfs_handles.cc (open, locks), vfs_read.cc,
// vfs_write.cc and vfs_space.cc (allocation, copies, holes).

#include "fs/vfs/vfs.h"

#include <algorithm>
#include <unordered_set>

#include "common/log/log.h"
#include "fs/vfs/flusher.h"

namespace moorfs::vfs {

Vfs::Vfs(Arena& arena, InodeTable& inodes, meta::Meta& meta, chunk::BlockStore& blocks, VfsOptions options)
    : arena_(arena),
      inodes_(inodes),
      meta_(meta),
      blocks_(blocks),
      options_(options),
      dirty_(arena),
      handles_(arena),
      locks_(arena),
      flusher_(std::make_unique<Flusher>(*this)) {}

Vfs::~Vfs() { Stop(); }

Status Vfs::Start() {
  handles_.Recover([this](Handle, const HandleTable::Info& info) { inodes_.Open(info.ino); });
  locks_.Recover();
  DirtyStore::Recovered recovered = dirty_.Recover();
  if (recovered.damaged != 0) {
    LOG_ERROR("vfs") << recovered.damaged << " descriptors of unflushed data in the arena were damaged and dropped";
  }
  std::unordered_set<Ino> acknowledged;
  for (const auto& [ino, pending] : recovered.pending) acknowledged.insert(ino);
  std::vector<Segment*> covered;
  for (Segment* segment : recovered.segments) {
    // Data of an inode without a pending record, like data beyond the pending
    // length, belongs to a write that was never acknowledged.
    if (segment->len == 0 || !acknowledged.contains(segment->ino)) {
      covered.push_back(segment);
      continue;
    }
    inodes_.Get(segment->ino)->dirty.Insert({segment->offset, segment->len, segment, 0}, &covered);
  }
  FreeCovered(covered);
  for (auto& [ino, pending] : recovered.pending) {
    InodePtr inode = inodes_.Get(ino);
    std::lock_guard lock(inode->mutex);
    inode->pending = pending;
    CutDirty(*inode, pending.length);
  }
  if (meta_.HasQuotas()) RefreshQuotas();
  for (auto& [ino, pending] : recovered.pending) flusher_->Enqueue(inodes_.Get(ino));
  if (!recovered.segments.empty() || !recovered.pending.empty()) {
    LOG_INFO("vfs") << "took over " << handles_.open_count() << " open files, " << locks_.held_count()
                    << " locks and " << FormatBytes(dirty_.used_bytes()) << " of unflushed data";
  }
  RefreshSpace();
  if (!options_.read_only) {
    ASSIGN_OR_RETURN_STATUS(std::vector<ObjectId> objects, meta_.UndurableObjects());
    flusher_->Inherit(std::move(objects));
  }
  flusher_->Start();
  return Status::Ok();
}

Status Vfs::Drain() {
  RETURN_IF_ERROR(flusher_->FlushAll());
  RETURN_IF_ERROR(flusher_->MakeAllDurable());
  return options_.read_only ? Status::Ok() : meta_.kv().Sync();
}

void Vfs::Stop() { flusher_->Stop(); }

VfsStats Vfs::Stats() {
  VfsStats stats;
  stats.dirty_bytes = dirty_.used_bytes();
  stats.dirty_budget_bytes = dirty_.budget_bytes();
  stats.open_files = handles_.open_count();
  stats.locks = locks_.held_count();
  stats.inodes = inodes_.size();
  stats.map_bytes = inodes_.map_bytes();
  stats.read_bytes = read_bytes_;
  stats.written_bytes = written_bytes_;
  stats.read_errors = read_errors_;
  stats.flushed_bytes = flusher_->flushed_bytes;
  stats.flushes = flusher_->flushes;
  stats.flush_errors = flusher_->flush_errors;
  stats.compactions = flusher_->compactions;
  stats.last_error = flusher_->last_error().message();
  return stats;
}

Entry Vfs::Out(Entry entry) const {
  entry.ino = Out(entry.ino);
  return entry;
}

Status Vfs::WritableOrError() const {
  return options_.read_only ? Status(EROFS, "the volume is mounted read-only") : Status::Ok();
}

Attr Vfs::Merged(const Inode& inode) const {
  Attr attr = *inode.attr;
  if (inode.pending.index == 0) return attr;
  attr.length = inode.pending.length;
  if (inode.pending.mtime.ns != 0) {
    attr.mtime = inode.pending.mtime;
    attr.ctime = std::max(attr.ctime, inode.pending.mtime);
  }
  attr.slice_bytes += inode.dirty.bytes();
  return attr;
}

Status Vfs::LoadAttr(Inode& inode) {
  if (inode.attr) return Status::Ok();
  Result<Attr> attr = meta_.GetAttr(inode.ino);
  if (!attr) return attr.error();
  inode.attr = *attr;
  return Status::Ok();
}

Result<Attr> Vfs::SeenAttr(Ino ino) {
  InodePtr inode = inodes_.Find(ino);
  if (!inode) return meta_.GetAttr(ino);
  {
    std::shared_lock lock(inode->mutex);
    if (inode->attr) return Merged(*inode);
  }
  std::unique_lock lock(inode->mutex);
  TRY_VOID(LoadAttr(*inode));
  Attr attr = Merged(*inode);
  // Operations on names change a directory's attributes, and they take no lock
  // of it here: they are never kept.
  if (attr.type == FileType::kDirectory) inode->attr.reset();
  lock.unlock();
  inodes_.Settle(std::move(inode));
  return attr;
}

void Vfs::Forget(Ino ino) {
  InodePtr inode = inodes_.Find(ino);
  if (!inode) return;
  std::unique_lock lock(inode->mutex);
  inode->attr.reset();
  inode->inline_bytes.reset();
}

void Vfs::ForgetCommitted(Inode& inode) {
  inode.attr.reset();
  inode.inline_bytes.reset();
  DropMaps(inode);
}

void Vfs::RefreshSpace() {
  Result<object::Space> space = blocks_.store().GetSpace();
  if (!space) return;
  if (space->total_bytes == 0) return;
  store_total_ = space->total_bytes;
  store_available_ = space->available_bytes;
}

void Vfs::FreeCovered(const std::vector<Segment*>& covered) {
  // Oldest first: a crash in between must not bring a hidden older one to light.
  std::vector<Segment*> by_age = covered;
  std::sort(by_age.begin(), by_age.end(), [](const Segment* a, const Segment* b) { return a->seq < b->seq; });
  for (Segment* segment : by_age) {
    // A frozen one is being read by a flush, which frees it.
    if (!segment->frozen) dirty_.Free(segment);
  }
}

void Vfs::CutDirty(Inode& inode, uint64_t length) {
  // A segment's hidden tail must not come back to light after a crash, so
  // those that begin before the cut are shortened as well as those behind.
  std::vector<DirtyPiece> before;
  const uint64_t reach = kDataPageBytes << PageAllocator::kMaxOrder;
  const uint64_t from = length > reach ? length - reach : 0;
  inode.dirty.Find(from, length - from, &before);
  for (const DirtyPiece& piece : before) {
    Segment* segment = piece.segment;
    if (segment->offset + segment->len > length) {
      dirty_.Shorten(segment, static_cast<uint32_t>(length - segment->offset));
    }
  }
  std::vector<Segment*> covered;
  if (length < kMaxFileBytes) inode.dirty.Erase(length, kMaxFileBytes * 2 - length, &covered);
  FreeCovered(covered);
}

void Vfs::DropDirty(const InodePtr& inode) {
  std::unique_lock data(inode->data_mutex, std::try_to_lock);
  if (!data) return;
  std::unique_lock lock(inode->mutex);
  CutDirty(*inode, 0);
  dirty_.ClearPending(&inode->pending);
  SettleQuota(*inode);
}

void Vfs::AfterUnlink(const Entry& victim) {
  Forget(victim.ino);
  if (victim.attr.nlink != 0 || (victim.attr.flags & kAttrTrashed) != 0) return;
  InodePtr inode = inodes_.Find(victim.ino);
  if (!inode) return;
  if (!inodes_.IsOpen(victim.ino)) DropDirty(inode);
  inodes_.FinishUnlink();
  inodes_.Settle(std::move(inode));
}

}  // namespace moorfs::vfs
