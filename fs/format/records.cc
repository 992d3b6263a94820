// SPDX-License-Identifier: Apache-2.0
//
// Codecs of fs/format/records.h.

#include "fs/format/records.h"

#include "common/base/coding.h"

namespace moorfs {
namespace {

constexpr uint8_t kChainedBit = 0x80;

tl::unexpected<Status> Damaged(const char* what) {
  return Error(EIO, std::string("reading ") + what + " from metadata: the value is damaged; run moorfs fsck");
}

bool KnownType(uint8_t type) { return type >= 1 && type <= 7; }

}  // namespace

std::string EncodeDentry(const Dentry& d) {
  std::string out;
  out.reserve(13 + d.name.size());
  PutLe8(&out, static_cast<uint8_t>((d.tombstone ? 0 : static_cast<uint8_t>(d.type)) |
                                    (d.chained ? kChainedBit : 0)));
  PutLe64(&out, d.tombstone ? 0 : d.ino);
  PutBytes(&out, d.tombstone ? std::string_view() : d.name);
  return out;
}

Result<Dentry> DecodeDentry(std::string_view value) {
  ValueReader in(value);
  Dentry d;
  const uint8_t tag = in.Le8();
  const uint8_t type = tag & 0x7f;
  d.chained = (tag & kChainedBit) != 0;
  d.tombstone = type == 0;
  if (!d.tombstone) d.type = static_cast<FileType>(type);
  d.ino = in.Le64();
  d.name = std::string(in.Bytes());
  if (in.exhausted() || (!d.tombstone && (!KnownType(type) || d.name.empty()))) return Damaged("a directory entry");
  return d;
}

std::string EncodeTrash(const TrashRecord& r) {
  std::string out;
  PutLe64(&out, r.parent);
  PutLe8(&out, static_cast<uint8_t>(r.type));
  PutBytes(&out, r.name);
  return out;
}

Result<TrashRecord> DecodeTrash(std::string_view value) {
  ValueReader in(value);
  TrashRecord r;
  r.parent = in.Le64();
  const uint8_t type = in.Le8();
  r.type = static_cast<FileType>(type);
  r.name = std::string(in.Bytes());
  if (in.exhausted() || !KnownType(type) || r.name.empty()) return Damaged("a trash record");
  return r;
}

std::string EncodeReplay(const ReplayRecord& r) {
  std::string out;
  out.reserve(36);
  PutLe64(&out, r.epoch);
  PutLe64(&out, r.unique);
  PutLe32(&out, static_cast<uint32_t>(r.err));
  PutLe64(&out, r.ino);
  PutLe64(&out, r.other);
  return out;
}

Result<ReplayRecord> DecodeReplay(std::string_view value) {
  ValueReader in(value);
  ReplayRecord r;
  r.epoch = in.Le64();
  r.unique = in.Le64();
  r.err = static_cast<int32_t>(in.Le32());
  r.ino = in.Le64();
  r.other = in.Le64();
  if (in.exhausted()) return Damaged("a replay record");
  return r;
}

std::string EncodeSession(const SessionRecord& r) {
  std::string out;
  PutLe64(&out, static_cast<uint64_t>(r.started.ns));
  PutLe64(&out, static_cast<uint64_t>(r.pid));
  PutBytes(&out, r.host);
  PutBytes(&out, r.mountpoint);
  PutBytes(&out, r.version);
  return out;
}

Result<SessionRecord> DecodeSession(std::string_view value) {
  ValueReader in(value);
  SessionRecord r;
  r.started.ns = static_cast<int64_t>(in.Le64());
  r.pid = static_cast<int64_t>(in.Le64());
  r.host = std::string(in.Bytes());
  r.mountpoint = std::string(in.Bytes());
  r.version = std::string(in.Bytes());
  if (in.exhausted()) return Damaged("a session record");
  return r;
}

std::string EncodeQuota(const QuotaRecord& r) {
  std::string out;
  out.reserve(28);
  PutLe64(&out, r.bytes);
  PutLe64(&out, r.inodes);
  PutLe64(&out, r.parent);
  PutLe32(&out, r.flags);
  return out;
}

Result<QuotaRecord> DecodeQuota(std::string_view value) {
  ValueReader in(value);
  QuotaRecord r;
  r.bytes = in.Le64();
  r.inodes = in.Le64();
  r.parent = in.Le64();
  r.flags = in.Le32();
  if (in.exhausted()) return Damaged("a quota");
  return r;
}

std::string EncodeVolume(const VolumeRecord& r) {
  std::string out;
  PutLe64(&out, r.ino);
  PutBytes(&out, r.directory);
  PutLe64(&out, r.bytes);
  PutLe64(&out, r.inodes);
  PutLe64(&out, static_cast<uint64_t>(r.created.ns));
  PutLe32(&out, static_cast<uint32_t>(r.parameters.size()));
  for (const auto& [key, parameter] : r.parameters) {
    PutBytes(&out, key);
    PutBytes(&out, parameter);
  }
  return out;
}

Result<VolumeRecord> DecodeVolume(std::string_view value) {
  ValueReader in(value);
  VolumeRecord r;
  r.ino = in.Le64();
  r.directory = std::string(in.Bytes());
  r.bytes = in.Le64();
  r.inodes = in.Le64();
  r.created.ns = static_cast<int64_t>(in.Le64());
  const uint32_t count = in.Le32();
  for (uint32_t i = 0; i < count && !in.exhausted(); ++i) {
    std::string key(in.Bytes());
    std::string parameter(in.Bytes());
    r.parameters.emplace_back(std::move(key), std::move(parameter));
  }
  if (in.exhausted() || r.ino == 0 || r.directory.empty()) return Damaged("a volume's record");
  return r;
}

std::string EncodeLe64(uint64_t value) {
  std::string out;
  PutLe64(&out, value);
  return out;
}

std::string EncodeLe32(uint32_t value) {
  std::string out;
  PutLe32(&out, value);
  return out;
}

uint64_t DecodeLe64(std::string_view value) { return ValueReader(value).Le64(); }
uint32_t DecodeLe32(std::string_view value) { return ValueReader(value).Le32(); }

}  // namespace moorfs
