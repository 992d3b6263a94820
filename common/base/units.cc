// SPDX-License-Identifier: Apache-2.0

#include "common/base/units.h"

#include <time.h>

#include <array>
#include <cctype>
#include <charconv>
#include <cstdio>

namespace moorfs {

Result<uint64_t> ParseBytes(std::string_view text) {
  const auto bad = [&] {
    return Error(EINVAL, "'" + std::string(text) + "' is not a size; write e.g. 4096, 512KiB, 4MiB");
  };
  uint64_t n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc() || end == text.data()) return bad();
  std::string unit;
  for (char c : text.substr(static_cast<size_t>(end - text.data()))) {
    unit.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  static constexpr std::string_view kPrefixes = "kmgtp";
  if (unit.empty() || unit == "b") return n;
  const size_t power = kPrefixes.find(unit[0]);
  const std::string tail = unit.substr(1);
  if (power == std::string_view::npos || (!tail.empty() && tail != "b" && tail != "ib")) return bad();
  const unsigned shift = 10 * (static_cast<unsigned>(power) + 1);
  if (n > (UINT64_MAX >> shift)) return bad();
  return n << shift;
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return buffer;
}

Timestamp Timestamp::Now() {
  timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return FromParts(ts.tv_sec, static_cast<uint32_t>(ts.tv_nsec));
}

int64_t MonotonicNs() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * Timestamp::kNsPerSec + ts.tv_nsec;
}

}  // namespace moorfs
