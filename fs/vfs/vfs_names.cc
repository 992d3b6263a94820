// SPDX-License-Identifier: Apache-2.0
//
// Name space operations: Meta does them; here the mount's root is translated,
// what this client caches is forgotten, and unflushed lengths are shown.

#include "fs/vfs/flusher.h"
#include "fs/vfs/vfs.h"

namespace moorfs::vfs {
namespace {

// Readers of a directory see "." and ".." before the stored entries, whose
// positions begin far above (fs/format/keys.h).
constexpr uint64_t kDotPosition = 1;
constexpr uint64_t kDotDotPosition = 2;

}  // namespace

Result<Entry> Vfs::Lookup(const OpContext&, Ino parent, std::string_view name) {
  parent = In(parent);
  if (name == ".") {
    ASSIGN_OR_RETURN(Attr attr, SeenAttr(parent));
    return Out(Entry{parent, attr});
  }
  if (name == "..") {
    ASSIGN_OR_RETURN(Attr self, SeenAttr(parent));
    const Ino up = parent == options_.root ? parent : self.parent;
    ASSIGN_OR_RETURN(Attr attr, SeenAttr(up));
    return Out(Entry{up, attr});
  }
  ASSIGN_OR_RETURN(Entry entry, meta_.Lookup(parent, name));
  if (inodes_.Find(entry.ino)) {
    ASSIGN_OR_RETURN(entry.attr, SeenAttr(entry.ino));
  }
  return Out(std::move(entry));
}

Result<Attr> Vfs::GetAttr(const OpContext&, Ino ino) { return SeenAttr(In(ino)); }

Result<Attr> Vfs::SetAttribute(const OpContext& ctx, Ino ino, const SetAttr& request) {
  TRY_VOID(WritableOrError());
  ino = In(ino);
  std::optional<Attr> attr;
  if (request.length) {
    ASSIGN_OR_RETURN(attr, DoTruncate(ctx, ino, *request.length, request.kill_suidgid));
  }
  if (request.valid != 0 || !request.length) {
    // One request, one replay record: the truncation before it kept the
    // request's own, and setting attributes twice changes nothing.
    OpContext again = ctx;
    if (request.length) again.unique = 0;
    InodePtr inode = inodes_.Find(ino);
    if (!inode) return meta_.SetAttr(again, ino, request);
    std::unique_lock lock(inode->mutex);
    Result<Attr> set = meta_.SetAttr(again, ino, request);
    if (!set) {
      lock.unlock();
      inodes_.Settle(std::move(inode));
      return set;
    }
    if ((request.valid & meta::kSetAtime) != 0) flusher_->DropAtime(ino);
    // An explicit time replaces that of earlier, still unflushed writes.
    if ((request.valid & meta::kSetMtime) != 0 && inode->pending.index != 0) {
      dirty_.SetPending(ino, &inode->pending, inode->pending.length, Timestamp{});
    }
    inode->attr = *set;
    attr = Merged(*inode);
    if (attr->type == FileType::kDirectory) inode->attr.reset();  // as in SeenAttr()
    lock.unlock();
    inodes_.Settle(std::move(inode));
  }
  return *attr;
}

Result<std::string> Vfs::ReadLink(const OpContext&, Ino ino) { return meta_.ReadSymlink(In(ino)); }

Result<Entry> Vfs::MakeNode(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                            uint32_t rdev) {
  TRY_VOID(WritableOrError());
  return meta_.MakeNode(ctx, In(parent), name, mode, rdev);
}

Result<Entry> Vfs::MakeDir(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode) {
  TRY_VOID(WritableOrError());
  return meta_.MakeDir(ctx, In(parent), name, mode);
}

Result<Entry> Vfs::MakeSymlink(const OpContext& ctx, Ino parent, std::string_view name,
                               std::string_view target) {
  TRY_VOID(WritableOrError());
  return meta_.MakeSymlink(ctx, In(parent), name, target);
}

Result<Entry> Vfs::Link(const OpContext& ctx, Ino ino, Ino new_parent, std::string_view new_name) {
  TRY_VOID(WritableOrError());
  ASSIGN_OR_RETURN(Entry entry, meta_.Link(ctx, In(ino), In(new_parent), new_name));
  Forget(entry.ino);
  ASSIGN_OR_RETURN(entry.attr, SeenAttr(entry.ino));
  return Out(std::move(entry));
}

Status Vfs::Unlink(const OpContext& ctx, Ino parent, std::string_view name) {
  RETURN_IF_ERROR(WritableOrError());
  Result<Entry> victim = meta_.Unlink(ctx, In(parent), name);
  inodes_.FinishUnlink();
  if (!victim) return victim.error();
  AfterUnlink(*victim);
  return Status::Ok();
}

Status Vfs::RemoveDir(const OpContext& ctx, Ino parent, std::string_view name) {
  RETURN_IF_ERROR(WritableOrError());
  Result<Entry> victim = meta_.RemoveDir(ctx, In(parent), name);
  inodes_.FinishUnlink();
  if (!victim) return victim.error();
  Forget(victim->ino);
  return Status::Ok();
}

Status Vfs::Rename(const OpContext& ctx, Ino parent, std::string_view name, Ino new_parent,
                   std::string_view new_name, uint32_t flags) {
  RETURN_IF_ERROR(WritableOrError());
  Result<meta::Meta::Renamed> renamed = meta_.Rename(ctx, In(parent), name, In(new_parent), new_name, flags);
  inodes_.FinishUnlink();
  if (!renamed) return renamed.error();
  Forget(renamed->moved.ino);
  if (renamed->replaced) AfterUnlink(*renamed->replaced);
  return Status::Ok();
}

Result<Opened> Vfs::OpenDir(const OpContext& ctx, Ino ino) {
  InodePtr inode = inodes_.Open(In(ino));
  Result<Attr> attr = SeenAttr(inode->ino);
  bool existed = false;
  Result<Handle> handle = attr ? handles_.Allocate(inode->ino, 0, true, ctx.unique, ctx.resent, &existed)
                               : Result<Handle>(Error(ESTALE, "open directory: it is gone"));
  if (!handle || existed) inodes_.Close(inode);
  inodes_.Settle(std::move(inode));
  if (!handle) return Error(std::move(handle).error());
  return Opened{*handle, meta_.kv().exclusive(), false};
}

void Vfs::ReleaseDir(Ino ino, Handle handle) {
  if (!handles_.Free(handle)) return;
  InodePtr inode = inodes_.Find(In(ino));
  if (!inode) return;
  locks_.ReleaseHandle(inode->ino, handle);
  if (inodes_.Close(inode) && !options_.read_only) {
    Result<Attr> attr = SeenAttr(inode->ino);
    if (attr && attr->nlink == 0 && (attr->flags & kAttrTrashed) == 0) RemoveUnlinked(inode);
  }
  inodes_.Settle(std::move(inode));
}

Result<std::vector<DirEntry>> Vfs::ReadDir(const OpContext&, Ino ino, Handle, uint64_t position, size_t limit,
                                           bool with_attrs) {
  ino = In(ino);
  std::vector<DirEntry> out;
  if (position < kDotDotPosition) {
    ASSIGN_OR_RETURN(Attr self, SeenAttr(ino));
    const Ino up = ino == options_.root ? ino : self.parent;
    if (position < kDotPosition) out.push_back({kDotPosition, Out(ino), FileType::kDirectory, ".", self});
    out.push_back({kDotDotPosition, Out(up), FileType::kDirectory, "..", self});
    position = 0;
  } else if (position == kDotDotPosition) {
    position = 0;
  }
  ASSIGN_OR_RETURN(std::vector<DirEntry> stored, meta_.ReadDir(ino, position, limit, with_attrs));
  for (DirEntry& entry : stored) {
    if (with_attrs && entry.type == FileType::kFile && inodes_.Find(entry.ino)) {
      Result<Attr> attr = SeenAttr(entry.ino);
      if (attr) entry.attr = *attr;
    }
    entry.ino = Out(entry.ino);
    out.push_back(std::move(entry));
  }
  return out;
}

Status Vfs::FsyncDir(const OpContext&, Ino) { return options_.read_only ? Status::Ok() : meta_.kv().Sync(); }

Result<StatFsReply> Vfs::StatFs(const OpContext&) {
  ASSIGN_OR_RETURN(meta::StatFs used, meta_.GetStatFs());
  StatFsReply reply;
  const uint64_t available = store_available_;
  const uint64_t dirty = dirty_.used_bytes();
  reply.free_bytes = available == UINT64_MAX ? 1_PiB : available > dirty ? available - dirty : 0;
  reply.total_bytes = used.used_bytes + dirty + reply.free_bytes;
  reply.free_inodes = kMaxIno >> 20;
  reply.total_inodes = used.used_inodes + reply.free_inodes;
  return reply;
}

Result<std::string> Vfs::GetXattr(const OpContext&, Ino ino, std::string_view name) {
  return meta_.GetXattr(In(ino), name);
}

Status Vfs::SetXattr(const OpContext& ctx, Ino ino, std::string_view name, std::string_view value,
                     meta::XattrSet how) {
  RETURN_IF_ERROR(WritableOrError());
  Status status = meta_.SetXattr(ctx, In(ino), name, value, how);
  Forget(In(ino));
  return status;
}

Result<std::vector<std::string>> Vfs::ListXattr(const OpContext&, Ino ino) { return meta_.ListXattr(In(ino)); }

Status Vfs::RemoveXattr(const OpContext& ctx, Ino ino, std::string_view name) {
  RETURN_IF_ERROR(WritableOrError());
  Status status = meta_.RemoveXattr(ctx, In(ino), name);
  Forget(In(ino));
  return status;
}

}  // namespace moorfs::vfs
