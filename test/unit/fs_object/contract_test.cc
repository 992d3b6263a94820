// SPDX-License-Identifier: Apache-2.0
//
// The object store contract on every store there is, and through the wrapper
// that tests use to inject faults.

#include "fs/object/mem/mem_store.h"
#include "test/contract/object_contract.h"
#include "test/support/faulty_object_store.h"
#include "test/support/temp_dir.h"

namespace moorfs::test {
namespace {

TEST_CASE("the file store keeps the object store contract") {
  TempDir dir;
  int count = 0;
  CheckObjectStoreContract(
      [&] { return object::OpenObjectStore("file:" + (dir / std::to_string(count++)), true).value(); });
}

TEST_CASE("the memory store keeps the object store contract") {
  CheckObjectStoreContract([] { return std::make_unique<object::MemStore>(); });
}

TEST_CASE("a faulty store without faults keeps the object store contract") {
  object::MemStore base;
  CheckObjectStoreContract([&] { return std::make_unique<FaultyObjectStore>(base); });
}

TEST_CASE("a faulty store fails what it was told to fail, and heals") {
  object::MemStore base;
  FaultyObjectStore store(base);
  store.AddRule({.op = Op::kPut, .err = ENOSPC, .name_part = "bad", .times = 1, .after = 1});
  CHECK(PutString(store, "v/bad", "1").ok());
  CHECK(PutString(store, "v/good", "1").ok());
  CHECK(PutString(store, "v/bad", "2").err() == ENOSPC);
  CHECK(PutString(store, "v/bad", "3").ok());
  store.AddRule({.op = Op::kGet, .err = EIO});
  CHECK(GetString(store, "v/good", 0, 1).error().err() == EIO);
  store.Heal();
  CHECK(GetString(store, "v/good", 0, 1).value() == "1");
  CHECK(store.calls(Op::kPut) == 4);
}

TEST_CASE("a power cut takes from the memory store what no barrier covered") {
  object::MemStore store;
  REQUIRE(PutString(store, "v/kept", "1").ok());
  REQUIRE(PutString(store, "v/lost", "1").ok());
  const std::vector<std::string> names{"v/kept"};
  REQUIRE(store.Barrier(names).ok());
  store.DropUnsynced();
  CHECK(ListNames(store, "") == std::set<std::string>{"v/kept"});
}

}  // namespace
}  // namespace moorfs::test
