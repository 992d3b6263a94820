// SPDX-License-Identifier: Apache-2.0
//
// NullFileSystem: answers everything from nothing, to measure what the
// transport costs. Every name exists as an empty-looking file of 1 GiB of
// zeros, or as a directory if it begins with "dir"; only names that begin with
// "new" must be created first. Whatever is created, renamed or removed
// succeeds. Writes are dropped. Locks are real (they are the vfs's).

#pragma once

#include <array>
#include <mutex>
#include <string>
#include <unordered_map>

#include "fs/vfs/arena.h"
#include "fs/vfs/file_system.h"
#include "fs/vfs/lock_table.h"

namespace moorfs::bench {

class NullFileSystem : public vfs::FileSystem {
 public:
  using Handle = vfs::Handle;
  using OpContext = vfs::OpContext;
  using Entry = vfs::Entry;

  explicit NullFileSystem(vfs::Arena& arena) : locks_(arena) { locks_.Recover(); }

  Result<Entry> Lookup(const OpContext& ctx, Ino parent, std::string_view name) override;
  Result<Attr> GetAttr(const OpContext& ctx, Ino ino) override;
  Result<Attr> SetAttribute(const OpContext& ctx, Ino ino, const vfs::SetAttr& request) override;
  Result<std::string> ReadLink(const OpContext& ctx, Ino ino) override;
  Result<Entry> MakeNode(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                         uint32_t rdev) override;
  Result<Entry> MakeDir(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode) override;
  Result<Entry> MakeSymlink(const OpContext& ctx, Ino parent, std::string_view name,
                            std::string_view target) override;
  Result<Entry> Link(const OpContext& ctx, Ino ino, Ino new_parent, std::string_view new_name) override;
  Status Unlink(const OpContext& ctx, Ino parent, std::string_view name) override;
  Status RemoveDir(const OpContext& ctx, Ino parent, std::string_view name) override;
  Status Rename(const OpContext& ctx, Ino parent, std::string_view name, Ino new_parent, std::string_view new_name,
                uint32_t flags) override;
  Result<vfs::Opened> Open(const OpContext& ctx, Ino ino, int flags) override;
  Result<Created> Create(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode, int flags) override;
  void Release(Ino ino, Handle handle) override;
  Status Flush(const OpContext& ctx, Ino ino, Handle handle, uint64_t lock_owner) override;
  Status Fsync(const OpContext& ctx, Ino ino, Handle handle, bool data_only) override;
  Result<size_t> TryRead(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                         std::span<char> out) override;
  Result<size_t> Read(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, std::span<char> out) override;
  Status TryWrite(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, std::span<const char> data,
                  bool kill_suidgid) override;
  Status Write(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, std::span<const char> data,
               bool kill_suidgid) override;
  Status Fallocate(const OpContext& ctx, Ino ino, Handle handle, int mode, uint64_t offset, uint64_t len) override;
  Result<uint64_t> CopyFileRange(const OpContext& ctx, Ino src, Handle src_handle, uint64_t src_off, Ino dst,
                                 Handle dst_handle, uint64_t dst_off, uint64_t len) override;
  Result<uint64_t> Seek(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, vfs::Whence whence) override;
  Result<vfs::Opened> OpenDir(const OpContext& ctx, Ino ino) override;
  Result<std::vector<vfs::DirEntry>> ReadDir(const OpContext& ctx, Ino ino, Handle handle, uint64_t position,
                                             size_t limit, bool with_attrs) override;
  void ReleaseDir(Ino ino, Handle handle) override;
  Status FsyncDir(const OpContext& ctx, Ino ino) override;
  Result<vfs::StatFsReply> StatFs(const OpContext& ctx) override;
  Result<std::string> GetXattr(const OpContext& ctx, Ino ino, std::string_view name) override;
  Status SetXattr(const OpContext& ctx, Ino ino, std::string_view name, std::string_view value,
                  meta::XattrSet how) override;
  Result<std::vector<std::string>> ListXattr(const OpContext& ctx, Ino ino) override;
  Status RemoveXattr(const OpContext& ctx, Ino ino, std::string_view name) override;
  Result<vfs::Lock> GetLock(const OpContext& ctx, Ino ino, Handle handle, const vfs::Lock& lock) override;
  void SetLock(const OpContext& ctx, Ino ino, Handle handle, const vfs::Lock& lock, bool flock, bool wait,
               std::function<void(Status)> done) override;
  void CancelLock(uint64_t unique) override;

  // The number of a name, and whether it is a directory, follow from the name.
  static Ino InoOf(Ino parent, std::string_view name, FileType type);

 protected:
  static Attr AttrOf(Ino ino);

 private:
  struct Shard {
    std::mutex mutex;
    std::unordered_map<uint64_t, Ino> created;  // by hash of parent and name
  };
  Shard& ShardOf(uint64_t key) { return shards_[key % shards_.size()]; }
  Entry Make(Ino parent, std::string_view name, FileType type);
  void Remove(Ino parent, std::string_view name);

  std::array<Shard, 16> shards_;
  vfs::LockTable locks_;
};

}  // namespace moorfs::bench
