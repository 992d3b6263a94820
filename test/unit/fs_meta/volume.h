// SPDX-License-Identifier: Apache-2.0
//
// A volume in memory for tests of the name space, in the shapes that change
// how it works inside: embedded, shared by hosts, and with a name hash so weak
// that names collide.

#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fs/kv/kv.h"
#include "fs/meta/meta.h"

namespace moorfs::meta::testing {

enum class Shape { kEmbedded, kShared, kColliding };
std::string ShapeName(Shape shape);

// An engine that says other hosts use it too.
class SharedKv final : public kv::KvStore {
 public:
  explicit SharedKv(kv::KvStore& inner) : inner_(inner) {}
  Status Sync() override { return inner_.Sync(); }
  Result<std::unique_ptr<kv::Snapshot>> NewSnapshot() override { return inner_.NewSnapshot(); }
  bool exclusive() const override { return false; }
  std::string_view engine() const override { return "shared"; }

 protected:
  Status TransactOnce(const Body& body, int) override { return inner_.Transact(body); }

 private:
  kv::KvStore& inner_;
};

VolumeFormat TestFormat(uint32_t trash_days);

void Ok(const Status& status);
template <typename T>
T Ok(Result<T> result) {
  if (!result) FAIL(result.error().ToString());
  return *std::move(result);
}
template <typename T>
int Err(const Result<T>& result) {
  return result ? 0 : result.error().err();
}
inline int Err(const Status& status) { return status.err(); }

void CheckClean(kv::KvStore& kv);

struct Volume {
  explicit Volume(Shape shape = Shape::kEmbedded, uint32_t trash_days = 0);
  // Another client of the same volume; on a shared one with a session of its own.
  std::unique_ptr<Meta> OpenAnother();

  Attr At(Ino ino) { return Ok(meta->GetAttr(ino)); }
  Ino File(Ino parent, const std::string& name) { return Ok(meta->MakeNode(root, parent, name, 0100644, 0)).ino; }
  Ino Dir(Ino parent, const std::string& name) { return Ok(meta->MakeDir(root, parent, name, 0755)).ino; }
  std::set<std::string> Names(Ino dir);
  // Nothing contradicts anything, in the eyes of fsck.
  void CheckClean() { testing::CheckClean(*mem); }
  // Every key of the store, to see that something did or did not change.
  std::vector<std::pair<std::string, std::string>> Dump();

  Shape shape;
  std::unique_ptr<kv::KvStore> mem;
  std::unique_ptr<SharedKv> shared;
  std::unique_ptr<Meta> meta;
  std::set<Ino> open;  // what `is_open` says
  OpContext root;
  OpContext user;  // uid 1000, gid 1000
  keys::Schema schema;
};

}  // namespace moorfs::meta::testing
