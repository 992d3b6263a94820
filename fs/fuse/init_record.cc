// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/init_record.h"

#include <linux/fuse.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>

namespace moorfs::fuse {
namespace {

constexpr uint32_t kMaxBytes = 512;
constexpr uint32_t kMagic = 0x54494e49;  // "INIT"

// Newer than the headers of Debian 12.
constexpr uint32_t kFlag2HasResend = 1u << 7;         // bit 39
constexpr uint32_t kFlag2AllowIdmap = 1u << 8;        // bit 40
constexpr uint32_t kFlag2DirectIoAllowMmap = 1u << 4; // bit 36

uint32_t OfferedFlags2(std::string_view request) {
  constexpr size_t kEnd = sizeof(fuse_in_header) + offsetof(fuse_init_in, flags2) + 4;
  if (request.size() < kEnd) return 0;
  fuse_init_in in{};
  std::memcpy(&in, request.data() + sizeof(fuse_in_header), std::min(sizeof in, request.size() - sizeof(fuse_in_header)));
  return in.flags & FUSE_INIT_EXT ? in.flags2 : 0;
}

}  // namespace

struct InitRecord::Layout {
  uint32_t magic;
  std::atomic<uint32_t> stage;  // 0 nothing, 1 request, 2 request and reply
  uint32_t request_bytes;
  uint32_t reply_bytes;
  char request[kMaxBytes];
  char reply[kMaxBytes];
};

Result<InitRecord> InitRecord::Open(vfs::Arena& arena) {
  const vfs::Arena::Section section = arena.section(vfs::SectionId::kInit);
  if (section.bytes < sizeof(Layout)) return Error(EPROTO, "open the arena's INIT record: its section is too small");
  return InitRecord(reinterpret_cast<Layout*>(section.data));
}

bool InitRecord::complete() const {
  return layout_->stage.load(std::memory_order_acquire) == 2 && layout_->magic == kMagic;
}

void InitRecord::SaveRequest(std::span<const char> request) {
  layout_->stage.store(0, std::memory_order_release);
  layout_->magic = kMagic;
  layout_->request_bytes = static_cast<uint32_t>(std::min<size_t>(request.size(), kMaxBytes));
  std::memcpy(layout_->request, request.data(), layout_->request_bytes);
  layout_->stage.store(1, std::memory_order_release);
}

void InitRecord::SaveReply(std::span<const char> reply) {
  layout_->reply_bytes = static_cast<uint32_t>(std::min<size_t>(reply.size(), kMaxBytes));
  std::memcpy(layout_->reply, reply.data(), layout_->reply_bytes);
  layout_->stage.store(2, std::memory_order_release);
}

std::string InitRecord::request() const {
  return std::string(layout_->request, std::min(layout_->request_bytes, kMaxBytes));
}

std::string InitRecord::reply() const {
  return std::string(layout_->reply, std::min(layout_->reply_bytes, kMaxBytes));
}

bool InitRecord::kernel_can_resend() const { return OfferedFlags2(request()) & kFlag2HasResend; }

std::string DifferenceOfInitReplies(std::string_view now, std::string_view saved) {
  constexpr size_t kSize = sizeof(fuse_out_header) + sizeof(fuse_init_out);
  if (now.size() != kSize || saved.size() != kSize) {
    return "a reply of " + std::to_string(now.size()) + " bytes instead of " + std::to_string(saved.size());
  }
  fuse_out_header out;
  std::memcpy(&out, now.data(), sizeof out);
  if (out.error != 0) return "error " + std::to_string(out.error) + " instead of a reply";
  fuse_init_out a, b;
  std::memcpy(&a, now.data() + sizeof out, sizeof a);
  std::memcpy(&b, saved.data() + sizeof out, sizeof b);
  std::string text;
  const auto compare = [&](const char* name, uint64_t x, uint64_t y) {
    if (x == y) return;
    char line[96];
    std::snprintf(line, sizeof line, "%s%s 0x%llx instead of 0x%llx", text.empty() ? "" : ", ", name,
                  static_cast<unsigned long long>(x), static_cast<unsigned long long>(y));
    text += line;
  };
  compare("major", a.major, b.major);
  compare("minor", a.minor, b.minor);
  compare("max_readahead", a.max_readahead, b.max_readahead);
  compare("flags", a.flags | uint64_t{a.flags2} << 32, b.flags | uint64_t{b.flags2} << 32);
  compare("max_background", a.max_background, b.max_background);
  compare("congestion_threshold", a.congestion_threshold, b.congestion_threshold);
  compare("max_write", a.max_write, b.max_write);
  compare("time_gran", a.time_gran, b.time_gran);
  compare("max_pages", a.max_pages, b.max_pages);
  compare("map_alignment", a.map_alignment, b.map_alignment);
  return text;
}

void PatchInitReply(std::string_view request, std::span<char> reply, bool allow_idmap) {
  if (request.size() < sizeof(fuse_in_header) + offsetof(fuse_init_in, flags2) ||
      reply.size() < sizeof(fuse_out_header) + sizeof(fuse_init_out)) {
    return;
  }
  uint32_t offered;
  std::memcpy(&offered, request.data() + sizeof(fuse_in_header) + offsetof(fuse_init_in, flags), sizeof offered);
  const uint32_t offered2 = OfferedFlags2(request);
  fuse_init_out out;
  char* at = reply.data() + sizeof(fuse_out_header);
  std::memcpy(&out, at, sizeof out);
  // Set-id bits: without this, every write asks for security.capability first.
  // Extended SETXATTR: tells when setting an ACL must clear S_ISGID.
  out.flags |= offered & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
  out.flags &= ~static_cast<uint32_t>(FUSE_HANDLE_KILLPRIV);
  uint32_t want2 = kFlag2DirectIoAllowMmap;
  if (allow_idmap) want2 |= kFlag2AllowIdmap;
  if (offered & FUSE_INIT_EXT) {
    out.flags |= FUSE_INIT_EXT;
    out.flags2 |= offered2 & want2;
  }
  std::memcpy(at, &out, sizeof out);
}

}  // namespace moorfs::fuse
