// SPDX-License-Identifier: Apache-2.0
//
// Putting quotas on directories, and taking the tags of what they hold along.
//
// SetQuota() on a directory with contents, and what a crash leaves behind:
//   1. record (marked "tagging") and the directory's own tag: a quota that
//      counts the directory and everything made in it from now on
//   2. for each directory, after its tag: its entries as a look finds them,
//      64 in a transaction; subdirectories are tagged before they are looked at
//   3. the mark goes
// Clean() and the next SetQuota() go on with 2; tags are set only where they
// are missing, so nothing is counted twice.

#include <algorithm>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr size_t kBatch = 64;

}  // namespace

void Txn::PutQuota(Ino quota, const QuotaRecord& record) {
  kv.Put(keys::Quota(quota), EncodeQuota(record));
  quota_records_.emplace_back(quota, record);
}

QuotaInfo MetaImpl::InfoOf(Ino dir, const QuotaTable::State& s) {
  const auto positive = [](int64_t v) { return static_cast<uint64_t>(std::max<int64_t>(v, 0)); };
  QuotaInfo info;
  info.dir = dir;
  info.parent = s.record.parent;
  info.bytes = s.record.bytes;
  info.inodes = s.record.inodes;
  info.used_bytes = positive(s.used_bytes);
  info.used_inodes = positive(s.used_inodes);
  info.reserved_bytes = positive(s.reserved_bytes);
  info.gone = (s.record.flags & kQuotaGone) != 0;
  info.tagging = (s.record.flags & kQuotaTagging) != 0;
  return info;
}

Result<QuotaInfo> MetaImpl::GetQuota(Ino dir) {
  TRY_VOID(RefreshQuotas());
  const auto state = quotas_.Find(dir);
  if (!state || (state->record.flags & kQuotaGone)) {
    return Error(ENODATA, "directory " + std::to_string(dir) + " has no quota");
  }
  return InfoOf(dir, *state);
}

Result<std::vector<QuotaInfo>> MetaImpl::ListQuotas() {
  TRY_VOID(RefreshQuotas());
  std::vector<QuotaInfo> out;
  for (const auto& [dir, state] : quotas_.All()) out.push_back(InfoOf(dir, state));
  return out;
}

Status MetaImpl::MarkQuotasUsed(Txn& txn) {
  ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(keys::Format()));
  if (!value) return Status(ENOENT, "setting a quota: the format record is gone");
  ASSIGN_OR_RETURN_STATUS(VolumeFormat format, DecodeVolumeFormat(*value));
  if (format.ro_compat & kRoCompatQuotas) return Status::Ok();
  format.ro_compat |= kRoCompatQuotas;
  txn.kv.Put(keys::Format(), EncodeVolumeFormat(format));
  return Status::Ok();
}

Result<QuotaInfo> MetaImpl::SetQuota(Ino dir, std::optional<uint64_t> bytes, std::optional<uint64_t> inodes) {
  const std::lock_guard tagging(tagging_mutex_);
  QuotaRecord record;
  const Status done = Mutate({}, {dir}, nullptr, [&](Txn& txn) -> Status {
    txn.AdmitAll();  // a limit below what is there only stops more
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadAttr(txn.kv, dir, ENOENT));
    if (attr.type != FileType::kDirectory) return Status(ENOTDIR, "setting a quota: not a directory");
    if (attr.nlink == 0) return Status(ENOENT, "setting a quota: the directory is removed");
    const auto present = LoadQuota(txn.kv, dir);
    if (!present && present.error().err() != ENODATA) return present.error();
    record = present ? *present : QuotaRecord{};
    record.bytes = bytes.value_or(record.bytes);
    record.inodes = inodes.value_or(record.inodes);
    if (!present) {
      ASSIGN_OR_RETURN_STATUS(const bool empty, IsEmptyDir(txn.kv, dir));
      record.parent = attr.quota;
      record.flags = empty ? 0 : kQuotaTagging;
      txn.Charge(attr.quota, 0, -1);
      attr.quota = dir;
      RETURN_IF_ERROR(StoreAttr(txn.kv, dir, attr));
      RETURN_IF_ERROR(MarkQuotasUsed(txn));
    }
    txn.PutQuota(dir, record);
    if (!present) txn.Charge(dir, 0, 1);
    return Status::Ok();
  });
  TRY_VOID(done);
  if (record.flags & kQuotaTagging) TRY_VOID(TagTree(dir));
  return GetQuota(dir);
}

// An inner quota comes to lie below another: what it holds counts there too.
Status MetaImpl::MoveQuota(Txn& txn, Ino inner, Ino from, Ino to, QuotaRecord* moved) {
  ASSIGN_OR_RETURN_STATUS(*moved, LoadQuota(txn.kv, inner));
  if (moved->parent != from) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(const QuotaCharge usage, SumQuota(txn.kv, inner));
  moved->parent = to;
  txn.Charge(from, -usage.bytes, -usage.inodes);
  txn.Charge(to, usage.bytes, usage.inodes);
  txn.PutQuota(inner, *moved);
  return Status::Ok();
}

// Tags what is found at `entries`; directories whose entries are next go to `below`.
Status MetaImpl::TagEntries(const std::vector<Ino>& entries, Ino quota, Ino outer, std::vector<Ino>* below) {
  std::vector<Ino> directories;
  RETURN_IF_ERROR(Mutate({}, {}, nullptr, [&](Txn& txn) -> Status {
    txn.AdmitAll();
    directories.clear();
    for (const Ino ino : entries) {
      auto attr = LoadAttr(txn.kv, ino);
      if (!attr && attr.error().err() == ESTALE) continue;
      if (!attr) return attr.error();
      if (attr->nlink == 0) continue;
      const bool is_dir = attr->type == FileType::kDirectory;
      if (is_dir && attr->quota == ino) {
        QuotaRecord moved;
        RETURN_IF_ERROR(MoveQuota(txn, ino, outer, quota, &moved));
        continue;
      }
      if (is_dir && (attr->quota == outer || attr->quota == quota)) directories.push_back(ino);
      // Another tag: a file that has a name elsewhere too, and counts there.
      if (attr->quota != outer) continue;
      Retag(txn, &*attr, quota);
      RETURN_IF_ERROR(StoreAttr(txn.kv, ino, *attr));
    }
    return Status::Ok();
  }));
  below->insert(below->end(), directories.begin(), directories.end());
  return Status::Ok();
}

Status MetaImpl::TagDirectory(Ino dir, Ino quota, Ino outer, std::vector<Ino>* below) {
  // Frozen after the directory got its tag: what moves away meanwhile is in this
  // view and found by its number, what comes gets the tag (CheckTag).
  ASSIGN_OR_RETURN_STATUS(const auto snapshot, kv_.NewSnapshot());
  for (uint64_t after = 0;;) {
    ASSIGN_OR_RETURN_STATUS(const auto page, snapshot->Scan(schema_.DentriesAfter(dir, after), kBatch));
    std::vector<Ino> entries;
    for (const kv::Entry& record : page) {
      const auto pos = keys::ParseDentrySuffix(record.suffix);
      if (!pos) return Status(EIO, "directory " + std::to_string(dir) + ": an entry's key is damaged; run moorfs fsck");
      after = *pos;
      ASSIGN_OR_RETURN_STATUS(const Dentry dentry, DecodeDentry(record.value));
      if (!dentry.tombstone) entries.push_back(dentry.ino);
    }
    if (!entries.empty()) RETURN_IF_ERROR(TagEntries(entries, quota, outer, below));
    if (page.size() < kBatch) return Status::Ok();
  }
}

Status MetaImpl::TagTree(Ino quota) {
  Ino outer = 0;
  RETURN_IF_ERROR(Read([&](kv::Transaction& kv) -> Status {
    ASSIGN_OR_RETURN_STATUS(const QuotaRecord record, LoadQuota(kv, quota));
    outer = record.parent;
    return Status::Ok();
  }));
  std::vector<Ino> waiting{quota};
  while (!waiting.empty()) {
    const Ino dir = waiting.back();
    waiting.pop_back();
    RETURN_IF_ERROR(TagDirectory(dir, quota, outer, &waiting));
  }
  return Mutate({}, {quota}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(QuotaRecord record, LoadQuota(txn.kv, quota));
    record.flags &= ~kQuotaTagging;
    txn.PutQuota(quota, record);
    return Status::Ok();
  });
}

Status MetaImpl::EndQuota(Txn& txn, Ino dir) {
  auto record = LoadQuota(txn.kv, dir);
  if (!record) return record.error().err() == ENODATA ? Status::Ok() : record.error();
  // The chain upwards stays for what still counts in it: open files.
  record->bytes = record->inodes = 0;
  record->flags = (record->flags | kQuotaGone) & ~kQuotaTagging;
  txn.PutQuota(dir, *record);
  return Status::Ok();
}

Status MetaImpl::FinishTagging() {
  const std::unique_lock tagging(tagging_mutex_, std::try_to_lock);
  if (!tagging) return Status::Ok();
  for (const auto& [dir, state] : quotas_.All()) {
    if (state.record.flags & kQuotaTagging) RETURN_IF_ERROR(TagTree(dir));
  }
  return Status::Ok();
}

Status MetaImpl::ForgetGoneQuotas() {
  RETURN_IF_ERROR(RefreshQuotas());
  for (const auto& [dir, state] : quotas_.All()) {
    const bool unused = state.used_bytes == 0 && state.used_inodes == 0 && state.held_inodes == 0 &&
                        state.held_bytes == 0;
    if (!(state.record.flags & kQuotaGone) || !unused) continue;
    bool forgotten = false;
    RETURN_IF_ERROR(Mutate({}, {}, nullptr, [&](Txn& txn) -> Status {
      forgotten = false;
      ASSIGN_OR_RETURN_STATUS(const QuotaCharge usage, SumQuota(txn.kv, dir));
      if (usage.bytes != 0 || usage.inodes != 0) return Status::Ok();
      txn.kv.Delete(keys::Quota(dir));
      for (const keys::Counter counter : {keys::Counter::kQuotaBytes, keys::Counter::kQuotaInodes}) {
        const kv::Range range = keys::QuotaCounter(counter, dir);
        ASSIGN_OR_RETURN_STATUS(const auto entries, txn.kv.Scan(range, 1024));
        for (const kv::Entry& entry : entries) txn.kv.Delete(kv::Key(range.partition, entry.suffix));
      }
      forgotten = true;
      return Status::Ok();
    }));
    if (forgotten) quotas_.Erase(dir);
  }
  return Status::Ok();
}

}  // namespace moorfs::meta
