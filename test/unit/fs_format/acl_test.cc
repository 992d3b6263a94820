// SPDX-License-Identifier: Apache-2.0
//
// ACL arithmetic against POSIX.1e by example.

#include "fs/format/acl.h"

#include <catch2/catch.hpp>

#include "test/unit/fs_format/hex.h"

using namespace moorfs;

namespace {

Acl Base(uint16_t user, uint16_t group, uint16_t other) {
  return {{{AclTag::kUserObj, user, 0}, {AclTag::kGroupObj, group, 0}, {AclTag::kOther, other, 0}}};
}
Acl Named(uint16_t user, uint16_t named, uint16_t group, uint16_t mask, uint16_t other) {
  return {{{AclTag::kUserObj, user, 0},
           {AclTag::kUser, named, 1000},
           {AclTag::kGroupObj, group, 0},
           {AclTag::kMask, mask, 0},
           {AclTag::kOther, other, 0}}};
}
int ErrOf(const Acl& acl) {
  const auto result = DecodeAclXattr(EncodeAclXattr(acl));
  return result ? 0 : result.error().err();
}

}  // namespace

TEST_CASE("an ACL has Linux's bytes as an xattr and its own when stored") {
  const Acl acl = Named(7, 5, 4, 6, 0);
  CHECK(moorfs::testing::Hex(EncodeAclXattr(acl)) ==
        "02000000" "01000700ffffffff" "02000500e8030000" "04000400ffffffff" "10000600ffffffff" "20000000ffffffff");
  CHECK(moorfs::testing::Hex(EncodeAcl(acl)) ==
        "0100070000000000" "02000500e8030000" "0400040000000000" "1000060000000000" "2000000000000000");
  CHECK(DecodeAclXattr(EncodeAclXattr(acl)) == acl);
  CHECK(DecodeAcl(EncodeAcl(acl)) == acl);
  CHECK(HashAcl(EncodeAcl(acl)) == HashAcl(EncodeAcl(Named(7, 5, 4, 6, 0))));
  CHECK(HashAcl(EncodeAcl(acl)) != HashAcl(EncodeAcl(Named(7, 5, 4, 6, 1))));
}

TEST_CASE("entries in any order become one canonical list") {
  Acl shuffled = Named(7, 5, 4, 6, 0);
  std::swap(shuffled.rules[0], shuffled.rules[4]);
  std::swap(shuffled.rules[1], shuffled.rules[2]);
  CHECK(DecodeAclXattr(EncodeAclXattr(shuffled)) == Named(7, 5, 4, 6, 0));
}

TEST_CASE("what is no ACL is refused") {
  CHECK(ErrOf(Base(7, 5, 0)) == 0);
  Acl no_other = Base(7, 5, 0);
  no_other.rules.pop_back();
  CHECK(ErrOf(no_other) == EINVAL);
  Acl no_mask = Named(7, 5, 4, 6, 0);
  no_mask.rules.erase(no_mask.rules.begin() + 3);
  CHECK(ErrOf(no_mask) == EINVAL);
  Acl twice = Named(7, 5, 4, 6, 0);
  twice.rules.push_back(twice.rules[1]);
  CHECK(ErrOf(twice) == EINVAL);
  CHECK(ErrOf(Base(8, 5, 0)) == EINVAL);
  const std::string good = EncodeAclXattr(Base(7, 5, 0));
  for (size_t n = 0; n < good.size(); ++n) {
    if (n == 4) continue;  // the empty list
    CHECK(!DecodeAclXattr(good.substr(0, n)));
  }
  CHECK(DecodeAclXattr(good.substr(0, 4))->rules.empty());
  std::string other_version = good;
  other_version[0] = 1;
  CHECK(!DecodeAclXattr(other_version));
  CHECK(!DecodeAcl("damaged"));
}

TEST_CASE("mode bits and list follow each other") {
  CHECK(IsEquivalentToMode(Base(7, 5, 0)));
  CHECK(!IsEquivalentToMode(Named(7, 5, 4, 6, 0)));
  CHECK(ModeFromAcl(Base(7, 5, 1), 04000) == 04751);
  CHECK(ModeFromAcl(Named(7, 5, 4, 6, 0), 0) == 0760);  // the mask, not the group
  Acl acl = Named(7, 5, 4, 6, 0);
  ApplyModeToAcl(0631, &acl);
  CHECK(acl == Named(6, 5, 4, 3, 1));
  Acl base = Base(7, 7, 7);
  ApplyModeToAcl(0631, &base);
  CHECK(base == Base(6, 3, 1));
}

TEST_CASE("a new inode gets the default list, reduced to what it asked for") {
  Acl acl = Named(7, 7, 7, 7, 5);
  CHECK(InheritAcl(0664, &acl) == 0664);
  CHECK(acl == Named(6, 7, 7, 6, 4));
  Acl tight = Base(7, 5, 0);
  CHECK(InheritAcl(01666, &tight) == 01640);
  CHECK(tight == Base(6, 4, 0));
}
