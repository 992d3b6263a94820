// SPDX-License-Identifier: Apache-2.0
//
// The ledger: a text file outside the volume that says what an fsync has
// promised. Written only after the fsync returned, read after a crash.
//
//   b FILE BLOCK GENERATION   this block holds this generation or a later one
//   a FILE RECORDS BYTES      the file begins with so many whole records
//   k FILE SIZE SEED          the file exists with exactly this content
//   v FILE VERSION            the file is whole, of this version or a later one
//
// And the shapes of the data that it speaks of, made from numbers so that a
// reader can check them without having seen the writer.

#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace moorfs::storm {

inline constexpr size_t kBlock = 4096;

class Ledger {
 public:
  // An empty path keeps no ledger.
  explicit Ledger(const std::string& path);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  // One write(2) for all lines: a reader never sees half of a promise.
  void Promise(const std::string& lines);

 private:
  std::mutex mutex_;
  int fd_ = -1;
};

// A block that carries its file, its place and its generation in every part.
void FillBlock(char* out, uint32_t file, uint32_t block, uint32_t generation);
// The generation, or -1 when the block is torn, of another place, or foreign.
// A block of zeros is generation 0.
int64_t CheckBlock(const char* data, uint32_t file, uint32_t block);

// Record `sequence` of an appended file: header and payload.
std::string AppendRecord(uint32_t file, uint64_t sequence);

// `size` bytes that depend on `seed` alone.
std::string Content(uint64_t seed, size_t size);

// Checks everything promised in the first `limit` bytes of the ledger (0: all)
// against `root`. Returns what is broken.
std::vector<std::string> VerifyLedger(const std::string& ledger, uint64_t limit, const std::string& root,
                                      uint64_t* promises);

}  // namespace moorfs::storm
