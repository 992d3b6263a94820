// SPDX-License-Identifier: Apache-2.0
//
// From a META URL to an engine: the one place that knows all of them.

#pragma once

#include <memory>
#include <string_view>

#include "common/base/status.h"
#include "fs/kv/kv.h"

namespace moorfs::kv {

// "leveldb:DIR" or "mem:". EINVAL names the known schemes; other errors are
// the engine's: ENOENT (no such volume), EBUSY (open elsewhere), ENOTEMPTY
// (the directory holds something else), EIO (damaged).
Result<std::unique_ptr<KvStore>> OpenKvStore(std::string_view url, const Options& options);

}  // namespace moorfs::kv
