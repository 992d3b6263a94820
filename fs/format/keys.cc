// SPDX-License-Identifier: Apache-2.0
//
// Bytes of every key. See fs/format/keys.h for the table.

#include "fs/format/keys.h"

#include <algorithm>

#include "common/base/coding.h"

namespace moorfs::keys {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
constexpr uint64_t kNsPerHour = uint64_t{3600} * 1'000'000'000;

std::string Family(char family) { return std::string(1, family); }
std::string Family(char family, uint64_t id) {
  std::string out;
  out.reserve(9);
  out.push_back(family);
  PutBe64(&out, id);
  return out;
}
std::string Be64(uint64_t v) {
  std::string out;
  PutBe64(&out, v);
  return out;
}
std::string Be32(uint32_t v) {
  std::string out;
  PutBe32(&out, v);
  return out;
}
std::string Tagged(char tag, uint64_t v) { return Family(tag, v); }

// Times before 1970 do not occur in keys: a clock that wrong is clamped.
uint64_t KeyTime(Timestamp when) { return when.ns < 0 ? 0 : static_cast<uint64_t>(when.ns); }

// Suffixes that start with `tag`.
kv::Range OfTag(std::string partition, char tag) {
  return {std::move(partition), std::string(1, tag), std::string(1, static_cast<char>(tag + 1))};
}

uint8_t ObjectHash(const ObjectId& object) {
  return static_cast<uint8_t>(((object.nonce ^ object.id) * kGolden) >> 56);
}
std::string ObjectPartition(uint8_t hash) { return {'O', static_cast<char>(hash)}; }
std::string ObjectSuffix(const ObjectId& object) { return Be64(object.nonce) + Be64(object.id); }

// First suffix behind `tag` + `v`.
std::string After(char tag, uint64_t v) {
  return v == UINT64_MAX ? std::string(1, static_cast<char>(tag + 1)) : Tagged(tag, v + 1);
}

}  // namespace

std::string Schema::InodePartition(Ino ino) const {
  std::string out;
  out.reserve(9 + 8);
  out.push_back('I');
  if (key_hash_bytes_ > 0) {
    std::string hash;
    PutBe64(&hash, ino * kGolden);
    out.append(hash, 0, std::min<size_t>(key_hash_bytes_, hash.size()));
  }
  PutBe64(&out, ino);
  return out;
}

kv::Key Schema::Attr(Ino ino) const { return {InodePartition(ino), "A"}; }
kv::Key Schema::Inline(Ino ino) const { return {InodePartition(ino), "B"}; }
kv::Key Schema::Slice(Ino ino, uint32_t chunk, uint64_t seq) const {
  std::string suffix = "C";
  PutBe32(&suffix, chunk);
  PutBe64(&suffix, seq);
  return {InodePartition(ino), suffix};
}
kv::Range Schema::Slices(Ino ino, uint32_t chunk) const {
  kv::Range range = SlicesFrom(ino, chunk);
  if (chunk != UINT32_MAX) range.end = "C" + Be32(chunk + 1);
  return range;
}
kv::Range Schema::SlicesFrom(Ino ino, uint32_t first_chunk) const {
  return {InodePartition(ino), "C" + Be32(first_chunk), "D"};
}
kv::Key Schema::DirDelta(Ino ino, SessionId session) const { return {InodePartition(ino), Tagged('D', session)}; }
kv::Range Schema::DirDeltas(Ino ino) const { return OfTag(InodePartition(ino), 'D'); }
kv::Key Schema::Dentry(Ino dir, uint64_t pos) const { return {InodePartition(dir), Tagged('E', pos)}; }
kv::Range Schema::DentriesAfter(Ino dir, uint64_t after) const {
  return {InodePartition(dir), After('E', after), "F"};
}
kv::Range Schema::DentriesOfHash(Ino dir, uint64_t hash56) const {
  return {InodePartition(dir), Tagged('E', hash56 << 7), Tagged('E', (hash56 + 1) << 7)};
}
kv::Key Schema::Parent(Ino ino, Ino parent) const { return {InodePartition(ino), Tagged('P', parent)}; }
kv::Range Schema::Parents(Ino ino) const { return OfTag(InodePartition(ino), 'P'); }
kv::Key Schema::Symlink(Ino ino) const { return {InodePartition(ino), "S"}; }
kv::Key Schema::Xattr(Ino ino, std::string_view name) const {
  std::string suffix = "X";
  suffix.append(name);
  return {InodePartition(ino), suffix};
}
kv::Range Schema::Xattrs(Ino ino) const { return OfTag(InodePartition(ino), 'X'); }
kv::Range Schema::InodeAll(Ino ino) const { return {InodePartition(ino), "", ""}; }

kv::Key Format() { return {Family('F'), "format"}; }
kv::Key Allocator(std::string_view name) { return {Family('N'), name}; }
kv::Key CounterKey(Counter counter, SessionId session) {
  return {std::string{'C', static_cast<char>(counter)}, Be64(session)};
}
kv::Range CounterAll(Counter counter) { return {std::string{'C', static_cast<char>(counter)}, "", ""}; }
kv::Key Session(SessionId session) { return {Family('S'), Be64(session)}; }
kv::Range Sessions() { return {Family('S'), "", ""}; }
kv::Key Sustained(SessionId session, Ino ino) { return {Family('U', session), Be64(ino)}; }
kv::Range SustainedAll(SessionId session) { return {Family('U', session), "", ""}; }
kv::Key Replay(SessionId session, uint32_t slot) { return {Family('R', session), Be32(slot)}; }
kv::Range ReplayAll(SessionId session) { return {Family('R', session), "", ""}; }
kv::Key ObjectRefs(const ObjectId& object) { return {ObjectPartition(ObjectHash(object)), ObjectSuffix(object)}; }
kv::Key ObjectBytes(const ObjectId& object) {
  return {ObjectPartition(ObjectHash(object)), ObjectSuffix(object) + "b"};
}
kv::Range Objects(uint8_t hash) { return {ObjectPartition(hash), "", ""}; }
kv::Key ObjectDelete(Timestamp when, const ObjectId& object) {
  const uint64_t ns = KeyTime(when);
  return {Family('Z', ns / kNsPerHour), Be64(ns) + ObjectSuffix(object)};
}
kv::Range ObjectDeletes(uint64_t hour) { return {Family('Z', hour), "", ""}; }
kv::Key Undurable(const ObjectId& object) { return {Family('Q'), ObjectSuffix(object)}; }
kv::Range Undurables() { return {Family('Q'), "", ""}; }
kv::Key DeletedInode(Ino ino) { return {Family('D'), Be64(ino)}; }
kv::Range DeletedInodes(Ino after) { return {Family('D'), Be64(after + 1), ""}; }
kv::Key Trash(Timestamp when, Ino ino) {
  const uint64_t ns = KeyTime(when);
  return {Family('T', ns / kNsPerHour), Be64(ns) + Be64(ino)};
}
kv::Range TrashHour(uint64_t hour) { return {Family('T', hour), "", ""}; }
kv::Key AclById(uint32_t id) { return {Family('L'), Be32(id)}; }
kv::Key AclsByHash(uint64_t hash) { return {Family('L'), Tagged('h', hash)}; }
kv::Key DirectoryMoveLock() { return {Family('M'), "lock"}; }
kv::Key Quota(Ino dir) { return {Family('B'), Be64(dir)}; }
kv::Range Quotas() { return {Family('B'), "", ""}; }
kv::Key QuotaCounterKey(Counter counter, Ino quota, SessionId session) {
  return {std::string{'C', static_cast<char>(counter)}, Be64(quota) + Be64(session)};
}
kv::Range QuotaCounter(Counter counter, Ino quota) {
  return {std::string{'C', static_cast<char>(counter)}, Be64(quota), Be64(quota + 1)};
}
kv::Key Volume(std::string_view name) { return {Family('V'), name}; }
kv::Range VolumesAfter(std::string_view after) {
  return {Family('V'), after.empty() ? std::string() : std::string(after) + '\0', ""};
}
kv::Key DoomedDir(Ino dir) { return {Family('W'), Be64(dir)}; }
kv::Range DoomedDirs() { return {Family('W'), "", ""}; }

std::optional<ChunkSeq> ParseSliceSuffix(std::string_view suffix) {
  if (suffix.size() != 13 || suffix[0] != 'C') return std::nullopt;
  return ChunkSeq{GetBe32(suffix.data() + 1), GetBe64(suffix.data() + 5)};
}
std::optional<uint64_t> ParseDentrySuffix(std::string_view suffix) {
  if (suffix.size() != 9 || suffix[0] != 'E') return std::nullopt;
  return GetBe64(suffix.data() + 1);
}
std::optional<std::string_view> ParseXattrSuffix(std::string_view suffix) {
  if (suffix.size() < 2 || suffix[0] != 'X') return std::nullopt;
  return suffix.substr(1);
}
std::optional<ObjectId> TrailingObject(std::string_view suffix) {
  if (suffix.size() < 16) return std::nullopt;
  return ObjectId{GetBe64(suffix.data() + suffix.size() - 16), GetBe64(suffix.data() + suffix.size() - 8)};
}

std::optional<uint64_t> TrailingU64(std::string_view suffix) {
  if (suffix.size() < 8) return std::nullopt;
  return GetBe64(suffix.data() + suffix.size() - 8);
}

namespace {

uint64_t RotL(uint64_t v, int bits) { return v << bits | v >> (64 - bits); }
uint64_t LoadLe64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return le64toh(v);
}

// SipHash-2-4 (Aumasson, Bernstein): keyed, so that nobody who can create
// files can choose names that collide.
uint64_t SipHash24(const std::array<uint8_t, 16>& key, std::string_view data) {
  const uint64_t k0 = LoadLe64(key.data()), k1 = LoadLe64(key.data() + 8);
  uint64_t v0 = k0 ^ 0x736f6d6570736575, v1 = k1 ^ 0x646f72616e646f6d;
  uint64_t v2 = k0 ^ 0x6c7967656e657261, v3 = k1 ^ 0x7465646279746573;
  const auto round = [&] {
    v0 += v1, v1 = RotL(v1, 13), v1 ^= v0, v0 = RotL(v0, 32);
    v2 += v3, v3 = RotL(v3, 16), v3 ^= v2;
    v0 += v3, v3 = RotL(v3, 21), v3 ^= v0;
    v2 += v1, v1 = RotL(v1, 17), v1 ^= v2, v2 = RotL(v2, 32);
  };
  const auto absorb = [&](uint64_t m) {
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  };
  const auto* p = reinterpret_cast<const uint8_t*>(data.data());
  size_t left = data.size();
  for (; left >= 8; left -= 8, p += 8) absorb(LoadLe64(p));
  uint64_t last = static_cast<uint64_t>(data.size()) << 56;
  for (size_t i = 0; i < left; ++i) last |= static_cast<uint64_t>(p[i]) << (8 * i);
  absorb(last);
  v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace

uint64_t NameHash56(const std::array<uint8_t, 16>& key, std::string_view name) {
  const uint64_t hash = SipHash24(key, name) >> 8;
  return hash == 0 ? 1 : hash;
}

}  // namespace moorfs::keys
