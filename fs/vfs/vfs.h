// SPDX-License-Identifier: Apache-2.0
//
// Vfs: the file system as applications see it. It joins what is committed
// (fs/meta, fs/chunk) with what is acknowledged but not stored yet (the
// arena): a write is a copy into the arena, a read lays the dirty bytes over
// the committed ones and never forces a flush, attributes are the committed
// ones with pending length and time on top.
//
// What survives: an acknowledged operation survives the death of this process
// (data in the arena, metadata in the engine's log); what Fsync() covered
// survives the machine.

#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "fs/chunk/block_store.h"
#include "fs/meta/meta.h"
#include "fs/vfs/arena.h"
#include "fs/vfs/dirty_store.h"
#include "fs/vfs/file_system.h"
#include "fs/vfs/handle_table.h"
#include "fs/vfs/inode_table.h"
#include "fs/vfs/lock_table.h"

namespace moorfs::vfs {

struct VfsOptions {
  Ino root = kRootIno;  // the directory that the mount shows as its root
  bool read_only = false;
  bool noatime = false;  // else relatime
  // Files up to this length are stored beside their attributes.
  uint32_t inline_bytes = 2048;
  // Dirty data older than this is flushed, and so is the oldest once a third
  // of the budget is used.
  uint32_t flush_age_ms = 3000;
  unsigned flush_threads = 2;
  // Cached chunk maps (where committed bytes lie).
  uint64_t map_bytes = 24u << 20;
  // Committed objects are made durable at least this often, so that little
  // needs checking after a power cut.
  uint32_t sync_age_ms = 5000;
};

struct VfsStats {
  uint64_t dirty_bytes = 0, dirty_budget_bytes = 0;
  uint64_t open_files = 0, locks = 0, inodes = 0, map_bytes = 0;
  uint64_t read_bytes = 0, written_bytes = 0, flushed_bytes = 0, flushes = 0, compactions = 0;
  uint64_t flush_errors = 0, read_errors = 0;
  std::string last_error;  // of a flush, empty when the last one succeeded
};

class Flusher;

class Vfs : public FileSystem {
 public:
  // All references outlive the Vfs. `inodes` is the table whose IsOpen() the
  // Meta was given.
  Vfs(Arena& arena, InodeTable& inodes, meta::Meta& meta, chunk::BlockStore& blocks, VfsOptions options);
  ~Vfs() override;

  // Takes over what a previous client left in the arena and starts the
  // background threads. Call once, before the first operation.
  Status Start();
  // Stores everything dirty and makes it durable; the file system goes on
  // serving. The first error ends it.
  Status Drain();
  // Stops the background threads. Dirty data stays in the arena.
  void Stop();

  VfsStats Stats();
  const VfsOptions& options() const { return options_; }
  // Quotas came or moved: what is unflushed claims room in the right ones.
  void RefreshQuotas();
  // Pages of dirty data that nobody uses go back to the system.
  void Trim() { dirty_.Trim(); }

  Result<Entry> Lookup(const OpContext& ctx, Ino parent, std::string_view name) override;
  Result<Attr> GetAttr(const OpContext& ctx, Ino ino) override;
  Result<Attr> SetAttribute(const OpContext& ctx, Ino ino, const SetAttr& request) override;
  Result<std::string> ReadLink(const OpContext& ctx, Ino ino) override;
  Result<Entry> MakeNode(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                         uint32_t rdev) override;
  Result<Entry> MakeDir(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode) override;
  Result<Entry> MakeSymlink(const OpContext& ctx, Ino parent, std::string_view name,
                            std::string_view target) override;
  Result<Entry> Link(const OpContext& ctx, Ino ino, Ino new_parent, std::string_view new_name) override;
  Status Unlink(const OpContext& ctx, Ino parent, std::string_view name) override;
  Status RemoveDir(const OpContext& ctx, Ino parent, std::string_view name) override;
  Status Rename(const OpContext& ctx, Ino parent, std::string_view name, Ino new_parent,
                std::string_view new_name, uint32_t flags) override;
  Result<Opened> Open(const OpContext& ctx, Ino ino, int flags) override;
  Result<Created> Create(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                         int flags) override;
  void Release(Ino ino, Handle handle) override;
  Status Flush(const OpContext& ctx, Ino ino, Handle handle, uint64_t lock_owner) override;
  Status Fsync(const OpContext& ctx, Ino ino, Handle handle, bool data_only) override;
  Result<size_t> TryRead(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                         std::span<char> out) override;
  Result<size_t> Read(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                      std::span<char> out) override;
  Status TryWrite(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, std::span<const char> data,
                  bool kill_suidgid) override;
  Status Write(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, std::span<const char> data,
               bool kill_suidgid) override;
  Status Fallocate(const OpContext& ctx, Ino ino, Handle handle, int mode, uint64_t offset,
                   uint64_t len) override;
  Result<uint64_t> CopyFileRange(const OpContext& ctx, Ino src, Handle src_handle, uint64_t src_off, Ino dst,
                                 Handle dst_handle, uint64_t dst_off, uint64_t len) override;
  Result<uint64_t> Seek(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, Whence whence) override;
  Result<Opened> OpenDir(const OpContext& ctx, Ino ino) override;
  Result<std::vector<DirEntry>> ReadDir(const OpContext& ctx, Ino ino, Handle handle, uint64_t position,
                                        size_t limit, bool with_attrs) override;
  void ReleaseDir(Ino ino, Handle handle) override;
  Status FsyncDir(const OpContext& ctx, Ino ino) override;
  Result<StatFsReply> StatFs(const OpContext& ctx) override;
  Result<StatFsReply> StatFsOf(const OpContext& ctx, Ino ino) override;
  Result<std::string> GetXattr(const OpContext& ctx, Ino ino, std::string_view name) override;
  Status SetXattr(const OpContext& ctx, Ino ino, std::string_view name, std::string_view value,
                  meta::XattrSet how) override;
  Result<std::vector<std::string>> ListXattr(const OpContext& ctx, Ino ino) override;
  Status RemoveXattr(const OpContext& ctx, Ino ino, std::string_view name) override;
  Result<Lock> GetLock(const OpContext& ctx, Ino ino, Handle handle, const Lock& lock) override;
  void SetLock(const OpContext& ctx, Ino ino, Handle handle, const Lock& lock, bool flock, bool wait,
               std::function<void(Status)> done) override;
  void CancelLock(uint64_t unique) override;

 private:
  friend class Flusher;

  // A part of a read that lies in a block.
  struct BlockPart {
    ObjectId object;
    uint32_t offset;
    uint32_t len;
    char* out;
  };

  // The mount shows options_.root as inode 1.
  Ino In(Ino ino) const { return ino == kRootIno ? options_.root : ino; }
  Ino Out(Ino ino) const { return ino == options_.root ? kRootIno : ino; }
  Entry Out(Entry entry) const;
  Status WritableOrError() const;

  // Committed attributes with pending ones on top. `mutex` of the inode held,
  // shared, and its `attr` loaded.
  Attr Merged(const Inode& inode) const;
  // Loads `attr` when absent; `mutex` held exclusively.
  Status LoadAttr(Inode& inode);
  // The attributes of `ino` as seen: whether or not this client knows it.
  Result<Attr> SeenAttr(Ino ino);
  // What this client caches of the inode's committed attributes is old.
  void Forget(Ino ino);
  // The same for all that is committed, data as well. `mutex` held.
  void ForgetCommitted(Inode& inode);
  // The inode lost its last link: unflushed data of a closed one is moot.
  void AfterUnlink(const Entry& victim);
  // Left alone while a flush is at it: that will find the inode gone.
  void DropDirty(const InodePtr& inode);
  // The last handle of an inode without a name is gone.
  void RemoveUnlinked(const InodePtr& inode);

  // The chunk's committed view; loads it at need. `mutex` held, shared.
  Result<std::shared_ptr<chunk::ChunkMap>> MapOf(Inode& inode, uint32_t chunk);
  void DropMaps(Inode& inode);
  // Fills `out` with everything but what lies in blocks; that goes to `parts`.
  // `mutex` held, shared.
  Status Assemble(Inode& inode, uint64_t offset, std::span<char> out, std::vector<BlockPart>* parts);
  // Takes `mutex` shared with everything in memory that Assemble() looks at.
  Status LockLoaded(Inode& inode, std::shared_lock<std::shared_mutex>* lock);
  Result<size_t> DoRead(Ino ino, uint64_t offset, std::span<char> out, bool blocking);
  void ReadAhead(Inode& inode, uint64_t offset, uint64_t len);
  void TouchAtime(Inode& inode);

  // EWOULDBLOCK when the budget is used up (a prefix may then be in place).
  Status Insert(Inode& inode, uint64_t offset, std::span<const char> data, std::vector<Segment*>* covered);
  // ---- quotas: vfs_quota.cc; `mutex` of the inode held exclusively ----------
  // Claims room for `more` bytes about to be written, the file then being
  // `length` long; `attr` is loaded. EDQUOT, with `enforce`.
  Status ReserveFor(Inode& inode, uint64_t more, uint64_t length, bool enforce);
  // The same before the file becomes `length` long by a change of metadata,
  // which itself is checked there. What it is about may be hidden slices, so
  // flush first (data_mutex held). EDQUOT.
  Status ReserveLength(Inode& inode, uint64_t length);
  // What is unflushed, or what it lies on, became less: so does its claim.
  void SettleQuota(Inode& inode);
  // Before ReserveLength(): stores what is unflushed. data_mutex held.
  Status FlushToGrow(const InodePtr& inode, uint64_t length);
  // Commits everything that has a claim on a quota. No locks held.
  Status FlushQuotas();
  Result<uint64_t> DoCopy(const OpContext& ctx, Ino src, uint64_t src_off, Ino dst, uint64_t dst_off, uint64_t len);

  Status WriteOnce(Ino ino, uint64_t offset, std::span<const char> data, bool kill_suidgid);
  Status DoWrite(const InodePtr& inode, uint64_t offset, std::span<const char> data, bool kill_suidgid);
  // Clears set-id bits and security.capability. `mutex` held exclusively.
  Status DropSetId(Inode& inode);
  // Forgets dirty bytes at and beyond `length`. Both mutexes held.
  void CutDirty(Inode& inode, uint64_t length);
  void FreeCovered(const std::vector<Segment*>& covered);
  Result<Attr> DoTruncate(const OpContext& ctx, Ino ino, uint64_t length, bool kill_suidgid);
  // First committed data (hole) at or after `offset`; the file's length if
  // none. `mutex` held, shared.
  Result<uint64_t> NextCommitted(Inode& inode, uint64_t offset, Whence whence);

  Result<Opened> OpenHandle(const OpContext& ctx, const InodePtr& inode, int flags);
  void RefreshSpace();

  Arena& arena_;
  InodeTable& inodes_;
  meta::Meta& meta_;
  chunk::BlockStore& blocks_;
  const VfsOptions options_;
  DirtyStore dirty_;
  HandleTable handles_;
  LockTable locks_;
  std::unique_ptr<Flusher> flusher_;

  std::atomic<uint64_t> store_total_{0}, store_available_{UINT64_MAX};
  std::atomic<uint64_t> read_bytes_{0}, written_bytes_{0}, read_errors_{0};
};

}  // namespace moorfs::vfs
