// SPDX-License-Identifier: Apache-2.0
//
// BlockStore: block objects by id, encoded, verified and cached. Above it a
// block is its raw content; below it, in the ObjectStore, a self-describing
// object (fs/format/block.h, docs/formats/block.md) whose every frame carries
// a checksum that is verified on every read that leaves this class, cached or
// not. A damaged block is EIO for the bytes asked for, logged once with the
// object's name; never zeros.
//
// Thread-safe. Memory is bounded by Options::memory_bytes.

#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "fs/format/types.h"
#include "fs/object/object_store.h"

namespace moorfs::chunk {

struct BlockStoreOptions {
  Uuid volume{};
  Codec codec = Codec::kNone;
  // Decoded frames and object headers kept in memory.
  uint64_t memory_bytes = 64u << 20;
  // Disk cache; empty = none. Contents are checksummed, the index is bounded.
  std::string cache_dir;
  uint64_t cache_bytes = uint64_t{1} << 30;
  uint32_t prefetch_threads = 2;
};

struct BlockStoreStats {
  uint64_t puts = 0, put_bytes = 0, gets = 0, get_bytes = 0, deletes = 0;
  uint64_t memory_hits = 0, disk_hits = 0, misses = 0, damaged = 0;
  uint64_t memory_used_bytes = 0, disk_used_bytes = 0;
};

class BlockStore {
 public:
  // `store` outlives the result.
  static Result<std::unique_ptr<BlockStore>> Create(object::ObjectStore& store, BlockStoreOptions options);
  virtual ~BlockStore() = default;

  // Object name of an id: "<uuid>/<nonce:016x>/<id>>10 in hex>/<id in hex>".
  virtual std::string NameOf(const ObjectId& object) const = 0;
  // The id of a name of this volume; nullopt for anything else.
  virtual std::optional<ObjectId> IdOf(std::string_view name) const = 0;

  // Encodes and stores the concatenation of `raw` as one block. Not durable
  // before Barrier. `raw` is read during the call only.
  virtual Status Put(const ObjectId& object, std::span<const iovec> raw) = 0;
  virtual Status Barrier(std::span<const ObjectId> objects) = 0;

  // Fills `out` with raw bytes from `offset`. EIO: damaged, missing or short.
  virtual Status Read(const ObjectId& object, uint32_t offset, std::span<char> out) = 0;
  // The same when it needs no store or disk access; false (out untouched or
  // partly filled) otherwise. Never blocks.
  virtual bool TryRead(const ObjectId& object, uint32_t offset, std::span<char> out) = 0;
  // Hint: load in the background into the memory cache. Drops the hint when
  // busy or over budget.
  virtual void Prefetch(const ObjectId& object, uint32_t offset, uint32_t len) = 0;

  // From the store and every cache. OK when absent.
  virtual Status Delete(const ObjectId& object) = 0;
  virtual BlockStoreStats Stats() const = 0;
  virtual object::ObjectStore& store() = 0;
};

}  // namespace moorfs::chunk
