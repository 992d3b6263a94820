// SPDX-License-Identifier: Apache-2.0
//
// Quotas: every inode bears the tag of the nearest directory with a quota at
// or above it, a quota names the next one above, and counters are the sums of
// what is tagged.

#include "fs/meta/check/quota_check.h"

#include <algorithm>

#include "fs/meta/check/fsck_impl.h"

namespace moorfs::meta {

namespace fsck {
namespace {

std::string Inode(Ino ino) { return "inode " + std::to_string(ino); }

class QuotaJudge {
 public:
  QuotaJudge(Survey& survey, const Judgements& out) : s_(survey), out_(out) {}

  Status All() {
    bool tagging = false;
    for (const auto& [dir, quota] : s_.quotas) {
      tagging = tagging || (quota.record && (quota.record->flags & kQuotaTagging));
    }
    // Between the two ends of SetQuota() both tags are right.
    if (!tagging) RETURN_IF_ERROR(Tags());
    RETURN_IF_ERROR(Records(tagging));
    return Counters();
  }

 private:
  Status Found(Ino ino, std::string text, Mend mend) {
    return out_({Damage::kWrongQuota, ino, std::move(text), std::move(mend)});
  }

  bool HasQuota(Ino dir) const {
    const auto found = s_.quotas.find(dir);
    return found != s_.quotas.end() && found->second.record && !(found->second.record->flags & kQuotaGone);
  }

  std::span<const NameInfo> NamesOf(Ino ino) const {
    const auto by_ino = [](const NameInfo& n, Ino i) { return n.ino < i; };
    const auto first = std::lower_bound(s_.names.begin(), s_.names.end(), ino, by_ino);
    auto last = first;
    while (last != s_.names.end() && last->ino == ino) ++last;
    return {first, last};
  }

  // What everything in the directory is tagged with.
  Ino TagIn(Ino dir) {
    std::vector<Ino> way;
    Ino tag = 0;
    for (Ino at = dir;;) {
      const auto known = tags_.find(at);
      if (known != tags_.end()) {
        tag = known->second;
        break;
      }
      way.push_back(at);
      if (HasQuota(at)) {
        tag = at;
        break;
      }
      const InodeInfo* info = s_.Find(at);
      const auto names = NamesOf(at);
      if (at == kRootIno || !info) break;
      // A tree that is being removed, or an orphan: its top decides.
      if (names.empty() || way.size() > s_.inodes.size()) {
        tag = info->quota;
        break;
      }
      at = names.front().dir();
    }
    for (const Ino passed : way) tags_[passed] = tag;
    return tag;
  }

  Status Tags() {
    for (const InodeInfo& inode : s_.inodes) {
      const auto names = NamesOf(inode.ino);
      const bool is_dir = inode.type == FileType::kDirectory;
      if (names.empty() && inode.ino != kRootIno) {
        // Open files, and trees on their way out, keep what they had.
        if (!(inode.flags & kAttrTrashed) || inode.quota == 0) continue;
        RETURN_IF_ERROR(Retag(inode, 0));
        continue;
      }
      if (is_dir) {
        const Ino tag = TagIn(inode.ino);
        if (inode.quota != tag) RETURN_IF_ERROR(Retag(inode, tag));
        continue;
      }
      // A file with several names may have had one under another quota, and counts there.
      if (names.size() > 1 && (inode.quota == 0 || s_.quotas[inode.quota].record)) continue;
      const Ino tag = TagIn(names.front().dir());
      if (inode.quota != tag) RETURN_IF_ERROR(Retag(inode, tag));
    }
    return Status::Ok();
  }

  Status Retag(const InodeInfo& inode, Ino tag) {
    return Found(inode.ino, Inode(inode.ino) + ": counts in quota " + std::to_string(inode.quota) + ", should in " +
                                std::to_string(tag),
                 MendAttr(s_.schema, inode.ino, [tag](Attr& a) { a.quota = tag; }));
  }

  static Mend PutRecord(Ino dir, const QuotaRecord& record) {
    return [dir, record](kv::Transaction& txn) {
      txn.Put(keys::Quota(dir), EncodeQuota(record));
      return Status::Ok();
    };
  }

  Status Records(bool tagging) {
    for (const auto& [dir, quota] : s_.quotas) {
      if (!quota.record || (quota.record->flags & kQuotaGone)) continue;
      QuotaRecord right = *quota.record;
      const InodeInfo* info = s_.Find(dir);
      if (!info || info->type != FileType::kDirectory) {
        right.bytes = right.inodes = 0;
        right.flags = kQuotaGone;
        RETURN_IF_ERROR(Found(dir, "the quota of " + Inode(dir) + ": there is no such directory", PutRecord(dir, right)));
        continue;
      }
      const auto names = NamesOf(dir);
      if (tagging || (names.empty() && dir != kRootIno)) continue;
      right.parent = dir == kRootIno ? 0 : TagIn(names.front().dir());
      if (right.parent == quota.record->parent) continue;
      RETURN_IF_ERROR(Found(dir, "the quota of " + Inode(dir) + ": it lies in quota " + std::to_string(right.parent) +
                                     ", recorded is " + std::to_string(quota.record->parent),
                            PutRecord(dir, right)));
    }
    return Status::Ok();
  }

  Status Counters() {
    struct Sum {
      int64_t bytes = 0, inodes = 0;
    };
    std::map<Ino, Sum> sums;
    for (const auto& [dir, quota] : s_.quotas) {
      Ino at = dir;
      for (size_t depth = 0; at != 0 && depth <= s_.quotas.size(); ++depth) {
        const auto found = s_.quotas.find(at);
        if (found == s_.quotas.end() || !found->second.record) break;
        sums[at].bytes += quota.bytes;
        sums[at].inodes += quota.inodes;
        at = found->second.record->parent;
      }
    }
    for (const auto& [dir, quota] : s_.quotas) {
      const Sum sum = sums[dir];
      RETURN_IF_ERROR(Counter(dir, keys::Counter::kQuotaBytes, "bytes", sum.bytes, quota.bytes_counter));
      RETURN_IF_ERROR(Counter(dir, keys::Counter::kQuotaInodes, "inodes", sum.inodes, quota.inodes_counter));
    }
    return Status::Ok();
  }

  Status Counter(Ino dir, keys::Counter counter, const char* what, int64_t counted, int64_t recorded) {
    if (counted == recorded) return Status::Ok();
    return Found(dir, "the quota of " + Inode(dir) + ": " + std::to_string(counted) + " " + what + ", recorded are " +
                          std::to_string(recorded),
                 [dir, counter, more = counted - recorded](kv::Transaction& txn) {
                   txn.Add(keys::QuotaCounterKey(counter, dir, 0), more);
                   return Status::Ok();
                 });
  }

  Survey& s_;
  const Judgements& out_;
  std::map<Ino, Ino> tags_;
};

}  // namespace

Status JudgeQuotas(Survey& survey, const Judgements& out) {
  if (survey.quotas.empty()) return Status::Ok();
  return QuotaJudge(survey, out).All();
}

}  // namespace fsck

Result<QuotaCheck> CheckQuotas(Meta& meta, bool repair) {
  // Tags first, then what the sums of the right tags are.
  constexpr int kRounds = 4;
  constexpr size_t kMaxFindings = 1000;
  QuotaCheck check;
  for (int round = 0; round < kRounds; ++round) {
    const bool mend = repair && round + 1 < kRounds;
    uint64_t found = 0;
    fsck::Survey survey;
    const fsck::Judgements others = [](fsck::Judgement) { return Status::Ok(); };  // fsck's business
    ASSIGN_OR_RETURN(auto snapshot, meta.kv().NewSnapshot());
    TRY_VOID(fsck::Take(*snapshot, &survey, others));
    snapshot.reset();
    TRY_VOID(fsck::JudgeQuotas(survey, [&](fsck::Judgement judgement) -> Status {
      ++found;
      if (check.findings.size() < kMaxFindings) check.findings.push_back(judgement.text);
      if (!mend) return Status::Ok();
      RETURN_IF_ERROR(meta.kv().Transact([&](kv::Transaction& txn) { return judgement.mend(txn); }));
      ++check.repaired;
      return Status::Ok();
    }));
    check.quotas = static_cast<uint64_t>(std::count_if(
        survey.quotas.begin(), survey.quotas.end(), [](const auto& quota) { return quota.second.record.has_value(); }));
    check.clean = found == 0;
    if (mend && found > 0) meta.DistrustQuotas();
    if (found == 0 || !mend) break;
  }
  return check;
}

}  // namespace moorfs::meta
