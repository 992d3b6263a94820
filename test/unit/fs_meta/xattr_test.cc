// SPDX-License-Identifier: Apache-2.0
//
// Extended attributes and POSIX ACLs.

#include <sys/stat.h>

#include "fs/format/acl.h"
#include "test/unit/fs_meta/volume.h"

using namespace moorfs;
using namespace moorfs::meta;
using namespace moorfs::meta::testing;

namespace {

constexpr const char* kAccess = "system.posix_acl_access";
constexpr const char* kDefault = "system.posix_acl_default";

Shape AnyShape() { return GENERATE(Shape::kEmbedded, Shape::kShared); }

std::string List(uint16_t user, uint16_t group, uint16_t other) {
  return EncodeAclXattr({{{AclTag::kUserObj, user, 0}, {AclTag::kGroupObj, group, 0}, {AclTag::kOther, other, 0}}});
}
// With a named user 1000 and a mask.
std::string List(uint16_t user, uint16_t named, uint16_t group, uint16_t mask, uint16_t other) {
  return EncodeAclXattr({{{AclTag::kUserObj, user, 0},
                          {AclTag::kUser, named, 1000},
                          {AclTag::kGroupObj, group, 0},
                          {AclTag::kMask, mask, 0},
                          {AclTag::kOther, other, 0}}});
}

}  // namespace

TEST_CASE("attributes are set, read, listed and removed") {
  Volume v(AnyShape());
  const bool dir = GENERATE(false, true);
  const Ino ino = dir ? v.Dir(kRootIno, "x") : v.File(kRootIno, "x");
  const Attr before = v.At(ino);
  CHECK(Ok(v.meta->ListXattr(ino)).empty());
  const std::string binary("\0\xff", 2);
  Ok(v.meta->SetXattr(v.root, ino, "user.b", binary, XattrSet::kEither));
  Ok(v.meta->SetXattr(v.root, ino, "user.a", "", XattrSet::kCreate));
  CHECK(v.At(ino).ctime > before.ctime);
  CHECK(v.At(ino).mtime == before.mtime);
  CHECK(Ok(v.meta->GetXattr(ino, "user.b")) == binary);
  CHECK(Ok(v.meta->GetXattr(ino, "user.a")).empty());
  CHECK(Ok(v.meta->ListXattr(ino)) == std::vector<std::string>{"user.a", "user.b"});
  CHECK(Err(v.meta->SetXattr(v.root, ino, "user.a", "x", XattrSet::kCreate)) == EEXIST);
  CHECK(Err(v.meta->SetXattr(v.root, ino, "user.c", "x", XattrSet::kReplace)) == ENODATA);
  Ok(v.meta->SetXattr(v.root, ino, "user.a", "x", XattrSet::kReplace));
  Ok(v.meta->RemoveXattr(v.root, ino, "user.b"));
  CHECK(Err(v.meta->RemoveXattr(v.root, ino, "user.b")) == ENODATA);
  CHECK(Err(v.meta->GetXattr(ino, "user.b")) == ENODATA);
  CHECK(Ok(v.meta->ListXattr(ino)) == std::vector<std::string>{"user.a"});
}

TEST_CASE("which attributes are kept") {
  Volume v;
  const Ino f = v.File(kRootIno, "f");
  for (const char* name : {"user.x", "trusted.x", "security.x"}) {
    Ok(v.meta->SetXattr(v.root, f, name, "1", XattrSet::kEither));
  }
  for (const char* name : {"system.x", "x", "btrfs.compression", "userx"}) {
    CHECK(Err(v.meta->SetXattr(v.root, f, name, "1", XattrSet::kEither)) == EOPNOTSUPP);
    CHECK(Err(v.meta->GetXattr(f, name)) == EOPNOTSUPP);
  }
  CHECK(Err(v.meta->SetXattr(v.root, f, "user.", "1", XattrSet::kEither)) == EINVAL);
  CHECK(Err(v.meta->SetXattr(v.root, f, "user." + std::string(251, 'x'), "1", XattrSet::kEither)) == ERANGE);
  CHECK(Err(v.meta->SetXattr(v.root, f, "user.x", std::string(65537, 'x'), XattrSet::kEither)) == E2BIG);
  Ok(v.meta->SetXattr(v.root, f, "user.x", std::string(65536, 'x'), XattrSet::kEither));
  CHECK(Err(v.meta->SetXattr(v.root, 9999, "user.x", "1", XattrSet::kEither)) == ESTALE);
}

TEST_CASE("a file's attributes go with it") {
  Volume v(AnyShape());
  const size_t before = v.Dump().size();
  const Ino f = v.File(kRootIno, "f");
  for (int i = 0; i < 3; ++i) Ok(v.meta->SetXattr(v.root, f, "user." + std::to_string(i), "v", XattrSet::kEither));
  Ok(v.meta->Unlink(v.root, kRootIno, "f"));
  CHECK(Err(v.meta->GetAttr(f)) == ESTALE);
  while (Ok(v.meta->Clean(Timestamp::Now(), 10))) {
  }
  // A shared engine keeps the root's delta and the session's counters.
  CHECK(v.Dump().size() <= before + 3);
  for (const auto& [key, value] : v.Dump()) CHECK(key.find("Xuser.") == std::string::npos);
}

TEST_CASE("an access ACL and the mode bits are two views of one thing") {
  Volume v(AnyShape());
  const Ino f = v.File(kRootIno, "f");
  CHECK(Err(v.meta->GetXattr(f, kAccess)) == ENODATA);
  Ok(v.meta->SetXattr(v.root, f, kAccess, List(7, 6, 4, 6, 0), XattrSet::kEither));
  CHECK(v.At(f).mode == 0760);
  CHECK(v.At(f).access_acl != 0);
  CHECK(Ok(v.meta->GetXattr(f, kAccess)) == List(7, 6, 4, 6, 0));
  CHECK(Ok(v.meta->ListXattr(f)) == std::vector<std::string>{kAccess});

  SetAttrRequest chmod;
  chmod.valid = kSetMode;
  chmod.mode = 0641;
  Ok(v.meta->SetAttr(v.root, f, chmod));
  CHECK(Ok(v.meta->GetXattr(f, kAccess)) == List(6, 6, 4, 4, 1));

  // A list that says no more than a mode is a mode.
  Ok(v.meta->SetXattr(v.root, f, kAccess, List(6, 0, 4), XattrSet::kEither));
  CHECK(v.At(f).mode == 0604);
  CHECK(v.At(f).access_acl == 0);
  CHECK(Err(v.meta->GetXattr(f, kAccess)) == ENODATA);

  Ok(v.meta->SetXattr(v.root, f, kAccess, List(7, 6, 4, 6, 0), XattrSet::kEither));
  Ok(v.meta->RemoveXattr(v.root, f, kAccess));
  CHECK(v.At(f).mode == 0760);
  CHECK(Err(v.meta->RemoveXattr(v.root, f, kAccess)) == 0);
  CHECK(Err(v.meta->SetXattr(v.root, f, kAccess, "junk", XattrSet::kEither)) == EINVAL);
  CHECK(Err(v.meta->SetXattr(v.root, f, kDefault, List(7, 5, 5), XattrSet::kEither)) == EACCES);
  const Ino link = Ok(v.meta->MakeSymlink(v.root, kRootIno, "l", "x")).ino;
  CHECK(Err(v.meta->SetXattr(v.root, link, kAccess, List(7, 6, 4, 6, 0), XattrSet::kEither)) == EOPNOTSUPP);
}

TEST_CASE("setting a list leaves set-group-id to whoever knows the caller's groups") {
  Volume v;
  const Ino f = v.File(kRootIno, "f");
  SetAttrRequest request;
  request.valid = kSetMode | kSetUid | kSetGid;
  request.mode = 02755;
  request.uid = 1000;
  request.gid = 7;
  Ok(v.meta->SetAttr(v.root, f, request));
  Ok(v.meta->SetXattr(v.root, f, kAccess, List(7, 6, 4, 6, 0), XattrSet::kEither));
  CHECK(v.At(f).mode == 02760);
  Ok(v.meta->SetXattr(v.user, f, kAccess, List(7, 6, 4, 6, 0), XattrSet::kEither));
  CHECK(v.At(f).mode == 02760);
}

TEST_CASE("a default ACL is what new inodes start with, in place of the umask") {
  Volume v(AnyShape());
  const Ino d = v.Dir(kRootIno, "d");
  Ok(v.meta->SetXattr(v.root, d, kDefault, List(7, 6, 5, 7, 0), XattrSet::kEither));
  CHECK(v.At(d).mode == 0755);
  v.user.umask = 077;
  const Entry file = Ok(v.meta->MakeNode(v.user, d, "f", S_IFREG | 0664, 0));
  CHECK(file.attr.mode == 0660);
  CHECK(Ok(v.meta->GetXattr(file.ino, kAccess)) == List(6, 6, 5, 6, 0));
  CHECK(Err(v.meta->GetXattr(file.ino, kDefault)) == ENODATA);

  const Entry sub = Ok(v.meta->MakeDir(v.user, d, "sub", 0777));
  CHECK(sub.attr.mode == 0770);
  CHECK(Ok(v.meta->GetXattr(sub.ino, kDefault)) == List(7, 6, 5, 7, 0));
  CHECK(Ok(v.meta->GetXattr(sub.ino, kAccess)) == List(7, 6, 5, 7, 0));
  CHECK(Ok(v.meta->ListXattr(sub.ino)) == std::vector<std::string>{kAccess, kDefault});

  const Entry link = Ok(v.meta->MakeSymlink(v.user, d, "l", "x"));
  CHECK(link.attr.mode == 0777);
  CHECK(link.attr.access_acl == 0);

  // A default list of the three base entries works on the mode alone.
  Ok(v.meta->SetXattr(v.root, d, kDefault, List(7, 5, 0), XattrSet::kEither));
  const Entry plain = Ok(v.meta->MakeNode(v.user, d, "g", S_IFREG | 0666, 0));
  CHECK(plain.attr.mode == 0640);
  CHECK(plain.attr.access_acl == 0);

  // An empty list removes it; the umask is back.
  Ok(v.meta->SetXattr(v.root, d, kDefault, EncodeAclXattr({}), XattrSet::kEither));
  Ok(v.meta->SetXattr(v.root, d, kDefault, EncodeAclXattr({}), XattrSet::kEither));
  CHECK(Ok(v.meta->MakeNode(v.user, d, "h", S_IFREG | 0666, 0)).attr.mode == 0600);
}

TEST_CASE("equal lists are stored once, also by another client") {
  Volume v(AnyShape());
  auto other = v.OpenAnother();
  const Ino f = v.File(kRootIno, "f"), g = v.File(kRootIno, "g");
  Ok(v.meta->SetXattr(v.root, f, kAccess, List(7, 6, 4, 6, 0), XattrSet::kEither));
  Ok(other->SetXattr(v.root, g, kAccess, List(7, 6, 4, 6, 0), XattrSet::kEither));
  CHECK(v.At(f).access_acl == v.At(g).access_acl);
  Ok(other->SetXattr(v.root, g, kAccess, List(7, 6, 4, 7, 0), XattrSet::kEither));
  CHECK(v.At(f).access_acl != v.At(g).access_acl);
  CHECK(Ok(v.meta->GetXattr(g, kAccess)) == List(7, 6, 4, 7, 0));
}
