// SPDX-License-Identifier: Apache-2.0
//
// What becomes due with time, in small steps that anyone may run: the client's
// maintenance thread, or `moorfs gc` on a volume nobody has mounted. Deletion
// fails closed: an error ends the phase, and metadata forgets an object only
// after the store has confirmed that it is gone.

#pragma once

#include <functional>

#include "common/base/status.h"
#include "fs/chunk/block_store.h"
#include "fs/meta/check/gc.h"
#include "fs/meta/meta.h"

namespace moorfs::admin {

// Called between two steps; false ends the work early (without an error).
using Between = std::function<bool()>;

// Data of deleted files and expired trash.
Status CleanDeleted(meta::Meta& meta, const Between& between);
// Objects whose delay is over. Returns how many are gone.
Result<uint64_t> DeleteDueObjects(meta::Meta& meta, chunk::BlockStore& blocks, const Between& between);
// Visits every block object of the volume in its store.
meta::ListObjects ObjectLister(const Uuid& volume, chunk::BlockStore& blocks);

}  // namespace moorfs::admin
