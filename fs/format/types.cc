// SPDX-License-Identifier: Apache-2.0
//
// Codecs of the values that every part of the file system shares.

#include "fs/format/types.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "common/base/coding.h"

namespace moorfs {
namespace {

tl::unexpected<Status> Damaged(const char* what) {
  return Error(EIO, std::string("reading ") + what + " from metadata: the value is damaged; run moorfs fsck");
}

}  // namespace

uint32_t ToModeBits(FileType type) {
  switch (type) {
    case FileType::kFile: return S_IFREG;
    case FileType::kDirectory: return S_IFDIR;
    case FileType::kSymlink: return S_IFLNK;
    case FileType::kFifo: return S_IFIFO;
    case FileType::kSocket: return S_IFSOCK;
    case FileType::kCharDevice: return S_IFCHR;
    case FileType::kBlockDevice: return S_IFBLK;
  }
  return 0;
}

std::optional<FileType> FileTypeFromMode(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return FileType::kFile;
    case S_IFDIR: return FileType::kDirectory;
    case S_IFLNK: return FileType::kSymlink;
    case S_IFIFO: return FileType::kFifo;
    case S_IFSOCK: return FileType::kSocket;
    case S_IFCHR: return FileType::kCharDevice;
    case S_IFBLK: return FileType::kBlockDevice;
    default: return std::nullopt;
  }
}

uint64_t AccountedBytes(const Attr& attr) {
  if (attr.type != FileType::kFile) return 0;
  const uint64_t bytes = attr.slice_bytes + ((attr.flags & kAttrInline) ? std::min<uint64_t>(attr.length, kMaxInlineBytes) : 0);
  return (bytes + 4095) & ~uint64_t{4095};
}

uint64_t QuotaBytes(const Attr& attr) {
  return std::min(AccountedBytes(attr), (attr.length + 4095) & ~uint64_t{4095});
}

std::string EncodeAttr(const Attr& a) {
  std::string out;
  out.reserve(123);
  PutLe8(&out, static_cast<uint8_t>(a.type));
  PutLe16(&out, a.mode);
  PutLe32(&out, a.uid);
  PutLe32(&out, a.gid);
  PutLe32(&out, a.nlink);
  PutLe64(&out, a.length);
  PutLe32(&out, a.rdev);
  PutLe32(&out, a.generation);
  PutLe32(&out, a.flags);
  PutLe64(&out, a.parent);
  for (const Timestamp t : {a.atime, a.mtime, a.ctime, a.btime}) PutLe64(&out, static_cast<uint64_t>(t.ns));
  PutLe64(&out, a.change);
  PutLe64(&out, a.slice_seq);
  PutLe64(&out, a.slice_bytes);
  PutLe32(&out, a.access_acl);
  PutLe32(&out, a.default_acl);
  PutLe64(&out, static_cast<uint64_t>(a.trashed.ns));
  if (a.quota != 0) PutLe64(&out, a.quota);
  return out;
}

Result<Attr> DecodeAttr(std::string_view value) {
  ValueReader in(value);
  Attr a;
  const uint8_t type = in.Le8();
  a.type = static_cast<FileType>(type);
  a.mode = in.Le16();
  a.uid = in.Le32();
  a.gid = in.Le32();
  a.nlink = in.Le32();
  a.length = in.Le64();
  a.rdev = in.Le32();
  a.generation = in.Le32();
  a.flags = in.Le32();
  a.parent = in.Le64();
  for (Timestamp* t : {&a.atime, &a.mtime, &a.ctime, &a.btime}) t->ns = static_cast<int64_t>(in.Le64());
  a.change = in.Le64();
  a.slice_seq = in.Le64();
  a.slice_bytes = in.Le64();
  a.access_acl = in.Le32();
  a.default_acl = in.Le32();
  a.trashed.ns = static_cast<int64_t>(in.Le64());
  if (in.exhausted() || type < 1 || type > 7) return Damaged("an inode's attributes");
  a.quota = in.Le64();  // absent: 0
  return a;
}

std::string EncodeDirDelta(const DirDelta& d) {
  std::string out;
  out.reserve(32);
  PutLe64(&out, static_cast<uint64_t>(d.nlink));
  PutLe64(&out, d.change);
  PutLe64(&out, static_cast<uint64_t>(d.mtime.ns));
  PutLe64(&out, static_cast<uint64_t>(d.ctime.ns));
  return out;
}

Result<DirDelta> DecodeDirDelta(std::string_view value) {
  ValueReader in(value);
  DirDelta d;
  d.nlink = static_cast<int64_t>(in.Le64());
  d.change = in.Le64();
  d.mtime.ns = static_cast<int64_t>(in.Le64());
  d.ctime.ns = static_cast<int64_t>(in.Le64());
  if (in.exhausted()) return Damaged("a directory's delta");
  return d;
}

std::string EncodeSlice(const SliceRecord& s) {
  std::string out;
  out.reserve(28);
  PutLe32(&out, s.pos);
  PutLe32(&out, s.len);
  PutLe64(&out, s.object.nonce);
  PutLe64(&out, s.object.id);
  PutLe32(&out, s.offset);
  return out;
}

Result<SliceRecord> DecodeSlice(std::string_view value) {
  ValueReader in(value);
  SliceRecord s;
  s.pos = in.Le32();
  s.len = in.Le32();
  s.object.nonce = in.Le64();
  s.object.id = in.Le64();
  s.offset = in.Le32();
  if (in.exhausted() || uint64_t{s.pos} + s.len > kChunkBytes) return Damaged("a slice record");
  return s;
}

std::string_view CodecName(Codec codec) {
  switch (codec) {
    case Codec::kNone: return "none";
    case Codec::kLz4: return "lz4";
    case Codec::kZstd: return "zstd";
  }
  return "unknown";
}

std::optional<Codec> CodecFromName(std::string_view name) {
  for (const Codec c : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
    if (CodecName(c) == name) return c;
  }
  return std::nullopt;
}

std::string FormatUuid(const Uuid& uuid) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(36);
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out.push_back('-');
    out.push_back(kHex[uuid[i] >> 4]);
    out.push_back(kHex[uuid[i] & 15]);
  }
  return out;
}

Result<Uuid> ParseUuid(std::string_view text) {
  const auto bad = [&] { return Error(EINVAL, "'" + std::string(text) + "' is not a UUID"); };
  if (text.size() != 36) return bad();
  Uuid uuid{};
  size_t digits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return bad();
      continue;
    }
    uint8_t v = 0;
    if (c >= '0' && c <= '9') {
      v = static_cast<uint8_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      v = static_cast<uint8_t>(c - 'a' + 10);
    } else if (c >= 'A' && c <= 'F') {
      v = static_cast<uint8_t>(c - 'A' + 10);
    } else {
      return bad();
    }
    uuid[digits / 2] = static_cast<uint8_t>(uuid[digits / 2] << 4 | v);
    ++digits;
  }
  return uuid;
}

namespace {

// The kernel's generator cannot fail for so few bytes once the machine is up.
void FillRandom(void* out, size_t size) {
  if (getrandom(out, size, 0) != static_cast<ssize_t>(size)) std::abort();
}

}  // namespace

Uuid RandomUuid() {
  Uuid uuid;
  FillRandom(uuid.data(), uuid.size());
  uuid[6] = static_cast<uint8_t>((uuid[6] & 0x0f) | 0x40);
  uuid[8] = static_cast<uint8_t>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

uint64_t RandomU64() {
  uint64_t v;
  FillRandom(&v, sizeof v);
  return v;
}

}  // namespace moorfs
