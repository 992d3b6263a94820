// SPDX-License-Identifier: Apache-2.0

#include "test/bench/null_file_system.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace moorfs::bench {
namespace {

constexpr uint64_t kFileBytes = uint64_t{1} << 30;
constexpr Ino kTypeShift = 48;  // bits 48..50 of an inode number hold its type

uint64_t KeyOf(Ino parent, std::string_view name) {
  return std::hash<std::string_view>()(name) * 0x9e3779b97f4a7c15u + parent;
}

}  // namespace

Ino NullFileSystem::InoOf(Ino parent, std::string_view name, FileType type) {
  const Ino number = KeyOf(parent, name) & ((Ino{1} << kTypeShift) - 1);
  return std::max(number, kFirstIno) | static_cast<Ino>(type) << kTypeShift;
}

Attr NullFileSystem::AttrOf(Ino ino) {
  Attr attr;
  attr.type = ino == kRootIno ? FileType::kDirectory : static_cast<FileType>(ino >> kTypeShift & 7);
  attr.mode = attr.type == FileType::kDirectory ? 0777 : 0666;
  attr.nlink = attr.type == FileType::kDirectory ? 2 : 1;
  attr.length = attr.type == FileType::kFile ? kFileBytes : 4096;
  attr.generation = 1;
  return attr;
}

NullFileSystem::Entry NullFileSystem::Make(Ino parent, std::string_view name, FileType type) {
  const uint64_t key = KeyOf(parent, name);
  const Ino ino = InoOf(parent, name, type);
  Shard& shard = ShardOf(key);
  std::lock_guard lock(shard.mutex);
  shard.created[key] = ino;
  return {ino, AttrOf(ino)};
}

void NullFileSystem::Remove(Ino parent, std::string_view name) {
  const uint64_t key = KeyOf(parent, name);
  Shard& shard = ShardOf(key);
  std::lock_guard lock(shard.mutex);
  shard.created.erase(key);
}

Result<vfs::Entry> NullFileSystem::Lookup(const OpContext&, Ino parent, std::string_view name) {
  if (name.starts_with("new")) {
    const uint64_t key = KeyOf(parent, name);
    Shard& shard = ShardOf(key);
    std::lock_guard lock(shard.mutex);
    const auto it = shard.created.find(key);
    if (it == shard.created.end()) return Error(ENOENT, "look up: not created");
    return Entry{it->second, AttrOf(it->second)};
  }
  const Ino ino = InoOf(parent, name, name.starts_with("dir") ? FileType::kDirectory : FileType::kFile);
  return Entry{ino, AttrOf(ino)};
}

Result<Attr> NullFileSystem::GetAttr(const OpContext&, Ino ino) { return AttrOf(ino); }
Result<Attr> NullFileSystem::SetAttribute(const OpContext&, Ino ino, const vfs::SetAttr&) { return AttrOf(ino); }
Result<std::string> NullFileSystem::ReadLink(const OpContext&, Ino) { return std::string("target"); }

Result<vfs::Entry> NullFileSystem::MakeNode(const OpContext&, Ino parent, std::string_view name, uint32_t mode,
                                            uint32_t) {
  return Make(parent, name, FileTypeFromMode(mode).value_or(FileType::kFile));
}
Result<vfs::Entry> NullFileSystem::MakeDir(const OpContext&, Ino parent, std::string_view name, uint32_t) {
  return Make(parent, name, FileType::kDirectory);
}
Result<vfs::Entry> NullFileSystem::MakeSymlink(const OpContext&, Ino parent, std::string_view name,
                                               std::string_view) {
  return Make(parent, name, FileType::kSymlink);
}
Result<vfs::Entry> NullFileSystem::Link(const OpContext&, Ino ino, Ino, std::string_view) {
  return Entry{ino, AttrOf(ino)};
}
Status NullFileSystem::Unlink(const OpContext&, Ino parent, std::string_view name) {
  Remove(parent, name);
  return Status::Ok();
}
Status NullFileSystem::RemoveDir(const OpContext&, Ino parent, std::string_view name) {
  Remove(parent, name);
  return Status::Ok();
}
Status NullFileSystem::Rename(const OpContext&, Ino parent, std::string_view name, Ino new_parent,
                              std::string_view new_name, uint32_t) {
  const uint64_t from = KeyOf(parent, name), to = KeyOf(new_parent, new_name);
  Ino ino = InoOf(parent, name, FileType::kFile);
  {
    Shard& shard = ShardOf(from);
    std::lock_guard lock(shard.mutex);
    if (const auto it = shard.created.find(from); it != shard.created.end()) {
      ino = it->second;
      shard.created.erase(it);
    }
  }
  Shard& shard = ShardOf(to);
  std::lock_guard lock(shard.mutex);
  shard.created[to] = ino;
  return Status::Ok();
}

Result<vfs::Opened> NullFileSystem::Open(const OpContext&, Ino, int) { return vfs::Opened{1, true, false}; }
Result<vfs::FileSystem::Created> NullFileSystem::Create(const OpContext&, Ino parent, std::string_view name, uint32_t,
                                                        int) {
  return Created{Make(parent, name, FileType::kFile), {1, true, false}};
}
void NullFileSystem::Release(Ino ino, Handle handle) { locks_.ReleaseHandle(ino, handle); }
Status NullFileSystem::Flush(const OpContext&, Ino ino, Handle, uint64_t lock_owner) {
  locks_.ReleaseOwner(ino, lock_owner);
  return Status::Ok();
}
Status NullFileSystem::Fsync(const OpContext&, Ino, Handle, bool) { return Status::Ok(); }

Result<size_t> NullFileSystem::TryRead(const OpContext&, Ino, Handle, uint64_t offset, std::span<char> out) {
  if (offset >= kFileBytes) return size_t{0};
  const size_t n = std::min<uint64_t>(out.size(), kFileBytes - offset);
  std::memset(out.data(), 0, n);
  return n;
}
Result<size_t> NullFileSystem::Read(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                                    std::span<char> out) {
  return TryRead(ctx, ino, handle, offset, out);
}
Status NullFileSystem::TryWrite(const OpContext&, Ino, Handle, uint64_t, std::span<const char>, bool) {
  return Status::Ok();
}
Status NullFileSystem::Write(const OpContext&, Ino, Handle, uint64_t, std::span<const char>, bool) {
  return Status::Ok();
}
Status NullFileSystem::Fallocate(const OpContext&, Ino, Handle, int, uint64_t, uint64_t) { return Status::Ok(); }
Result<uint64_t> NullFileSystem::CopyFileRange(const OpContext&, Ino, Handle, uint64_t, Ino, Handle, uint64_t,
                                               uint64_t len) {
  return len;
}
Result<uint64_t> NullFileSystem::Seek(const OpContext&, Ino, Handle, uint64_t offset, vfs::Whence whence) {
  return whence == vfs::Whence::kData ? offset : kFileBytes;
}

Result<vfs::Opened> NullFileSystem::OpenDir(const OpContext&, Ino) { return vfs::Opened{1, false, false}; }
Result<std::vector<vfs::DirEntry>> NullFileSystem::ReadDir(const OpContext&, Ino ino, Handle, uint64_t position,
                                                           size_t, bool) {
  std::vector<vfs::DirEntry> out;
  if (position < 1) out.push_back({1, ino, FileType::kDirectory, ".", AttrOf(ino)});
  if (position < 2) out.push_back({2, kRootIno, FileType::kDirectory, "..", AttrOf(kRootIno)});
  return out;
}
void NullFileSystem::ReleaseDir(Ino, Handle) {}
Status NullFileSystem::FsyncDir(const OpContext&, Ino) { return Status::Ok(); }

Result<vfs::StatFsReply> NullFileSystem::StatFs(const OpContext&) {
  return vfs::StatFsReply{uint64_t{1} << 50, uint64_t{1} << 49, 1u << 30, 1u << 29};
}
Result<std::string> NullFileSystem::GetXattr(const OpContext&, Ino, std::string_view) {
  return Error(ENODATA, "get xattr: none");
}
Status NullFileSystem::SetXattr(const OpContext&, Ino, std::string_view, std::string_view, meta::XattrSet) {
  return Status::Ok();
}
Result<std::vector<std::string>> NullFileSystem::ListXattr(const OpContext&, Ino) {
  return std::vector<std::string>{};
}
Status NullFileSystem::RemoveXattr(const OpContext&, Ino, std::string_view) { return Status::Ok(); }

Result<vfs::Lock> NullFileSystem::GetLock(const OpContext&, Ino ino, Handle, const vfs::Lock& lock) {
  return locks_.Get(ino, lock);
}
void NullFileSystem::SetLock(const OpContext& ctx, Ino ino, Handle handle, const vfs::Lock& lock, bool flock,
                             bool wait, std::function<void(Status)> done) {
  locks_.Set(ino, handle, lock, flock, wait, ctx.unique, std::move(done));
}
void NullFileSystem::CancelLock(uint64_t unique) { locks_.Cancel(unique); }

}  // namespace moorfs::bench
