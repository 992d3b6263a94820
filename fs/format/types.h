// SPDX-License-Identifier: Apache-2.0
//
// The nouns of the file system as they are persisted: inode attributes, slice
// records, object ids, the volume's format record. Pure data and codecs, no
// I/O. Every encoding is documented in docs/formats/metadata.md and pinned by
// golden tests; values grow at the tail only (common/base/coding.h).

#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/base/units.h"

namespace moorfs {

// Equal to the FUSE node id. < 2^52, so that an engine's script may hold one in
// a double. Never reused within a volume.
using Ino = uint64_t;
inline constexpr Ino kRootIno = 1;
inline constexpr Ino kFirstIno = 16;  // 2..15 are reserved
inline constexpr Ino kMaxIno = (uint64_t{1} << 52) - 1;

inline constexpr uint64_t kChunkBytes = uint64_t{64} << 20;
inline constexpr uint64_t kMaxFileBytes = uint64_t{1} << 57;
inline constexpr size_t kMaxNameBytes = 255;
inline constexpr size_t kMaxSymlinkBytes = 4095;
inline constexpr size_t kMaxXattrBytes = 64 << 10;
inline constexpr uint32_t kMaxNlink = 1u << 31;
// A file up to this length may live inline, beside its attributes.
inline constexpr size_t kMaxInlineBytes = 4096;

enum class FileType : uint8_t {
  kFile = 1,
  kDirectory = 2,
  kSymlink = 3,
  kFifo = 4,
  kSocket = 5,
  kCharDevice = 6,
  kBlockDevice = 7,
};

// S_IFMT bits of a type and back. nullopt for a mode without a known type.
uint32_t ToModeBits(FileType type);
std::optional<FileType> FileTypeFromMode(uint32_t mode);

// Attr::flags.
inline constexpr uint32_t kAttrTrashed = 1u << 0;      // in the trash; nlink is 0
inline constexpr uint32_t kAttrInline = 1u << 1;       // an inline record exists
inline constexpr uint32_t kAttrHasCapability = 1u << 2; // security.capability is set
inline constexpr uint32_t kAttrTruncating = 1u << 3;   // slices beyond length await removal
inline constexpr uint32_t kAttrManyParents = 1u << 4;  // parents are in 'P' records (hard links)
inline constexpr uint32_t kAttrHasXattr = 1u << 5;     // there may be 'X' records

struct Attr {
  FileType type = FileType::kFile;
  uint16_t mode = 0;  // permission, set-id and sticky bits (07777)
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 0;
  uint64_t length = 0;  // bytes; a directory's is 4096
  uint32_t rdev = 0;
  uint32_t generation = 0;
  uint32_t flags = 0;
  Ino parent = 0;  // of a directory always; of a file while it has one link
  Timestamp atime, mtime, ctime, btime;
  uint64_t change = 0;        // grows with every change of data or attributes
  uint64_t slice_seq = 0;     // next sequence number for a slice record of this inode
  uint64_t slice_bytes = 0;   // sum of the lengths of its slice records, holes excluded
  uint32_t access_acl = 0;    // id of an interned ACL, 0 = none (mode is all there is)
  uint32_t default_acl = 0;
  Timestamp trashed;          // time in the key of its trash record, with kAttrTrashed
  Ino quota = 0;              // the nearest directory with a quota, at or above it; 0 = none, or in the trash

  friend bool operator==(const Attr&, const Attr&) = default;
};

// What an inode counts for in the volume's used bytes (and st_blocks): the data
// it refers to in units of 4 KiB, wherever its length ends; 0 for all but files.
// Every transaction that changes it adds the difference to Counter::kUsedBytes.
uint64_t AccountedBytes(const Attr& attr);
// What it counts for in its quotas: the same, but never more than its length.
// Slices that others hide pile up until compaction takes them away; were they
// charged, overwriting a database in place would run into its quota. So a file
// without holes counts its length however often it is written, and one with
// holes its data, hidden slices included, up to its length.
uint64_t QuotaBytes(const Attr& attr);

std::string EncodeAttr(const Attr& attr);
Result<Attr> DecodeAttr(std::string_view value);

// What a session changed in a directory it shares with other sessions; the
// directory's attributes are its own record plus all of these (docs/formats).
struct DirDelta {
  int64_t nlink = 0;
  uint64_t change = 0;
  Timestamp mtime, ctime;
};
std::string EncodeDirDelta(const DirDelta& delta);
Result<DirDelta> DecodeDirDelta(std::string_view value);

// Names one immutable block object. `nonce` is drawn at random by every client
// process, so an id that a power cut took back from metadata is never given to
// other bytes. {0,0} is no object: a hole.
struct ObjectId {
  uint64_t nonce = 0;
  uint64_t id = 0;
  bool is_hole() const { return nonce == 0 && id == 0; }
  friend auto operator<=>(const ObjectId&, const ObjectId&) = default;
};

// A piece of a chunk: bytes [pos, pos+len) of the chunk are bytes
// [offset, offset+len) of the object's raw (decoded) content; zeros when the
// object is a hole. Among overlapping records the higher sequence number wins.
struct SliceRecord {
  uint32_t pos = 0;
  uint32_t len = 0;
  ObjectId object;
  uint32_t offset = 0;
  friend bool operator==(const SliceRecord&, const SliceRecord&) = default;
};
std::string EncodeSlice(const SliceRecord& slice);
Result<SliceRecord> DecodeSlice(std::string_view value);

struct Slice {
  uint64_t seq = 0;
  SliceRecord record;
};

// What metadata knows of a block object: how many slice records point at it.
struct ObjectRecord {
  int64_t refs = 0;
  uint32_t raw_bytes = 0;
};

enum class Codec : uint8_t { kNone = 0, kLz4 = 1, kZstd = 2 };
std::string_view CodecName(Codec codec);
std::optional<Codec> CodecFromName(std::string_view name);

using Uuid = std::array<uint8_t, 16>;
// 8-4-4-4-12 lower-case hex.
std::string FormatUuid(const Uuid& uuid);
Result<Uuid> ParseUuid(std::string_view text);
Uuid RandomUuid();
uint64_t RandomU64();

// The volume's own description, under the one key every version can read. A
// client that meets an unknown bit: compat - carry on; ro_compat - mount
// read-only; incompat - refuse, naming the bit.
struct VolumeFormat {
  uint32_t version = 1;
  uint64_t compat = 0, ro_compat = 0, incompat = 0;
  Uuid uuid{};
  std::string name;
  std::string store;          // STORE URL as given at format, without secrets
  uint32_t block_bytes = 4u << 20;
  Codec codec = Codec::kNone;
  uint32_t trash_days = 1;    // 0 = off
  uint32_t key_hash_bytes = 0; // hash prefix before each inode partition (K: range-partitioned engines)
  std::array<uint8_t, 16> name_hash_key{};  // SipHash key of directory positions
  Timestamp created;
  std::string created_by;     // "moorfs 0.1.0"
};
// ro_compat: there are quotas or volumes (families B and V). A program that
// does not know them would change files without counting.
inline constexpr uint64_t kRoCompatQuotas = 1;
inline constexpr uint64_t kKnownIncompat = 0, kKnownRoCompat = kRoCompatQuotas;
// JSON, so that any version and any person can read it.
std::string EncodeVolumeFormat(const VolumeFormat& format);
Result<VolumeFormat> DecodeVolumeFormat(std::string_view json);

}  // namespace moorfs
