// SPDX-License-Identifier: Apache-2.0
//
// Running transactions: in-process locks, replay records, counters, and the
// batches of inode numbers. Everything that each operation would otherwise
// have to remember.

#include "fs/meta/meta_impl.h"

#include <algorithm>

namespace moorfs::meta {

InodeLocks::Held::Held(InodeLocks& locks, std::span<const Ino> inodes) : locks_(locks) {
  for (const Ino ino : inodes.first(std::min(inodes.size(), kMax))) stripes_[count_++] = StripeOf(ino);
  std::sort(stripes_.begin(), stripes_.begin() + count_);
  count_ = static_cast<size_t>(std::unique(stripes_.begin(), stripes_.begin() + count_) - stripes_.begin());
  for (size_t i = 0; i < count_; ++i) locks_.mutexes_[stripes_[i]].lock();
}

InodeLocks::Held::~Held() {
  for (size_t i = 0; i < count_; ++i) locks_.mutexes_[stripes_[i]].unlock();
}

bool InodeLocks::Held::TryAdd(Ino ino) {
  const uint16_t stripe = StripeOf(ino);
  if (std::find(stripes_.begin(), stripes_.begin() + count_, stripe) != stripes_.begin() + count_) return true;
  if (count_ == kMax || !locks_.mutexes_[stripe].try_lock()) return false;
  stripes_[count_++] = stripe;
  return true;
}

Status Txn::Lock(Ino ino) {
  if (held_->TryAdd(ino)) return Status::Ok();
  wanted_ = ino;
  return Status(EAGAIN, "inode " + std::to_string(ino) + " is busy");
}

namespace {

// Of an attempt that was not committed.
void ReleaseCharges(QuotaTable& quotas, std::vector<QuotaCharge>* charges) {
  if (charges->empty()) return;
  quotas.Settle(*charges, false);
  charges->clear();
}

}  // namespace

MetaImpl::MetaImpl(kv::KvStore& kv, VolumeFormat format, MetaOptions options)
    : kv_(kv),
      format_(std::move(format)),
      options_(std::move(options)),
      schema_(format_.key_hash_bytes),
      exclusive_(kv.exclusive()),
      session_(exclusive_ ? 1 : 0),
      trash_days_(format_.trash_days) {}

uint64_t MetaImpl::NameHash(std::string_view name) const {
  const uint64_t hash = keys::NameHash56(format_.name_hash_key, name) & name_hash_mask_;
  return hash == 0 ? 1 : hash;
}

Status MetaImpl::Mutate(const OpContext& ctx, std::initializer_list<Ino> locks, Outcome* outcome, const Body& body) {
  if (options_.read_only) return Status(EROFS, "changing the volume: it is mounted read-only");
  Outcome unused;
  if (outcome == nullptr) outcome = &unused;
  std::vector<Ino> inodes(locks);
  for (;;) {
    InodeLocks::Held held(locks_, inodes);
    // Behind the lock, so that times of one inode do not run backwards.
    const Timestamp now = Timestamp::Now();
    Ino wanted = 0;
    int64_t bytes = 0, count = 0;
    std::optional<HourSpan> trash_hours;
    std::vector<QuotaCharge> charges;  // held in quotas_
    std::vector<std::pair<Ino, QuotaRecord>> quota_records;
    if (!quotas_.empty()) RETURN_IF_ERROR(RefreshQuotas());
    const Status status = kv_.Transact([&](kv::Transaction& transaction) -> Status {
      *outcome = {};
      bytes = count = 0;
      ReleaseCharges(quotas_, &charges);
      Txn txn(transaction, ctx, now, outcome, chunk_starts_, &held);
      if (ctx.unique != 0 && ctx.resent) {
        ASSIGN_OR_RETURN_STATUS(outcome->replayed, FindReplay(txn));
        if (outcome->replayed) return Status::Ok();
      }
      const Status done = body(txn);
      wanted = txn.wanted_;
      RETURN_IF_ERROR(done);
      bytes = txn.used_bytes_;
      count = txn.used_inodes_;
      trash_hours = txn.trash_hours_;
      quota_records = std::move(txn.quota_records_);
      if (!txn.charges_.empty()) RETURN_IF_ERROR(ChargeQuotas(txn, &charges));
      Finish(txn);
      return Status::Ok();
    });
    if (status.err() == kErrnoUnknown) quotas_.Distrust();
    if (status.ok() && !charges.empty()) {
      quotas_.Settle(charges, true);
    } else {
      ReleaseCharges(quotas_, &charges);
    }
    if (status.ok()) {
      for (const auto& [quota, record] : quota_records) quotas_.SetRecord(quota, record);
    }
    if (!status.ok() && wanted != 0) {
      // A body that wants ever new inodes (others keep changing what it finds) starts over.
      if (inodes.size() >= 8) inodes.assign(locks);
      inodes.push_back(wanted);
      continue;
    }
    if (status.err() == kErrnoUnknown) usage_known_ = false;
    if (!status.ok()) return status;
    used_bytes_ += bytes;
    used_inodes_ += count;
    if (trash_hours) {
      std::lock_guard lock(trash_mutex_);
      trash_hours_ = *trash_hours;
    }
    return Status::Ok();
  }
}

// Holds what the transaction adds to quotas, and adds it there.
Status MetaImpl::ChargeQuotas(Txn& txn, std::vector<QuotaCharge>* held) {
  ASSIGN_OR_RETURN_STATUS(std::vector<QuotaCharge> all, ChargeChains(txn));
  RETURN_IF_ERROR(quotas_.Hold(all, txn.enforce_));
  *held = std::move(all);
  for (const QuotaCharge& c : *held) {
    if (c.bytes != 0) txn.kv.Add(keys::QuotaCounterKey(keys::Counter::kQuotaBytes, c.quota, session_), c.bytes);
    if (c.inodes != 0) txn.kv.Add(keys::QuotaCounterKey(keys::Counter::kQuotaInodes, c.quota, session_), c.inodes);
  }
  return Status::Ok();
}

Result<bool> MetaImpl::FindReplay(Txn& txn) {
  ASSIGN_OR_RETURN(const auto value, txn.kv.Get(keys::Replay(session_, txn.ctx.slot)));
  if (!value) return false;
  ASSIGN_OR_RETURN(const ReplayRecord record, DecodeReplay(*value));
  if (record.epoch != txn.ctx.epoch || record.unique != txn.ctx.unique) return false;
  txn.outcome->ino = record.ino;
  txn.outcome->other = record.other;
  return true;
}

void MetaImpl::Finish(Txn& txn) {
  if (txn.used_bytes_ != 0) {
    txn.kv.Add(keys::CounterKey(keys::Counter::kUsedBytes, session_), txn.used_bytes_);
  }
  if (txn.used_inodes_ != 0) {
    txn.kv.Add(keys::CounterKey(keys::Counter::kUsedInodes, session_), txn.used_inodes_);
  }
  if (txn.ctx.unique != 0) {
    const ReplayRecord record{txn.ctx.epoch, txn.ctx.unique, 0, txn.outcome->ino, txn.outcome->other};
    txn.kv.Put(keys::Replay(session_, txn.ctx.slot), EncodeReplay(record));
  }
}

Result<Entry> MetaImpl::EntryNow(Ino ino) {
  Entry entry;
  entry.ino = ino;
  auto attr = GetAttr(ino);
  if (attr) {
    entry.attr = *attr;
  } else if (attr.error().err() != ESTALE) {
    return Error(std::move(attr).error());
  }
  return entry;
}

Result<Ino> MetaImpl::NextIno() {
  constexpr uint64_t kBatch = 1024;
  if (options_.read_only) return Error(EROFS, "changing the volume: it is mounted read-only");
  std::lock_guard lock(ino_mutex_);
  if (next_ino_ == end_ino_) {
    uint64_t first = 0;
    const Status done = kv_.Transact([&](kv::Transaction& kv) -> Status {
      const kv::Key key = keys::Allocator("inode");
      ASSIGN_OR_RETURN_STATUS(const auto value, kv.Get(key));
      first = value ? DecodeLe64(*value) : kFirstIno;
      if (first + kBatch > kMaxIno) return Status(ENOSPC, "making an inode: the volume has used up its inode numbers");
      kv.Put(key, EncodeLe64(first + kBatch));
      return Status::Ok();
    });
    TRY_VOID(done);
    next_ino_ = first;
    end_ino_ = first + kBatch;
  }
  return next_ino_++;
}

Result<uint64_t> MetaImpl::NextId(Txn& txn, std::string_view name, uint64_t first) {
  const kv::Key key = keys::Allocator(name);
  ASSIGN_OR_RETURN(const auto value, txn.kv.Get(key));
  const uint64_t id = value ? DecodeLe64(*value) : first;
  txn.kv.Put(key, EncodeLe64(id + 1));
  return id;
}

}  // namespace moorfs::meta
