// SPDX-License-Identifier: Apache-2.0
//
// Sizes and points in time as people write them.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace moorfs {

inline constexpr uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
inline constexpr uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
inline constexpr uint64_t operator""_GiB(unsigned long long n) { return n << 30; }
inline constexpr uint64_t operator""_TiB(unsigned long long n) { return n << 40; }
inline constexpr uint64_t operator""_PiB(unsigned long long n) { return n << 50; }

// "4MiB", "4M", "512k", "1GiB", "4096": powers of 1024, case-insensitive.
// EINVAL with a message that quotes the input otherwise.
Result<uint64_t> ParseBytes(std::string_view text);
// "4.0 MiB"; exact bytes below 1 KiB.
std::string FormatBytes(uint64_t bytes);

// A point in time as the file system stores it: nanoseconds since the epoch,
// negative before 1970.
struct Timestamp {
  int64_t ns = 0;

  static constexpr int64_t kNsPerSec = 1'000'000'000;
  static Timestamp FromParts(int64_t sec, uint32_t nsec) { return {sec * kNsPerSec + nsec}; }
  static Timestamp Now();
  // Floor division, so that nsec() is in [0, 1e9) before 1970 too.
  int64_t sec() const { return ns >= 0 ? ns / kNsPerSec : -((-ns + kNsPerSec - 1) / kNsPerSec); }
  uint32_t nsec() const { return static_cast<uint32_t>(ns - sec() * kNsPerSec); }
  friend auto operator<=>(const Timestamp&, const Timestamp&) = default;
};

// Nanoseconds of a clock that never jumps (CLOCK_MONOTONIC).
int64_t MonotonicNs();

}  // namespace moorfs
