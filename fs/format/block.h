// SPDX-License-Identifier: Apache-2.0
//
// The block object: how up to 64 MiB of raw bytes become one immutable object
// and back. A header that describes itself, then the raw bytes cut into frames;
// every frame is compressed and checksummed on its own, so any range can be
// read and verified without the rest. docs/formats/block.md pins the bytes.
//
// Pure transformation, no I/O. Everything that is parsed is taken for hostile.

#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "fs/format/types.h"

namespace moorfs::block {

// 32 KiB: a random 4 KiB read then moves and verifies 8x what it asked for,
// some 5 us of work, while the frame table stays at 0.05 % of the data and
// compression loses a few per cent against whole blocks.
inline constexpr uint32_t kDefaultFrameBytes = 32u << 10;
inline constexpr uint32_t kMinFrameBytes = 4u << 10;
inline constexpr uint32_t kMaxFrameBytes = 1u << 20;
inline constexpr uint32_t kMaxRawBytes = 64u << 20;
// A first read of this many bytes holds the whole header of a block of up to
// 7 MiB in default frames.
inline constexpr uint32_t kHeaderProbeBytes = 4096;

struct EncodeOptions {
  Uuid volume{};
  Codec codec = Codec::kNone;
  uint32_t frame_bytes = kDefaultFrameBytes;  // a power of two
};

// Encodes one block after another; keeps its buffers between them.
class Encoder {
 public:
  // On success pieces() is the object: it points into this encoder and, where
  // frames are stored as they are, into `raw`. Valid until the next Encode.
  Status Encode(const EncodeOptions& options, const ObjectId& object, std::span<const iovec> raw);
  std::span<const iovec> pieces() const { return pieces_; }
  uint64_t object_bytes() const { return object_bytes_; }

 private:
  std::string header_;
  std::vector<char> gathered_;    // a frame that spans several iovecs, made one
  std::vector<char> compressed_;  // all compressed frames
  std::vector<iovec> pieces_;
  uint64_t object_bytes_ = 0;
};

struct Frame {
  uint32_t offset = 0;  // from the start of the object
  uint32_t stored_bytes = 0;
  bool compressed = false;
  uint64_t hash = 0;  // XXH3-64 of the stored bytes
};

class Header {
 public:
  // Bytes of the header of the object that starts with `start` (at least
  // kFixedBytes of it). EBADMSG: not a block.
  static constexpr size_t kFixedBytes = 96;
  static Result<size_t> Length(std::string_view start);
  // `bytes` begins with the whole header. EBADMSG names what is wrong with it;
  // EPROTONOSUPPORT: made by a newer version.
  static Result<Header> Parse(std::string_view bytes, const Uuid& volume, const ObjectId& object);

  Codec codec() const { return codec_; }
  uint32_t raw_bytes() const { return raw_bytes_; }
  uint32_t frame_bytes() const { return frame_bytes_; }
  uint32_t frame_count() const { return static_cast<uint32_t>(frames_.size()); }
  const Frame& frame(uint32_t index) const { return frames_[index]; }
  // Raw bytes of frame `index`: frame_bytes(), less in the last.
  uint32_t FrameRawBytes(uint32_t index) const;
  // What the object's size must be.
  uint64_t ObjectBytes() const;
  size_t MemoryBytes() const { return sizeof *this + frames_.capacity() * sizeof(Frame); }

 private:
  Codec codec_ = Codec::kNone;
  uint32_t raw_bytes_ = 0;
  uint32_t frame_bytes_ = 0;
  std::vector<Frame> frames_;
};

// EBADMSG unless `stored` are the bytes the header promised for frame `index`.
Status VerifyFrame(const Header& header, uint32_t index, std::string_view stored);
// Verifies, then decodes into `out`, whose size is FrameRawBytes(index). A
// frame that is not compressed may be decoded in place.
Status DecodeFrame(const Header& header, uint32_t index, std::string_view stored, std::span<char> out);

// XXH3-64, the checksum of everything here.
uint64_t Hash(std::string_view bytes);

}  // namespace moorfs::block
