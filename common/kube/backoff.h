// SPDX-License-Identifier: Apache-2.0
//
// Pauses that double from `first` to `most`, each shortened at random by up to
// half, so that many agents do not come back in step.

#pragma once

#include <algorithm>
#include <cstdint>
#include <random>

namespace moorfs::kube {

class Backoff {
 public:
  Backoff(int first_ms, int most_ms, uint64_t seed = std::random_device{}())
      : first_ms_(first_ms), most_ms_(most_ms), next_ms_(first_ms), random_(seed) {}

  int NextMs() {
    const int full = next_ms_;
    next_ms_ = std::min(most_ms_, next_ms_ * 2);
    return full - Below(full / 2 + 1);
  }
  void Reset() { next_ms_ = first_ms_; }
  // 0 … bound-1
  int Below(int bound) { return static_cast<int>(random_() % static_cast<uint64_t>(std::max(1, bound))); }

 private:
  const int first_ms_, most_ms_;
  int next_ms_;
  std::minstd_rand random_;
};

}  // namespace moorfs::kube
