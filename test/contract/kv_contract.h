// SPDX-License-Identifier: Apache-2.0
//
// What every KvStore engine must do, as one suite. An engine's test makes a
// function that opens an empty store and calls RunKvContract with it inside a
// TEST_CASE; each promise is a SECTION.

#pragma once

#include <functional>
#include <memory>

#include "fs/kv/kv.h"

namespace moorfs::kv {

using MakeStore = std::function<std::unique_ptr<KvStore>()>;

// One thread: what operations mean.
void RunKvContract(const MakeStore& make_store);
// Many threads: what serializable means.
void RunKvConcurrencyContract(const MakeStore& make_store);

}  // namespace moorfs::kv
