// SPDX-License-Identifier: Apache-2.0
//
// Fsck: every record of a volume read once, from a snapshot, and held against
// the others. Works on a mounted volume; repairing needs the engine alone.
//
// Memory: 48 bytes for each inode, 16 for each name, at most 48 for each
// object, 24 for each object in the store if that is checked; besides, the
// slice records of one chunk at a time. (10 million files of one block each:
// about 1.3 GB.)

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fs/format/types.h"
#include "fs/kv/kv.h"
#include "fs/meta/check/gc.h"

namespace moorfs::meta {

enum class Damage : uint8_t {
  kUnreadable,        // a record or its key cannot be decoded
  kStrayRecords,      // records of an inode that has no attributes
  kDanglingName,      // a name of an inode that is not there
  kMisplacedName,     // a name where lookup does not look
  kWrongType,         // name and inode disagree
  kOrphan,            // an inode without a name, neither open nor in the trash
  kLoop,              // directories that contain each other
  kManyNames,         // a directory with more than one name
  kWrongLinks,        // nlink
  kWrongParent,
  kWrongTrash,        // trash records and inodes in the trash disagree
  kWrongSustained,    // an open-but-unlinked record of an inode that is neither
  kDanglingReplay,    // results kept for a session that is over
  kDataBehindEnd,     // bytes beyond the length would come to light
  kWrongSliceBytes,
  kWrongSequence,     // the next slice would lie below existing ones
  kWrongFlags,        // inline bytes or xattrs without their flag, or a flag without them
  kWrongReferences,   // an object's count
  kMissingObject,     // in use, but not in the store: data is lost
  kWrongCounter,      // used bytes or inodes
  kWrongQuota,        // an inode counts in another quota than its directory's, or a quota's usage
};
std::string_view DamageName(Damage damage);

struct Finding {
  Damage damage;
  Ino ino = 0;       // 0: none concerned
  std::string text;  // one line
};

struct FsckOptions {
  bool repair = false;
  // Lists the store's objects; empty: the store is not looked at.
  ListObjects list_objects;
  // Findings kept with text; more are only counted.
  size_t max_findings = 1000;
};

struct FsckReport {
  uint64_t inodes = 0, directories = 0, names = 0, slices = 0, objects = 0;
  uint64_t used_bytes = 0;
  std::map<Damage, uint64_t> counts;  // damage still there at the end
  std::vector<Finding> findings;
  uint64_t repaired = 0;
  std::vector<std::string> repairs;   // what was done, at most max_findings
  bool clean() const { return counts.empty(); }
};

// Damage is in the report; an error means that the volume could not be read.
// Orphans are linked into /lost+found as "#<inode>".
Result<FsckReport> Fsck(kv::KvStore& kv, const FsckOptions& options);

}  // namespace moorfs::meta
