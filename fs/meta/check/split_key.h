// SPDX-License-Identifier: Apache-2.0
//
// From a whole key, as a snapshot's walk shows it, back to partition and
// suffix. Every family's partition has a fixed length (fs/format/keys.h).

#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "fs/kv/kv.h"

namespace moorfs::meta {

// nullopt: a family this version does not know, or a key cut short.
std::optional<kv::Key> SplitKey(std::string_view key, uint32_t key_hash_bytes);

}  // namespace moorfs::meta
