// SPDX-License-Identifier: Apache-2.0
//
// Fsck's walk over the records, and its rounds: a repair may bring to light
// what another has to mend (an adopted directory changes its parent's links),
// so checking and mending alternate until nothing more can be done.

#include "fs/meta/check/fsck.h"

#include <algorithm>

#include "common/base/coding.h"
#include "fs/format/slice_view.h"
#include "fs/meta/check/fsck_impl.h"
#include "fs/meta/check/split_key.h"

namespace moorfs::meta {

namespace fsck {

void ObjectCounts::Add(const ObjectId& object, int64_t counted, int64_t recorded) {
  counts_.push_back({object, counted, recorded});
  if (counts_.size() > 2 * sorted_ + 4096) Merge();
}

const std::vector<ObjectCounts::Count>& ObjectCounts::Sorted() {
  Merge();
  return counts_;
}

void ObjectCounts::Merge() {
  const auto less = [](const Count& a, const Count& b) { return a.object < b.object; };
  const auto middle = counts_.begin() + static_cast<ptrdiff_t>(sorted_);
  std::sort(middle, counts_.end(), less);
  std::inplace_merge(counts_.begin(), middle, counts_.end(), less);
  size_t last = 0;
  for (size_t i = 1; i < counts_.size(); ++i) {
    if (counts_[i].object == counts_[last].object) {
      counts_[last].counted += counts_[i].counted;
      counts_[last].recorded += counts_[i].recorded;
    } else {
      counts_[++last] = counts_[i];
    }
  }
  if (!counts_.empty()) counts_.resize(last + 1);
  sorted_ = counts_.size();
}

InodeInfo* Survey::Find(Ino ino) {
  const auto found = std::lower_bound(inodes.begin(), inodes.end(), ino,
                                      [](const InodeInfo& info, Ino i) { return info.ino < i; });
  return found != inodes.end() && found->ino == ino ? &*found : nullptr;
}

namespace {

std::string Inode(Ino ino) { return "inode " + std::to_string(ino); }

class Taker {
 public:
  Taker(Survey* survey, const Judgements& out) : s_(*survey), out_(out) {}

  Status Visit(std::string_view bytes, std::string_view value) {
    const auto key = SplitKey(bytes, s_.format.key_hash_bytes);
    if (!key) return Unreadable("a record of an unknown family");
    if (key->partition()[0] != 'I') RETURN_IF_ERROR(EndInode());
    const std::string_view suffix = key->suffix();
    const auto trailing = keys::TrailingU64(suffix);
    switch (key->partition()[0]) {
      case 'C':
        return AddCounter(key->partition()[1], suffix, static_cast<int64_t>(DecodeLe64(value)));
      case 'B': return trailing ? VisitQuota(*trailing, value) : Unreadable("a quota's key");
      case 'W':
        if (trailing) s_.doomed.push_back(*trailing);
        return Status::Ok();
      case 'I': return VisitInode(*key, value);
      case 'O': return VisitObject(suffix, value);
      case 'R':
        s_.replay_sessions.insert(GetBe64(key->partition().data() + 1));
        return Status::Ok();
      case 'S':
        if (trailing) s_.sessions.insert(*trailing);
        return Status::Ok();
      case 'T':
        if (suffix.size() == 16) {
          s_.trash_records.emplace_back(*trailing, static_cast<int64_t>(GetBe64(suffix.data())));
        }
        return Status::Ok();
      case 'U':
        if (trailing) s_.sustained.emplace_back(GetBe64(key->partition().data() + 1), *trailing);
        return Status::Ok();
      default: return Status::Ok();
    }
  }

  Status End() {
    RETURN_IF_ERROR(EndInode());
    const auto by_ino = [](const InodeInfo& a, const InodeInfo& b) { return a.ino < b.ino; };
    std::sort(s_.inodes.begin(), s_.inodes.end(), by_ino);
    std::sort(s_.names.begin(), s_.names.end(), [](const NameInfo& a, const NameInfo& b) {
      return std::pair(a.ino, a.dir()) < std::pair(b.ino, b.dir());
    });
    std::sort(s_.parents.begin(), s_.parents.end());
    std::sort(s_.unreadable.begin(), s_.unreadable.end());
    std::sort(s_.doomed.begin(), s_.doomed.end());
    std::sort(s_.trashed_inodes.begin(), s_.trashed_inodes.end());
    std::sort(s_.trash_records.begin(), s_.trash_records.end());
    return Status::Ok();
  }

 private:
  Status Found(Damage damage, Ino ino, std::string text, Mend mend = {}) {
    return out_({damage, ino, std::move(text), std::move(mend)});
  }

  Status AddCounter(char which, std::string_view suffix, int64_t value) {
    const bool of_quota = suffix.size() == 16;
    const Ino quota = of_quota ? GetBe64(suffix.data()) : 0;
    switch (static_cast<keys::Counter>(which)) {
      case keys::Counter::kUsedBytes: s_.bytes_counter += value; return Status::Ok();
      case keys::Counter::kUsedInodes: s_.inodes_counter += value; return Status::Ok();
      case keys::Counter::kQuotaBytes:
        if (of_quota) s_.quotas[quota].bytes_counter += value;
        return Status::Ok();
      case keys::Counter::kQuotaInodes:
        if (of_quota) s_.quotas[quota].inodes_counter += value;
        return Status::Ok();
    }
    return Unreadable("a counter of an unknown kind");
  }

  Status VisitQuota(Ino dir, std::string_view value) {
    const auto record = DecodeQuota(value);
    if (!record) return Unreadable("the quota of " + Inode(dir) + " cannot be read");
    s_.quotas[dir].record = *record;
    return Status::Ok();
  }

  Status Unreadable(std::string text) {
    s_.damaged_records = true;
    return Found(Damage::kUnreadable, ino_, std::move(text));
  }

  // Records of one inode lie together, its attributes first.
  Status VisitInode(const kv::Key& key, std::string_view value) {
    const Ino ino = GetBe64(key.partition().data() + key.partition().size() - 8);
    if (ino != ino_) {
      RETURN_IF_ERROR(EndInode());
      ino_ = ino;
    }
    const std::string_view suffix = key.suffix();
    if (suffix == "A") {
      auto attr = DecodeAttr(value);
      if (!attr) {
        s_.unreadable.push_back(ino);
        return Unreadable(Inode(ino) + ": attributes cannot be read");
      }
      attr_ = *attr;
      nlink_ = attr_->nlink;
      return Status::Ok();
    }
    if (suffix == "B") {
      has_inline_ = true;
      inline_bytes_ = value.size();
      return Status::Ok();
    }
    switch (suffix[0]) {
      case 'C': return VisitSlice(suffix, value);
      case 'D':
        if (const auto delta = DecodeDirDelta(value)) nlink_ += delta->nlink;
        return Status::Ok();
      case 'E': return VisitName(suffix, value);
      case 'P':
        if (const auto parent = keys::TrailingU64(suffix)) {
          s_.parents.push_back({ino, *parent, DecodeLe32(value)});
        }
        return Status::Ok();
      case 'X': has_xattr_ = true; return Status::Ok();
      default: return Status::Ok();
    }
  }

  Status VisitSlice(std::string_view suffix, std::string_view value) {
    const auto place = keys::ParseSliceSuffix(suffix);
    const auto record = DecodeSlice(value);
    if (!place || !record || uint64_t{record->pos} + record->len > kChunkBytes) {
      return Unreadable(Inode(ino_) + ": a slice cannot be read");
    }
    ++s_.slices;
    if (place->chunk != chunk_) {
      RETURN_IF_ERROR(EndChunk());
      chunk_ = place->chunk;
    }
    chunk_slices_.push_back({place->seq, *record});
    next_seq_ = std::max(next_seq_, place->seq + 1);
    if (record->object.is_hole()) return Status::Ok();
    slice_bytes_ += record->len;
    s_.objects.Add(record->object, 1, 0);
    return Status::Ok();
  }

  Status VisitName(std::string_view suffix, std::string_view value) {
    const auto pos = keys::ParseDentrySuffix(suffix);
    const auto dentry = DecodeDentry(value);
    if (!pos || !dentry) return Unreadable("directory " + Inode(ino_) + ": a name cannot be read");
    // Names in what is no directory any more lead nowhere.
    if (dentry->tombstone || (!attr_ && !IsUnreadable())) return Status::Ok();
    if (keys::NameHash56(s_.format.name_hash_key, dentry->name) != *pos >> 7) {
      RETURN_IF_ERROR(Found(Damage::kMisplacedName, dentry->ino,
                            "directory " + Inode(ino_) + ": the name of " + Inode(dentry->ino) +
                                " cannot be looked up",
                            EraseNames(s_.schema, ino_, *pos, dentry->ino)));
    }
    s_.names.push_back({dentry->ino, static_cast<uint64_t>(dentry->type) << 56 | (ino_ & kMaxIno)});
    return Status::Ok();
  }

  Status VisitObject(std::string_view suffix, std::string_view value) {
    if (suffix.size() == 17) return Status::Ok();  // its size
    if (suffix.size() != 16 || value.size() < 8) return Unreadable("an object record cannot be read");
    s_.objects.Add({GetBe64(suffix.data()), GetBe64(suffix.data() + 8)}, 0,
                   static_cast<int64_t>(DecodeLe64(value)));
    return Status::Ok();
  }

  bool IsUnreadable() const { return !s_.unreadable.empty() && s_.unreadable.back() == ino_; }

  Status EndChunk() {
    std::vector<Slice> slices;
    slices.swap(chunk_slices_);
    if (!attr_ || slices.empty() || behind_end_ || (attr_->flags & kAttrTruncating)) return Status::Ok();
    if ((chunk_ + uint64_t{1}) * kChunkBytes <= attr_->length) return Status::Ok();
    for (const ViewExtent& e : ResolveSlices(std::move(slices))) {
      const uint64_t end = chunk_ * kChunkBytes + e.pos + e.len;
      behind_end_ = behind_end_ || (!e.object.is_hole() && end > attr_->length);
    }
    return Status::Ok();
  }

  Status EndInode() {
    if (ino_ == 0) return Status::Ok();
    RETURN_IF_ERROR(EndChunk());
    if (attr_) {
      RETURN_IF_ERROR(JudgeInode(*attr_));
    } else if (!IsUnreadable() && !std::binary_search(s_.deleted.begin(), s_.deleted.end(), ino_)) {
      const Ino ino = ino_;
      RETURN_IF_ERROR(Found(Damage::kStrayRecords, ino, Inode(ino) + ": records without attributes",
                            [ino](kv::Transaction& txn) {
                              txn.Put(keys::DeletedInode(ino), EncodeLe64(0));
                              return Status::Ok();
                            }));
    }
    ino_ = 0;
    attr_.reset();
    has_inline_ = has_xattr_ = behind_end_ = false;
    slice_bytes_ = next_seq_ = inline_bytes_ = 0;
    chunk_ = UINT32_MAX;
    return Status::Ok();
  }

  Status JudgeInode(const Attr& attr) {
    const Ino ino = ino_;
    const keys::Schema& schema = s_.schema;
    if (behind_end_) {
      RETURN_IF_ERROR(Found(Damage::kDataBehindEnd, ino, Inode(ino) + ": data behind its end",
                            MendAttr(schema, ino, [](Attr& a) { a.flags |= kAttrTruncating; })));
    }
    if (attr.slice_bytes != slice_bytes_) {
      RETURN_IF_ERROR(Found(Damage::kWrongSliceBytes, ino,
                            Inode(ino) + ": slices hold " + std::to_string(slice_bytes_) +
                                " bytes, recorded are " +
                                std::to_string(attr.slice_bytes),
                            MendAttr(schema, ino, [b = slice_bytes_](Attr& a) { a.slice_bytes = b; })));
    }
    if (next_seq_ > attr.slice_seq) {
      RETURN_IF_ERROR(Found(Damage::kWrongSequence, ino, Inode(ino) +
                            ": its next slice would not be the newest",
                            MendAttr(schema, ino, [seq = next_seq_](Attr& a) { a.slice_seq = seq; })));
    }
    if (has_inline_ != ((attr.flags & kAttrInline) != 0) || (has_xattr_ && !(attr.flags & kAttrHasXattr))) {
      RETURN_IF_ERROR(Found(Damage::kWrongFlags, ino, Inode(ino) + ": its flags do not tell what it has",
                            MendAttr(schema, ino, [with_inline = has_inline_,
                                                   with_xattr = has_xattr_](Attr& a) {
                              a.flags = with_inline ? a.flags | kAttrInline : a.flags & ~kAttrInline;
                              if (with_xattr) a.flags |= kAttrHasXattr;
                            })));
    }
    if (has_inline_ && inline_bytes_ > std::min<uint64_t>(attr.length, kMaxInlineBytes)) {
      RETURN_IF_ERROR(Found(Damage::kDataBehindEnd, ino, Inode(ino) + ": inline bytes behind its end",
                            [schema, ino](kv::Transaction& txn) -> Status {
                              ASSIGN_OR_RETURN_STATUS(const auto value, txn.Get(schema.Attr(ino)));
                              ASSIGN_OR_RETURN_STATUS(const auto bytes, txn.Get(schema.Inline(ino)));
                              if (!value || !bytes) return Status::Ok();
                              ASSIGN_OR_RETURN_STATUS(const Attr a, DecodeAttr(*value));
                              const uint64_t keep = std::min<uint64_t>(a.length, kMaxInlineBytes);
                              txn.Put(schema.Inline(ino), bytes->substr(0, keep));
                              return Status::Ok();
                            }));
    }
    InodeInfo info;
    info.ino = ino;
    info.parent = attr.parent;
    info.nlink = static_cast<uint32_t>(std::max<int64_t>(nlink_, 0));
    info.flags = attr.flags;
    info.type = attr.type;
    info.quota = attr.quota;
    if (attr.quota != 0) {
      QuotaSurvey& quota = s_.quotas[attr.quota];
      quota.bytes += static_cast<int64_t>(QuotaBytes(attr));
      ++quota.inodes;
    }
    s_.inodes.push_back(info);
    s_.directories += attr.type == FileType::kDirectory;
    s_.used_bytes += static_cast<int64_t>(AccountedBytes(attr));
    ++s_.used_inodes;
    if (attr.flags & kAttrTrashed) s_.trashed_inodes.emplace_back(ino, std::max<int64_t>(attr.trashed.ns, 0));
    return Status::Ok();
  }

  Survey& s_;
  const Judgements& out_;
  // Of the inode at hand.
  Ino ino_ = 0;
  std::optional<Attr> attr_;
  int64_t nlink_ = 0;
  bool has_inline_ = false, has_xattr_ = false, behind_end_ = false;
  uint64_t inline_bytes_ = 0, slice_bytes_ = 0, next_seq_ = 0;
  uint32_t chunk_ = UINT32_MAX;
  std::vector<Slice> chunk_slices_;
};

}  // namespace

Status Take(kv::Snapshot& snapshot, Survey* survey, const Judgements& out) {
  ASSIGN_OR_RETURN_STATUS(const auto format, snapshot.Get(keys::Format()));
  if (!format) return Status(ENOENT, "checking: the engine holds no volume");
  ASSIGN_OR_RETURN_STATUS(survey->format, DecodeVolumeFormat(*format));
  survey->schema = keys::Schema(survey->format.key_hash_bytes);
  // Needed while inodes are visited, in whatever order an engine walks.
  kv::Range deleted = keys::DeletedInodes(0);
  while (true) {
    constexpr size_t kPage = 1000;
    ASSIGN_OR_RETURN_STATUS(const auto entries, snapshot.Scan(deleted, kPage));
    for (const kv::Entry& entry : entries) {
      if (const auto ino = keys::TrailingU64(entry.suffix)) survey->deleted.push_back(*ino);
    }
    if (entries.size() < kPage) break;
    deleted.begin = entries.back().suffix + '\0';
  }
  Taker taker(survey, out);
  Status visited;
  RETURN_IF_ERROR(snapshot.Walk({}, [&](std::string_view key, std::string_view value) {
    visited = taker.Visit(key, value);
    return visited.ok();
  }));
  RETURN_IF_ERROR(visited);
  return taker.End();
}

}  // namespace fsck

std::string_view DamageName(Damage damage) {
  switch (damage) {
    case Damage::kUnreadable: return "unreadable record";
    case Damage::kStrayRecords: return "records without inode";
    case Damage::kDanglingName: return "name without inode";
    case Damage::kMisplacedName: return "misplaced name";
    case Damage::kWrongType: return "wrong type in directory";
    case Damage::kOrphan: return "inode without name";
    case Damage::kLoop: return "directory loop";
    case Damage::kManyNames: return "directory with several names";
    case Damage::kWrongLinks: return "wrong link count";
    case Damage::kWrongParent: return "wrong parent";
    case Damage::kWrongTrash: return "wrong trash record";
    case Damage::kWrongSustained: return "wrong open-file record";
    case Damage::kDanglingReplay: return "results of a dead session";
    case Damage::kDataBehindEnd: return "data behind the end";
    case Damage::kWrongSliceBytes: return "wrong data size";
    case Damage::kWrongSequence: return "wrong slice sequence";
    case Damage::kWrongFlags: return "wrong flags";
    case Damage::kWrongReferences: return "wrong object reference count";
    case Damage::kMissingObject: return "missing object";
    case Damage::kWrongCounter: return "wrong usage counter";
    case Damage::kWrongQuota: return "wrong quota";
  }
  return "unknown damage";
}

namespace {

// One round: fills `report` anew; returns how many repairs were made.
Result<uint64_t> Round(kv::KvStore& kv, const FsckOptions& options, bool repair, FsckReport* report) {
  report->counts.clear();
  report->findings.clear();
  uint64_t repaired = 0;
  const fsck::Judgements out = [&](fsck::Judgement judgement) -> Status {
    ++report->counts[judgement.damage];
    if (report->findings.size() < options.max_findings) {
      report->findings.push_back({judgement.damage, judgement.ino, judgement.text});
    }
    if (!repair || !judgement.mend) return Status::Ok();
    RETURN_IF_ERROR(kv.Transact([&](kv::Transaction& txn) { return judgement.mend(txn); }));
    ++repaired;
    if (report->repairs.size() < options.max_findings) report->repairs.push_back("mended: " + judgement.text);
    return Status::Ok();
  };
  fsck::Survey survey;
  ASSIGN_OR_RETURN(auto snapshot, kv.NewSnapshot());
  TRY_VOID(fsck::Take(*snapshot, &survey, out));
  snapshot.reset();
  TRY_VOID(fsck::Judge(survey, out));
  if (options.list_objects) TRY_VOID(fsck::JudgeStore(kv, survey, options.list_objects, out));
  report->inodes = survey.inodes.size();
  report->directories = survey.directories;
  report->names = survey.names.size();
  report->slices = survey.slices;
  report->objects = survey.objects.Sorted().size();
  report->used_bytes = static_cast<uint64_t>(std::max<int64_t>(survey.used_bytes, 0));
  return repaired;
}

}  // namespace

Result<FsckReport> Fsck(kv::KvStore& kv, const FsckOptions& options) {
  constexpr int kRounds = 6;
  FsckReport report;
  for (int round = 0; round < kRounds; ++round) {
    const bool repair = options.repair && round + 1 < kRounds;
    ASSIGN_OR_RETURN(const uint64_t repaired, Round(kv, options, repair, &report));
    report.repaired += repaired;
    if (repaired == 0) break;
  }
  return report;
}

}  // namespace moorfs::meta
