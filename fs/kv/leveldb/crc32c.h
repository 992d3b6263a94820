// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C (Castagnoli), as LevelDB's log records carry it.

#pragma once

#include <cstdint>
#include <string_view>

namespace moorfs::kv {

// CRC of `data` continued from `crc` (0 at the start).
uint32_t Crc32c(uint32_t crc, std::string_view data);

// How LevelDB stores a CRC, so that a CRC over bytes with embedded CRCs stays
// strong.
inline uint32_t MaskCrc(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

}  // namespace moorfs::kv
