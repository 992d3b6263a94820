// SPDX-License-Identifier: Apache-2.0
//
// Usage of the volume: from memory on an embedded engine, else the sum of all
// sessions' counters.

#include <algorithm>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<MetaImpl::Usage> MetaImpl::SumUsage() {
  Usage usage;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    usage = {};
    for (const keys::Counter counter : {keys::Counter::kUsedBytes, keys::Counter::kUsedInodes}) {
      ASSIGN_OR_RETURN_STATUS(const auto entries, kv.Scan(keys::CounterAll(counter), 4096));
      int64_t& sum = counter == keys::Counter::kUsedBytes ? usage.bytes : usage.inodes;
      for (const kv::Entry& entry : entries) sum += static_cast<int64_t>(DecodeLe64(entry.value));
    }
    return Status::Ok();
  });
  TRY_VOID(done);
  return usage;
}

Result<StatFs> MetaImpl::GetStatFs() {
  Usage usage{used_bytes_, used_inodes_};
  if (!usage_known_) {
    ASSIGN_OR_RETURN(usage, SumUsage());
  }
  return StatFs{static_cast<uint64_t>(std::max<int64_t>(usage.bytes, 0)),
                static_cast<uint64_t>(std::max<int64_t>(usage.inodes, 0))};
}

}  // namespace moorfs::meta
