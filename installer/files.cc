// SPDX-License-Identifier: Apache-2.0

#include "installer/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "common/base/unique_fd.h"
#include "common/os/file.h"

namespace moorfs::installer {
namespace {

constexpr size_t kMaxProgram = 512 << 20;

std::string DirectoryOf(const std::string& path) { return path.substr(0, std::max<size_t>(path.rfind('/'), 1)); }

Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t n = write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::FromErrno("write " + path);
    content.remove_prefix(static_cast<size_t>(n));
  }
  return Status::Ok();
}

}  // namespace

Status ExplainNoSpace(const Status& status) {
  if (status.err() != ENOSPC && status.err() != EDQUOT) return status;
  return Status(status.err(), status.message() +
                                 "; make room there and run again (what was installed before is untouched)");
}

std::string TemporaryFor(const std::string& path) {
  const size_t slash = path.rfind('/') + 1;
  return path.substr(0, slash) + kTemporaryPrefix + std::to_string(getpid()) + "-" + path.substr(slash);
}

Status RemoveTemporaries(const std::string& directory) { return RemoveWithPrefix(directory, kTemporaryPrefix); }

Status RemoveWithPrefix(const std::string& directory, std::string_view prefix) {
  DIR* dir = opendir(directory.c_str());
  if (dir == nullptr) return errno == ENOENT ? Status::Ok() : Status::FromErrno("list " + directory);
  std::vector<std::string> found;
  while (const dirent* entry = readdir(dir)) {
    if (std::string_view(entry->d_name).starts_with(prefix)) found.emplace_back(entry->d_name);
  }
  closedir(dir);
  for (const std::string& name : found) RETURN_IF_ERROR(os::RemoveTree(directory + "/" + name));
  return Status::Ok();
}

Result<std::string> ReadProgram(const std::string& path) { return os::ReadFile(path, kMaxProgram); }

std::string Sha256(std::string_view content) {
  unsigned char digest[32];
  unsigned int size = 0;
  if (EVP_Digest(content.data(), content.size(), digest, &size, EVP_sha256(), nullptr) != 1) std::abort();
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const unsigned char byte : digest) {
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

Result<std::string> Sha256OfFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string content, ReadProgram(path));
  return Sha256(content);
}

Status WriteStored(const std::string& path, std::string_view content, unsigned mode) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return ExplainNoSpace(Status::FromErrno("create " + path));
  Status s = WriteAll(fd.get(), content, path);
  // Without regard to the umask.
  if (s.ok() && fchmod(fd.get(), mode) != 0) s = Status::FromErrno("set the mode of " + path);
  if (s.ok() && fsync(fd.get()) != 0) s = Status::FromErrno("store " + path);
  if (!s.ok()) unlink(path.c_str());
  return ExplainNoSpace(s);
}

Status RenameStored(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) return ExplainNoSpace(Status::FromErrno("rename " + from + " to " + to));
  return os::SyncDirectory(DirectoryOf(to));
}

Status LinkStored(const std::string& target, const std::string& path) {
  const std::string temporary = TemporaryFor(path);
  if (symlink(target.c_str(), temporary.c_str()) != 0) return ExplainNoSpace(Status::FromErrno("create " + temporary));
  const Status s = RenameStored(temporary, path);
  if (!s.ok()) unlink(temporary.c_str());
  return s;
}

std::string LinkTarget(const std::string& path) {
  char link[PATH_MAX];
  const ssize_t n = readlink(path.c_str(), link, sizeof link);
  return n > 0 ? std::string(link, static_cast<size_t>(n)) : "";
}

}  // namespace moorfs::installer
