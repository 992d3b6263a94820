// SPDX-License-Identifier: Apache-2.0
//
// Every key of the metadata schema, in one place. docs/formats/metadata.md
// says the same with examples; golden tests pin the bytes.
//
// Partitions (family byte, then fixed-length big-endian fields):
//   F                      the format record; one key, suffix "format"
//   I [hash] ino8          all records of one inode, below
//   N                      id allocators: suffix = name -> le64
//   C counter1             volume counters: suffix session8 -> le64 (signed); a quota's: suffix ino8 session8
//   S                      sessions: suffix session8 -> SessionRecord
//   U session8             open-but-unlinked inodes: suffix ino8 -> empty
//   R session8             replay results: suffix slot4 -> ReplayRecord
//   O hash1                object records: suffix nonce8 id8 -> refs (le64, signed, Add), raw_bytes in the
//                          twin key with a trailing 'b' (le32, put once)
//   Z bucket8              objects to delete: bucket = unix hour of the earliest deletion;
//                          suffix time8(ns, be) nonce8 id8 -> empty
//   Q                      objects committed but not known durable: suffix nonce8 id8 -> the chunks that
//                          point at them, (ino le64, chunk le32) each
//   D                      inodes whose data awaits removal: suffix ino8 -> le64 length
//   T hour8                trash: suffix time8(ns, be) ino8 -> TrashRecord
//   B                      quotas: suffix ino8 of the directory -> QuotaRecord
//   V                      volumes: suffix = name -> VolumeRecord
//   W                      directories whose trees await removal: suffix ino8 -> empty
//   L                      interned ACLs: suffix id4 -> rules; suffix 'h' hash8 -> ids with that hash
//   M                      moves of directories across directories: suffix "lock" (serialises them)
//
// Suffixes inside an inode's partition:
//   A                      Attr
//   B                      inline bytes
//   C chunk4 seq8          SliceRecord
//   D session8             DirDelta
//   E pos8                 dentry; pos = 56-bit SipHash of the name << 7 | ordinal
//   P parent8              number of links in that parent (le32), only with kAttrManyParents
//   S                      symlink target
//   X name                 extended attribute

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fs/format/types.h"
#include "fs/kv/kv.h"

namespace moorfs::keys {

using SessionId = uint64_t;

// Counters of family C.
enum class Counter : uint8_t { kUsedBytes = 'b', kUsedInodes = 'i', kQuotaBytes = 'q', kQuotaInodes = 'p' };

// Builds partitions; holds the volume's key_hash_bytes.
class Schema {
 public:
  explicit Schema(uint32_t key_hash_bytes = 0) : key_hash_bytes_(key_hash_bytes) {}

  std::string InodePartition(Ino ino) const;

  kv::Key Attr(Ino ino) const;
  kv::Key Inline(Ino ino) const;
  kv::Key Slice(Ino ino, uint32_t chunk, uint64_t seq) const;
  kv::Range Slices(Ino ino, uint32_t chunk) const;
  // All slice records of chunks >= first_chunk.
  kv::Range SlicesFrom(Ino ino, uint32_t first_chunk) const;
  kv::Key DirDelta(Ino ino, SessionId session) const;
  kv::Range DirDeltas(Ino ino) const;
  kv::Key Dentry(Ino dir, uint64_t pos) const;
  // Dentries with position > after (0 = from the first).
  kv::Range DentriesAfter(Ino dir, uint64_t after) const;
  // The at most 128 positions that share `hash56`.
  kv::Range DentriesOfHash(Ino dir, uint64_t hash56) const;
  kv::Key Parent(Ino ino, Ino parent) const;
  kv::Range Parents(Ino ino) const;
  kv::Key Symlink(Ino ino) const;
  kv::Key Xattr(Ino ino, std::string_view name) const;
  kv::Range Xattrs(Ino ino) const;
  // Every record of the inode.
  kv::Range InodeAll(Ino ino) const;

 private:
  uint32_t key_hash_bytes_;
};

kv::Key Format();
kv::Key Allocator(std::string_view name);
kv::Key CounterKey(Counter counter, SessionId session);
kv::Range CounterAll(Counter counter);
kv::Key Session(SessionId session);
kv::Range Sessions();
kv::Key Sustained(SessionId session, Ino ino);
kv::Range SustainedAll(SessionId session);
kv::Key Replay(SessionId session, uint32_t slot);
kv::Range ReplayAll(SessionId session);
kv::Key ObjectRefs(const ObjectId& object);
kv::Key ObjectBytes(const ObjectId& object);
// Partition number `hash` (0..255) of family O.
kv::Range Objects(uint8_t hash);
kv::Key ObjectDelete(Timestamp when, const ObjectId& object);
kv::Range ObjectDeletes(uint64_t hour);
kv::Key Undurable(const ObjectId& object);
kv::Range Undurables();
kv::Key DeletedInode(Ino ino);
kv::Range DeletedInodes(Ino after);
kv::Key Trash(Timestamp when, Ino ino);
kv::Range TrashHour(uint64_t hour);
kv::Key AclById(uint32_t id);
kv::Key AclsByHash(uint64_t hash);
kv::Key DirectoryMoveLock();
kv::Key Quota(Ino dir);
kv::Range Quotas();
// `counter` is kQuotaBytes or kQuotaInodes; CounterAll() holds those of all quotas.
kv::Key QuotaCounterKey(Counter counter, Ino quota, SessionId session);
kv::Range QuotaCounter(Counter counter, Ino quota);
kv::Key Volume(std::string_view name);
// Volumes with a name behind `after`.
kv::Range VolumesAfter(std::string_view after);
kv::Key DoomedDir(Ino dir);
kv::Range DoomedDirs();

// Parsers of suffixes; nullopt when the shape is wrong.
struct ChunkSeq {
  uint32_t chunk;
  uint64_t seq;
};
std::optional<ChunkSeq> ParseSliceSuffix(std::string_view suffix);
std::optional<uint64_t> ParseDentrySuffix(std::string_view suffix);
std::optional<std::string_view> ParseXattrSuffix(std::string_view suffix);
// Object id that ends a suffix (families Q, Z, O).
std::optional<ObjectId> TrailingObject(std::string_view suffix);
// Trailing big-endian u64 of any suffix that ends in one.
std::optional<uint64_t> TrailingU64(std::string_view suffix);

// Position of a name in its directory before the ordinal: SipHash-2-4 with the
// volume's key, upper 56 bits. pos = hash56 << 7 | ordinal; positions 0..127
// are never used (0 is "start", "." and ".." live there), so hash 0 maps to 1.
uint64_t NameHash56(const std::array<uint8_t, 16>& key, std::string_view name);

}  // namespace moorfs::keys
