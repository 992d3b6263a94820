// SPDX-License-Identifier: Apache-2.0
//
// Constants of the dump's bytes; docs/formats/dump.md explains them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace moorfs::meta::dump_format {

inline constexpr std::string_view kMagic = "MOORDUMP";
inline constexpr uint32_t kVersion = 1;
inline constexpr char kBlockTag = 'B', kTrailerTag = 'E';
// A block is closed once its payload reaches this.
inline constexpr size_t kBlockBytes = 256 << 10;
// What a reader accepts: a full block and one more record of the largest size.
inline constexpr size_t kMaxBlockBytes = 1 << 20;
inline constexpr size_t kMaxHeaderJson = 64 << 10;

}  // namespace moorfs::meta::dump_format
