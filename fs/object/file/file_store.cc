// SPDX-License-Identifier: Apache-2.0
//
// Put, Barrier, Get and Delete of the file store. Listing is in file_list.cc,
// the marker in marker.cc.

#include "fs/object/file/file_store.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <set>

#include "fs/object/file/temp_name.h"

namespace moorfs::object {
namespace {

std::string_view FolderOf(std::string_view name) {
  return name.substr(0, name.rfind('/'));
}
std::string_view LeafOf(std::string_view name) {
  return name.substr(name.rfind('/') + 1);
}

// Writes or reads all of `pieces`; `io` is pwritev- or preadv-like. The count
// moved, short only at the end of a file; -1 with errno.
template <typename Io>
ssize_t MoveAll(std::span<const iovec> pieces, uint64_t offset, Io io) {
  ssize_t total = 0;
  size_t next = 0;  // first piece not moved whole
  size_t skip = 0;  // bytes of it that were
  iovec batch[64];
  while (next < pieces.size()) {
    int count = 0;
    for (size_t i = next; i < pieces.size() && count < 64; i++, count++) batch[count] = pieces[i];
    batch[0].iov_base = static_cast<char*>(batch[0].iov_base) + skip;
    batch[0].iov_len -= skip;
    const ssize_t moved = io(batch, count, offset + total);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return -1;
    size_t wanted = 0;
    for (int i = 0; i < count; i++) wanted += batch[i].iov_len;
    if (moved == 0 && wanted > 0) break;
    total += moved;
    size_t rest = moved;
    for (int i = 0; i < count && rest >= batch[i].iov_len; i++) {
      rest -= batch[i].iov_len;
      next++;
      skip = 0;
    }
    skip += rest;
  }
  return total;
}

size_t TotalBytes(std::span<const iovec> pieces) {
  size_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  return total;
}

// What the person who reads the message can do about it.
const char* Remedy(int err) {
  switch (err) {
    case ENOSPC:
    case EDQUOT:
      return "; the disk that holds the store is full: free space on it, or delete files and empty the trash";
    case EROFS:
      return "; the store is mounted read-only: remount it read-write, and look for disk errors in dmesg";
    case EIO:
      return "; the disk that holds the store fails: look at dmesg and check the disk";
    case EACCES:
    case EPERM:
      return "; give the user that runs moorfs access to the store's directory";
    case EMFILE:
    case ENFILE:
      return "; raise the limit of open files (ulimit -n, LimitNOFILE=)";
    default:
      return "";
  }
}

}  // namespace

std::string NewTempName() {
  static const uint64_t process = RandomU64();
  static std::atomic<uint64_t> counter{0};
  char name[64];
  std::snprintf(name, sizeof name, "%s%016llx-%llx", kTempPrefix, static_cast<unsigned long long>(process),
                static_cast<unsigned long long>(counter.fetch_add(1, std::memory_order_relaxed)));
  return name;
}

Result<std::unique_ptr<ObjectStore>> FileStore::Open(const std::string& dir, bool create) {
  if (dir.empty() || dir.find('\0') != std::string::npos) {
    return Error(EINVAL, "open object store 'file:': name a directory, as in file:/srv/moorfs");
  }
  const std::string what = "open object store file:" + dir;
  std::error_code ec;
  const std::string path = std::filesystem::absolute(dir, ec).lexically_normal().string();
  if (ec) return Error(Status::FromErrno(what, ec.value()));
  if (create) {
    std::filesystem::create_directories(path, ec);
    if (ec) return Error(Status(ec.value(), what + ": " + ec.message() + Remedy(ec.value())));
  }
  UniqueFd root(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) {
    const int err = errno;
    Status status = Status::FromErrno(what, err);
    if (err == ENOENT) {
      return Error(ENOENT, status.message() + "; mount the disk that holds it, or correct the path");
    }
    return Error(err, status.message() + Remedy(err));
  }
  return std::unique_ptr<ObjectStore>(new FileStore(path, std::move(root)));
}

Status FileStore::Failure(std::string_view what, std::string_view name, int err) const {
  if (err == ENOENT) RETURN_IF_ERROR(CheckRoot().Annotate(what));
  std::string doing(what);
  doing.append(" object ").append(name).append(" in ").append(Url());
  Status plain = Status::FromErrno(doing, err);
  return Status(err, plain.message() + Remedy(err));
}

Status FileStore::CheckRoot() const {
  struct stat st;
  if (::fstat(root_.get(), &st) != 0) return Status::FromErrno("look at " + Url());
  if (st.st_nlink > 0) return {};
  return Status(ENOENT, "object store " + Url() +
                            ": the directory has been removed; restore it, then mount the volume again");
}

Result<SharedDir> FileStore::OpenFolder(std::string_view folder, bool create) {
  if (SharedDir known = folders_.Find(folder)) return known;
  const std::string path = folder.empty() ? "." : std::string(folder);
  constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  int fd = ::openat(root_.get(), path.c_str(), kFlags);
  if (fd < 0 && errno == ENOENT && create) {
    for (size_t end = path.find('/');; end = path.find('/', end + 1)) {
      const std::string part = path.substr(0, end);
      if (::mkdirat(root_.get(), part.c_str(), 0700) != 0 && errno != EEXIST) {
        return Error(Failure("create a folder for", part, errno));
      }
      if (end == std::string::npos) break;
    }
    fd = ::openat(root_.get(), path.c_str(), kFlags);
  }
  if (fd < 0) return Error(Failure("open the folder of", path, errno));
  auto open = std::make_shared<Folder>(fd);
  folders_.Insert(folder, open);
  return open;
}

Result<SharedFile> FileStore::OpenObject(std::string_view name, std::string_view what) {
  if (SharedFile known = files_.Find(name)) return known;
  TRY_VOID(ValidateObjectName(name));
  const int fd = ::openat(root_.get(), std::string(name).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return Error(Failure(what, name, errno));
  auto open = std::make_shared<OpenFile>(fd);
  files_.Insert(name, open);
  return open;
}

Status FileStore::Put(std::string_view name, std::span<const iovec> pieces) {
  RETURN_IF_ERROR(ValidateObjectName(name));
  Status status;
  for (int attempt = 0; attempt < 3; attempt++) {
    status = PutOnce(name, pieces);
    if (status.err() != ENOENT || !CheckRoot().ok()) return status;
    // A listing, here or in another process, removed the folder while empty.
    folders_.Erase(FolderOf(name));
  }
  return status;
}

Status FileStore::PutOnce(std::string_view name, std::span<const iovec> pieces) {
  ASSIGN_OR_RETURN_STATUS(const SharedDir folder, OpenFolder(FolderOf(name), true));
  const std::string temp = NewTempName();
  auto file = std::make_shared<OpenFile>(
      ::openat(folder->fd.get(), temp.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file->fd) return Failure("put", name, errno);
  const auto fail = [&](int err) {
    ::unlinkat(folder->fd.get(), temp.c_str(), 0);
    return Failure("put", name, err);
  };
  const ssize_t written = MoveAll(pieces, 0, [&](const iovec* iov, int count, uint64_t at) {
    return ::pwritev(file->fd.get(), iov, count, static_cast<off_t>(at));
  });
  if (written < 0) return fail(errno);
  if (static_cast<size_t>(written) != TotalBytes(pieces)) return fail(EIO);
  const std::string leaf(LeafOf(name));
  if (::renameat(folder->fd.get(), temp.c_str(), folder->fd.get(), leaf.c_str()) != 0) return fail(errno);
  // Kept open: Barrier and the first reads come soon, and an error of the
  // write-back is reported through this very descriptor.
  files_.Insert(name, std::move(file));
  std::lock_guard lock(lost_mutex_);
  if (!lost_.empty()) lost_.erase(std::string(name));
  return {};
}

Status FileStore::CheckNotLost(std::string_view name) {
  std::lock_guard lock(lost_mutex_);
  if (lost_.empty() || (!lost_.contains(std::string(name)) && lost_.size() < kMaxLost)) return {};
  return Failure("make durable", name, EIO);
}

Status FileStore::Lost(std::string_view name, int err) {
  {
    std::lock_guard lock(lost_mutex_);
    if (lost_.size() < kMaxLost) lost_.emplace(name);
  }
  return Failure("make durable", name, err);
}

Status FileStore::Barrier(std::span<const std::string> names) {
  std::set<std::string_view> folders;
  std::vector<SharedFile> files;
  constexpr size_t kBatch = 64;  // descriptors held at a time
  for (size_t first = 0; first < names.size(); first += kBatch) {
    const auto batch = names.subspan(first, std::min(kBatch, names.size() - first));
    files.clear();
    for (const std::string& name : batch) {
      RETURN_IF_ERROR(CheckNotLost(name));
      ASSIGN_OR_RETURN_STATUS(SharedFile file, OpenObject(name, "make durable"));
      // All on their way first; the syncs below then wait for a busy disk
      // instead of making it idle between two of them.
      if (batch.size() > 1) ::sync_file_range(file->fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
      files.push_back(std::move(file));
      folders.insert(FolderOf(name));
    }
    for (size_t i = 0; i < batch.size(); i++) {
      if (::fdatasync(files[i]->fd.get()) != 0) return Lost(batch[i], errno);
    }
  }
  for (const std::string_view path : folders) {
    ASSIGN_OR_RETURN_STATUS(SharedDir folder, OpenFolder(path, false));
    struct stat st;
    if (::fstat(folder->fd.get(), &st) == 0 && st.st_nlink == 0) {
      // Removed while empty and made again by another process.
      folders_.Erase(path);
      ASSIGN_OR_RETURN_STATUS(folder, OpenFolder(path, false));
    }
    if (const int err = folder->Sync(); err != 0) return Failure("make durable the folder of", path, err);
    RETURN_IF_ERROR(SyncAncestors(path, folder.get()));
  }
  return {};
}

Status FileStore::SyncAncestors(std::string_view folder, Folder* open) {
  if (open->ancestors_durable.load(std::memory_order_acquire)) return {};
  for (std::string_view path = folder; !path.empty();) {
    const size_t slash = path.rfind('/');
    path = slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
    ASSIGN_OR_RETURN_STATUS(SharedDir parent, OpenFolder(path, false));
    if (const int err = parent->Sync(); err != 0) return Failure("make durable the folder of", folder, err);
  }
  open->ancestors_durable.store(true, std::memory_order_release);
  return {};
}

Result<size_t> FileStore::Get(std::string_view name, uint64_t offset, std::span<char> out) {
  const iovec piece{out.data(), out.size()};
  return GetV(name, offset, {&piece, 1});
}

Result<size_t> FileStore::GetV(std::string_view name, uint64_t offset, std::span<const iovec> out) {
  ASSIGN_OR_RETURN(const SharedFile file, OpenObject(name, "read"));
  const ssize_t got = MoveAll(out, offset, [&](const iovec* iov, int count, uint64_t at) {
    return ::preadv(file->fd.get(), iov, count, static_cast<off_t>(at));
  });
  if (got < 0) return Error(Failure("read", name, errno));
  return static_cast<size_t>(got);
}

Result<size_t> FileStore::TryGet(std::string_view name, uint64_t offset, std::span<const iovec> out) {
  static const Status kWouldBlock(EWOULDBLOCK, "read an object without waiting: not in memory");
  // Opening may wait for the disk, so only an open file will do.
  const SharedFile file = files_.Find(name);
  if (!file) return Error(kWouldBlock);
  const ssize_t got = MoveAll(out, offset, [&](const iovec* iov, int count, uint64_t at) {
    return ::preadv2(file->fd.get(), iov, count, static_cast<off_t>(at), RWF_NOWAIT);
  });
  // EOPNOTSUPP: a file system that cannot tell; EIO and such: Get says it better.
  if (got < 0) return Error(kWouldBlock);
  if (static_cast<size_t>(got) < TotalBytes(out)) {
    struct stat st;
    if (::fstat(file->fd.get(), &st) != 0 || offset + got < static_cast<uint64_t>(st.st_size)) {
      return Error(kWouldBlock);
    }
  }
  return static_cast<size_t>(got);
}

bool FileStore::WillNeed(std::string_view name, uint64_t offset, uint64_t bytes) {
  if (auto file = OpenObject(name, "read ahead in")) {
    ::posix_fadvise((*file)->fd.get(), static_cast<off_t>(offset), static_cast<off_t>(bytes),
                    POSIX_FADV_WILLNEED);
  }
  return true;
}

Result<ObjectInfo> FileStore::Head(std::string_view name) {
  TRY_VOID(ValidateObjectName(name));
  struct stat st;
  if (::fstatat(root_.get(), std::string(name).c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return Error(Failure("look at", name, errno));
  }
  if (!S_ISREG(st.st_mode)) return Error(Failure("look at", name, EISDIR));
  return ObjectInfo{std::string(name), static_cast<uint64_t>(st.st_size),
                    Timestamp::FromParts(st.st_mtim.tv_sec, st.st_mtim.tv_nsec)};
}

Status FileStore::Delete(std::string_view name) {
  RETURN_IF_ERROR(ValidateObjectName(name));
  const int err = ::unlinkat(root_.get(), std::string(name).c_str(), 0) == 0 ? 0 : errno;
  // After it, or a read in between would keep the file, and its space, open.
  files_.Erase(name);
  if (err == 0) return {};
  if (err == ENOENT) return CheckRoot().Annotate("delete object " + std::string(name));
  return Failure("delete", name, err);
}

Result<Space> FileStore::GetSpace() {
  struct statvfs st;
  if (::fstatvfs(root_.get(), &st) != 0) return Error(Status::FromErrno("ask the free space of " + Url()));
  return Space{static_cast<uint64_t>(st.f_blocks) * st.f_frsize,
               static_cast<uint64_t>(st.f_bavail) * st.f_frsize};
}

}  // namespace moorfs::object
