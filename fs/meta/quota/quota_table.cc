// SPDX-License-Identifier: Apache-2.0
//
// QuotaTable: admission. Limits are checked against what is used, what running
// transactions will add, and what unflushed data may add; all under one mutex,
// so that two writers cannot both take the last room.

#include <algorithm>

#include "common/base/units.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

// More levels than any path has directories: a longer chain is a damaged one.
constexpr int kMaxDepth = 4096;

Status Refuse(Ino quota, const char* what, uint64_t limit) {
  return Status(EDQUOT, "the quota of directory " + std::to_string(quota) + " is used up: " + std::to_string(limit) +
                            " " + what);
}

Status CheckBytes(Ino quota, const QuotaTable::State& s, int64_t more) {
  if (s.record.bytes == 0 || more <= 0) return Status::Ok();
  const int64_t after = s.used_bytes + s.held_bytes + s.reserved_bytes + more;
  return after <= static_cast<int64_t>(std::min<uint64_t>(s.record.bytes, INT64_MAX))
             ? Status::Ok()
             : Refuse(quota, "bytes", s.record.bytes);
}

Status CheckInodes(Ino quota, const QuotaTable::State& s, int64_t more) {
  if (s.record.inodes == 0 || more <= 0) return Status::Ok();
  const int64_t after = s.used_inodes + s.held_inodes + more;
  return after <= static_cast<int64_t>(std::min<uint64_t>(s.record.inodes, INT64_MAX))
             ? Status::Ok()
             : Refuse(quota, "files and directories", s.record.inodes);
}

uint64_t Positive(int64_t value) { return static_cast<uint64_t>(std::max<int64_t>(value, 0)); }

}  // namespace

template <typename Visit>
void QuotaTable::ForChain(Ino quota, const Visit& visit) {
  for (int depth = 0; quota != 0 && depth < kMaxDepth; ++depth) {
    const auto found = states_.find(quota);
    if (found == states_.end()) return;
    visit(quota, found->second);
    quota = found->second.record.parent;
  }
}

Status QuotaTable::Hold(const std::vector<QuotaCharge>& charges, bool enforce) {
  const std::lock_guard lock(mutex_);
  if (enforce) {
    for (const QuotaCharge& c : charges) {
      const auto found = states_.find(c.quota);
      if (found == states_.end()) continue;
      RETURN_IF_ERROR(CheckBytes(c.quota, found->second, c.bytes));
      RETURN_IF_ERROR(CheckInodes(c.quota, found->second, c.inodes));
    }
  }
  for (const QuotaCharge& c : charges) {
    State& s = states_[c.quota];
    // What is given back is there for others only after the commit.
    s.held_bytes += std::max<int64_t>(c.bytes, 0);
    s.held_inodes += std::max<int64_t>(c.inodes, 0);
  }
  empty_ = states_.empty();
  return Status::Ok();
}

void QuotaTable::Settle(const std::vector<QuotaCharge>& charges, bool committed) {
  const std::lock_guard lock(mutex_);
  for (const QuotaCharge& c : charges) {
    State& s = states_[c.quota];
    s.held_bytes -= std::max<int64_t>(c.bytes, 0);
    s.held_inodes -= std::max<int64_t>(c.inodes, 0);
    if (!committed) continue;
    s.used_bytes += c.bytes;
    s.used_inodes += c.inodes;
  }
}

Status QuotaTable::Reserve(Ino quota, int64_t bytes, bool enforce) {
  const std::lock_guard lock(mutex_);
  Status status;
  if (enforce) {
    ForChain(quota, [&](Ino ino, const State& s) {
      if (status.ok()) status = CheckBytes(ino, s, bytes);
    });
    RETURN_IF_ERROR(status);
  }
  ForChain(quota, [&](Ino, State& s) { s.reserved_bytes += bytes; });
  return Status::Ok();
}

void QuotaTable::SetRecord(Ino quota, const QuotaRecord& record) {
  const std::lock_guard lock(mutex_);
  State& s = states_[quota];
  // Reservations below follow to the new parents.
  if (s.record.parent != record.parent && s.reserved_bytes != 0) {
    ForChain(s.record.parent, [&](Ino, State& above) { above.reserved_bytes -= s.reserved_bytes; });
    ForChain(record.parent, [&](Ino, State& above) { above.reserved_bytes += s.reserved_bytes; });
  }
  s.record = record;
  empty_ = false;
}

void QuotaTable::Erase(Ino quota) {
  const std::lock_guard lock(mutex_);
  states_.erase(quota);
  empty_ = states_.empty();
}

std::optional<QuotaTable::State> QuotaTable::Find(Ino quota) {
  const std::lock_guard lock(mutex_);
  const auto found = states_.find(quota);
  if (found == states_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::pair<Ino, QuotaTable::State>> QuotaTable::All() {
  const std::lock_guard lock(mutex_);
  return {states_.begin(), states_.end()};
}

std::optional<QuotaRoom> QuotaTable::Room(Ino quota) {
  const std::lock_guard lock(mutex_);
  const auto found = states_.find(quota);
  if (found == states_.end()) return std::nullopt;
  QuotaRoom room;
  const State& own = found->second;
  room.used_bytes = Positive(own.used_bytes + own.held_bytes + own.reserved_bytes);
  room.used_inodes = Positive(own.used_inodes + own.held_inodes);
  const auto least = [](std::optional<uint64_t>* total, uint64_t limit, uint64_t used, uint64_t own_used) {
    const uint64_t here = own_used + (limit > used ? limit - used : 0);
    *total = std::min(total->value_or(UINT64_MAX), here);
  };
  ForChain(quota, [&](Ino, const State& s) {
    if (s.record.bytes != 0) {
      least(&room.total_bytes, s.record.bytes, Positive(s.used_bytes + s.held_bytes + s.reserved_bytes),
            room.used_bytes);
    }
    if (s.record.inodes != 0) {
      least(&room.total_inodes, s.record.inodes, Positive(s.used_inodes + s.held_inodes), room.used_inodes);
    }
  });
  return room;
}

void QuotaTable::Load(const std::map<Ino, State>& states, int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  bool quiet = true;
  std::erase_if(states_, [&](const auto& known) {
    const State& s = known.second;
    const bool idle = s.held_bytes == 0 && s.held_inodes == 0;
    quiet = quiet && idle;
    return idle && s.reserved_bytes == 0 && !states.contains(known.first);
  });
  for (const auto& [quota, loaded] : states) {
    State& s = states_[quota];
    s.record = loaded.record;
    s.used_bytes = loaded.used_bytes;
    s.used_inodes = loaded.used_inodes;
  }
  loaded_ns_ = now_ns;
  empty_ = states_.empty();
  // A transaction that ended while the engine was read may be counted twice.
  if (quiet) distrusted_ = false;
}

bool QuotaTable::Stale(int64_t now_ns, int64_t max_age_ns) {
  if (distrusted_) return true;
  const std::lock_guard lock(mutex_);
  return now_ns - loaded_ns_ >= max_age_ns;
}

}  // namespace moorfs::meta
