// SPDX-License-Identifier: Apache-2.0
//
// The engine in memory, the shared base, and opening by URL.

#include <catch2/catch.hpp>

#include "fs/kv/mem/mem_store.h"
#include "fs/kv/open.h"
#include "test/contract/kv_contract.h"

namespace moorfs::kv {
namespace {

TEST_CASE("the engine in memory keeps the KvStore contract") {
  RunKvContract([] { return NewMemStore(); });
}

TEST_CASE("the engine in memory is serializable") {
  RunKvConcurrencyContract([] { return NewMemStore(); });
}

TEST_CASE("PrefixRange ends right behind the prefix") {
  CHECK(PrefixRange("p", "ab").end == "ac");
  CHECK(PrefixRange("p", "a\xff\xff").end == "b");
  CHECK(PrefixRange("p", "\xff").end.empty());
  CHECK(PrefixRange("p", "").end.empty());
  CHECK(PrefixRange("p", "ab").begin == "ab");
}

TEST_CASE("a URL chooses the engine") {
  auto store = OpenKvStore("mem:", {});
  REQUIRE(store);
  CHECK((*store)->engine() == "mem");
  CHECK((*store)->exclusive());
  for (const char* url : {"redis:localhost", "leveldb", "", "/some/dir"}) {
    auto failed = OpenKvStore(url, {});
    REQUIRE_FALSE(failed);
    CHECK(failed.error().err() == EINVAL);
    CHECK(failed.error().message().find("leveldb:DIR and mem:") != std::string::npos);
  }
  CHECK(OpenKvStore("leveldb:", {}).error().err() == EINVAL);
  CHECK(OpenKvStore("mem:x", {}).error().err() == EINVAL);
}

TEST_CASE("a store opened read-only refuses writes and allows reads") {
  auto store = NewMemStore({.read_only = true});
  CHECK(store->Transact([](Transaction& t) { return t.Put(Key("p", "s"), "v"), Status(); }).err() == EROFS);
  CHECK(store->Transact([](Transaction& t) { return t.Get(Key("p", "s")) ? Status() : Status(EIO, "read"); }).ok());
}

}  // namespace
}  // namespace moorfs::kv
