// SPDX-License-Identifier: Apache-2.0
//
// FileStore: objects as files below one directory, an object's name being its
// relative path. Put writes a temporary file beside the target and renames it,
// so an object is visible whole or not at all; nothing is forced to disk before
// Barrier. The directory carries a marker file with the volume's UUID, by which
// an unmounted disk or another volume's store is told from the right one.
//
// Everything below the root goes through the root's descriptor: a disk mounted
// over the path later does not redirect a running store.

#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "fs/object/file/fd_cache.h"
#include "fs/object/object_store.h"

namespace moorfs::object {

inline constexpr char kMarkerName[] = "moorfs-store.json";

class FileStore final : public ObjectStore {
 public:
  static Result<std::unique_ptr<ObjectStore>> Open(const std::string& dir, bool create);

  Status Put(std::string_view name, std::span<const iovec> pieces) override;
  Status Barrier(std::span<const std::string> names) override;
  Result<size_t> Get(std::string_view name, uint64_t offset, std::span<char> out) override;
  Result<size_t> GetV(std::string_view name, uint64_t offset, std::span<const iovec> out) override;
  Result<size_t> TryGet(std::string_view name, uint64_t offset, std::span<const iovec> out) override;
  bool WillNeed(std::string_view name, uint64_t offset, uint64_t bytes) override;
  Result<ObjectInfo> Head(std::string_view name) override;
  Status Delete(std::string_view name) override;
  // Also removes temporary files and empty folders that a crash left behind
  // more than an hour ago.
  Status List(std::string_view prefix, const std::function<bool(const ObjectInfo&)>& visit) override;
  Result<Space> GetSpace() override;
  Status InitStore(const Uuid& uuid, bool force) override;
  Status CheckStore(const Uuid& uuid) override;
  std::string Url() const override { return "file:" + dir_; }

 private:
  FileStore(std::string dir, UniqueFd root) : dir_(std::move(dir)), root_(std::move(root)) {}

  // "what object NAME in file:DIR: cause", with what to do about it.
  Status Failure(std::string_view what, std::string_view name, int err) const;
  // An error unless the root directory still exists.
  Status CheckRoot() const;
  Result<SharedDir> OpenFolder(std::string_view folder, bool create);
  Result<SharedFile> OpenObject(std::string_view name, std::string_view what);
  Status PutOnce(std::string_view name, std::span<const iovec> pieces);
  // An object whose write-back failed. The kernel says so once and then takes
  // the pages for clean, so a second Barrier would lie: it keeps failing until
  // the object is put again.
  Status Lost(std::string_view name, int err);
  Status CheckNotLost(std::string_view name);
  // Makes every folder entry from `folder` up to the root durable, once.
  Status SyncAncestors(std::string_view folder, Folder* open);
  Status ListFolder(const std::string& folder, std::string_view prefix, int64_t now_sec,
                    const std::function<bool(const ObjectInfo&)>& visit, bool* more);

  const std::string dir_;
  const UniqueFd root_;
  // Together at most 256 descriptors.
  FdCache<OpenFile> files_{192};
  FdCache<Folder> folders_{62};

  static constexpr size_t kMaxLost = 10000;  // that many, and no barrier is believed any more
  std::mutex lost_mutex_;
  std::unordered_set<std::string> lost_;
};

}  // namespace moorfs::object
