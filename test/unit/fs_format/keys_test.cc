// SPDX-License-Identifier: Apache-2.0
//
// The bytes of every key, pinned: a volume written today must be read by every
// later version.

#include "fs/format/keys.h"

#include <catch2/catch.hpp>

#include "test/unit/fs_format/hex.h"

using namespace moorfs;
using moorfs::testing::Hex;

namespace {

// "partition|suffix"
std::string Show(const kv::Key& key) { return Hex(key.partition()) + "|" + Hex(key.suffix()); }
std::string Show(const kv::Range& range) {
  return Hex(range.partition) + "|" + Hex(range.begin) + ".." + Hex(range.end);
}

const ObjectId kObject{0x1122334455667788, 0x0a};
const Timestamp kTwoHours{2 * 3600 * Timestamp::kNsPerSec + 5};

}  // namespace

TEST_CASE("keys of an inode lie in its partition") {
  const keys::Schema s;
  const std::string p = "490000000000000010|";  // 'I', 16
  CHECK(Show(s.Attr(16)) == p + "41");
  CHECK(Show(s.Inline(16)) == p + "42");
  CHECK(Show(s.Slice(16, 2, 7)) == p + "43000000020000000000000007");
  CHECK(Show(s.Slices(16, 2)) == p + "4300000002..4300000003");
  CHECK(Show(s.Slices(16, UINT32_MAX)) == p + "43ffffffff..44");
  CHECK(Show(s.SlicesFrom(16, 2)) == p + "4300000002..44");
  CHECK(Show(s.DirDelta(16, 3)) == p + "440000000000000003");
  CHECK(Show(s.DirDeltas(16)) == p + "44..45");
  CHECK(Show(s.Dentry(16, 0x80)) == p + "450000000000000080");
  CHECK(Show(s.DentriesAfter(16, 0)) == p + "450000000000000001..46");
  CHECK(Show(s.DentriesAfter(16, UINT64_MAX)) == p + "46..46");
  CHECK(Show(s.DentriesOfHash(16, 1)) == p + "450000000000000080..450000000000000100");
  CHECK(Show(s.Parent(16, 1)) == p + "500000000000000001");
  CHECK(Show(s.Parents(16)) == p + "50..51");
  CHECK(Show(s.Symlink(16)) == p + "53");
  CHECK(Show(s.Xattr(16, "user.a")) == p + "58757365722e61");
  CHECK(Show(s.Xattrs(16)) == p + "58..59");
  CHECK(Show(s.InodeAll(16)) == p + "..");
}

TEST_CASE("a hash prefix stands before the inode number where a volume asks for one") {
  CHECK(Show(keys::Schema(2).Attr(16)) == "49e3770000000000000010|41");
  CHECK(Show(keys::Schema(1).Attr(17)) == "49810000000000000011|41");
}

TEST_CASE("keys of the volume") {
  CHECK(Show(keys::Format()) == "46|666f726d6174");
  CHECK(Show(keys::Allocator("inode")) == "4e|696e6f6465");
  CHECK(Show(keys::CounterKey(keys::Counter::kUsedBytes, 1)) == "4362|0000000000000001");
  CHECK(Show(keys::CounterAll(keys::Counter::kUsedInodes)) == "4369|..");
  CHECK(Show(keys::Session(1)) == "53|0000000000000001");
  CHECK(Show(keys::Sessions()) == "53|..");
  CHECK(Show(keys::Sustained(1, 16)) == "550000000000000001|0000000000000010");
  CHECK(Show(keys::SustainedAll(1)) == "550000000000000001|..");
  CHECK(Show(keys::Replay(1, 3)) == "520000000000000001|00000003");
  CHECK(Show(keys::ReplayAll(1)) == "520000000000000001|..");
  CHECK(Show(keys::ObjectRefs(kObject)) == "4fbf|1122334455667788000000000000000a");
  CHECK(Show(keys::ObjectBytes(kObject)) == "4fbf|1122334455667788000000000000000a62");
  CHECK(Show(keys::Objects(0xbf)) == "4fbf|..");
  CHECK(Show(keys::ObjectDelete(kTwoHours, kObject)) ==
        "5a0000000000000002|0000068c617140051122334455667788000000000000000a");
  CHECK(Show(keys::ObjectDeletes(2)) == "5a0000000000000002|..");
  CHECK(Show(keys::DeletedInode(16)) == "44|0000000000000010");
  CHECK(Show(keys::DeletedInodes(16)) == "44|0000000000000011..");
  CHECK(Show(keys::Trash(kTwoHours, 16)) == "540000000000000002|0000068c617140050000000000000010");
  CHECK(Show(keys::TrashHour(2)) == "540000000000000002|..");
  CHECK(Show(keys::AclById(1)) == "4c|00000001");
  CHECK(Show(keys::AclsByHash(1)) == "4c|680000000000000001");
  CHECK(Show(keys::DirectoryMoveLock()) == "4d|6c6f636b");
  CHECK(Show(keys::Quota(16)) == "42|0000000000000010");
  CHECK(Show(keys::QuotaCounterKey(keys::Counter::kQuotaBytes, 16, 1)) == "4371|00000000000000100000000000000001");
  CHECK(Show(keys::QuotaCounterKey(keys::Counter::kQuotaInodes, 16, 1)) == "4370|00000000000000100000000000000001");
  CHECK(Show(keys::Volume("v")) == "56|76");
  CHECK(Show(keys::DoomedDir(16)) == "57|0000000000000010");
}

TEST_CASE("a time before 1970 falls into the first bucket") {
  CHECK(Show(keys::Trash(Timestamp{-5}, 16)) == "540000000000000000|00000000000000000000000000000010");
}

TEST_CASE("suffixes parse back, and only in their own shape") {
  const keys::Schema s;
  const auto slice = keys::ParseSliceSuffix(s.Slice(16, 2, 7).suffix());
  REQUIRE(slice);
  CHECK(slice->chunk == 2);
  CHECK(slice->seq == 7);
  CHECK(!keys::ParseSliceSuffix("C123"));
  CHECK(!keys::ParseSliceSuffix("E000000000000"));
  CHECK(keys::ParseDentrySuffix(s.Dentry(16, 0x1234).suffix()) == 0x1234u);
  CHECK(!keys::ParseDentrySuffix("E1234567"));
  CHECK(!keys::ParseDentrySuffix("D12345678"));
  CHECK(keys::ParseXattrSuffix(s.Xattr(16, "user.a").suffix()) == "user.a");
  CHECK(!keys::ParseXattrSuffix("X"));
  CHECK(keys::TrailingU64(keys::Sustained(1, 99).suffix()) == 99u);
  CHECK(!keys::TrailingU64("short"));
}

TEST_CASE("name hashes are SipHash-2-4, as its authors' vectors say") {
  std::array<uint8_t, 16> key;
  for (uint8_t i = 0; i < 16; ++i) key[i] = i;
  // Vectors of the reference implementation for messages 00, 01, 02, ...; the
  // lowest byte is dropped.
  CHECK(keys::NameHash56(key, "") == 0x726fdb47dd0e0e);
  CHECK(keys::NameHash56(key, std::string("\x00", 1)) == 0x74f839c593dc67);
  CHECK(keys::NameHash56(key, std::string("\x00\x01\x02\x03\x04\x05\x06\x07", 8)) == 0x93f5f5799a932462 >> 8);
  CHECK(keys::NameHash56(key, std::string("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e", 15)) ==
        0xa129ca6149be45e5 >> 8);
}
