// SPDX-License-Identifier: Apache-2.0
//
// Values of the metadata schema that only fs/meta and the admin tools handle:
// directory entries, trash and replay records, sessions, interned ids. Codecs
// only; bytes are in docs/formats/metadata.md and pinned by golden tests.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/format/types.h"

namespace moorfs {

// One name in a directory.
//
// Ordinal 0 of a name hash speaks for the whole hash: when it is absent, no
// name of that hash exists. So it stays behind as a tombstone while other
// ordinals live, and `chained` says that others may exist. A lookup thereby is
// one point get, found or not, except for names whose 56-bit hashes collide.
struct Dentry {
  bool tombstone = false;  // ordinal 0 only; ino and name are void
  bool chained = false;    // ordinal 0 only
  FileType type = FileType::kFile;
  Ino ino = 0;
  std::string name;
  friend bool operator==(const Dentry&, const Dentry&) = default;
};
std::string EncodeDentry(const Dentry& dentry);
Result<Dentry> DecodeDentry(std::string_view value);

// Where a trashed inode was.
struct TrashRecord {
  Ino parent = 0;
  FileType type = FileType::kFile;
  std::string name;
  friend bool operator==(const TrashRecord&, const TrashRecord&) = default;
};
std::string EncodeTrash(const TrashRecord& record);
Result<TrashRecord> DecodeTrash(std::string_view value);

// The result of a request, written in its own transaction. Only successes are
// recorded: a failure changed nothing and may simply run again.
struct ReplayRecord {
  uint64_t epoch = 0;
  uint64_t unique = 0;
  int32_t err = 0;
  Ino ino = 0;    // made, linked, unlinked or moved
  Ino other = 0;  // replaced by a rename
  friend bool operator==(const ReplayRecord&, const ReplayRecord&) = default;
};
std::string EncodeReplay(const ReplayRecord& record);
Result<ReplayRecord> DecodeReplay(std::string_view value);

struct SessionRecord {
  Timestamp started;
  int64_t pid = 0;
  std::string host, mountpoint, version;
  friend bool operator==(const SessionRecord&, const SessionRecord&) = default;
};
std::string EncodeSession(const SessionRecord& record);
Result<SessionRecord> DecodeSession(std::string_view value);

// A directory's quota. Limits of 0 mean none: usage is counted all the same.
struct QuotaRecord {
  uint64_t bytes = 0;
  uint64_t inodes = 0;
  Ino parent = 0;      // the next quota above the directory, 0 = none
  uint32_t flags = 0;  // below
  friend bool operator==(const QuotaRecord&, const QuotaRecord&) = default;
};
// The directory is removed; the record stays while inodes (open files) count in it.
inline constexpr uint32_t kQuotaGone = 1u << 0;
// What the directory held when the quota was set is not all counted yet.
inline constexpr uint32_t kQuotaTagging = 1u << 1;
std::string EncodeQuota(const QuotaRecord& record);
Result<QuotaRecord> DecodeQuota(std::string_view value);

// A directory below /volumes that was made as a volume.
struct VolumeRecord {
  Ino ino = 0;
  std::string directory;      // its name in /volumes
  uint64_t bytes = 0;         // limits as asked for at creation
  uint64_t inodes = 0;
  Timestamp created;
  std::vector<std::pair<std::string, std::string>> parameters;  // sorted
  friend bool operator==(const VolumeRecord&, const VolumeRecord&) = default;
};
std::string EncodeVolume(const VolumeRecord& record);
Result<VolumeRecord> DecodeVolume(std::string_view value);

// A bare number: allocators and counters (le64), link counts per parent (le32).
std::string EncodeLe64(uint64_t value);
std::string EncodeLe32(uint32_t value);
// Absent tail reads as 0.
uint64_t DecodeLe64(std::string_view value);
uint32_t DecodeLe32(std::string_view value);

}  // namespace moorfs
