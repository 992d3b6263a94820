// SPDX-License-Identifier: Apache-2.0
//
// The bytes of every value, pinned, and that damage is told from data.

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "fs/format/records.h"
#include "fs/format/types.h"
#include "test/unit/fs_format/hex.h"

using namespace moorfs;
using moorfs::testing::Hex;

namespace {

Attr SomeAttr() {
  Attr a;
  a.type = FileType::kSymlink;
  a.mode = 04755;
  a.uid = 1000;
  a.gid = 1001;
  a.nlink = 2;
  a.length = 0x0102030405060708;
  a.rdev = 0x0801;
  a.generation = 1;
  a.flags = kAttrInline | kAttrHasXattr;
  a.parent = 16;
  a.atime = {-1};
  a.mtime = {2};
  a.ctime = {3};
  a.btime = {4};
  a.change = 5;
  a.slice_seq = 6;
  a.slice_bytes = 7;
  a.access_acl = 8;
  a.default_acl = 9;
  a.trashed = {10};
  return a;
}

// Every proper prefix of a value is damage; a longer one is a later version's.
template <typename Decode>
void CheckTail(const std::string& value, Decode decode) {
  for (size_t n = 0; n < value.size(); ++n) {
    INFO("cut to " << n << " of " << value.size());
    const auto result = decode(std::string_view(value).substr(0, n));
    REQUIRE(!result);
    CHECK(result.error().err() == EIO);
  }
  CHECK(decode(value + "tail of a later version"));
}

}  // namespace

TEST_CASE("attributes keep their bytes") {
  const std::string value = EncodeAttr(SomeAttr());
  CHECK(Hex(value) ==
        "03" "ed09" "e8030000" "e9030000" "02000000" "0807060504030201" "01080000" "01000000" "22000000"
        "1000000000000000" "ffffffffffffffff" "0200000000000000" "0300000000000000" "0400000000000000"
        "0500000000000000" "0600000000000000" "0700000000000000" "08000000" "09000000" "0a00000000000000");
  CHECK(DecodeAttr(value) == SomeAttr());
  CheckTail(value, DecodeAttr);
  std::string unknown_type = value;
  unknown_type[0] = 9;
  CHECK(!DecodeAttr(unknown_type));
}

TEST_CASE("an inode's quota is written where there is one, and counts no more than its length") {
  Attr attr = SomeAttr();
  const std::string without = EncodeAttr(attr);
  attr.quota = 0x1234;
  CHECK(EncodeAttr(attr) == without + std::string("\x34\x12\0\0\0\0\0\0", 8));
  CHECK(DecodeAttr(EncodeAttr(attr)) == attr);

  Attr file;
  file.length = 10'000;
  file.slice_bytes = 1 << 20;  // overwritten again and again
  CHECK(AccountedBytes(file) == 1 << 20);
  CHECK(QuotaBytes(file) == 12'288);
  file.slice_bytes = 100;  // a hole
  CHECK(QuotaBytes(file) == 4096);
  file.type = FileType::kDirectory;
  CHECK(QuotaBytes(file) == 0);
}

TEST_CASE("quotas and volumes keep their bytes") {
  const QuotaRecord quota{1, 2, 3, kQuotaGone};
  CHECK(Hex(EncodeQuota(quota)) == "0100000000000000" "0200000000000000" "0300000000000000" "01000000");
  CHECK(DecodeQuota(EncodeQuota(quota)) == quota);
  CheckTail(EncodeQuota(quota), DecodeQuota);

  const VolumeRecord volume{16, "d", 1, 2, {3}, {{"k", "v"}}};
  CHECK(Hex(EncodeVolume(volume)) == "1000000000000000" "01000000" "64" "0100000000000000" "0200000000000000"
                                     "0300000000000000" "01000000" "01000000" "6b" "01000000" "76");
  CHECK(DecodeVolume(EncodeVolume(volume)) == volume);
  CheckTail(EncodeVolume(volume), DecodeVolume);
}

TEST_CASE("slices, deltas and dentries keep their bytes") {
  const SliceRecord slice{4096, 8192, {0x11, 0x22}, 100};
  CHECK(Hex(EncodeSlice(slice)) == "00100000" "00200000" "1100000000000000" "2200000000000000" "64000000");
  CHECK(DecodeSlice(EncodeSlice(slice)) == slice);
  CheckTail(EncodeSlice(slice), DecodeSlice);
  CHECK(!DecodeSlice(EncodeSlice({1, static_cast<uint32_t>(kChunkBytes), {}, 0})));

  const DirDelta delta{-1, 2, {3}, {4}};
  CHECK(Hex(EncodeDirDelta(delta)) == "ffffffffffffffff" "0200000000000000" "0300000000000000" "0400000000000000");
  CheckTail(EncodeDirDelta(delta), DecodeDirDelta);

  const Dentry dentry{false, true, FileType::kDirectory, 16, "ab"};
  CHECK(Hex(EncodeDentry(dentry)) == "82" "1000000000000000" "02000000" "6162");
  CHECK(DecodeDentry(EncodeDentry(dentry)) == dentry);
  CheckTail(EncodeDentry(dentry), DecodeDentry);
  Dentry tombstone;
  tombstone.tombstone = tombstone.chained = true;
  CHECK(Hex(EncodeDentry(tombstone)) == "80" "0000000000000000" "00000000");
  CHECK(DecodeDentry(EncodeDentry(tombstone)) == tombstone);
}

TEST_CASE("trash, replay and session records keep their bytes") {
  const TrashRecord trash{1, FileType::kFile, "x"};
  CHECK(Hex(EncodeTrash(trash)) == "0100000000000000" "01" "01000000" "78");
  CHECK(DecodeTrash(EncodeTrash(trash)) == trash);
  CheckTail(EncodeTrash(trash), DecodeTrash);

  const ReplayRecord replay{1, 2, 0, 3, 4};
  CHECK(Hex(EncodeReplay(replay)) ==
        "0100000000000000" "0200000000000000" "00000000" "0300000000000000" "0400000000000000");
  CHECK(DecodeReplay(EncodeReplay(replay)) == replay);
  CheckTail(EncodeReplay(replay), DecodeReplay);

  const SessionRecord session{{1}, 2, "h", "/m", "v"};
  CHECK(Hex(EncodeSession(session)) ==
        "0100000000000000" "0200000000000000" "01000000" "68" "02000000" "2f6d" "01000000" "76");
  CHECK(DecodeSession(EncodeSession(session)) == session);
  CheckTail(EncodeSession(session), DecodeSession);

  CHECK(Hex(EncodeLe64(258)) == "0201000000000000");
  CHECK(DecodeLe64(EncodeLe64(258)) == 258);
  CHECK(Hex(EncodeLe32(258)) == "02010000");
  CHECK(DecodeLe32(EncodeLe32(258)) == 258);
}

TEST_CASE("file types and mode bits are one to one") {
  for (const uint32_t bits : {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK}) {
    const auto type = FileTypeFromMode(bits | 0644);
    REQUIRE(type);
    CHECK(ToModeBits(*type) == bits);
  }
  CHECK(!FileTypeFromMode(0644));
}

TEST_CASE("an inode counts for its data in units of 4 KiB") {
  Attr a;
  a.length = uint64_t{1} << 40;
  CHECK(AccountedBytes(a) == 0);
  a.slice_bytes = 1;
  CHECK(AccountedBytes(a) == 4096);
  a.slice_bytes = 0;
  a.length = 100;
  a.flags = kAttrInline;
  CHECK(AccountedBytes(a) == 4096);
  a.type = FileType::kDirectory;
  CHECK(AccountedBytes(a) == 0);
}

TEST_CASE("UUIDs are read as they are written") {
  const Uuid uuid = RandomUuid();
  const std::string text = FormatUuid(uuid);
  CHECK(text.size() == 36);
  CHECK(ParseUuid(text) == uuid);
  CHECK(FormatUuid(*ParseUuid("00112233-4455-6677-8899-AABBCCDDEEFF")) == "00112233-4455-6677-8899-aabbccddeeff");
  for (const char* bad : {"", "0011", "00112233x4455-6677-8899-aabbccddeeff", "0011223g-4455-6677-8899-aabbccddeeff"}) {
    CHECK(!ParseUuid(bad));
  }
  CHECK(RandomUuid() != uuid);
  CHECK(RandomU64() != RandomU64());
}

TEST_CASE("the format record is JSON that names everything") {
  VolumeFormat f;
  f.name = "v";
  f.store = "file:/s";
  f.codec = Codec::kZstd;
  f.uuid[0] = 0xab;
  f.name_hash_key[15] = 0xcd;
  f.created = {7};
  f.created_by = "moorfs 0.1.0";
  const std::string json = EncodeVolumeFormat(f);
  CHECK(json == R"({
 "magic": "moorfs",
 "version": 1,
 "compat": 0,
 "ro_compat": 0,
 "incompat": 0,
 "uuid": "ab000000-0000-0000-0000-000000000000",
 "name": "v",
 "store": "file:/s",
 "block_bytes": 4194304,
 "compression": "zstd",
 "trash_days": 1,
 "key_hash_bytes": 0,
 "name_hash_key": "000000000000000000000000000000cd",
 "created_ns": 7,
 "created_by": "moorfs 0.1.0"
})");
  const auto back = DecodeVolumeFormat(json);
  REQUIRE(back);
  CHECK(EncodeVolumeFormat(*back) == json);
  for (const char* bad : {"", "{}", "[1]", R"({"magic":"other"})", R"({"magic":"moorfs"})"}) {
    const auto result = DecodeVolumeFormat(bad);
    REQUIRE(!result);
    CHECK(result.error().err() == EIO);
  }
  std::string wrong_type = json;
  wrong_type.replace(wrong_type.find("\"version\": 1"), 12, "\"version\": []");
  CHECK(!DecodeVolumeFormat(wrong_type));
}
