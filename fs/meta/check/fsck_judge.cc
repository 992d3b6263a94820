// SPDX-License-Identifier: Apache-2.0
//
// Fsck's comparisons between records: names and inodes, parents, trash, open
// files, objects, counters. Merges of sorted lists.

#include <algorithm>

#include "fs/meta/check/fsck_impl.h"
#include "fs/meta/check/split_key.h"

namespace moorfs::meta::fsck {

namespace {

std::string Inode(Ino ino) { return "inode " + std::to_string(ino); }

class NameJudge {
 public:
  NameJudge(Survey& survey, const Judgements& out) : s_(survey), out_(out) {
    for (const auto& [session, ino] : s_.sustained) sustained_.push_back(ino);
    std::sort(sustained_.begin(), sustained_.end());
  }

  Status All() {
    CountSubdirs();
    size_t name = 0;
    for (InodeInfo& inode : s_.inodes) {
      for (; name < s_.names.size() && s_.names[name].ino < inode.ino; ++name) {
        RETURN_IF_ERROR(Dangling(s_.names[name]));
      }
      const size_t first = name;
      while (name < s_.names.size() && s_.names[name].ino == inode.ino) ++name;
      RETURN_IF_ERROR(One(inode, {s_.names.data() + first, name - first}));
    }
    for (; name < s_.names.size(); ++name) RETURN_IF_ERROR(Dangling(s_.names[name]));
    return Loops();
  }

 private:
  Status Found(Damage damage, Ino ino, std::string text, Mend mend = {}) {
    return out_({damage, ino, std::move(text), std::move(mend)});
  }

  void CountSubdirs() {
    for (const NameInfo& name : s_.names) {
      InodeInfo* inode = s_.Find(name.ino);
      if (!inode) continue;
      ++inode->links;
      if (inode->type != FileType::kDirectory) continue;
      if (InodeInfo* dir = s_.Find(name.dir())) ++dir->subdirs;
    }
  }

  Status Dangling(const NameInfo& name) {
    if (std::binary_search(s_.unreadable.begin(), s_.unreadable.end(), name.ino)) return Status::Ok();
    return Found(Damage::kDanglingName, name.ino,
                 "directory " + Inode(name.dir()) + ": a name of " + Inode(name.ino) + ", which is not there",
                 EraseNames(s_.schema, name.dir(), 0, name.ino));
  }

  Status One(const InodeInfo& inode, std::span<const NameInfo> names) {
    const Ino ino = inode.ino;
    for (const NameInfo& name : names) {
      if (name.type() == inode.type) continue;
      RETURN_IF_ERROR(Found(Damage::kWrongType, ino, "directory " + Inode(name.dir()) + ": the name of " +
                            Inode(ino) +
                                                         " has another type",
                            RetypeNames(s_.schema, name.dir(), ino, inode.type)));
    }
    const bool trashed = inode.flags & kAttrTrashed;
    const bool open = std::binary_search(sustained_.begin(), sustained_.end(), ino);
    const bool doomed = std::binary_search(s_.doomed.begin(), s_.doomed.end(), ino);
    if (doomed && !names.empty()) {
      RETURN_IF_ERROR(Found(Damage::kWrongTrash, ino, Inode(ino) + ": marked for removal, but named",
                            [ino](kv::Transaction& txn) {
                              txn.Delete(keys::DoomedDir(ino));
                              return Status::Ok();
                            }));
    }
    if (names.empty() && ino != kRootIno && !trashed && !open && !doomed) {
      return Found(Damage::kOrphan, ino, Inode(ino) + ": no name leads to it", Adopt(s_, ino, inode.type));
    }
    if (!names.empty() && trashed) {
      RETURN_IF_ERROR(Found(Damage::kWrongTrash, ino, Inode(ino) + ": in the trash, but named",
                            MendAttr(s_.schema, ino, [](Attr& a) { a.flags &= ~kAttrTrashed; })));
    }
    RETURN_IF_ERROR(Links(inode, names));
    if (names.empty()) return Status::Ok();
    if (inode.type == FileType::kDirectory && names.size() > 1) return ManyNames(inode, names);
    return Parents(inode, names);
  }

  Status Links(const InodeInfo& inode, std::span<const NameInfo> names) {
    uint32_t expected = static_cast<uint32_t>(names.size());
    const bool lives = !names.empty() || inode.ino == kRootIno;
    if (inode.type == FileType::kDirectory) expected = lives ? 2 + inode.subdirs : 0;
    if (inode.nlink == expected) return Status::Ok();
    const int64_t change = int64_t{expected} - inode.nlink;
    return Found(Damage::kWrongLinks, inode.ino,
                 Inode(inode.ino) + ": " + std::to_string(expected) + " links, recorded are " +
                     std::to_string(inode.nlink),
                 MendAttr(s_.schema, inode.ino, [change](Attr& a) {
                   a.nlink = static_cast<uint32_t>(std::max<int64_t>(0, a.nlink + change));
                 }));
  }

  Status ManyNames(const InodeInfo& inode, std::span<const NameInfo> names) {
    const auto keep = std::find_if(names.begin(), names.end(),
                                   [&](const NameInfo& n) { return n.dir() == inode.parent; });
    for (auto name = names.begin(); name != names.end(); ++name) {
      if (name == (keep == names.end() ? names.begin() : keep)) continue;
      RETURN_IF_ERROR(Found(Damage::kManyNames, inode.ino, Inode(inode.ino) +
                            ": a directory with another name in " +
                                                               Inode(name->dir()),
                            name->dir() == inode.parent ? Mend{}
                                                        : EraseNames(s_.schema, name->dir(), 0, inode.ino)));
    }
    return Status::Ok();
  }

  Status Parents(const InodeInfo& inode, std::span<const NameInfo> names) {
    std::vector<Ino> dirs;
    for (const NameInfo& name : names) dirs.push_back(name.dir());
    const auto less = [](const ParentInfo& a, const ParentInfo& b) { return a.ino < b.ino; };
    const auto [first, last] = std::equal_range(s_.parents.begin(), s_.parents.end(),
                                                ParentInfo{inode.ino, 0, 0}, less);
    bool right;
    if (inode.flags & kAttrManyParents) {
      std::vector<ParentInfo> expected;
      for (const Ino dir : dirs) {
        if (!expected.empty() && expected.back().parent == dir) {
          ++expected.back().count;
        } else {
          expected.push_back({inode.ino, dir, 1});
        }
      }
      right = std::equal(expected.begin(), expected.end(), first, last);
    } else {
      right = first == last && dirs.size() == 1 && dirs.front() == inode.parent;
    }
    if (right) return Status::Ok();
    return Found(Damage::kWrongParent, inode.ino, Inode(inode.ino) + ": its parent is not where its name is",
                 SetParents(s_.schema, inode.ino, std::move(dirs)));
  }

  // Directories whose way up does not end: at the root, or at one without a
  // name, which is a finding of its own.
  Status Loops() {
    enum : uint8_t { kUnknown, kOnTheWay, kFine };
    std::vector<uint8_t> state(s_.inodes.size(), kUnknown);
    for (size_t start = 0; start < s_.inodes.size(); ++start) {
      if (s_.inodes[start].type != FileType::kDirectory || state[start] != kUnknown) continue;
      std::vector<size_t> way;
      size_t at = start;
      while (state[at] == kUnknown) {
        state[at] = kOnTheWay;
        way.push_back(at);
        const InodeInfo* up = UpOf(s_.inodes[at].ino);
        if (!up) break;
        at = static_cast<size_t>(up - s_.inodes.data());
        if (state[at] == kOnTheWay) {
          const Ino ino = s_.inodes[at].ino;
          RETURN_IF_ERROR(Found(Damage::kLoop, ino, Inode(ino) + ": a directory inside itself",
                                EraseNames(s_.schema, UpOf(ino)->ino, 0, ino)));
        }
      }
      for (const size_t i : way) state[i] = kFine;
    }
    return Status::Ok();
  }
  const InodeInfo* UpOf(Ino ino) {
    if (ino == kRootIno) return nullptr;
    const auto name = std::lower_bound(s_.names.begin(), s_.names.end(), ino,
                                       [](const NameInfo& n, Ino i) { return n.ino < i; });
    return name != s_.names.end() && name->ino == ino ? s_.Find(name->dir()) : nullptr;
  }

  Survey& s_;
  const Judgements& out_;
  std::vector<Ino> sustained_;
};

Status JudgeTrash(Survey& s, const Judgements& out) {
  std::vector<std::pair<Ino, int64_t>> only_records, only_inodes;
  std::set_difference(s.trash_records.begin(), s.trash_records.end(), s.trashed_inodes.begin(),
                      s.trashed_inodes.end(), std::back_inserter(only_records));
  std::set_difference(s.trashed_inodes.begin(), s.trashed_inodes.end(), s.trash_records.begin(),
                      s.trash_records.end(), std::back_inserter(only_inodes));
  for (const auto& [ino, time] : only_records) {
    const kv::Key key = keys::Trash({time}, ino);
    RETURN_IF_ERROR(out({Damage::kWrongTrash, ino, Inode(ino) + ": a trash record, but not in the trash",
                         [key](kv::Transaction& txn) {
                           txn.Delete(key);
                           return Status::Ok();
                         }}));
  }
  for (const auto& [ino, time] : only_inodes) {
    // Without its record it would never expire: as an orphan it is found again.
    RETURN_IF_ERROR(out({Damage::kWrongTrash, ino, Inode(ino) + ": in the trash without a record",
                         MendAttr(s.schema, ino, [](Attr& a) { a.flags &= ~kAttrTrashed; })}));
  }
  return Status::Ok();
}

Status JudgeSessions(Survey& s, const Judgements& out) {
  for (const auto& [session, ino] : s.sustained) {
    const InodeInfo* inode = s.Find(ino);
    if (inode && inode->links == 0) continue;
    const kv::Key key = keys::Sustained(session, ino);
    RETURN_IF_ERROR(out({Damage::kWrongSustained, ino, Inode(ino) +
                         ": kept for an open handle, but not unlinked",
                         [key](kv::Transaction& txn) {
                           txn.Delete(key);
                           return Status::Ok();
                         }}));
  }
  for (const keys::SessionId session : s.replay_sessions) {
    if (s.sessions.contains(session)) continue;
    RETURN_IF_ERROR(out({Damage::kDanglingReplay, 0, "session " + std::to_string(session) +
                         ": results of a session that is over",
                         [session](kv::Transaction& txn) -> Status {
                           const kv::Range range = keys::ReplayAll(session);
                           ASSIGN_OR_RETURN_STATUS(const auto some, txn.Scan(range, 1000));
                           for (const kv::Entry& e : some) txn.Delete(kv::Key(range.partition, e.suffix));
                           return Status::Ok();
                         }}));
  }
  return Status::Ok();
}

Status JudgeObjects(Survey& s, const Judgements& out) {
  for (const ObjectCounts::Count& count : s.objects.Sorted()) {
    if (count.counted == count.recorded && count.counted > 0) continue;
    // A slice that cannot be read still points somewhere: then nothing is let go.
    const bool mendable = count.counted > count.recorded || !s.damaged_records;
    RETURN_IF_ERROR(out({Damage::kWrongReferences, 0,
                         "object " + std::to_string(count.object.nonce) + "/" +
                             std::to_string(count.object.id) + ": " +
                             std::to_string(count.counted) + " references, recorded are " +
                             std::to_string(count.recorded),
                         mendable ? SetReferences(count.object, count.counted) : Mend{}}));
  }
  return Status::Ok();
}

Status JudgeCounters(Survey& s, const Judgements& out) {
  const auto one = [&](keys::Counter counter, std::string_view what, int64_t counted,
                       int64_t recorded) -> Status {
    if (counted == recorded) return Status::Ok();
    return out({Damage::kWrongCounter, 0,
                "used " + std::string(what) + ": " + std::to_string(counted) + ", recorded are " +
                    std::to_string(recorded),
                [counter, counted, recorded](kv::Transaction& txn) {
                  txn.Add(keys::CounterKey(counter, 0), counted - recorded);
                  return Status::Ok();
                }});
  };
  RETURN_IF_ERROR(one(keys::Counter::kUsedBytes, "bytes", s.used_bytes, s.bytes_counter));
  return one(keys::Counter::kUsedInodes, "inodes", s.used_inodes, s.inodes_counter);
}

}  // namespace

Status Judge(Survey& survey, const Judgements& out) {
  RETURN_IF_ERROR(NameJudge(survey, out).All());
  RETURN_IF_ERROR(JudgeTrash(survey, out));
  RETURN_IF_ERROR(JudgeSessions(survey, out));
  RETURN_IF_ERROR(JudgeObjects(survey, out));
  RETURN_IF_ERROR(JudgeCounters(survey, out));
  return JudgeQuotas(survey, out);
}

namespace {

// Which files use the objects. One walk, only when there is a loss to report.
Status ReportUsers(kv::Snapshot& snapshot, const Survey& survey, const std::vector<ObjectId>& missing,
                   const Judgements& out) {
  Status reported;
  RETURN_IF_ERROR(snapshot.Walk({}, [&](std::string_view bytes, std::string_view value) {
    const auto key = SplitKey(bytes, survey.format.key_hash_bytes);
    const auto place = key && key->partition()[0] == 'I' ?
        keys::ParseSliceSuffix(key->suffix()) : std::nullopt;
    if (!place) return true;
    const auto slice = DecodeSlice(value);
    if (!slice || !std::binary_search(missing.begin(), missing.end(), slice->object)) return true;
    const Ino ino = keys::TrailingU64(key->partition()).value_or(0);
    reported = out({Damage::kMissingObject, ino,
                    Inode(ino) + ": " + std::to_string(slice->len) + " bytes at " +
                        std::to_string(place->chunk * kChunkBytes + slice->pos) + " are lost: object " +
                        std::to_string(slice->object.nonce) + "/" + std::to_string(slice->object.id) +
                        " is not in the store",
                    {}});
    return reported.ok();
  }));
  return reported;
}

}  // namespace

Status JudgeStore(kv::KvStore& kv, Survey& survey, const ListObjects& list, const Judgements& out) {
  std::vector<ObjectId> stored;
  RETURN_IF_ERROR(list([&](const StoredObject& object) {
    stored.push_back(object.id);
    return true;
  }));
  std::sort(stored.begin(), stored.end());
  // What the survey saw may have been let go since: only what is still in use is missed.
  ASSIGN_OR_RETURN_STATUS(const auto snapshot, kv.NewSnapshot());
  std::vector<ObjectId> missing;
  for (const ObjectCounts::Count& count : survey.objects.Sorted()) {
    if (count.counted == 0 || std::binary_search(stored.begin(), stored.end(), count.object)) continue;
    ASSIGN_OR_RETURN_STATUS(const auto refs, snapshot->Get(keys::ObjectRefs(count.object)));
    if (refs) missing.push_back(count.object);
  }
  return missing.empty() ? Status::Ok() : ReportUsers(*snapshot, survey, missing, out);
}

}  // namespace moorfs::meta::fsck
