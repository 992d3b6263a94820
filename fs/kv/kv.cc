// SPDX-License-Identifier: Apache-2.0
//
// What every engine shares: the retry loop of Transact, the plain MultiGet and
// PrefixRange.

#include "fs/kv/kv.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

namespace moorfs::kv {
namespace {

// Enough that only an engine in trouble exhausts it: with the longest pause
// this is about half a second.
constexpr int kMaxAttempts = 64;
constexpr int kAttemptsWithoutPause = 2;
constexpr int kFirstPauseUs = 20;
constexpr int kLongestPauseUs = 10'000;

// A random pause up to a bound that doubles: rivals that met once do not meet
// in lockstep again.
void PauseBefore(int attempt) {
  if (attempt <= kAttemptsWithoutPause) {
    std::this_thread::yield();
    return;
  }
  thread_local std::minstd_rand random(std::random_device{}());
  const int doublings = std::min(attempt - kAttemptsWithoutPause, 10);
  const int bound = std::min(kFirstPauseUs << doublings, kLongestPauseUs);
  std::this_thread::sleep_for(std::chrono::microseconds(random() % static_cast<unsigned>(bound)));
}

}  // namespace

Range PrefixRange(std::string_view partition, std::string_view prefix) {
  Range range{std::string(partition), std::string(prefix), std::string(prefix)};
  // The first suffix after all that start with `prefix`: drop trailing 0xff,
  // count the last byte up. Nothing left means "to the end of the partition".
  while (!range.end.empty() && static_cast<unsigned char>(range.end.back()) == 0xff) range.end.pop_back();
  if (!range.end.empty()) range.end.back() = static_cast<char>(range.end.back() + 1);
  return range;
}

Result<std::vector<std::optional<std::string>>> Transaction::MultiGet(const std::vector<Key>& keys) {
  std::vector<std::optional<std::string>> values;
  values.reserve(keys.size());
  for (const Key& key : keys) {
    ASSIGN_OR_RETURN(std::optional<std::string> value, Get(key));
    values.push_back(std::move(value));
  }
  return values;
}

Status KvStore::Transact(const Body& body) {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    if (attempt > 0) PauseBefore(attempt);
    Status status = TransactOnce(body, attempt);
    if (status.err() != kErrnoConflict) return status;
  }
  return Status(EAGAIN, "transaction on " + std::string(engine()) + ": lost the race against other writers " +
                            std::to_string(kMaxAttempts) + " times");
}

}  // namespace moorfs::kv
