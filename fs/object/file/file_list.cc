// SPDX-License-Identifier: Apache-2.0
//
// Listing of the file store: a walk that visits objects and, on its way,
// removes what crashes left behind. What vanishes during the walk was deleted;
// any other failure fails the listing.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <ctime>
#include <memory>

#include "fs/object/file/file_store.h"
#include "fs/object/file/temp_name.h"

namespace moorfs::object {
namespace {

// Nobody writes one object for that long; whoever did has died.
constexpr int64_t kLeftoverSeconds = 3600;

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using OpenDir = std::unique_ptr<DIR, CloseDir>;

bool IsOld(const struct stat& st, int64_t now_sec) {
  return st.st_mtim.tv_sec < now_sec - kLeftoverSeconds;
}

// Could `path` (a folder, no slash at its end) hold names that start with `prefix`?
bool MayHold(const std::string& path, std::string_view prefix) {
  const std::string folder = path + "/";
  return prefix.starts_with(folder) || std::string_view(folder).starts_with(prefix);
}

}  // namespace

Status FileStore::List(std::string_view prefix, const std::function<bool(const ObjectInfo&)>& visit) {
  RETURN_IF_ERROR(CheckRoot().Annotate("list objects"));
  bool more = true;
  return ListFolder("", prefix, ::time(nullptr), visit, &more);
}

Status FileStore::ListFolder(const std::string& folder, std::string_view prefix, int64_t now_sec,
                             const std::function<bool(const ObjectInfo&)>& visit, bool* more) {
  const std::string path = folder.empty() ? "." : folder;
  const int fd = ::openat(root_.get(), path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return errno == ENOENT && !folder.empty() ? Status() : Failure("list the folder of", path, errno);
  OpenDir dir(::fdopendir(fd));
  if (!dir) {
    const int err = errno;
    ::close(fd);
    return Failure("list the folder of", path, err);
  }
  bool empty = true;
  while (*more) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) {
      if (errno != 0) return Failure("list the folder of", path, errno);
      break;
    }
    const std::string_view leaf = entry->d_name;
    if (leaf == "." || leaf == "..") continue;
    empty = false;
    const std::string name = folder.empty() ? std::string(leaf) : folder + "/" + entry->d_name;
    struct stat st;
    if (::fstatat(::dirfd(dir.get()), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return Failure("look at", name, errno);
    }
    if (leaf.starts_with(kTempPrefix)) {
      if (S_ISREG(st.st_mode) && IsOld(st, now_sec)) ::unlinkat(::dirfd(dir.get()), entry->d_name, 0);
    } else if (leaf.starts_with('.')) {
      continue;
    } else if (S_ISDIR(st.st_mode)) {
      if (folder.empty() && leaf == "lost+found") continue;
      if (MayHold(name, prefix)) RETURN_IF_ERROR(ListFolder(name, prefix, now_sec, visit, more));
    } else if (S_ISREG(st.st_mode) && !folder.empty() && std::string_view(name).starts_with(prefix)) {
      *more = visit({name, static_cast<uint64_t>(st.st_size),
                     Timestamp::FromParts(st.st_mtim.tv_sec, st.st_mtim.tv_nsec)});
    }
  }
  struct stat st;
  if (empty && *more && !folder.empty() && ::fstat(::dirfd(dir.get()), &st) == 0 && IsOld(st, now_sec)) {
    // Fails when an object arrived meanwhile; a Put that loses its folder makes it again.
    folders_.Erase(folder);
    ::unlinkat(root_.get(), folder.c_str(), AT_REMOVEDIR);
  }
  return {};
}

}  // namespace moorfs::object
