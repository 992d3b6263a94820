// SPDX-License-Identifier: Apache-2.0
//
// See block.h. Layout of the header, little-endian:
//    0  8 magic "MoorBlk\n"
//    8  8 XXH3-64 of bytes [16, header_bytes)
//   16  2 version (1)           18 1 codec        19 1 flags (0)
//   20  4 header_bytes          24 4 raw_bytes    28 4 frame_bytes
//   32  4 frame_count           36 2 bytes of a frame table entry
//   38  1 cipher (0 = none)     39 1 reserved     40 4 key id     44 4 reserved
//   48 16 volume UUID           64 8 object nonce 72 8 object id
//   80 16 cipher nonce
//   96    frame table, per frame:  4 stored bytes | compressed << 31,
//         4 reserved,  8 XXH3-64 of the stored bytes,  then a tag when encrypted
//   zeros to header_bytes

#include "fs/format/block.h"

#include <lz4.h>
#define XXH_STATIC_LINKING_ONLY  // for a state on the stack
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // AVX where the processor has it
#endif
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "common/base/coding.h"

namespace moorfs::block {
namespace {

constexpr char kMagic[9] = "MoorBlk\n";
constexpr uint16_t kVersion = 1;
constexpr uint32_t kEntryBytes = 16;
constexpr uint32_t kCompressedBit = 1u << 31;
constexpr uint32_t kAlign = 4096;
constexpr uint32_t kMaxHeaderBytes = 1u << 20;
constexpr int kZstdLevel = 1;

struct FreeZstd {
  void operator()(ZSTD_CCtx* c) const { ZSTD_freeCCtx(c); }
  void operator()(ZSTD_DCtx* d) const { ZSTD_freeDCtx(d); }
};

// 0: not smaller than it was.
size_t Compress(Codec codec, std::string_view raw, std::span<char> out) {
  if (codec == Codec::kLz4) {
    return LZ4_compress_default(raw.data(), out.data(), static_cast<int>(raw.size()),
                                static_cast<int>(out.size()));
  }
  thread_local std::unique_ptr<ZSTD_CCtx, FreeZstd> context(ZSTD_createCCtx());
  const size_t size =
      ZSTD_compressCCtx(context.get(), out.data(), out.size(), raw.data(), raw.size(), kZstdLevel);
  return ZSTD_isError(size) ? 0 : size;
}

// False unless `stored` decodes to exactly out.size() bytes.
bool Decompress(Codec codec, std::string_view stored, std::span<char> out) {
  if (codec == Codec::kLz4) {
    return LZ4_decompress_safe(stored.data(), out.data(), static_cast<int>(stored.size()),
                               static_cast<int>(out.size())) == static_cast<int>(out.size());
  }
  if (codec != Codec::kZstd) return false;
  thread_local std::unique_ptr<ZSTD_DCtx, FreeZstd> context(ZSTD_createDCtx());
  return ZSTD_decompressDCtx(context.get(), out.data(), out.size(), stored.data(), stored.size()) ==
         out.size();
}

uint32_t FrameCount(uint32_t raw_bytes, uint32_t frame_bytes) {
  return raw_bytes / frame_bytes + (raw_bytes % frame_bytes != 0);
}

bool ValidFrameBytes(uint32_t bytes) {
  return bytes >= kMinFrameBytes && bytes <= kMaxFrameBytes && std::has_single_bit(bytes);
}

// A block of a frame or more starts its data on a page, so that page-sized
// reads stay page-sized; a smaller one stays small.
uint32_t HeaderBytes(uint32_t frames, uint32_t raw_bytes) {
  const uint32_t bytes = Header::kFixedBytes + frames * kEntryBytes;
  return raw_bytes >= kDefaultFrameBytes ? (bytes + kAlign - 1) / kAlign * kAlign : bytes;
}

// Walks the raw iovecs a frame at a time.
class RawCursor {
 public:
  explicit RawCursor(std::span<const iovec> raw) : raw_(raw) {}

  // The next `bytes`, contiguous if one iovec holds them; empty otherwise.
  std::string_view TakeContiguous(size_t bytes) {
    SkipEmpty();
    if (raw_[next_].iov_len - used_ < bytes) return {};
    const char* start = static_cast<const char*>(raw_[next_].iov_base) + used_;
    used_ += bytes;
    return {start, bytes};
  }
  // Calls visit(piece) for the pieces of the next `bytes`.
  template <typename F>
  void Take(size_t bytes, F visit) {
    while (bytes > 0) {
      SkipEmpty();
      const size_t count = std::min(bytes, raw_[next_].iov_len - used_);
      visit(std::string_view(static_cast<const char*>(raw_[next_].iov_base) + used_, count));
      used_ += count;
      bytes -= count;
    }
  }

 private:
  void SkipEmpty() {
    while (used_ == raw_[next_].iov_len) {
      next_++;
      used_ = 0;
    }
  }
  std::span<const iovec> raw_;
  size_t next_ = 0;
  size_t used_ = 0;
};

void AppendPiece(std::vector<iovec>* pieces, std::string_view bytes) {
  char* start = const_cast<char*>(bytes.data());
  if (!pieces->empty()) {
    iovec& last = pieces->back();
    if (static_cast<char*>(last.iov_base) + last.iov_len == start) {
      last.iov_len += bytes.size();
      return;
    }
  }
  pieces->push_back({start, bytes.size()});
}

tl::unexpected<Status> Damaged(const char* what) {
  return Error(EBADMSG, what);
}

template <typename T>
T Load(std::string_view bytes, size_t at) {
  T v;
  std::memcpy(&v, bytes.data() + at, sizeof v);
  if constexpr (sizeof(T) == 2) return le16toh(v);
  if constexpr (sizeof(T) == 4) return le32toh(v);
  if constexpr (sizeof(T) == 8) return le64toh(v);
  return v;
}

}  // namespace

uint64_t Hash(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

Status Encoder::Encode(const EncodeOptions& options, const ObjectId& object, std::span<const iovec> raw) {
  uint64_t raw_bytes = 0;
  for (const iovec& piece : raw) raw_bytes += piece.iov_len;
  if (raw_bytes == 0 || raw_bytes > kMaxRawBytes) {
    return Status(EINVAL,
                  "encode a block of " + std::to_string(raw_bytes) + " bytes: 1 to 67108864 are possible");
  }
  if (!ValidFrameBytes(options.frame_bytes)) return Status(EINVAL, "encode a block: frame size is not valid");

  const uint32_t frame_bytes = options.frame_bytes;
  const uint32_t frames = FrameCount(raw_bytes, frame_bytes);
  const uint32_t header_bytes = HeaderBytes(frames, raw_bytes);
  header_.clear();
  header_.append(kMagic, 8);
  PutLe64(&header_, 0);  // checksum, below
  PutLe16(&header_, kVersion);
  PutLe8(&header_, static_cast<uint8_t>(options.codec));
  PutLe8(&header_, 0);
  PutLe32(&header_, header_bytes);
  PutLe32(&header_, raw_bytes);
  PutLe32(&header_, frame_bytes);
  PutLe32(&header_, frames);
  PutLe16(&header_, kEntryBytes);
  PutLe8(&header_, 0);
  PutLe8(&header_, 0);
  PutLe32(&header_, 0);
  PutLe32(&header_, 0);
  header_.append(reinterpret_cast<const char*>(options.volume.data()), options.volume.size());
  PutLe64(&header_, object.nonce);
  PutLe64(&header_, object.id);
  header_.append(16, '\0');

  const bool compress = options.codec != Codec::kNone;
  if (compress) {
    gathered_.resize(frame_bytes);
    compressed_.resize(raw_bytes);  // never moves while pieces_ points into it
  }
  pieces_.clear();
  pieces_.push_back({});  // the header, below
  object_bytes_ = header_bytes;
  size_t compressed_used = 0;
  RawCursor cursor(raw);
  for (uint32_t i = 0; i < frames; i++) {
    const size_t bytes = std::min<uint64_t>(frame_bytes, raw_bytes - uint64_t{i} * frame_bytes);
    RawCursor start = cursor;
    std::string_view whole = cursor.TakeContiguous(bytes);
    if (whole.empty() && compress) {
      size_t filled = 0;
      cursor.Take(bytes, [&](std::string_view piece) {
        std::memcpy(gathered_.data() + filled, piece.data(), piece.size());
        filled += piece.size();
      });
      whole = {gathered_.data(), bytes};
    }
    // One byte less than raw: a frame that does not shrink is stored as it is.
    const size_t shrunk = compress && bytes > 1 ? Compress(options.codec, whole,
                                                           {compressed_.data() + compressed_used, bytes - 1})
                                                : 0;
    if (shrunk > 0) {
      const std::string_view stored(compressed_.data() + compressed_used, shrunk);
      compressed_used += shrunk;
      PutLe32(&header_, static_cast<uint32_t>(shrunk) | kCompressedBit);
      PutLe32(&header_, 0);
      PutLe64(&header_, Hash(stored));
      AppendPiece(&pieces_, stored);
      object_bytes_ += shrunk;
      continue;
    }
    PutLe32(&header_, static_cast<uint32_t>(bytes));
    PutLe32(&header_, 0);
    if (!whole.empty()) {
      PutLe64(&header_, Hash(whole));
    } else {
      XXH3_state_t state;
      XXH3_64bits_reset(&state);
      cursor.Take(bytes,
                  [&](std::string_view piece) { XXH3_64bits_update(&state, piece.data(), piece.size()); });
      PutLe64(&header_, XXH3_64bits_digest(&state));
    }
    // From the caller's memory, never from gathered_, which the next frame reuses.
    start.Take(bytes, [&](std::string_view piece) { AppendPiece(&pieces_, piece); });
    object_bytes_ += bytes;
  }
  header_.resize(header_bytes, '\0');
  const uint64_t sum = htole64(Hash(std::string_view(header_).substr(16)));
  std::memcpy(header_.data() + 8, &sum, sizeof sum);
  pieces_[0] = {header_.data(), header_.size()};
  return {};
}

Result<size_t> Header::Length(std::string_view start) {
  if (start.size() < kFixedBytes) return Damaged("shorter than a block's header");
  if (std::memcmp(start.data(), kMagic, 8) != 0) return Damaged("not a block: wrong magic");
  if (Load<uint16_t>(start, 16) != kVersion) {
    return Error(EPROTONOSUPPORT, "block version " + std::to_string(Load<uint16_t>(start, 16)) +
                                      " is newer than this MoorFS (or damaged)");
  }
  const uint32_t bytes = Load<uint32_t>(start, 20);
  if (bytes < kFixedBytes || bytes > kMaxHeaderBytes) return Damaged("header length out of range");
  return bytes;
}

Result<Header> Header::Parse(std::string_view bytes, const Uuid& volume, const ObjectId& object) {
  ASSIGN_OR_RETURN(const size_t header_bytes, Length(bytes));
  if (bytes.size() < header_bytes) return Damaged("header is cut short");
  bytes = bytes.substr(0, header_bytes);
  if (Load<uint64_t>(bytes, 8) != Hash(bytes.substr(16))) return Damaged("header fails its checksum");
  // Undamaged from here on, but perhaps not made by us.
  const uint8_t codec = static_cast<uint8_t>(bytes[18]);
  if (codec > static_cast<uint8_t>(Codec::kZstd) || bytes[19] != 0 || bytes[38] != 0) {
    return Error(EPROTONOSUPPORT, "block uses a codec, flag or cipher this MoorFS does not know");
  }
  if (std::memcmp(bytes.data() + 48, volume.data(), volume.size()) != 0)
    return Damaged("block of another volume");
  if (Load<uint64_t>(bytes, 64) != object.nonce || Load<uint64_t>(bytes, 72) != object.id) {
    return Damaged("block of another id");
  }
  Header header;
  header.codec_ = static_cast<Codec>(codec);
  header.raw_bytes_ = Load<uint32_t>(bytes, 24);
  header.frame_bytes_ = Load<uint32_t>(bytes, 28);
  const uint32_t count = Load<uint32_t>(bytes, 32);
  const uint32_t entry_bytes = Load<uint16_t>(bytes, 36);
  if (header.raw_bytes_ == 0 || header.raw_bytes_ > kMaxRawBytes || !ValidFrameBytes(header.frame_bytes_) ||
      count != FrameCount(header.raw_bytes_, header.frame_bytes_) || entry_bytes < kEntryBytes ||
      kFixedBytes + uint64_t{count} * entry_bytes > header_bytes) {
    return Damaged("header contradicts itself");
  }
  header.frames_.resize(count);
  uint32_t offset = static_cast<uint32_t>(header_bytes);
  for (uint32_t i = 0; i < count; i++) {
    const size_t at = kFixedBytes + size_t{i} * entry_bytes;
    const uint32_t stored = Load<uint32_t>(bytes, at);
    Frame& frame = header.frames_[i];
    frame.offset = offset;
    frame.compressed = (stored & kCompressedBit) != 0;
    frame.stored_bytes = stored & ~kCompressedBit;
    frame.hash = Load<uint64_t>(bytes, at + 8);
    const uint32_t raw = header.FrameRawBytes(i);
    const bool fits = frame.compressed ? frame.stored_bytes > 0 && frame.stored_bytes < raw && codec != 0
                                       : frame.stored_bytes == raw;
    if (!fits) return Damaged("frame length out of range");
    offset += frame.stored_bytes;
  }
  return header;
}

uint32_t Header::FrameRawBytes(uint32_t index) const {
  return index + 1 < frames_.size() ? frame_bytes_ : raw_bytes_ - index * frame_bytes_;
}

uint64_t Header::ObjectBytes() const {
  return uint64_t{frames_.back().offset} + frames_.back().stored_bytes;
}

Status VerifyFrame(const Header& header, uint32_t index, std::string_view stored) {
  const Frame& frame = header.frame(index);
  if (stored.size() != frame.stored_bytes) return Status(EBADMSG, "frame is cut short");
  if (Hash(stored) != frame.hash) return Status(EBADMSG, "frame fails its checksum");
  return {};
}

Status DecodeFrame(const Header& header, uint32_t index, std::string_view stored, std::span<char> out) {
  RETURN_IF_ERROR(VerifyFrame(header, index, stored));
  if (out.size() != header.FrameRawBytes(index))
    return Status(EINVAL, "decode a frame: buffer of another size");
  if (header.frame(index).compressed) {
    if (!Decompress(header.codec(), stored, out)) return Status(EBADMSG, "frame does not decompress");
  } else if (stored.data() != out.data()) {
    std::memcpy(out.data(), stored.data(), out.size());
  }
  return {};
}

}  // namespace moorfs::block
