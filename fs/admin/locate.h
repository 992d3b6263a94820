// SPDX-License-Identifier: Apache-2.0
//
// From what a user types (a META URL, a mount point, a path below one) to
// what serves it. Only the kernel's mount table and the volume's lock are
// believed.

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/keeper/runtime_dir.h"

namespace moorfs::admin {

// A META URL with an absolute directory, for a process elsewhere.
struct MetaUrl {
  std::string url;        // "leveldb:/srv/meta"
  std::string directory;  // "/srv/meta"
  std::string lock_path;  // "/srv/meta/moorfs.lock"
  std::string Shown() const;
};
// EINVAL names the known schemes. The directory need not exist.
Result<MetaUrl> ParseMeta(std::string_view text);
// "leveldb:…" and the like, as opposed to a path.
bool LooksLikeMeta(std::string_view text);
// "file:DIR" with an absolute DIR; other schemes as they are.
Result<std::string> AbsoluteStoreUrl(std::string_view text);

struct LiveMount {
  keeper::RuntimePaths paths;
  std::string mountpoint;
  std::string device;
};
// The MoorFS mount at or above `path`. ENOENT when there is none. Does not
// touch the file system at `path`.
Result<LiveMount> LocateMount(const std::string& path);

// Who holds the volume's lock, from its own words.
struct Holder {
  std::string mountpoint;  // empty: not a mount
  std::string pod;         // of a client in a mount pod
  std::string description; // "mounted at /mnt by keeper 12 on host x"
  keeper::RuntimePaths paths;
};
// nullopt when nobody does.
Result<std::optional<Holder>> FindHolder(const MetaUrl& meta);

}  // namespace moorfs::admin
