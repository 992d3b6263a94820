// SPDX-License-Identifier: Apache-2.0
//
// Bytes as a golden test writes them.

#pragma once

#include <string>
#include <string_view>

namespace moorfs::testing {

// Two digits a byte; printable family and tag letters are not special.
inline std::string Hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    const auto u = static_cast<unsigned char>(c);
    out.push_back(kDigits[u >> 4]);
    out.push_back(kDigits[u & 15]);
  }
  return out;
}

}  // namespace moorfs::testing
