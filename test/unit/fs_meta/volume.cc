// SPDX-License-Identifier: Apache-2.0
//
// See volume.h.

#include "test/unit/fs_meta/volume.h"

#include "fs/kv/mem/mem_store.h"
#include "fs/meta/check/fsck.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta::testing {

std::string ShapeName(Shape shape) {
  switch (shape) {
    case Shape::kEmbedded: return "embedded";
    case Shape::kShared: return "shared";
    case Shape::kColliding: return "colliding";
  }
  return "?";
}

VolumeFormat TestFormat(uint32_t trash_days) {
  VolumeFormat format;
  format.name = "test";
  format.uuid = RandomUuid();
  format.trash_days = trash_days;
  format.created = Timestamp::Now();
  format.name_hash_key[0] = 7;
  return format;
}

void Ok(const Status& status) {
  INFO(status.ToString());
  REQUIRE(status.ok());
}

Volume::Volume(Shape the_shape, uint32_t trash_days) : shape(the_shape), mem(kv::NewMemStore()) {
  shared = std::make_unique<SharedKv>(*mem);
  Ok(Meta::FormatVolume(*mem, TestFormat(trash_days), 0, 0));
  meta = OpenAnother();
  user.uid = user.gid = 1000;
}

std::unique_ptr<Meta> Volume::OpenAnother() {
  MetaOptions options;
  options.is_open = [this](Ino ino) { return open.count(ino) > 0; };
  kv::KvStore& engine = shape == Shape::kShared ? static_cast<kv::KvStore&>(*shared) : *mem;
  auto out = Ok(Meta::Open(engine, options));
  Ok(out->StartSession({}, false));
  if (shape == Shape::kColliding) static_cast<MetaImpl&>(*out).set_name_hash_mask_for_test(1);
  return out;
}

void CheckClean(kv::KvStore& kv) {
  const auto report = Ok(Fsck(kv, {}));
  std::string all;
  for (const Finding& finding : report.findings) all += finding.text + "\n";
  INFO(all);
  CHECK(report.clean());
}

std::set<std::string> Volume::Names(Ino dir) {
  std::set<std::string> names;
  for (uint64_t after = 0;;) {
    const auto page = Ok(meta->ReadDir(dir, after, 7, true));
    for (const DirEntry& entry : page) {
      CHECK(entry.position > after);
      after = entry.position;
      CHECK(names.insert(entry.name).second);
      CHECK(entry.attr == At(entry.ino));
    }
    if (page.size() < 7) return names;
  }
}

std::vector<std::pair<std::string, std::string>> Volume::Dump() {
  std::vector<std::pair<std::string, std::string>> out;
  const auto snapshot = Ok(mem->NewSnapshot());
  Ok(snapshot->Walk("", [&](std::string_view key, std::string_view value) {
    out.emplace_back(key, value);
    return true;
  }));
  return out;
}

}  // namespace moorfs::meta::testing
