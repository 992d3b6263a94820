// SPDX-License-Identifier: Apache-2.0
//
// When a client that ended is replaced. At once, as a rule: applications wait
// in the kernel meanwhile. Only a client that keeps failing before it serves
// is retried more and more slowly, so that a full disk does not burn a core.
// Pure logic.

#pragma once

#include <cstdint>

namespace moorfs::keeper {

class RestartPolicy {
 public:
  static constexpr int kFirstDelayMs = 50;
  static constexpr int kMaxDelayMs = 5'000;
  // A start that fails later than this was no quick failure.
  static constexpr int64_t kQuickNs = 1'000'000'000;

  void Started(int64_t now_ns) {
    started_ns_ = now_ns;
    ready_ = false;
  }
  void Ready() {
    ready_ = true;
    failures_ = 0;
  }
  // Delay before the next start. `incompatible`: this program will never serve
  // this mount; only another one put in its place can.
  int AfterEnd(int64_t now_ns, bool incompatible);

 private:
  int64_t started_ns_ = 0;
  bool ready_ = false;
  int failures_ = 0;
};

}  // namespace moorfs::keeper
