// SPDX-License-Identifier: Apache-2.0
//
// What was agreed with the kernel when the mount was made. The kernel keeps it
// for the life of the mount and tells nobody again; so the first client leaves
// the INIT request and its own reply in the arena, and a successor brings its
// session into the same state by answering the same request once more, to
// itself.

#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "common/base/status.h"
#include "fs/vfs/arena.h"

namespace moorfs::fuse {

// Not used by the kernel: its numbers are small and go up by two. Even,
// because odd ones are interrupts.
inline constexpr uint64_t kReplayUnique = uint64_t{1} << 62;

class InitRecord {
 public:
  static Result<InitRecord> Open(vfs::Arena& arena);

  // Request and reply are there: the kernel has, or may have, the reply.
  bool complete() const;
  void SaveRequest(std::span<const char> request);
  // Published before it is sent.
  void SaveReply(std::span<const char> reply);
  // Copies, checked against the section's bounds.
  std::string request() const;
  std::string reply() const;
  // The kernel offered to resend requests (Linux 6.9).
  bool kernel_can_resend() const;

 private:
  struct Layout;
  explicit InitRecord(Layout* layout) : layout_(layout) {}
  Layout* layout_;
};

// "flags 0x1 instead of 0x3, max_write 131072 instead of 1048576"; empty when
// the two INIT replies (with fuse_out_header) agree on everything but `unique`.
std::string DifferenceOfInitReplies(std::string_view now, std::string_view saved);

// Adds to an INIT reply what libfuse 3.14 does not know, if the kernel offers
// it. `request` and `reply` begin with their headers.
void PatchInitReply(std::string_view request, std::span<char> reply, bool allow_idmap);

}  // namespace moorfs::fuse
