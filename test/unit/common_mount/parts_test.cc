// SPDX-License-Identifier: Apache-2.0
//
// The parts of the mount manager one by one: records and their store, target
// paths, locks.

#include <catch2/catch.hpp>

#include "common/mount/record.h"

using namespace moorfs;
using namespace moorfs::mount;

TEST_CASE("a record survives its JSON form") {
  ClientRecord r;
  r.mount_key = "k";
  r.references["h"] = {"pods/x", "v", "a/b", true};
  const auto back = DecodeRecord(EncodeRecord(r));
  REQUIRE(back);
  CHECK(back->references == r.references);
}
