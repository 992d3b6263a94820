// SPDX-License-Identifier: Apache-2.0
//
// The marker file that says which volume a directory belongs to.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "fs/object/file/file_store.h"
#include "fs/object/file/temp_name.h"

namespace moorfs::object {
namespace {

constexpr char kKind[] = "moorfs object store";

// UUID text of the marker below `root`; nullopt when there is none.
Result<std::optional<std::string>> ReadMarker(int root, const std::string& url) {
  UniqueFd fd(::openat(root, kMarkerName, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return std::nullopt;
    return Error(Status::FromErrno("read " + std::string(kMarkerName) + " of " + url));
  }
  char text[4096];
  const ssize_t got = ::pread(fd.get(), text, sizeof text, 0);
  if (got < 0) return Error(Status::FromErrno("read " + std::string(kMarkerName) + " of " + url));
  const auto json = nlohmann::json::parse(text, text + got, nullptr, false);
  const auto is = [&](const char* key, auto value) { return json.contains(key) && json[key] == value; };
  if (!json.is_object() || !is("kind", kKind) || !json.contains("version") ||
      !json["version"].is_number_unsigned() || !json.contains("volume") || !json["volume"].is_string()) {
    return Error(EINVAL, "read " + std::string(kMarkerName) + " of " + url +
                             ": not a marker of MoorFS; restore the file or choose another directory");
  }
  if (!is("version", 1)) {
    return Error(EPROTONOSUPPORT, "read " + std::string(kMarkerName) + " of " + url +
                                      ": written by a newer MoorFS; install that version");
  }
  return json["volume"].get<std::string>();
}

// First entry of the directory that is neither the marker nor something a file
// system makes by itself; empty when none.
Result<std::string> ForeignEntry(int root, const std::string& url) {
  const int fd = ::openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* dir = fd < 0 ? nullptr : ::fdopendir(fd);
  if (dir == nullptr) {
    const int err = errno;
    if (fd >= 0) ::close(fd);
    return Error(Status::FromErrno("list " + url, err));
  }
  std::string found;
  errno = 0;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == ".." || name == "lost+found" || name.starts_with(kTempPrefix)) continue;
    found = name;
    break;
  }
  const int err = found.empty() ? errno : 0;
  ::closedir(dir);
  if (err != 0) return Error(Status::FromErrno("list " + url, err));
  return found;
}

Status WriteMarker(int root, const Uuid& uuid, const std::string& url) {
  const std::string what = "write " + std::string(kMarkerName) + " of " + url;
  const std::string text =
      nlohmann::json{{"kind", kKind}, {"version", 1}, {"volume", FormatUuid(uuid)}}.dump(2) + "\n";
  const std::string temp = NewTempName();
  UniqueFd fd(::openat(root, temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd) return Status::FromErrno(what);
  int err = 0;
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    err = errno != 0 ? errno : ENOSPC;
  } else if (::fsync(fd.get()) != 0 || ::renameat(root, temp.c_str(), root, kMarkerName) != 0) {
    err = errno;
  }
  if (err != 0) {
    ::unlinkat(root, temp.c_str(), 0);
    return Status::FromErrno(what, err);
  }
  return ::fsync(root) == 0 ? Status() : Status::FromErrno(what);
}

}  // namespace

Status FileStore::InitStore(const Uuid& uuid, bool force) {
  RETURN_IF_ERROR(CheckRoot());
  ASSIGN_OR_RETURN_STATUS(const auto volume, ReadMarker(root_.get(), Url()));
  if (volume == FormatUuid(uuid)) return {};
  if (volume && !force) {
    return Status(ENOTEMPTY, "format " + Url() + ": the directory is the store of volume " + *volume +
                                 "; choose an empty directory, or --force to give that volume up");
  }
  if (!volume) {
    ASSIGN_OR_RETURN_STATUS(const std::string foreign, ForeignEntry(root_.get(), Url()));
    if (!foreign.empty()) {
      return Status(ENOTEMPTY, "format " + Url() + ": the directory holds '" + foreign +
                                   "', which is not MoorFS's; choose an empty directory");
    }
  }
  return WriteMarker(root_.get(), uuid, Url());
}

Status FileStore::CheckStore(const Uuid& uuid) {
  RETURN_IF_ERROR(CheckRoot());
  ASSIGN_OR_RETURN_STATUS(const auto volume, ReadMarker(root_.get(), Url()));
  if (!volume) {
    return Status(ENOENT, "open object store " + Url() + ": " + kMarkerName +
                              " is missing; mount the disk that holds the store, or correct the path");
  }
  if (*volume != FormatUuid(uuid)) {
    return Status(EMEDIUMTYPE, "open object store " + Url() + ": it belongs to volume " + *volume +
                                   ", not to " + FormatUuid(uuid) + "; name this volume's own store");
  }
  return {};
}

}  // namespace moorfs::object
