// SPDX-License-Identifier: Apache-2.0
//
// Sessions: one per mount. A session owns its counters, its replay records and
// the open inodes that have lost their names.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr size_t kPage = 256;

}  // namespace

Status MetaImpl::StartSession(const SessionInfo& info, bool resume) {
  if (options_.read_only) return Status::Ok();  // nothing to own
  if (shared() && resume) session_ = info.id;
  const OpContext ctx;
  keys::SessionId id = session_;
  const Status done = Mutate(ctx, {}, nullptr, [&](Txn& txn) -> Status {
    if (shared() && !resume) {
      ASSIGN_OR_RETURN_STATUS(id, NextId(txn, "session", 2));
    }
    const SessionRecord record{info.started, info.pid, info.host, info.mountpoint, info.version};
    txn.kv.Put(keys::Session(id), EncodeSession(record));
    return Status::Ok();
  });
  RETURN_IF_ERROR(done);
  session_ = id;
  return Status::Ok();
}

Status MetaImpl::ReapSession(bool end) {
  if (options_.read_only) return Status::Ok();
  kv::Range range = keys::SustainedAll(session_);
  for (;;) {
    std::vector<kv::Entry> page;
    const Status done = Read([&](kv::Transaction& kv) -> Status {
      ASSIGN_OR_RETURN_STATUS(page, kv.Scan(range, kPage));
      return Status::Ok();
    });
    RETURN_IF_ERROR(done);
    for (const kv::Entry& entry : page) {
      if (const auto ino = keys::TrailingU64(entry.suffix)) RETURN_IF_ERROR(ReleaseSustained(*ino));
    }
    if (page.size() < kPage) break;
    range.begin = page.back().suffix + '\0';
  }
  if (!end) return Status::Ok();
  RETURN_IF_ERROR(ClearRange(keys::ReplayAll(session_)));
  if (shared()) RETURN_IF_ERROR(FoldCounters());
  const OpContext ctx;
  return Mutate(ctx, {}, nullptr, [&](Txn& txn) {
    txn.kv.Delete(keys::Session(session_));
    return Status::Ok();
  });
}

Status MetaImpl::ClearRange(const kv::Range& range) {
  const OpContext ctx;
  for (bool more = true; more;) {
    const Status done = Mutate(ctx, {}, nullptr, [&](Txn& txn) -> Status {
      ASSIGN_OR_RETURN_STATUS(const auto page, txn.kv.Scan(range, kPage));
      for (const kv::Entry& entry : page) txn.kv.Delete(kv::Key(range.partition, entry.suffix));
      more = page.size() == kPage;
      return Status::Ok();
    });
    RETURN_IF_ERROR(done);
  }
  return Status::Ok();
}

// What this session counted goes to session 0, the sum of the past.
Status MetaImpl::FoldCounters() {
  const OpContext ctx;
  RETURN_IF_ERROR(LoadQuotas());  // those that others made, too
  return Mutate(ctx, {}, nullptr, [&](Txn& txn) -> Status {
    for (const keys::Counter counter : {keys::Counter::kUsedBytes, keys::Counter::kUsedInodes}) {
      const kv::Key own = keys::CounterKey(counter, session_);
      ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(own));
      if (!value) continue;
      txn.kv.Add(keys::CounterKey(counter, 0), static_cast<int64_t>(DecodeLe64(*value)));
      txn.kv.Delete(own);
    }
    for (const keys::Counter counter : {keys::Counter::kQuotaBytes, keys::Counter::kQuotaInodes}) {
      for (const auto& [quota, state] : quotas_.All()) {
        const kv::Key own = keys::QuotaCounterKey(counter, quota, session_);
        ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(own));
        if (!value) continue;
        txn.kv.Add(keys::QuotaCounterKey(counter, quota, 0), static_cast<int64_t>(DecodeLe64(*value)));
        txn.kv.Delete(own);
      }
    }
    return Status::Ok();
  });
}

Result<std::vector<SessionInfo>> MetaImpl::ListSessions() {
  std::vector<SessionInfo> out;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    out.clear();
    ASSIGN_OR_RETURN_STATUS(const auto entries, kv.Scan(keys::Sessions(), 4096));
    for (const kv::Entry& entry : entries) {
      ASSIGN_OR_RETURN_STATUS(const SessionRecord r, DecodeSession(entry.value));
      SessionInfo info;
      info.id = keys::TrailingU64(entry.suffix).value_or(0);
      info.host = r.host;
      info.mountpoint = r.mountpoint;
      info.version = r.version;
      info.pid = r.pid;
      info.started = r.started;
      out.push_back(std::move(info));
    }
    return Status::Ok();
  });
  TRY_VOID(done);
  return out;
}

}  // namespace moorfs::meta
