// SPDX-License-Identifier: Apache-2.0

#include "common/os/file.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

namespace moorfs::os {
namespace {

Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t n = write(fd, content.data(), content.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return Status::FromErrno("write " + path);
    }
    content.remove_prefix(static_cast<size_t>(n));
  }
  return Status::Ok();
}

int RemoveOne(const char* path, const struct stat*, int, struct FTW*) { return remove(path); }

}  // namespace

Result<std::string> ReadFile(const std::string& path, size_t limit) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Error(Status::FromErrno("open " + path));
  std::string out;
  char buffer[16384];
  for (;;) {
    const ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n < 0) {
      if (errno == EINTR) continue;
      return Error(Status::FromErrno("read " + path));
    }
    if (n == 0) return out;
    if (out.size() + static_cast<size_t>(n) > limit) return Error(EFBIG, "read " + path + ": it is too large");
    out.append(buffer, static_cast<size_t>(n));
  }
}

namespace {

Status Replace(const std::string& path, std::string_view content, unsigned mode, bool durably) {
  const std::string temporary = path + ".tmp-" + std::to_string(getpid());
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return Status::FromErrno("create " + temporary);
  Status s = WriteAll(fd.get(), content, temporary);
  if (s.ok() && durably && fsync(fd.get()) != 0) s = Status::FromErrno("store " + temporary);
  fd.reset();
  if (s.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    s = Status::FromErrno("rename " + temporary + " to " + path);
  }
  if (!s.ok()) unlink(temporary.c_str());
  return s;
}

}  // namespace

Status ReplaceFile(const std::string& path, std::string_view content, unsigned mode) {
  return Replace(path, content, mode, /*durably=*/false);
}

Status ReplaceFileDurably(const std::string& path, std::string_view content, unsigned mode) {
  RETURN_IF_ERROR(Replace(path, content, mode, /*durably=*/true));
  const size_t slash = path.rfind('/');
  return SyncDirectory(slash == std::string::npos ? "." : path.substr(0, slash + 1));
}

Status SyncDirectory(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return Status::FromErrno("open " + path);
  if (fsync(fd.get()) != 0) return Status::FromErrno("store " + path);
  return Status::Ok();
}

Status WriteExisting(const std::string& path, std::string_view content) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return Status::FromErrno("open " + path);
  return WriteAll(fd.get(), content, path);
}

Status MakeDirs(const std::string& path, unsigned mode) {
  if (mkdir(path.c_str(), mode) == 0) return Status::Ok();
  if (errno == ENOENT) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos || slash == 0) return Status::FromErrno("create " + path);
    RETURN_IF_ERROR(MakeDirs(path.substr(0, slash), 0755));
    if (mkdir(path.c_str(), mode) == 0) return Status::Ok();
  }
  if (errno != EEXIST) return Status::FromErrno("create " + path);
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return Status::FromErrno("look at " + path);
  if (!S_ISDIR(st.st_mode)) return Status(ENOTDIR, "create " + path + ": something else is there");
  return Status::Ok();
}

Status RemoveTree(const std::string& path) {
  if (nftw(path.c_str(), RemoveOne, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 || errno == ENOENT) {
    return Status::Ok();
  }
  return Status::FromErrno("remove " + path);
}

}  // namespace moorfs::os
