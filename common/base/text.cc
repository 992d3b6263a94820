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

std::string RedactUrl(std::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) return std::string(url);
  const size_t begin = scheme + 3;
  const size_t end = url.find_first_of("/?#", begin);
  const std::string_view authority = url.substr(begin, end == std::string_view::npos ? end : end - begin);
  const size_t at = authority.rfind('@');
  const size_t colon = authority.find(':');
  if (at == std::string_view::npos || colon == std::string_view::npos || colon > at) return std::string(url);
  std::string out(url.substr(0, begin + colon));
  out += ":***";
  out += url.substr(begin + at);
  return out;
}

}  // namespace moorfs
