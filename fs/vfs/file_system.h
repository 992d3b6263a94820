// SPDX-License-Identifier: Apache-2.0
//
// FileSystem: what the FUSE layer asks of a file system, in POSIX terms and
// without libfuse. Vfs is the real one; NullFileSystem (test/bench) answers
// everything from nothing and marks the limit of the transport.
//
// Calls run on the thread that read the request. The ones that may wait for a
// store or for memory are marked BLOCKING; the FUSE layer runs those on its
// executor. TryRead and TryWrite are their non-blocking fast paths. Thread-safe.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "fs/meta/meta.h"

namespace moorfs::vfs {

using meta::DirEntry;
using meta::Entry;
using meta::OpContext;

// Handle number as the kernel knows it (fuse_file_info.fh); an index into the
// arena's handle table with a generation, valid across a change of client.
using Handle = uint64_t;

struct Opened {
  Handle handle = 0;
  bool keep_cache = false;  // the kernel's pages of this inode are still true
  bool direct_io = false;
};

struct StatFsReply {
  uint64_t total_bytes = 0, free_bytes = 0;
  uint64_t total_inodes = 0, free_inodes = 0;
};

struct SetAttr : meta::SetAttrRequest {
  std::optional<uint64_t> length;
  std::optional<Handle> handle;
};

struct Lock {
  enum class Type : uint8_t { kRead, kWrite, kUnlock };
  Type type = Type::kRead;
  uint64_t start = 0;
  uint64_t end = 0;  // inclusive, as in FUSE (OFFSET_MAX = INT64_MAX)
  uint64_t owner = 0;
  int32_t pid = 0;
};

enum class Whence { kData, kHole };

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual Result<Entry> Lookup(const OpContext& ctx, Ino parent, std::string_view name) = 0;
  virtual Result<Attr> GetAttr(const OpContext& ctx, Ino ino) = 0;
  // BLOCKING when `request.length` is set.
  virtual Result<Attr> SetAttribute(const OpContext& ctx, Ino ino, const SetAttr& request) = 0;
  virtual Result<std::string> ReadLink(const OpContext& ctx, Ino ino) = 0;
  virtual Result<Entry> MakeNode(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                                 uint32_t rdev) = 0;
  virtual Result<Entry> MakeDir(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode) = 0;
  virtual Result<Entry> MakeSymlink(const OpContext& ctx, Ino parent, std::string_view name,
                                    std::string_view target) = 0;
  virtual Result<Entry> Link(const OpContext& ctx, Ino ino, Ino new_parent, std::string_view new_name) = 0;
  virtual Status Unlink(const OpContext& ctx, Ino parent, std::string_view name) = 0;
  virtual Status RemoveDir(const OpContext& ctx, Ino parent, std::string_view name) = 0;
  virtual Status Rename(const OpContext& ctx, Ino parent, std::string_view name, Ino new_parent,
                        std::string_view new_name, uint32_t flags) = 0;

  // `flags` as in open(2). ESTALE: the inode is gone (the kernel looks up
  // again). O_TRUNC never comes: the kernel truncates by SetAttribute.
  virtual Result<Opened> Open(const OpContext& ctx, Ino ino, int flags) = 0;
  struct Created {
    Entry entry;
    Opened opened;
  };
  virtual Result<Created> Create(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                                 int flags) = 0;
  // The last reference to the handle is gone. Never fails; errors of data
  // that could not be stored are sticky on the inode and told by Fsync/Flush.
  virtual void Release(Ino ino, Handle handle) = 0;
  // close(2) of one descriptor: drops `lock_owner`'s POSIX locks, reports a
  // sticky write error.
  virtual Status Flush(const OpContext& ctx, Ino ino, Handle handle, uint64_t lock_owner) = 0;
  // BLOCKING. Data and metadata of the inode are on stable storage.
  virtual Status Fsync(const OpContext& ctx, Ino ino, Handle handle, bool data_only) = 0;

  // Bytes read into `out`; short only at the end of the file.
  // TryRead: EWOULDBLOCK when it would have to wait.
  virtual Result<size_t> TryRead(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                                 std::span<char> out) = 0;
  virtual Result<size_t> Read(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                              std::span<char> out) = 0;  // BLOCKING
  // Whole or not at all. TryWrite: EWOULDBLOCK when the memory budget is used
  // up. `kill_suidgid`: FUSE_WRITE_KILL_SUIDGID.
  virtual Status TryWrite(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                          std::span<const char> data, bool kill_suidgid) = 0;
  virtual Status Write(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, std::span<const char> data,
                       bool kill_suidgid) = 0;  // BLOCKING

  // BLOCKING, all three. `mode` as in fallocate(2).
  virtual Status Fallocate(const OpContext& ctx, Ino ino, Handle handle, int mode, uint64_t offset, uint64_t len) = 0;
  virtual Result<uint64_t> CopyFileRange(const OpContext& ctx, Ino src, Handle src_handle, uint64_t src_off,
                                         Ino dst, Handle dst_handle, uint64_t dst_off, uint64_t len) = 0;
  virtual Result<uint64_t> Seek(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset, Whence whence) = 0;

  virtual Result<Opened> OpenDir(const OpContext& ctx, Ino ino) = 0;
  // Next entries after `position` (0 = from the start), "." and ".." with
  // positions 1 and 2 included. Empty = the end. `limit` is a hint.
  virtual Result<std::vector<DirEntry>> ReadDir(const OpContext& ctx, Ino ino, Handle handle, uint64_t position,
                                                size_t limit, bool with_attrs) = 0;
  virtual void ReleaseDir(Ino ino, Handle handle) = 0;
  virtual Status FsyncDir(const OpContext& ctx, Ino ino) = 0;  // BLOCKING

  virtual Result<StatFsReply> StatFs(const OpContext& ctx) = 0;
  // Of the quota that `ino` is in: what `df` shows there.
  virtual Result<StatFsReply> StatFsOf(const OpContext& ctx, Ino ino) {
    (void)ino;
    return StatFs(ctx);
  }
  virtual Result<std::string> GetXattr(const OpContext& ctx, Ino ino, std::string_view name) = 0;
  virtual Status SetXattr(const OpContext& ctx, Ino ino, std::string_view name, std::string_view value,
                          meta::XattrSet how) = 0;
  virtual Result<std::vector<std::string>> ListXattr(const OpContext& ctx, Ino ino) = 0;
  virtual Status RemoveXattr(const OpContext& ctx, Ino ino, std::string_view name) = 0;

  // First lock that conflicts; type kUnlock when none does.
  virtual Result<Lock> GetLock(const OpContext& ctx, Ino ino, Handle handle, const Lock& lock) = 0;
  // Calls `done` exactly once, on this or another thread: OK, EAGAIN (not
  // `wait`), EDEADLK, EINTR (CancelLock). No thread waits meanwhile.
  // `flock`: a whole-file BSD lock, a table of its own.
  virtual void SetLock(const OpContext& ctx, Ino ino, Handle handle, const Lock& lock, bool flock, bool wait,
                       std::function<void(Status)> done) = 0;
  // FUSE_INTERRUPT of a waiting SetLock. No effect when it was answered.
  virtual void CancelLock(uint64_t unique) = 0;
};

// How a file system tells the kernel to forget what it caches. Never called
// with a lock held that an operation on the same inode takes.
class Invalidator {
 public:
  virtual ~Invalidator() = default;
  virtual void InvalidateInode(Ino ino) = 0;  // attributes and pages
  virtual void InvalidateEntry(Ino parent, std::string_view name) = 0;
};

}  // namespace moorfs::vfs
