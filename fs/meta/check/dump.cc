// SPDX-License-Identifier: Apache-2.0
//
// Dump: walks a snapshot and writes blocks of records.

#include "fs/meta/check/dump.h"

#include <xxhash.h>

#include "common/base/coding.h"
#include "fs/format/keys.h"
#include "fs/meta/check/dump_format.h"

namespace moorfs::meta {

namespace {

using namespace dump_format;

class DumpWriter {
 public:
  explicit DumpWriter(const DumpSink& sink) : sink_(sink) {}

  Status Header(std::string_view format_json) {
    std::string out(kMagic);
    PutLe32(&out, kVersion);
    PutBytes(&out, format_json);
    return Sealed(std::move(out), 0);
  }
  Status Record(std::string_view key, std::string_view value) {
    PutLe16(&payload_, static_cast<uint16_t>(key.size()));
    PutLe32(&payload_, static_cast<uint32_t>(value.size()));
    payload_.append(key).append(value);
    ++block_records_;
    ++stats_.records;
    return payload_.size() < kBlockBytes ? Status::Ok() : Block();
  }
  Status Trailer() {
    if (block_records_ > 0) RETURN_IF_ERROR(Block());
    std::string out(1, kTrailerTag);
    PutLe64(&out, blocks_);
    PutLe64(&out, stats_.records);
    PutLe64(&out, XXH3_64bits(checksums_.data(), checksums_.size()));
    return Sealed(std::move(out), blocks_ + 1);
  }
  const DumpStats& stats() const { return stats_; }

 private:
  Status Block() {
    std::string out(1, kBlockTag);
    PutLe32(&out, static_cast<uint32_t>(payload_.size()));
    PutLe32(&out, block_records_);
    out.append(payload_);
    payload_.clear();
    block_records_ = 0;
    ++blocks_;
    RETURN_IF_ERROR(Sealed(std::move(out), blocks_));
    PutLe64(&checksums_, last_checksum_);
    // Folded from time to time: the list of a large volume stays small.
    if (checksums_.size() >= 1 << 16) {
      const uint64_t folded = XXH3_64bits(checksums_.data(), checksums_.size());
      checksums_.clear();
      PutLe64(&checksums_, folded);
    }
    return Status::Ok();
  }
  // The section's number seeds its checksum, so that none can change places.
  Status Sealed(std::string section, uint64_t number) {
    last_checksum_ = XXH3_64bits_withSeed(section.data(), section.size(), number);
    PutLe64(&section, last_checksum_);
    stats_.bytes += section.size();
    return sink_(section);
  }

  const DumpSink& sink_;
  std::string payload_;
  std::string checksums_;
  uint64_t last_checksum_ = 0;
  uint32_t block_records_ = 0;
  uint64_t blocks_ = 0;
  DumpStats stats_;
};

}  // namespace

Result<DumpStats> Dump(kv::KvStore& kv, const DumpSink& sink) {
  ASSIGN_OR_RETURN(const auto snapshot, kv.NewSnapshot());
  ASSIGN_OR_RETURN(const auto format, snapshot->Get(keys::Format()));
  if (!format) return Error(ENOENT, "dumping: the engine holds no volume");
  DumpWriter writer(sink);
  TRY_VOID(writer.Header(*format));
  Status written;
  TRY_VOID(snapshot->Walk({}, [&](std::string_view key, std::string_view value) {
    written = writer.Record(key, value);
    return written.ok();
  }));
  TRY_VOID(written);
  TRY_VOID(writer.Trailer());
  return writer.stats();
}

}  // namespace moorfs::meta
