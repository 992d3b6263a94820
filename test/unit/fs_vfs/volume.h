// SPDX-License-Identifier: Apache-2.0
//
// Volume: a Vfs for tests, over real metadata and a real directory of objects
// that fails on request. Crash() drops the client without a flush, Start()
// lets a new one take the same arena over.

#pragma once

#include <catch2/catch.hpp>
#include <fcntl.h>

#include <memory>
#include <string>
#include <utility>

#include "fs/kv/mem/mem_store.h"
#include "fs/vfs/vfs.h"
#include "test/support/faulty_object_store.h"
#include "test/support/temp_dir.h"

namespace moorfs::vfs {

inline constexpr OpContext kNobody{};

class Volume {
 public:
  explicit Volume(uint64_t data_bytes = 8_MiB, uint32_t block_bytes = 256 << 10, VfsOptions vfs_options = {})
      : vfs_options_(vfs_options) {
    VolumeFormat format;
    format.uuid = RandomUuid();
    format.name = "test";
    format.block_bytes = block_bytes;
    format.trash_days = 0;
    REQUIRE(meta::Meta::FormatVolume(*kv_, format, 0, 0).ok());
    store_ = std::move(*object::OpenObjectStore("file:" + (dir_ / "store"), true));
    faults_ = std::make_unique<test::FaultyObjectStore>(*store_);
    chunk::BlockStoreOptions options;
    options.volume = format.uuid;
    blocks_ = std::move(*chunk::BlockStore::Create(*faults_, options));
    ArenaGeometry g;
    g.slot_count = 1;
    g.slot_bytes = 8192;
    g.handle_count = 1024;
    g.lock_count = 64;
    g.data_bytes = data_bytes;
    arena_ = std::move(*Arena::Map(std::move(*Arena::CreateMemfd(g))));
    Start();
  }
  ~Volume() { Crash(); }

  void Crash() {
    vfs_.reset();
    meta_.reset();
    inodes_.reset();
  }
  void Start() {
    inodes_ = std::make_unique<InodeTable>();
    meta::MetaOptions options;
    options.is_open = [this](Ino ino) { return inodes_->IsOpen(ino); };
    meta_ = std::move(*meta::Meta::Open(*kv_, options));
    REQUIRE(meta_->StartSession({}, true).ok());
    vfs_ = std::make_unique<Vfs>(*arena_, *inodes_, *meta_, *blocks_, vfs_options_);
    REQUIRE(vfs_->Start().ok());
  }
  std::pair<Ino, Handle> NewFile(const std::string& name) {
    Result<FileSystem::Created> created = vfs_->Create(kNobody, kRootIno, name, S_IFREG | 0644, O_RDWR);
    REQUIRE(created);
    return {created->entry.ino, created->opened.handle};
  }
  std::string ReadAll(Ino ino) {
    Result<Attr> attr = vfs_->GetAttr(kNobody, ino);
    REQUIRE(attr);
    std::string out(attr->length, '?');
    Result<size_t> got = vfs_->Read(kNobody, ino, 0, 0, out);
    if (!got) FAIL(got.error().ToString());
    REQUIRE(*got == out.size());
    return out;
  }

  const VfsOptions vfs_options_;
  test::TempDir dir_;
  std::unique_ptr<kv::KvStore> kv_ = kv::NewMemStore();
  std::unique_ptr<object::ObjectStore> store_;
  std::unique_ptr<test::FaultyObjectStore> faults_;
  std::unique_ptr<chunk::BlockStore> blocks_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<InodeTable> inodes_;
  std::unique_ptr<meta::Meta> meta_;
  std::unique_ptr<Vfs> vfs_;
};

}  // namespace moorfs::vfs
