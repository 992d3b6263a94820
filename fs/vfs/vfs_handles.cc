// SPDX-License-Identifier: Apache-2.0
//
// Open files and locks.

#include <fcntl.h>

#include "common/log/log.h"
#include "fs/vfs/flusher.h"
#include "fs/vfs/vfs.h"

namespace moorfs::vfs {

// `inode` has been counted as open; on failure, and for a handle that the
// previous client had made for the same request, that count goes back.
Result<Opened> Vfs::OpenHandle(const OpContext& ctx, const InodePtr& inode, int flags) {
  bool existed = false;
  Result<Handle> handle = handles_.Allocate(inode->ino, flags, false, ctx.unique, ctx.resent, &existed);
  if (!handle || existed) inodes_.Close(inode);
  if (!handle) return Error(std::move(handle).error());
  // With one client per volume every change passes through this kernel, which
  // keeps its own pages true.
  return Opened{*handle, meta_.kv().exclusive(), false};
}

Result<Opened> Vfs::Open(const OpContext& ctx, Ino ino, int flags) {
  ino = In(ino);
  if ((flags & O_ACCMODE) != O_RDONLY) TRY_VOID(WritableOrError());
  InodePtr inode = inodes_.Open(ino);
  Status status;
  {
    std::unique_lock lock(inode->mutex);
    status = LoadAttr(*inode);
  }
  if (!status.ok()) {
    inodes_.Close(inode);
    inodes_.Settle(std::move(inode));
    // The kernel looks the name up again on ESTALE and opens what is there now.
    if (status.err() == ENOENT) return Error(ESTALE, "open: the file is gone");
    return Error(std::move(status));
  }
  Result<Opened> opened = OpenHandle(ctx, inode, flags);
  inodes_.Settle(std::move(inode));
  return opened;
}

Result<FileSystem::Created> Vfs::Create(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                                        int flags) {
  TRY_VOID(WritableOrError());
  ASSIGN_OR_RETURN(Entry entry, meta_.MakeNode(ctx, In(parent), name, mode, 0));
  InodePtr inode = inodes_.Open(entry.ino);
  {
    std::unique_lock lock(inode->mutex);
    // An answer from the record of a resent request may be old.
    if (!ctx.resent) inode->attr = entry.attr;
  }
  Result<Opened> opened = OpenHandle(ctx, inode, flags);
  inodes_.Settle(std::move(inode));
  if (!opened) return Error(std::move(opened).error());
  return Created{Out(std::move(entry)), *opened};
}

void Vfs::RemoveUnlinked(const InodePtr& inode) {
  // Opened again meanwhile (through /proc/self/fd): the next release comes.
  if (inodes_.IsOpen(inode->ino)) return;
  DropDirty(inode);
  Status status = meta_.ReleaseSustained(inode->ino);
  inodes_.FinishUnlink();
  Forget(inode->ino);
  if (!status.ok()) {
    LOG_WARNING("vfs") << "remove unlinked inode " << inode->ino << ": " << status.ToString()
                       << "; it goes when the session ends";
  }
}

void Vfs::Release(Ino ino, Handle handle) {
  if (!handles_.Free(handle)) return;
  InodePtr inode = inodes_.Find(In(ino));
  if (!inode) return;
  locks_.ReleaseHandle(inode->ino, handle);
  if (inodes_.Close(inode) && !options_.read_only) {
    Result<Attr> attr = SeenAttr(inode->ino);
    const bool gone = attr ? attr->nlink == 0 && (attr->flags & kAttrTrashed) == 0
                           : attr.error().err() == ESTALE || attr.error().err() == ENOENT;
    if (gone) RemoveUnlinked(inode);
  }
  inodes_.Settle(std::move(inode));
}

Status Vfs::Flush(const OpContext&, Ino ino, Handle, uint64_t lock_owner) {
  ino = In(ino);
  locks_.ReleaseOwner(ino, lock_owner);
  InodePtr inode = inodes_.Find(ino);
  if (!inode) return Status::Ok();
  std::shared_lock lock(inode->mutex);
  return inode->write_error;
}

Status Vfs::Fsync(const OpContext&, Ino ino, Handle, bool) {
  ino = In(ino);
  if (options_.read_only) return Status::Ok();
  if (InodePtr inode = inodes_.Find(ino)) {
    RETURN_IF_ERROR(flusher_->FlushInode(inode));
    std::vector<ObjectId> objects;
    {
      std::shared_lock lock(inode->mutex);
      objects.assign(inode->unsynced.begin(), inode->unsynced.end());
    }
    RETURN_IF_ERROR(flusher_->MakeDurable(objects));
    std::unique_lock lock(inode->mutex);
    for (const ObjectId& id : objects) inode->unsynced.erase(id);
    lock.unlock();
    inodes_.Settle(std::move(inode));
  }
  return meta_.kv().Sync();
}

Result<Lock> Vfs::GetLock(const OpContext&, Ino ino, Handle, const Lock& lock) { return locks_.Get(In(ino), lock); }

void Vfs::SetLock(const OpContext& ctx, Ino ino, Handle handle, const Lock& lock, bool flock, bool wait,
                  std::function<void(Status)> done) {
  locks_.Set(In(ino), handle, lock, flock, wait, ctx.unique, std::move(done));
}

void Vfs::CancelLock(uint64_t unique) { locks_.Cancel(unique); }

}  // namespace moorfs::vfs
