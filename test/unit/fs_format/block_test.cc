// SPDX-License-Identifier: Apache-2.0
//
// The block codec alone: its bytes, which never change again, and what it does
// with bytes that nobody promised.

#include "fs/format/block.h"

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>
#include <random>

namespace moorfs::block {
namespace {

using Catch::Matchers::Contains;

const Uuid kVolume = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                      0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
const ObjectId kObject{0x0102030405060708, 0x1112131415161718};

std::string Encode(const std::string& raw, Codec codec, uint32_t frame_bytes = kDefaultFrameBytes) {
  Encoder encoder;
  const iovec piece{const_cast<char*>(raw.data()), raw.size()};
  REQUIRE(encoder.Encode({kVolume, codec, frame_bytes}, kObject, {&piece, 1}).ok());
  std::string out;
  for (const iovec& part : encoder.pieces())
    out.append(static_cast<const char*>(part.iov_base), part.iov_len);
  CHECK(out.size() == encoder.object_bytes());
  return out;
}

Result<std::string> Decode(std::string_view object) {
  ASSIGN_OR_RETURN(const Header header, Header::Parse(object, kVolume, kObject));
  std::string out(header.raw_bytes(), '?');
  for (uint32_t i = 0; i < header.frame_count(); i++) {
    const Frame& frame = header.frame(i);
    if (uint64_t{frame.offset} + frame.stored_bytes > object.size()) return Error(EBADMSG, "cut short");
    TRY_VOID(DecodeFrame(header, i, object.substr(frame.offset, frame.stored_bytes),
                         {out.data() + size_t{i} * header.frame_bytes(), header.FrameRawBytes(i)}));
  }
  return out;
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(c));
    out += two;
  }
  return out;
}

std::string Mixed(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out(size, '\0');
  for (size_t i = 0; i < size; i++)
    out[i] = (i / 6000) % 2 ? static_cast<char>(random()) : "to be or not"[i % 12];
  return out;
}

TEST_CASE("the bytes of a plain block are the documented ones") {
  const std::string object = Encode("hello block", Codec::kNone);
  CHECK(Hex(object) ==
        "4d6f6f72426c6b0a"  // magic
        "1519aa9ffe367985"  // checksum of what follows in the header
        "01000000"
        "70000000"  // version 1, codec none, flags; header of 112 bytes
        "0b000000"
        "00800000"
        "01000000"  // 11 raw bytes, frames of 32 KiB, 1 frame
        "1000"
        "0000"
        "00000000"
        "00000000"                          // table entries of 16 bytes; no cipher
        "00112233445566778899aabbccddeeff"  // volume
        "0807060504030201"
        "1817161514131211"
        "00000000000000000000000000000000"  // nonce of the cipher
        "0b000000"
        "00000000"
        "c945272c617df39b"
        "68656c6c6f20626c6f636b");
}

TEST_CASE("the headers of larger and of compressed blocks are the documented ones") {
  const std::string zeros(100000, '\0');
  const std::string plain = Encode(zeros, Codec::kNone);
  CHECK(plain.size() == 4096 + zeros.size());  // data begins on a page
  CHECK(Hex(plain.substr(8, 8)) == "08e9ad63efb72cbc");
  const std::string lz4 = Encode(zeros, Codec::kLz4);
  CHECK(Hex(lz4.substr(16, 4)) == "01000100");
  CHECK(Hex(lz4.substr(96, 4)) == "8b000080");
  CHECK(Decode(lz4).value() == zeros);
  // Compressors may choose other bytes one day; they decode all the same.
  const std::string zstd = Encode(zeros, Codec::kZstd);
  CHECK(Hex(zstd.substr(16, 4)) == "01000200");
  CHECK(Decode(zstd).value() == zeros);
  CHECK(zstd.size() < 4096 + 400);
}

TEST_CASE("every size and codec comes back, and data that does not shrink is kept as it is") {
  for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
    for (const uint32_t frame_bytes : {kMinFrameBytes, kDefaultFrameBytes, kMaxFrameBytes}) {
      for (const size_t size : {1u, 2u, 4095u, 4096u, 4097u, 32768u, 65537u, 300000u}) {
        INFO(CodecName(codec) << " " << frame_bytes << " " << size);
        const std::string raw = Mixed(size, size);
        const std::string object = Encode(raw, codec, frame_bytes);
        REQUIRE(Decode(object).value() == raw);
        CHECK(Header::Parse(object, kVolume, kObject)->ObjectBytes() == object.size());
        CHECK(object.size() <= Header::Length(object).value() + size);
      }
    }
  }
}

TEST_CASE("a plain block is written from the caller's memory, without a copy") {
  std::string a = Mixed(50000, 1), b = Mixed(70000, 2);
  const iovec raw[3] = {{a.data(), a.size()}, {nullptr, 0}, {b.data(), b.size()}};
  Encoder encoder;
  REQUIRE(encoder.Encode({kVolume, Codec::kNone}, kObject, raw).ok());
  REQUIRE(encoder.pieces().size() == 3);
  CHECK(encoder.pieces()[1].iov_base == a.data());
  CHECK(encoder.pieces()[1].iov_len == a.size());
  CHECK(encoder.pieces()[2].iov_base == b.data());
  CHECK(encoder.pieces()[2].iov_len == b.size());
}

TEST_CASE("an encoder refuses what no block can hold") {
  Encoder encoder;
  std::string raw(10, 'x');
  const iovec piece{raw.data(), raw.size()};
  CHECK(encoder.Encode({kVolume, Codec::kNone, 5000}, kObject, {&piece, 1}).err() == EINVAL);
  CHECK(encoder.Encode({kVolume, Codec::kNone}, kObject, {}).err() == EINVAL);
  const iovec huge{raw.data(), size_t{kMaxRawBytes} + 1};  // never touched
  CHECK(encoder.Encode({kVolume, Codec::kNone}, kObject, {&huge, 1}).err() == EINVAL);
}

// Changes header bytes and makes the checksum right again: a block made by
// somebody else, not one that was damaged.
std::string Forge(std::string object, size_t at, std::string_view bytes) {
  object.replace(at, bytes.size(), bytes);
  uint32_t length;
  std::memcpy(&length, object.data() + 20, 4);
  if (length >= 16 && length <= object.size()) {
    const uint64_t sum = Hash(std::string_view(object).substr(16, length - 16));
    std::memcpy(object.data() + 8, &sum, 8);
  }
  return object;
}

TEST_CASE("a well-made header with impossible contents is refused") {
  const std::string good = Encode(Mixed(100000, 3), Codec::kLz4);
  REQUIRE(Decode(Forge(good, 44, std::string(4, '\0'))).has_value());
  const auto refused = [&](size_t at, std::string_view bytes) {
    const auto parsed = Header::Parse(Forge(good, at, bytes), kVolume, kObject);
    return parsed ? std::string("accepted") : parsed.error().message();
  };
  using namespace std::string_view_literals;
  CHECK_THAT(refused(16, "\x02"), Contains("newer"));
  CHECK_THAT(refused(18, "\x07"), Contains("does not know"));
  CHECK_THAT(refused(19, "\x01"), Contains("does not know"));
  CHECK_THAT(refused(38, "\x01"), Contains("does not know"));
  CHECK_THAT(refused(48, "\x01"), Contains("another volume"));
  CHECK_THAT(refused(64, "\x01"), Contains("another id"));
  CHECK_THAT(refused(72, "\x01"), Contains("another id"));
  CHECK_THAT(refused(24, "\x00\x00\x00\x00"sv), Contains("contradicts"));
  CHECK_THAT(refused(24, "\xff\xff\xff\xff"sv), Contains("contradicts"));
  CHECK_THAT(refused(28, "\x00\x00\x00\x00"sv), Contains("contradicts"));
  CHECK_THAT(refused(28, "\x01\x80\x00\x00"sv), Contains("contradicts"));
  CHECK_THAT(refused(32, "\xff\xff\xff\xff"sv), Contains("contradicts"));
  CHECK_THAT(refused(36, "\x0f\x00"sv), Contains("contradicts"));
  CHECK_THAT(refused(36, "\xff\xff"sv), Contains("contradicts"));
  CHECK_THAT(refused(96, "\xff\xff\xff\xff"sv), Contains("frame length"));
  CHECK_THAT(refused(96, "\x00\x00\x00\x80"sv), Contains("frame length"));
  CHECK_THAT(refused(96, "\x00\x00\x00\x00"sv), Contains("frame length"));
  CHECK_FALSE(Header::Length("short"));
  CHECK_FALSE(Header::Parse(good.substr(0, 4095), kVolume, kObject));
}

TEST_CASE("a well-made frame that does not decompress is refused") {
  for (const Codec codec : {Codec::kLz4, Codec::kZstd}) {
    const std::string raw(32768, 'r');
    std::string good = Encode(raw, codec);
    const Frame frame = Header::Parse(good, kVolume, kObject)->frame(0);
    std::mt19937 random(11);
    for (int i = 0; i < 2000; i++) {
      std::string bad = good;
      for (int k = 0; k < 1 + i % 8; k++)
        bad[frame.offset + random() % frame.stored_bytes] = static_cast<char>(random());
      const uint64_t hash = Hash(std::string_view(bad).substr(frame.offset, frame.stored_bytes));
      bad = Forge(bad, 96 + 8, std::string_view(reinterpret_cast<const char*>(&hash), 8));
      const auto got = Decode(bad);  // other bytes perhaps, but never out of bounds
      if (got) CHECK(got->size() == raw.size());
    }
  }
}

TEST_CASE("random changes of a block never yield other bytes and never read out of bounds") {
  for (const Codec codec : {Codec::kNone, Codec::kLz4, Codec::kZstd}) {
    for (const size_t size : {300u, 20000u, 70000u}) {
      const std::string raw = Mixed(size, size);
      const std::string good = Encode(raw, codec, kMinFrameBytes);
      const size_t header_bytes = Header::Length(good).value();
      for (uint32_t seed = 0; seed < 3000; seed++) {
        std::mt19937 random(seed);
        std::string bad = good;
        const uint32_t kind = random() % 4;
        const size_t range = kind == 0 ? bad.size() : std::min(bad.size(), header_bytes);
        for (uint32_t changes = 1 + random() % 4; changes > 0; changes--)
          bad[random() % range] = static_cast<char>(random());
        if (kind == 2) bad.resize(random() % bad.size());
        if (kind == 3)
          bad.insert(random() % bad.size(), std::string(1 + random() % 50, static_cast<char>(random())));
        // An exact allocation, so that a sanitizer sees one byte too many.
        const std::vector<char> exact(bad.begin(), bad.end());
        const auto got = Decode({exact.data(), exact.size()});
        if (got) {
          INFO("seed " << seed);
          REQUIRE(*got == raw);
        }
      }
    }
  }
}

}  // namespace
}  // namespace moorfs::block
