// SPDX-License-Identifier: Apache-2.0
//
// VerifyDump and Load: the reader of dumps. Foreign bytes: every length is
// checked before it is used, every checksum before a record is believed.

#include <xxhash.h>

#include "common/base/coding.h"
#include "fs/format/keys.h"
#include "fs/meta/check/dump.h"
#include "fs/meta/check/dump_format.h"
#include "fs/meta/check/split_key.h"

namespace moorfs::meta {

namespace {

using namespace dump_format;

using RecordVisitor = std::function<Status(std::string_view key, std::string_view value)>;

class DumpReader {
 public:
  explicit DumpReader(const DumpSource& source) : source_(source) {}

  Result<VolumeFormat> Header() {
    TRY_VOID(Start(kMagic.size() + 8));
    if (std::string_view(section_).substr(0, kMagic.size()) != kMagic) {
      return Error(EIO, "reading a dump: this is not one");
    }
    ValueReader fixed(std::string_view(section_).substr(kMagic.size()));
    const uint32_t version = fixed.Le32();
    const uint32_t json_bytes = fixed.Le32();
    if (version > kVersion) {
      return Error(EPROTONOSUPPORT, "reading a dump: its format is version " + std::to_string(version) +
                                        ", this moorfs knows up to " + std::to_string(kVersion));
    }
    if (version == 0 || json_bytes > kMaxHeaderJson) return Damaged("the header is out of range");
    TRY_VOID(More(json_bytes));
    const std::string json = section_.substr(kMagic.size() + 8);
    TRY_VOID(Sealed(0));
    return DecodeVolumeFormat(json);
  }

  Status Records(const RecordVisitor& visit) {
    while (true) {
      RETURN_IF_ERROR(Start(1));
      if (section_[0] == kTrailerTag) return Trailer();
      if (section_[0] != kBlockTag) return Damaged("neither block nor trailer").value();
      RETURN_IF_ERROR(More(8));
      ValueReader fixed(std::string_view(section_).substr(1));
      const uint32_t bytes = fixed.Le32();
      const uint32_t count = fixed.Le32();
      if (bytes > kMaxBlockBytes) return Damaged("a block is too long").value();
      RETURN_IF_ERROR(More(bytes));
      ++blocks_;
      const std::string payload = section_.substr(9);
      RETURN_IF_ERROR(Sealed(blocks_));
      PutLe64(&checksums_, checksum_);
      if (checksums_.size() >= 1 << 16) {
        const uint64_t folded = XXH3_64bits(checksums_.data(), checksums_.size());
        checksums_.clear();
        PutLe64(&checksums_, folded);
      }
      RETURN_IF_ERROR(Payload(payload, count, visit));
    }
  }

  const DumpStats& stats() const { return stats_; }

 private:
  tl::unexpected<Status> Damaged(std::string_view what) const {
    return Error(EIO, "reading a dump: damaged at offset " + std::to_string(section_start_) + ": " +
                          std::string(what));
  }

  Status Start(size_t bytes) {
    section_.clear();
    section_start_ = stats_.bytes;
    return More(bytes);
  }
  Status More(size_t bytes) {
    const size_t had = section_.size();
    section_.resize(had + bytes);
    for (size_t done = 0; done < bytes;) {
      ASSIGN_OR_RETURN_STATUS(const size_t n, source_(section_.data() + had + done, bytes - done));
      if (n == 0) {
        return Status(EIO, "reading a dump: it ends early, at offset " + std::to_string(stats_.bytes));
      }
      done += n;
      stats_.bytes += n;
    }
    return Status::Ok();
  }
  Status Sealed(uint64_t number) {
    checksum_ = XXH3_64bits_withSeed(section_.data(), section_.size(), number);
    const size_t at = section_.size();
    RETURN_IF_ERROR(More(8));
    if (ValueReader(std::string_view(section_).substr(at)).Le64() == checksum_) return Status::Ok();
    return Damaged("checksum mismatch").value();
  }
  Status Payload(std::string_view payload, uint32_t count, const RecordVisitor& visit) {
    for (uint32_t i = 0; i < count; ++i) {
      if (payload.size() < 6) return Damaged("a record is cut short").value();
      ValueReader fixed(payload);
      const size_t key_bytes = fixed.Le16();
      const size_t value_bytes = fixed.Le32();
      payload.remove_prefix(6);
      if (key_bytes > payload.size() || value_bytes > payload.size() - key_bytes) {
        return Damaged("a record is cut short").value();
      }
      RETURN_IF_ERROR(visit(payload.substr(0, key_bytes), payload.substr(key_bytes, value_bytes)));
      payload.remove_prefix(key_bytes + value_bytes);
      ++stats_.records;
    }
    return payload.empty() ? Status::Ok() : Damaged("a block holds more than its records").value();
  }
  Status Trailer() {
    RETURN_IF_ERROR(More(24));
    ValueReader fixed(std::string_view(section_).substr(1));
    const uint64_t blocks = fixed.Le64(), records = fixed.Le64(), total = fixed.Le64();
    RETURN_IF_ERROR(Sealed(blocks_ + 1));
    if (blocks != blocks_ || records != stats_.records ||
        total != XXH3_64bits(checksums_.data(), checksums_.size())) {
      return Damaged("blocks are missing").value();
    }
    char extra;
    ASSIGN_OR_RETURN_STATUS(const size_t n, source_(&extra, 1));
    return n == 0 ? Status::Ok() : Damaged("something follows the trailer").value();
  }

  const DumpSource& source_;
  std::string section_;
  uint64_t section_start_ = 0;
  std::string checksums_;
  uint64_t checksum_ = 0;
  uint64_t blocks_ = 0;
  DumpStats stats_;
};

const kv::Key& LoadingMark() {
  static const kv::Key mark = keys::Allocator("loading");
  return mark;
}

// Puts in transactions of bounded size.
class Loader {
 public:
  Loader(kv::KvStore& kv, uint32_t hash_bytes) : kv_(kv), hash_bytes_(hash_bytes) {}

  Status Add(std::string_view key, std::string_view value) {
    const auto split = SplitKey(key, hash_bytes_);
    if (!split || value.size() > kv::kMaxValueBytes) {
      return Status(EIO, "loading a dump: it holds a record this version does not know");
    }
    if (*split == LoadingMark()) return Status::Ok();
    if (*split == keys::Format()) {
      format_ = std::string(value);
      return Status::Ok();
    }
    bytes_ += key.size() + value.size();
    batch_.emplace_back(*split, std::string(value));
    return batch_.size() < 1000 && bytes_ < (1 << 20) ? Status::Ok() : Flush();
  }
  Status Finish() {
    RETURN_IF_ERROR(Flush());
    if (!format_) return Status(EIO, "loading a dump: it has no format record");
    RETURN_IF_ERROR(kv_.Transact([&](kv::Transaction& txn) {
      txn.Put(keys::Format(), *format_);
      txn.Delete(LoadingMark());
      return Status::Ok();
    }));
    return kv_.Sync();
  }

 private:
  Status Flush() {
    RETURN_IF_ERROR(kv_.Transact([&](kv::Transaction& txn) {
      for (const auto& [key, value] : batch_) txn.Put(key, value);
      return Status::Ok();
    }));
    batch_.clear();
    bytes_ = 0;
    return Status::Ok();
  }

  kv::KvStore& kv_;
  const uint32_t hash_bytes_;
  std::optional<std::string> format_;
  std::vector<std::pair<kv::Key, std::string>> batch_;
  size_t bytes_ = 0;
};

// Removes what a failed load left. Partitions of family I are split by
// whatever hash length that dump had; engines know keys by all their bytes.
Status ClearFailedLoad(kv::KvStore& kv, uint32_t hash_bytes) {
  while (true) {
    std::vector<kv::Key> some;
    ASSIGN_OR_RETURN_STATUS(const auto snapshot, kv.NewSnapshot());
    RETURN_IF_ERROR(snapshot->Walk({}, [&](std::string_view key, std::string_view) {
      const auto split = SplitKey(key, hash_bytes);
      if (split && *split != LoadingMark()) some.push_back(*split);
      return some.size() < 1000;
    }));
    if (some.empty()) return Status::Ok();
    RETURN_IF_ERROR(kv.Transact([&](kv::Transaction& txn) {
      for (const kv::Key& key : some) txn.Delete(key);
      return Status::Ok();
    }));
  }
}

Status PrepareEngine(kv::KvStore& kv, uint32_t hash_bytes) {
  ASSIGN_OR_RETURN_STATUS(const auto snapshot, kv.NewSnapshot());
  ASSIGN_OR_RETURN_STATUS(const auto format, snapshot->Get(keys::Format()));
  if (format) return Status(EEXIST, "loading a dump: the engine holds a volume; load into an empty one");
  ASSIGN_OR_RETURN_STATUS(const auto mark, snapshot->Get(LoadingMark()));
  if (mark) return ClearFailedLoad(kv, hash_bytes);
  bool empty = true;
  RETURN_IF_ERROR(snapshot->Walk({}, [&](std::string_view, std::string_view) { return empty = false; }));
  if (!empty) return Status(ENOTEMPTY,
                            "loading a dump: the engine holds something else; load into an empty one");
  return kv.Transact([](kv::Transaction& txn) {
    txn.Put(LoadingMark(), "1");
    return Status::Ok();
  });
}

}  // namespace

Result<DumpSummary> VerifyDump(const DumpSource& source) {
  DumpReader reader(source);
  DumpSummary summary;
  ASSIGN_OR_RETURN(summary.format, reader.Header());
  TRY_VOID(reader.Records([](std::string_view, std::string_view) { return Status::Ok(); }));
  summary.stats = reader.stats();
  return summary;
}

Result<DumpStats> Load(kv::KvStore& kv, const DumpSource& source) {
  DumpReader reader(source);
  ASSIGN_OR_RETURN(const VolumeFormat format, reader.Header());
  if (format.version > 1 || (format.incompat & ~kKnownIncompat) != 0) {
    return Error(EPROTONOSUPPORT, "loading a dump: volume '" + format.name + "' needs a newer moorfs");
  }
  TRY_VOID(PrepareEngine(kv, format.key_hash_bytes));
  Loader loader(kv, format.key_hash_bytes);
  TRY_VOID(reader.Records([&](std::string_view key, std::string_view value) {
    return loader.Add(key, value);
  }));
  TRY_VOID(loader.Finish());
  return reader.stats();
}

}  // namespace moorfs::meta
