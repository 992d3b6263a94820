// SPDX-License-Identifier: Apache-2.0
//
// Finding block objects that no metadata knows: left by clients that died
// between storing and committing. The store is known by two functions only;
// names of objects are fs/chunk's business.
//
// Fails closed: any error aborts, the store is listed before the metadata is
// read (so that whatever was committed meanwhile is seen), young objects are
// passed over (a client may be about to commit them), and each object is
// looked at again, in a transaction, right before it is deleted.

#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "fs/format/types.h"
#include "fs/kv/kv.h"

namespace moorfs::meta {

struct StoredObject {
  ObjectId id;
  uint64_t bytes = 0;
  Timestamp modified;
};
// Visits every block object of the volume in the store.
using ListObjects = std::function<Status(const std::function<bool(const StoredObject&)>& visit)>;

struct GcReport {
  uint64_t listed = 0, listed_bytes = 0;
  uint64_t young = 0;  // not judged
  uint64_t leaked_bytes = 0;
  std::vector<StoredObject> leaked;
};

inline constexpr int64_t kDefaultSafetyAgeNs = int64_t{3600} * Timestamp::kNsPerSec;

// Memory: 32 bytes for each listed object older than `safety_age_ns`.
Result<GcReport> FindLeaked(kv::KvStore& kv, const ListObjects& list, Timestamp now,
                            int64_t safety_age_ns = kDefaultSafetyAgeNs);

// Deletes those that are still unknown to metadata. Returns how many; the
// first error ends it.
Result<uint64_t> DeleteLeaked(kv::KvStore& kv, const std::vector<StoredObject>& leaked,
                              const std::function<Status(const ObjectId&)>& remove);

}  // namespace moorfs::meta
