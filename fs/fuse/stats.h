// SPDX-License-Identifier: Apache-2.0
//
// Counters of what the kernel asked and how long it took; read by
// `moorfs stats` while the mount lives.

#pragma once

#include <cstdint>
#include <vector>

namespace moorfs::fuse {

// Requests are counted by opcode; the kernel's opcodes are small numbers.
inline constexpr uint32_t kOpcodeLimit = 64;
// "LOOKUP" for 1; "OP99" is never returned, unknown ones are "OTHER".
const char* OpcodeName(uint32_t opcode);

struct OpStats {
  uint32_t opcode = 0;
  const char* name = "";
  uint64_t count = 0;
  uint64_t errors = 0;       // answered with an errno other than ENOENT of LOOKUP
  uint64_t total_ns = 0;     // from read(2) to the reply
};

struct FuseStats {
  std::vector<OpStats> ops;  // only those with count > 0
  uint64_t bytes_read = 0, bytes_written = 0;
  uint32_t reader_threads = 0;
  uint32_t executor_threads = 0;
  uint64_t executor_queued = 0;
  uint32_t slots_used = 0, slots_total = 0;
  uint64_t parked = 0;            // waiting locks and slow reads
  uint64_t resent = 0;            // requests of a predecessor, executed or answered here
  uint64_t repeated_replies = 0;  // of these, answered from the predecessor's saved reply
  uint64_t invalidations = 0;
  bool took_over = false;
  bool resend_supported = false;
};

}  // namespace moorfs::fuse
