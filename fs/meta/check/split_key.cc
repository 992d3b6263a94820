// SPDX-License-Identifier: Apache-2.0
//
// Partition lengths by family.

#include "fs/meta/check/split_key.h"

#include <algorithm>

namespace moorfs::meta {

std::optional<kv::Key> SplitKey(std::string_view key, uint32_t key_hash_bytes) {
  if (key.empty()) return std::nullopt;
  size_t partition = 0;
  switch (key[0]) {
    case 'F':
    case 'N':
    case 'S':
    case 'D':
    case 'L':
    case 'Q':
    case 'B':
    case 'V':
    case 'W':
    case 'M': partition = 1; break;
    case 'C':
    case 'O': partition = 2; break;
    case 'U':
    case 'R':
    case 'Z':
    case 'T': partition = 9; break;
    case 'I': partition = 9 + std::min<size_t>(key_hash_bytes, 8); break;
    default: return std::nullopt;
  }
  if (key.size() <= partition || key.size() - partition > kv::kMaxSuffixBytes) return std::nullopt;
  return kv::Key(key.substr(0, partition), key.substr(partition));
}

}  // namespace moorfs::meta
