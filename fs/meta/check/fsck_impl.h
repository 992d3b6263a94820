// SPDX-License-Identifier: Apache-2.0
//
// The parts of fsck: Survey is what one walk over the records collects, Judge
// holds it against itself, Repair mends what it can, record by record.

#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "fs/format/keys.h"
#include "fs/format/records.h"
#include "fs/meta/check/fsck.h"

namespace moorfs::meta::fsck {

struct InodeInfo {
  Ino ino = 0;
  Ino parent = 0;
  uint32_t nlink = 0;        // of its own record and all deltas
  uint32_t subdirs = 0;      // counted from names
  uint32_t links = 0;        // counted from names
  uint32_t flags = 0;        // Attr::flags
  FileType type = FileType::kFile;
  Ino quota = 0;             // Attr::quota
};

// One quota: what inodes tagged with it hold, and what is recorded.
struct QuotaSurvey {
  std::optional<QuotaRecord> record;
  int64_t bytes = 0, inodes = 0;                    // of inodes with this very tag
  int64_t bytes_counter = 0, inodes_counter = 0;    // recorded, those below included
};

struct NameInfo {
  Ino ino;
  uint64_t dir_and_type;  // type << 56 | dir
  Ino dir() const { return dir_and_type & kMaxIno; }
  FileType type() const { return static_cast<FileType>(dir_and_type >> 56); }
};

struct ParentInfo {
  Ino ino;
  Ino parent;
  uint32_t count;
  friend auto operator<=>(const ParentInfo&, const ParentInfo&) = default;
};

// Counts by object in bounded space: an unsorted tail is merged when it has
// grown as long as the sorted part.
class ObjectCounts {
 public:
  struct Count {
    ObjectId object;
    int64_t counted = 0;   // slice records
    int64_t recorded = 0;  // family O; absent counts as 0
  };
  void Add(const ObjectId& object, int64_t counted, int64_t recorded);
  // Sorted by object.
  const std::vector<Count>& Sorted();

 private:
  void Merge();
  std::vector<Count> counts_;
  size_t sorted_ = 0;
};

// What mends a finding, when something does.
using Mend = std::function<Status(kv::Transaction&)>;

struct Survey {
  VolumeFormat format;
  keys::Schema schema;
  std::vector<InodeInfo> inodes;   // sorted by ino
  std::vector<NameInfo> names;     // sorted by ino, then dir
  std::vector<ParentInfo> parents; // sorted
  std::vector<std::pair<Ino, int64_t>> trashed_inodes, trash_records;  // ino, time; sorted
  std::vector<Ino> deleted;     // family D; sorted
  std::vector<Ino> unreadable;  // there, but with attributes that cannot be read; sorted by Take()
  bool damaged_records = false; // some record could not be read: counts may be too low
  std::vector<std::pair<keys::SessionId, Ino>> sustained;
  std::vector<Ino> doomed;      // family W; sorted by Take()
  std::map<Ino, QuotaSurvey> quotas;
  std::set<keys::SessionId> sessions, replay_sessions;
  ObjectCounts objects;
  int64_t used_bytes = 0, used_inodes = 0;                   // counted
  int64_t bytes_counter = 0, inodes_counter = 0;             // recorded
  uint64_t slices = 0, directories = 0;

  InodeInfo* Find(Ino ino);
};

// One finding with its mend; `mend` empty: nothing helps, or a later round.
struct Judgement {
  Damage damage;
  Ino ino;
  std::string text;
  Mend mend;
};
using Judgements = std::function<Status(Judgement)>;

// Walks the snapshot. Damage inside one inode's records is reported here.
Status Take(kv::Snapshot& snapshot, Survey* survey, const Judgements& out);
// Everything that concerns more than one inode.
Status Judge(Survey& survey, const Judgements& out);
// Tags, records and counters of quotas; Judge() does it too.
Status JudgeQuotas(Survey& survey, const Judgements& out);
// Objects in use that the store lacks; asks `kv` again about each.
Status JudgeStore(kv::KvStore& kv, Survey& survey, const ListObjects& list, const Judgements& out);

// ---- mends -----------------------------------------------------------------
// Changes the inode's attributes; OK when it is gone.
Mend MendAttr(const keys::Schema& schema, Ino ino, std::function<void(Attr&)> change);
// Takes the name at `pos` away, or, for pos 0, every name of `dir` for `ino`.
Mend EraseNames(const keys::Schema& schema, Ino dir, uint64_t pos, Ino ino);
Mend RetypeNames(const keys::Schema& schema, Ino dir, Ino ino, FileType type);
// Names the orphan in /lost+found, making that first.
Mend Adopt(const Survey& survey, Ino ino, FileType type);
// Writes the 'P' records (or Attr::parent) that `dirs` (one for each name) ask for.
Mend SetParents(const keys::Schema& schema, Ino ino, std::vector<Ino> dirs);
Mend SetReferences(const ObjectId& object, int64_t count);

}  // namespace moorfs::meta::fsck
