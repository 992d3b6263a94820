// SPDX-License-Identifier: Apache-2.0

#include "common/os/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/os/file.h"

namespace moorfs::os {

Result<LockFile> LockFile::Acquire(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!fd) return Error(Status::FromErrno("open " + path));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Error(EBUSY, "lock " + path + ": another process holds it");
    return Error(Status::FromErrno("lock " + path));
  }
  // The file is never unlinked: a path that changes its inode would let two
  // holders lock two files.
  return LockFile(std::move(fd), path);
}

Status LockFile::SetContent(std::string_view content) {
  // One page, written at once over the old words and cut behind; a reader that
  // catches the moment in between sees too much, never a foreign pid alone.
  if (pwrite(fd_.get(), content.data(), content.size(), 0) != static_cast<ssize_t>(content.size()) ||
      ftruncate(fd_.get(), static_cast<off_t>(content.size())) != 0) {
    return Status::FromErrno("write " + path_);
  }
  return Status::Ok();
}

Result<bool> IsLocked(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return Error(Status::FromErrno("open " + path));
  if (flock(fd.get(), LOCK_SH | LOCK_NB) == 0) return false;
  if (errno == EWOULDBLOCK) return true;
  return Error(Status::FromErrno("test the lock of " + path));
}

Result<std::string> ReadLockContent(const std::string& path) { return ReadFile(path, 64 << 10); }

}  // namespace moorfs::os
