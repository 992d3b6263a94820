// SPDX-License-Identifier: Apache-2.0
//
// How a transaction finds the quotas that its changes count in, and how this
// process learns usage from the engine.

#include <algorithm>

#include "common/base/coding.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr size_t kPage = 1024;
constexpr int kMaxDepth = 4096;
constexpr int64_t kSharedAgeNs = 1'000'000'000;

Status ScanAll(kv::Snapshot& snapshot, kv::Range range, const std::function<Status(const kv::Entry&)>& visit) {
  for (;;) {
    ASSIGN_OR_RETURN_STATUS(const auto page, snapshot.Scan(range, kPage));
    for (const kv::Entry& entry : page) RETURN_IF_ERROR(visit(entry));
    if (page.size() < kPage) return Status::Ok();
    range.begin = page.back().suffix + '\0';
  }
}

}  // namespace

Result<QuotaRecord> MetaImpl::LoadQuota(kv::Transaction& kv, Ino quota) {
  ASSIGN_OR_RETURN(const auto value, kv.Get(keys::Quota(quota)));
  if (!value) return Error(ENODATA, "directory " + std::to_string(quota) + " has no quota");
  return DecodeQuota(*value);
}

// The records are read in the transaction: whoever puts a quota in between
// conflicts with it, and counts what was there before.
Result<std::vector<QuotaCharge>> MetaImpl::ChargeChains(Txn& txn) {
  std::map<Ino, QuotaCharge> all;
  std::map<Ino, Ino> parents;
  for (const QuotaCharge& charge : txn.charges_) {
    Ino quota = charge.quota;
    for (int depth = 0; quota != 0 && depth < kMaxDepth; ++depth) {
      auto parent = parents.find(quota);
      if (parent == parents.end()) {
        const auto record = LoadQuota(txn.kv, quota);
        // A tag without a record counts nowhere; fsck takes it away.
        if (!record && record.error().err() == ENODATA) break;
        if (!record) return Error(record.error());
        if (shared()) quotas_.SetRecord(quota, *record);
        parent = parents.emplace(quota, record->parent).first;
      }
      QuotaCharge& sum = all[quota];
      sum.quota = quota;
      sum.bytes += charge.bytes;
      sum.inodes += charge.inodes;
      quota = parent->second;
    }
  }
  std::vector<QuotaCharge> out;
  for (const auto& [quota, sum] : all) {
    if (sum.bytes != 0 || sum.inodes != 0) out.push_back(sum);
  }
  return out;
}

Status MetaImpl::LoadQuotas() {
  ASSIGN_OR_RETURN_STATUS(const auto snapshot, kv_.NewSnapshot());
  std::map<Ino, QuotaTable::State> states;
  RETURN_IF_ERROR(ScanAll(*snapshot, keys::Quotas(), [&](const kv::Entry& entry) -> Status {
    ASSIGN_OR_RETURN_STATUS(states[keys::TrailingU64(entry.suffix).value_or(0)].record, DecodeQuota(entry.value));
    return Status::Ok();
  }));
  if (states.empty() && quotas_.empty()) return Status::Ok();
  for (const keys::Counter counter : {keys::Counter::kQuotaBytes, keys::Counter::kQuotaInodes}) {
    RETURN_IF_ERROR(ScanAll(*snapshot, keys::CounterAll(counter), [&](const kv::Entry& entry) {
      if (entry.suffix.size() != 16) return Status::Ok();
      const auto found = states.find(GetBe64(entry.suffix.data()));
      if (found == states.end()) return Status::Ok();
      QuotaTable::State& s = found->second;
      (counter == keys::Counter::kQuotaBytes ? s.used_bytes : s.used_inodes) +=
          static_cast<int64_t>(DecodeLe64(entry.value));
      return Status::Ok();
    }));
  }
  quotas_.Load(states, MonotonicNs());
  return Status::Ok();
}

Status MetaImpl::RefreshQuotas() {
  if (quotas_.empty()) return Status::Ok();
  return quotas_.Stale(MonotonicNs(), exclusive_ ? INT64_MAX : kSharedAgeNs) ? LoadQuotas() : Status::Ok();
}

Result<QuotaCharge> MetaImpl::SumQuota(kv::Transaction& kv, Ino quota) {
  QuotaCharge sum{quota};
  for (const keys::Counter counter : {keys::Counter::kQuotaBytes, keys::Counter::kQuotaInodes}) {
    ASSIGN_OR_RETURN(const auto entries, kv.Scan(keys::QuotaCounter(counter, quota), 4096));
    int64_t& total = counter == keys::Counter::kQuotaBytes ? sum.bytes : sum.inodes;
    for (const kv::Entry& entry : entries) total += static_cast<int64_t>(DecodeLe64(entry.value));
  }
  return sum;
}

bool MetaImpl::HasQuotas() { return !quotas_.empty(); }

Status MetaImpl::Reserve(Ino quota, int64_t bytes, bool enforce) {
  if (quota == 0 || bytes == 0) return Status::Ok();
  if (enforce) RETURN_IF_ERROR(RefreshQuotas());
  return quotas_.Reserve(quota, bytes, enforce);
}

Result<std::optional<QuotaRoom>> MetaImpl::GetQuotaRoom(Ino quota) {
  TRY_VOID(RefreshQuotas());
  return quotas_.Room(quota);
}

}  // namespace moorfs::meta
