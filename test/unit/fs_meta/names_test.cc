// SPDX-License-Identifier: Apache-2.0
//
// Making, finding, listing, linking and removing names, as POSIX says.

#include <sys/stat.h>

#include "test/unit/fs_meta/volume.h"

using namespace moorfs;
using namespace moorfs::meta;
using namespace moorfs::meta::testing;

namespace {

Shape AnyShape() { return GENERATE(Shape::kEmbedded, Shape::kShared, Shape::kColliding); }

}  // namespace

TEST_CASE("an engine becomes a volume once") {
  Volume v;
  CHECK(Err(Meta::FormatVolume(*v.mem, TestFormat(0), 0, 0)) == EEXIST);
  CHECK(Ok(Meta::LoadFormat(*v.mem)).name == "test");
  const Attr top = v.At(kRootIno);
  CHECK(top.type == FileType::kDirectory);
  CHECK(top.nlink == 2);
  CHECK(top.parent == kRootIno);
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 1);
}

TEST_CASE("a format of the future is refused by the bit") {
  Volume v;
  const auto rewrite = [&](auto change) {
    VolumeFormat format = Ok(Meta::LoadFormat(*v.mem));
    change(format);
    Ok(v.mem->Transact([&](kv::Transaction& t) {
      t.Put(keys::Format(), EncodeVolumeFormat(format));
      return Status::Ok();
    }));
  };
  rewrite([](VolumeFormat& f) { f.ro_compat = 4; });
  const auto writable = Meta::Open(*v.mem, {});
  CHECK(Err(writable) == EROFS);
  MetaOptions options;
  options.read_only = true;
  auto reader = Ok(Meta::Open(*v.mem, options));
  CHECK(Err(reader->MakeDir({}, kRootIno, "d", 0755)) == EROFS);
  CHECK(Err(reader->Unlink({}, kRootIno, "d")) == EROFS);
  rewrite([](VolumeFormat& f) { f.ro_compat = 0, f.incompat = 8; });
  const auto future = Meta::Open(*v.mem, {});
  REQUIRE(Err(future) == EPROTONOSUPPORT);
  CHECK(future.error().message().find("bit 3") != std::string::npos);
}

TEST_CASE("a new file has the caller's owner, mode less umask, and equal times") {
  Volume v(AnyShape());
  v.user.umask = 022;
  const Attr before = v.At(kRootIno);
  const Entry made = Ok(v.meta->MakeNode(v.user, kRootIno, "f", S_IFREG | 0666, 0));
  CHECK(made.ino >= kFirstIno);
  CHECK(made.attr.type == FileType::kFile);
  CHECK(made.attr.mode == 0644);
  CHECK(made.attr.uid == 1000);
  CHECK(made.attr.gid == 1000);
  CHECK(made.attr.nlink == 1);
  CHECK(made.attr.parent == kRootIno);
  CHECK(made.attr.mtime == made.attr.ctime);
  CHECK(made.attr.atime == made.attr.btime);
  const Attr after = v.At(kRootIno);
  CHECK(after.mtime == made.attr.mtime);
  CHECK(after.ctime == made.attr.ctime);
  CHECK(after.change > before.change);
  CHECK(after.nlink == before.nlink);

  const Entry found = Ok(v.meta->Lookup(kRootIno, "f"));
  CHECK(found.ino == made.ino);
  CHECK(found.attr == made.attr);
  CHECK(v.At(made.ino) == made.attr);
  CHECK(Err(v.meta->MakeNode(v.root, kRootIno, "f", S_IFREG | 0600, 0)) == EEXIST);
  CHECK(Err(v.meta->MakeDir(v.root, kRootIno, "f", 0755)) == EEXIST);
  CHECK(Err(v.meta->Lookup(kRootIno, "F")) == ENOENT);
}

TEST_CASE("special files keep their type and device") {
  Volume v(AnyShape());
  CHECK(Ok(v.meta->MakeNode(v.root, kRootIno, "p", S_IFIFO | 0600, 5)).attr.rdev == 0);
  CHECK(Ok(v.meta->MakeNode(v.root, kRootIno, "s", S_IFSOCK | 0600, 0)).attr.type == FileType::kSocket);
  const Attr device = Ok(v.meta->MakeNode(v.root, kRootIno, "b", S_IFBLK | 0600, 0x801)).attr;
  CHECK(device.type == FileType::kBlockDevice);
  CHECK(device.rdev == 0x801);
  CHECK(Err(v.meta->MakeNode(v.root, kRootIno, "d", S_IFDIR | 0755, 0)) == EINVAL);
}

TEST_CASE("names that cannot be") {
  Volume v;
  const Ino file = v.File(kRootIno, "f");
  CHECK(Err(v.meta->MakeDir(v.root, kRootIno, "", 0755)) == ENOENT);
  CHECK(Err(v.meta->MakeDir(v.root, kRootIno, ".", 0755)) == EINVAL);
  CHECK(Err(v.meta->MakeDir(v.root, kRootIno, "a/b", 0755)) == EINVAL);
  CHECK(Err(v.meta->MakeDir(v.root, kRootIno, std::string("a\0b", 3), 0755)) == EINVAL);
  CHECK(Err(v.meta->MakeDir(v.root, kRootIno, std::string(256, 'x'), 0755)) == ENAMETOOLONG);
  CHECK(Err(v.meta->Lookup(kRootIno, std::string(256, 'x'))) == ENAMETOOLONG);
  CHECK(Err(v.meta->Link(v.root, file, kRootIno, std::string(256, 'x'))) == ENAMETOOLONG);
  CHECK(Err(v.meta->Rename(v.root, kRootIno, "f", kRootIno, std::string(256, 'x'), 0)) == ENAMETOOLONG);
  Ok(v.meta->MakeDir(v.root, kRootIno, std::string(255, 'x'), 0755));
  Ok(v.meta->MakeDir(v.root, kRootIno, "\xff\xfe \n", 0755));
  CHECK(Err(v.meta->MakeDir(v.root, file, "x", 0755)) == ENOTDIR);
  CHECK(Err(v.meta->MakeDir(v.root, 9999, "x", 0755)) == ENOENT);
  CHECK(Err(v.meta->GetAttr(9999)) == ESTALE);
}

TEST_CASE("symlinks keep their target to the byte") {
  Volume v(AnyShape());
  v.user.umask = 077;
  const Entry link = Ok(v.meta->MakeSymlink(v.user, kRootIno, "l", "../x"));
  CHECK(link.attr.mode == 0777);
  CHECK(link.attr.length == 4);
  CHECK(Ok(v.meta->ReadSymlink(link.ino)) == "../x");
  CHECK(Err(v.meta->ReadSymlink(kRootIno)) == EINVAL);
  CHECK(Err(v.meta->ReadSymlink(9999)) == ESTALE);
  CHECK(Err(v.meta->MakeSymlink(v.user, kRootIno, "m", "")) == ENOENT);
  CHECK(Err(v.meta->MakeSymlink(v.user, kRootIno, "m", std::string(4096, 'x'))) == ENAMETOOLONG);
  Ok(v.meta->MakeSymlink(v.user, kRootIno, "m", std::string(4095, 'x')));
  Ok(v.meta->Unlink(v.root, kRootIno, "l"));
  CHECK(Err(v.meta->ReadSymlink(link.ino)) == ESTALE);
}

TEST_CASE("directories count their subdirectories") {
  Volume v(AnyShape());
  const Ino d = v.Dir(kRootIno, "d");
  CHECK(v.At(d).nlink == 2);
  CHECK(v.At(d).length == 4096);
  CHECK(v.At(kRootIno).nlink == 3);
  const Ino sub = v.Dir(d, "sub");
  v.File(d, "f");
  CHECK(v.At(d).nlink == 3);
  CHECK(Ok(v.meta->Lookup(sub, "..")).ino == d);
  CHECK(Ok(v.meta->Lookup(sub, ".")).ino == sub);
  CHECK(Err(v.meta->RemoveDir(v.root, kRootIno, "d")) == ENOTEMPTY);
  CHECK(Err(v.meta->RemoveDir(v.root, d, "f")) == ENOTDIR);
  CHECK(Err(v.meta->Unlink(v.root, d, "sub")) == EISDIR);
  Ok(v.meta->Unlink(v.root, d, "f"));
  const Entry gone = Ok(v.meta->RemoveDir(v.root, d, "sub"));
  CHECK(gone.ino == sub);
  CHECK(gone.attr.nlink == 0);
  CHECK(v.At(d).nlink == 2);
  CHECK(v.At(d).ctime == gone.attr.ctime);
  CHECK(Err(v.meta->GetAttr(sub)) == ESTALE);
  CHECK(Err(v.meta->MakeDir(v.root, sub, "x", 0755)) == ENOENT);
  Ok(v.meta->RemoveDir(v.root, kRootIno, "d"));
  CHECK(v.At(kRootIno).nlink == 2);
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 1);
  CHECK(Err(v.meta->RemoveDir(v.root, kRootIno, "d")) == ENOENT);
  CHECK(Err(v.meta->RemoveDir(v.root, kRootIno, ".")) == EINVAL);
  CHECK(Err(v.meta->RemoveDir(v.root, kRootIno, "..")) == ENOTEMPTY);
}

TEST_CASE("a set-group-id directory hands on its group") {
  Volume v(AnyShape());
  const Ino d = v.Dir(kRootIno, "d");
  SetAttrRequest request;
  request.valid = kSetMode | kSetGid;
  request.mode = 02775;
  request.gid = 77;
  Ok(v.meta->SetAttr(v.root, d, request));
  CHECK(v.At(d).mode == 02775);
  const Attr file = Ok(v.meta->MakeNode(v.user, d, "f", S_IFREG | 0644, 0)).attr;
  CHECK(file.gid == 77);
  CHECK(file.mode == 0644);
  const Attr sub = Ok(v.meta->MakeDir(v.user, d, "sub", 0755)).attr;
  CHECK(sub.gid == 77);
  CHECK(sub.mode == 02755);
}

TEST_CASE("hard links: counts, times, parents") {
  Volume v(AnyShape());
  const Ino d = v.Dir(kRootIno, "d"), e = v.Dir(kRootIno, "e");
  const Ino f = v.File(d, "f");
  const Entry linked = Ok(v.meta->Link(v.root, f, e, "g"));
  CHECK(linked.ino == f);
  CHECK(linked.attr.nlink == 2);
  CHECK((linked.attr.flags & kAttrManyParents) != 0);
  CHECK(v.At(e).mtime == linked.attr.ctime);
  Ok(v.meta->Link(v.root, f, e, "h"));
  CHECK(Ok(v.meta->Paths(f)) == std::vector<std::string>{"/d/f", "/e/g", "/e/h"});
  CHECK(Err(v.meta->Link(v.root, f, e, "h")) == EEXIST);
  CHECK(Err(v.meta->Link(v.root, d, e, "dir")) == EPERM);
  CHECK(Err(v.meta->Link(v.root, 9999, e, "x")) == ESTALE);

  const Entry two = Ok(v.meta->Unlink(v.root, e, "g"));
  CHECK(two.attr.nlink == 2);
  CHECK(two.attr.ctime > linked.attr.ctime);
  const Entry one = Ok(v.meta->Unlink(v.root, d, "f"));
  CHECK(one.attr.nlink == 1);
  CHECK((one.attr.flags & kAttrManyParents) == 0);
  CHECK(one.attr.parent == e);
  CHECK(Ok(v.meta->Paths(f)) == std::vector<std::string>{"/e/h"});
  const Entry none = Ok(v.meta->Unlink(v.root, e, "h"));
  CHECK(none.attr.nlink == 0);
  CHECK(Err(v.meta->GetAttr(f)) == ESTALE);
  // The root and two directories are left, and nothing of the file.
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 3);
}

TEST_CASE("an open file outlives its name until its last handle goes") {
  Volume v(AnyShape());
  const Ino f = v.File(kRootIno, "f"), link = Ok(v.meta->MakeSymlink(v.root, kRootIno, "l", "x")).ino;
  v.open = {f};
  CHECK(Ok(v.meta->Unlink(v.root, kRootIno, "f")).attr.nlink == 0);
  Ok(v.meta->Unlink(v.root, kRootIno, "l"));
  CHECK(v.At(f).nlink == 0);
  CHECK(Err(v.meta->GetAttr(link)) == ESTALE);
  CHECK(Err(v.meta->Link(v.root, f, kRootIno, "back")) == ENOENT);
  SetAttrRequest chmod;
  chmod.valid = kSetMode;
  chmod.mode = 0600;
  CHECK(Ok(v.meta->SetAttr(v.root, f, chmod)).mode == 0600);
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 2);
  Ok(v.meta->ReleaseSustained(f));
  CHECK(v.At(f).nlink == 0);  // still open
  v.open.clear();
  Ok(v.meta->ReleaseSustained(f));
  CHECK(Err(v.meta->GetAttr(f)) == ESTALE);
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 1);
  Ok(v.meta->ReleaseSustained(f));
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 1);
}

TEST_CASE("a listing survives deletions and creations between its pages") {
  Volume v(AnyShape());
  for (int i = 0; i < 100; ++i) v.File(kRootIno, "f" + std::to_string(i));
  CHECK(v.Names(kRootIno).size() == 100);
  std::set<std::string> seen;
  for (uint64_t after = 0;;) {
    const auto page = Ok(v.meta->ReadDir(kRootIno, after, 8, false));
    for (const DirEntry& entry : page) {
      CHECK(seen.insert(entry.name).second);
      after = entry.position;
      if (seen.size() % 3 == 0) Ok(v.meta->Unlink(v.root, kRootIno, entry.name));
    }
    v.File(kRootIno, "new" + std::to_string(seen.size()));
    if (page.size() < 8) break;
  }
  for (int i = 0; i < 100; ++i) CHECK(seen.count("f" + std::to_string(i)) == 1);
  CHECK(Err(v.meta->ReadDir(v.File(kRootIno, "x"), 0, 8, false)) == ENOTDIR);
  CHECK(Err(v.meta->ReadDir(9999, 0, 8, false)) == ENOENT);
  CHECK(Ok(v.meta->ReadDir(kRootIno, UINT64_MAX, 8, false)).empty());
}

TEST_CASE("names whose hashes collide live and die apart") {
  Volume v(Shape::kColliding);
  const Ino d = v.Dir(kRootIno, "d");
  // 128 names a hash, and all hashes are 1 here.
  for (int i = 0; i < 128; ++i) v.File(d, std::to_string(i));
  CHECK(Err(v.meta->MakeNode(v.root, d, "one too many", S_IFREG | 0644, 0)) == ENOSPC);
  Ok(v.meta->Unlink(v.root, d, "0"));  // its place speaks for the others
  CHECK(Err(v.meta->Lookup(d, "0")) == ENOENT);
  CHECK(v.Names(d).size() == 127);
  for (int i = 1; i < 128; ++i) {
    CHECK(Ok(v.meta->Lookup(d, std::to_string(i))).attr.nlink == 1);
    Ok(v.meta->Rename(v.root, d, std::to_string(i), d, "r" + std::to_string(i), 0));
    Ok(v.meta->Unlink(v.root, d, "r" + std::to_string(i)));
  }
  CHECK(v.Names(d).empty());
  Ok(v.meta->RemoveDir(v.root, kRootIno, "d"));
}

TEST_CASE("chmod, chown and utimensat") {
  Volume v(AnyShape());
  const bool dir = GENERATE(false, true);
  const Ino ino = dir ? v.Dir(kRootIno, "x") : v.File(kRootIno, "x");
  if (dir) v.Dir(ino, "sub");
  const Attr before = v.At(ino);
  SetAttrRequest request;
  request.valid = kSetMode;
  request.mode = 06755;
  Attr attr = Ok(v.meta->SetAttr(v.root, ino, request));
  CHECK(attr.mode == 06755);
  CHECK(attr.ctime > before.ctime);
  CHECK(attr.mtime == before.mtime);
  CHECK(attr.change > before.change);
  CHECK(v.At(ino) == attr);

  request.valid = kSetUid | kSetGid;
  request.uid = 5;
  request.gid = 6;
  attr = Ok(v.meta->SetAttr(v.root, ino, request));
  CHECK(attr.uid == 5);
  CHECK(attr.gid == 6);
  CHECK(attr.mode == (dir ? 06755 : 0755));  // a directory's bits mean something else

  request.valid = kSetAtime | kSetMtime;
  request.atime = {-5};
  request.mtime = Timestamp::FromParts(2'000'000'000, 7);
  attr = Ok(v.meta->SetAttr(v.root, ino, request));
  CHECK(attr.atime.ns == -5);
  CHECK(attr.mtime.sec() == 2'000'000'000);
  CHECK(v.At(ino) == attr);
  if (dir) {
    CHECK(attr.nlink == 3);
    const Attr child = v.At(v.File(ino, "f"));
    CHECK(v.At(ino).mtime == child.mtime);  // back from the future
    CHECK(v.At(ino).nlink == 3);
  }
  CHECK(Err(v.meta->SetAttr(v.root, 9999, request)) == ESTALE);
}

TEST_CASE("set-id bits fall when asked for, set-group-id only where the group executes") {
  Volume v;
  const Ino f = v.File(kRootIno, "f");
  SetAttrRequest request;
  request.valid = kSetMode;
  request.mode = 06745;
  Ok(v.meta->SetAttr(v.root, f, request));
  Ok(v.meta->SetXattr(v.root, f, "security.capability", "caps", XattrSet::kEither));
  CHECK((v.At(f).flags & kAttrHasCapability) != 0);
  SetAttrRequest kill;
  kill.kill_suidgid = true;
  CHECK(Ok(v.meta->SetAttr(v.root, f, kill)).mode == 02745);
  CHECK(Err(v.meta->GetXattr(f, "security.capability")) == ENODATA);
  CHECK((v.At(f).flags & kAttrHasCapability) == 0);
}

TEST_CASE("paths lead to inodes and back") {
  Volume v(AnyShape());
  const Ino d = v.Dir(kRootIno, "d"), sub = v.Dir(d, "sub"), f = v.File(sub, "f");
  CHECK(Ok(v.meta->Resolve("/d//./sub/f")).ino == f);
  CHECK(Ok(v.meta->Resolve("d/sub/..")).ino == d);
  CHECK(Ok(v.meta->Resolve("")).ino == kRootIno);
  CHECK(Err(v.meta->Resolve("/d/none")) == ENOENT);
  CHECK(Err(v.meta->Resolve("/d/sub/f/x")) == ENOTDIR);
  CHECK(Ok(v.meta->Paths(f)) == std::vector<std::string>{"/d/sub/f"});
  CHECK(Ok(v.meta->Paths(kRootIno)) == std::vector<std::string>{"/"});
  CHECK(Err(v.meta->Paths(9999)) == ESTALE);
}

TEST_CASE("two hosts in one directory see one count and the newest time") {
  Volume v(Shape::kShared);
  auto other = v.OpenAnother();
  const Ino d = v.Dir(kRootIno, "d");
  for (int i = 0; i < 5; ++i) {
    v.Dir(d, "a" + std::to_string(i));
    const Entry made = Ok(other->MakeDir(v.root, d, "b" + std::to_string(i), 0755));
    CHECK(v.At(d).mtime == made.attr.mtime);
  }
  CHECK(v.At(d).nlink == 12);
  CHECK(Ok(other->GetStatFs()).used_inodes == 12);
  Ok(other->RemoveDir(v.root, d, "a0"));
  CHECK(v.At(d).nlink == 11);
  SetAttrRequest request;
  request.valid = kSetMtime;
  request.mtime = {1};
  CHECK(Ok(other->SetAttr(v.root, d, request)).nlink == 11);
  CHECK(v.At(d).mtime.ns == 1);
  Ok(other->ReapSession(true));
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 11);
  CHECK(Ok(v.meta->ListSessions()).size() == 1);
}
