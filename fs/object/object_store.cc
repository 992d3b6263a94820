// SPDX-License-Identifier: Apache-2.0
//
// What every store shares: defaults of the optional calls, the rule for names
// and the table of URL schemes.

#include "fs/object/object_store.h"

#include "fs/object/file/file_store.h"

namespace moorfs::object {

Result<size_t> ObjectStore::GetV(std::string_view name, uint64_t offset, std::span<const iovec> out) {
  size_t total = 0;
  for (const iovec& piece : out) {
    ASSIGN_OR_RETURN(const size_t got,
                     Get(name, offset + total, {static_cast<char*>(piece.iov_base), piece.iov_len}));
    total += got;
    if (got < piece.iov_len) break;
  }
  return total;
}

Result<size_t> ObjectStore::TryGet(std::string_view name, uint64_t, std::span<const iovec>) {
  return Error(EWOULDBLOCK, "read object " + std::string(name) + " without waiting: not supported");
}

bool ObjectStore::WillNeed(std::string_view, uint64_t, uint64_t) {
  return false;
}

Status ValidateObjectName(std::string_view name) {
  const auto bad = [&](const char* why) {
    return Status(EINVAL, "object name '" + std::string(name) + "': " + why);
  };
  if (name.find('/') == std::string_view::npos) return bad("needs a folder");
  if (name.size() > 1024) return bad("longer than 1024 bytes");
  if (name.find('\0') != std::string_view::npos) return bad("holds a NUL");
  for (size_t start = 0; start <= name.size();) {
    size_t end = name.find('/', start);
    if (end == std::string_view::npos) end = name.size();
    if (end == start) return bad("has an empty component");
    if (end - start > 255) return bad("has a component longer than 255 bytes");
    if (name[start] == '.') return bad("has a component that starts with a dot");
    start = end + 1;
  }
  return {};
}

Result<std::unique_ptr<ObjectStore>> OpenObjectStore(std::string_view url, bool create) {
  constexpr std::string_view kFile = "file:";
  if (url.starts_with(kFile)) {
    std::string_view dir = url.substr(kFile.size());
    if (dir.starts_with("//")) dir.remove_prefix(2);
    return FileStore::Open(std::string(dir), create);
  }
  return Error(EINVAL, "open object store '" + std::string(url) + "': unknown kind; known: file:DIR");
}

}  // namespace moorfs::object
