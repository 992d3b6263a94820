// SPDX-License-Identifier: Apache-2.0
//
// Recounting quotas, on a mounted volume as well: a snapshot is counted and
// held against the counters of the same moment; a difference stays what it is
// while others go on, so it may be put right later. Memory: as Fsck().

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "fs/meta/meta.h"

namespace moorfs::meta {

struct QuotaCheck {
  bool clean = false;                 // nothing is wrong (any more)
  uint64_t quotas = 0;
  uint64_t repaired = 0;
  std::vector<std::string> findings;  // at most 1,000
};
Result<QuotaCheck> CheckQuotas(Meta& meta, bool repair);

}  // namespace moorfs::meta
