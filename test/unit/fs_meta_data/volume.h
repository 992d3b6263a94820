// SPDX-License-Identifier: Apache-2.0
//
// A volume in memory for tests of the data map, with objects whose content is
// a function of their name, so that nothing has to be stored to be compared.

#pragma once

#include <catch2/catch.hpp>
#include <functional>

#include "fs/kv/mem/mem_store.h"
#include "fs/meta/meta.h"

namespace moorfs::meta::testing {

// Byte `offset` of object `id`.
inline uint8_t ContentByte(const ObjectId& id, uint64_t offset) {
  if (id.is_hole()) return 0;
  uint64_t x = id.nonce * 0x9E3779B97F4A7C15ull + id.id * 0xBF58476D1CE4E5B9ull +
      offset * 0x94D049BB133111EBull;
  x ^= x >> 29;
  x *= 0xD6E8FEB86659FD93ull;
  return static_cast<uint8_t>(x >> 56);
}

inline VolumeFormat TestFormat() {
  VolumeFormat format;
  format.name = "test";
  format.uuid = RandomUuid();
  format.trash_days = 0;
  format.created = Timestamp::Now();
  format.name_hash_key[0] = 7;
  return format;
}

inline void RequireOk(const Status& status) {
  INFO(status.ToString());
  REQUIRE(status.ok());
}
template <typename T>
T Must(Result<T> result) {
  if (!result) FAIL(result.error().ToString());
  return *std::move(result);
}

struct Volume {
  explicit Volume(std::unique_ptr<kv::KvStore> engine = kv::NewMemStore()) : kv(std::move(engine)) {
    RequireOk(Meta::FormatVolume(*kv, TestFormat(), 0, 0));
    Reopen(*kv);
  }
  // As another client would, on `engine` (this one, or a wrapper of it).
  void Reopen(kv::KvStore& engine) { meta = Must(Meta::Open(engine, {})); }

  Ino NewFile(const std::string& name) {
    return Must(meta->MakeNode({}, kRootIno, name, 0100644, 0)).ino;
  }

  std::unique_ptr<kv::KvStore> kv;
  std::unique_ptr<Meta> meta;
  uint64_t next_object = 1;
};

// An engine that dies after a number of transactions; `before` may be called
// before each of them, with its number.
class DyingStore : public kv::KvStore {
 public:
  DyingStore(kv::KvStore& inner, size_t transactions, std::function<void(size_t)> before = {})
      : inner_(inner), left_(transactions), before_(std::move(before)) {}
  Status Sync() override { return inner_.Sync(); }
  Result<std::unique_ptr<kv::Snapshot>> NewSnapshot() override { return inner_.NewSnapshot(); }
  bool exclusive() const override { return inner_.exclusive(); }
  std::string_view engine() const override { return inner_.engine(); }

 protected:
  Status TransactOnce(const Body& body, int) override {
    if (left_ == 0) return Status(EIO, "the engine died");
    --left_;
    if (before_) before_(count_++);
    return inner_.Transact(body);
  }

 private:
  kv::KvStore& inner_;
  size_t left_;
  std::function<void(size_t)> before_;
  size_t count_ = 0;
};

// One update with one piece of a new object of exactly that size.
inline ObjectId Write(Volume& volume, Ino ino, uint64_t offset, uint32_t len) {
  const ObjectId id{77, volume.next_object++};
  FileUpdate update;
  update.ino = ino;
  SliceRecord record;
  record.pos = static_cast<uint32_t>(offset % kChunkBytes);
  record.len = len;
  record.object = id;
  update.pieces.push_back({static_cast<uint32_t>(offset / kChunkBytes), record});
  update.grow_to = offset + len;
  Must(volume.meta->Commit({{id, len}}, {update}));
  return id;
}

// What a reader sees of one file, from LoadSlices and LoadInline alone.
class Reader {
 public:
  using Content = std::function<uint8_t(const ObjectId&, uint64_t)>;
  Reader(Meta& meta, Ino ino, Content content = ContentByte);
  uint8_t At(uint64_t pos);
  uint64_t length() const { return length_; }
  // Where something begins or ends.
  const std::vector<uint64_t>& edges() const { return edges_; }

 private:
  struct Extent {
    uint64_t begin, end, offset;
    ObjectId object;
  };
  std::vector<Extent> extents_;
  std::vector<uint64_t> edges_;
  Content content_;
  std::string inline_;
  uint64_t length_ = 0;
};

// Every slice record of the volume counted per object, against the records of
// family O; slice_bytes and the used-bytes counter against their sums.
void RequireExactCounts(kv::KvStore& kv);
// Keys whose first byte is `family`.
size_t CountFamily(kv::KvStore& kv, char family);
std::vector<std::pair<std::string, std::string>> AllRecords(kv::KvStore& kv);

}  // namespace moorfs::meta::testing
