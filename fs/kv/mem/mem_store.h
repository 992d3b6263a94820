// SPDX-License-Identifier: Apache-2.0
//
// The engine in memory: an ordered map with the semantics of the real ones.
// For tests; nothing survives the process.

#pragma once

#include <memory>

#include "fs/kv/kv.h"

namespace moorfs::kv {

std::unique_ptr<KvStore> NewMemStore(const Options& options = {});

}  // namespace moorfs::kv
