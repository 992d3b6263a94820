// SPDX-License-Identifier: Apache-2.0
//
// Fixed-width integers in persisted bytes. Keys are big-endian, so that byte
// order is number order; values are little-endian. Reader stops at the end
// instead of failing, which is how a value grows: an old record simply lacks
// the new tail, a new record's tail is ignored by an old reader.

#pragma once

#include <endian.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace moorfs {

inline void PutBe32(std::string* out, uint32_t v) {
  v = htobe32(v);
  out->append(reinterpret_cast<const char*>(&v), sizeof v);
}
inline void PutBe64(std::string* out, uint64_t v) {
  v = htobe64(v);
  out->append(reinterpret_cast<const char*>(&v), sizeof v);
}
// `p` must have 4 (8) readable bytes.
inline uint32_t GetBe32(const char* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return be32toh(v);
}
inline uint64_t GetBe64(const char* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return be64toh(v);
}

inline void PutLe8(std::string* out, uint8_t v) { out->push_back(static_cast<char>(v)); }
inline void PutLe16(std::string* out, uint16_t v) {
  v = htole16(v);
  out->append(reinterpret_cast<const char*>(&v), sizeof v);
}
inline void PutLe32(std::string* out, uint32_t v) {
  v = htole32(v);
  out->append(reinterpret_cast<const char*>(&v), sizeof v);
}
inline void PutLe64(std::string* out, uint64_t v) {
  v = htole64(v);
  out->append(reinterpret_cast<const char*>(&v), sizeof v);
}
// 32-bit length, then the bytes.
inline void PutBytes(std::string* out, std::string_view v) {
  PutLe32(out, static_cast<uint32_t>(v.size()));
  out->append(v);
}

// Reads a value front to back. A read past the end yields `missing` and sets
// exhausted(); it never touches memory outside the value.
class ValueReader {
 public:
  explicit ValueReader(std::string_view value) : rest_(value) {}

  uint8_t Le8(uint8_t missing = 0) { return Fixed<uint8_t>(missing); }
  uint16_t Le16(uint16_t missing = 0) { return Fixed<uint16_t>(missing); }
  uint32_t Le32(uint32_t missing = 0) { return Fixed<uint32_t>(missing); }
  uint64_t Le64(uint64_t missing = 0) { return Fixed<uint64_t>(missing); }
  // Empty when missing or cut short.
  std::string_view Bytes() {
    const uint32_t size = Le32();
    if (size > rest_.size()) {
      exhausted_ = true;
      rest_ = {};
      return {};
    }
    std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }
  std::string_view rest() const { return rest_; }
  // True once a read asked for more than there was.
  bool exhausted() const { return exhausted_; }

 private:
  template <typename T>
  T Fixed(T missing) {
    if (rest_.size() < sizeof(T)) {
      exhausted_ = true;
      rest_ = {};
      return missing;
    }
    T v;
    std::memcpy(&v, rest_.data(), sizeof v);
    rest_.remove_prefix(sizeof v);
    if constexpr (sizeof(T) == 2) return le16toh(v);
    if constexpr (sizeof(T) == 4) return le32toh(v);
    if constexpr (sizeof(T) == 8) return le64toh(v);
    return v;
  }

  std::string_view rest_;
  bool exhausted_ = false;
};

}  // namespace moorfs
