// SPDX-License-Identifier: Apache-2.0

#include "common/base/text.h"

#include <cstdio>

namespace moorfs {

void AppendPrintable(std::string_view text, std::string* out) {
  for (char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", u);
      *out += escaped;
    } else {
      *out += c;
    }
  }
}

std::string Printable(std::string_view text) {
  std::string out;
  AppendPrintable(text, &out);
  return out;
}

}  // namespace moorfs
