// SPDX-License-Identifier: Apache-2.0
//
// See mem_store.h.

#include "fs/object/mem/mem_store.h"

#include <algorithm>
#include <cstring>

namespace moorfs::object {
namespace {

Status NoSuchObject(std::string_view what, std::string_view name) {
  return Status(ENOENT, std::string(what) + " object " + std::string(name) + " in mem:: no such object");
}

}  // namespace

Status MemStore::Put(std::string_view name, std::span<const iovec> pieces) {
  RETURN_IF_ERROR(ValidateObjectName(name));
  Object object;
  for (const iovec& piece : pieces)
    object.bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
  object.modified = Timestamp::Now();
  std::lock_guard lock(mutex_);
  objects_.insert_or_assign(std::string(name), std::move(object));
  return {};
}

Status MemStore::Barrier(std::span<const std::string> names) {
  std::lock_guard lock(mutex_);
  for (const std::string& name : names) {
    auto it = objects_.find(name);
    if (it == objects_.end()) return NoSuchObject("make durable", name);
    it->second.durable = true;
  }
  return {};
}

Result<size_t> MemStore::Get(std::string_view name, uint64_t offset, std::span<char> out) {
  TRY_VOID(ValidateObjectName(name));
  std::lock_guard lock(mutex_);
  gets_++;
  auto it = objects_.find(name);
  if (it == objects_.end()) return Error(NoSuchObject("read", name));
  const std::string& bytes = it->second.bytes;
  if (offset >= bytes.size()) return size_t{0};
  const size_t count = std::min<size_t>(out.size(), bytes.size() - offset);
  std::memcpy(out.data(), bytes.data() + offset, count);
  return count;
}

Result<ObjectInfo> MemStore::Head(std::string_view name) {
  TRY_VOID(ValidateObjectName(name));
  std::lock_guard lock(mutex_);
  auto it = objects_.find(name);
  if (it == objects_.end()) return Error(NoSuchObject("look at", name));
  return ObjectInfo{it->first, it->second.bytes.size(), it->second.modified};
}

Status MemStore::Delete(std::string_view name) {
  RETURN_IF_ERROR(ValidateObjectName(name));
  std::lock_guard lock(mutex_);
  if (auto it = objects_.find(name); it != objects_.end()) objects_.erase(it);
  return {};
}

Status MemStore::List(std::string_view prefix, const std::function<bool(const ObjectInfo&)>& visit) {
  std::vector<ObjectInfo> found;  // so that `visit` may call the store
  {
    std::lock_guard lock(mutex_);
    for (auto it = objects_.lower_bound(prefix); it != objects_.end() && it->first.starts_with(prefix);
         ++it) {
      found.push_back({it->first, it->second.bytes.size(), it->second.modified});
    }
  }
  for (const ObjectInfo& info : found) {
    if (!visit(info)) break;
  }
  return {};
}

Status MemStore::InitStore(const Uuid& uuid, bool force) {
  std::lock_guard lock(mutex_);
  if (volume_ && *volume_ != uuid && !force) {
    return Status(ENOTEMPTY, "format mem:: it is the store of volume " + FormatUuid(*volume_));
  }
  volume_ = uuid;
  return {};
}

Status MemStore::CheckStore(const Uuid& uuid) {
  std::lock_guard lock(mutex_);
  if (!volume_) return Status(ENOENT, "open object store mem:: it is no volume's yet");
  if (*volume_ != uuid)
    return Status(EMEDIUMTYPE, "open object store mem:: it belongs to volume " + FormatUuid(*volume_));
  return {};
}

void MemStore::DropUnsynced() {
  std::lock_guard lock(mutex_);
  std::erase_if(objects_, [](const auto& entry) { return !entry.second.durable; });
}

void MemStore::Overwrite(const std::string& name, std::string bytes) {
  std::lock_guard lock(mutex_);
  objects_[name].bytes = std::move(bytes);
}

std::optional<std::string> MemStore::Bytes(const std::string& name) const {
  std::lock_guard lock(mutex_);
  auto it = objects_.find(name);
  return it == objects_.end() ? std::nullopt : std::optional(it->second.bytes);
}

uint64_t MemStore::gets() const {
  std::lock_guard lock(mutex_);
  return gets_;
}

}  // namespace moorfs::object
