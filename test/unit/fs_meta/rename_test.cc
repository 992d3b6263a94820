// SPDX-License-Identifier: Apache-2.0
//
// rename(2), case by case.

#include <sys/stat.h>

#include "test/unit/fs_meta/volume.h"

using namespace moorfs;
using namespace moorfs::meta;
using namespace moorfs::meta::testing;

namespace {

Shape AnyShape() { return GENERATE(Shape::kEmbedded, Shape::kShared, Shape::kColliding); }

}  // namespace

TEST_CASE("a file moves, and both parents and the file notice") {
  Volume v(AnyShape());
  const Ino a = v.Dir(kRootIno, "a"), b = v.Dir(kRootIno, "b"), f = v.File(a, "f");
  const Attr before = v.At(f);
  const auto renamed = Ok(v.meta->Rename(v.root, a, "f", b, "g", 0));
  CHECK(renamed.moved.ino == f);
  CHECK(!renamed.replaced);
  CHECK(renamed.moved.attr.ctime > before.ctime);
  CHECK(renamed.moved.attr.mtime == before.mtime);
  CHECK(renamed.moved.attr.parent == b);
  CHECK(v.At(f) == renamed.moved.attr);
  for (const Ino dir : {a, b}) {
    CHECK(v.At(dir).mtime == renamed.moved.attr.ctime);
    CHECK(v.At(dir).ctime == renamed.moved.attr.ctime);
    CHECK(v.At(dir).nlink == 2);
  }
  CHECK(Err(v.meta->Lookup(a, "f")) == ENOENT);
  CHECK(Ok(v.meta->Lookup(b, "g")).ino == f);
  Ok(v.meta->Rename(v.root, b, "g", b, "h", 0));
  CHECK(v.Names(b) == std::set<std::string>{"h"});
  CHECK(Err(v.meta->Rename(v.root, a, "f", b, "x", 0)) == ENOENT);
  CHECK(Err(v.meta->Rename(v.root, b, "h", 9999, "x", 0)) == ENOENT);
  CHECK(Err(v.meta->Rename(v.root, b, "h", f, "x", 0)) == ENOTDIR);
  CHECK(Err(v.meta->Rename(v.root, b, "h", b, "..", 0)) == EINVAL);
}

TEST_CASE("a rename over a file takes its name and its link") {
  Volume v(AnyShape());
  const Ino d = v.Dir(kRootIno, "d"), f = v.File(kRootIno, "f"), g = v.File(d, "g");
  Ok(v.meta->Link(v.root, g, kRootIno, "second"));
  auto renamed = Ok(v.meta->Rename(v.root, kRootIno, "f", d, "g", 0));
  REQUIRE(renamed.replaced);
  CHECK(renamed.replaced->ino == g);
  CHECK(renamed.replaced->attr.nlink == 1);
  CHECK(v.At(g) == renamed.replaced->attr);
  CHECK(Ok(v.meta->Lookup(d, "g")).ino == f);
  renamed = Ok(v.meta->Rename(v.root, d, "g", kRootIno, "second", 0));
  CHECK(renamed.replaced->attr.nlink == 0);
  CHECK(Err(v.meta->GetAttr(g)) == ESTALE);
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 3);
}

TEST_CASE("types must fit and directories be empty") {
  Volume v(AnyShape());
  const Ino d = v.Dir(kRootIno, "d"), e = v.Dir(kRootIno, "e");
  v.File(kRootIno, "f");
  v.File(e, "x");
  CHECK(Err(v.meta->Rename(v.root, kRootIno, "d", kRootIno, "f", 0)) == ENOTDIR);
  CHECK(Err(v.meta->Rename(v.root, kRootIno, "f", kRootIno, "d", 0)) == EISDIR);
  CHECK(Err(v.meta->Rename(v.root, kRootIno, "d", kRootIno, "e", 0)) == ENOTEMPTY);
  const auto renamed = Ok(v.meta->Rename(v.root, kRootIno, "e", kRootIno, "d", 0));
  CHECK(renamed.replaced->ino == d);
  CHECK(renamed.replaced->attr.nlink == 0);
  CHECK(v.At(kRootIno).nlink == 3);
  CHECK(v.Names(Ok(v.meta->Lookup(kRootIno, "d")).ino) == std::set<std::string>{"x"});
}

TEST_CASE("a directory that moves takes its .. along, and never below itself") {
  Volume v(AnyShape());
  const Ino a = v.Dir(kRootIno, "a"), b = v.Dir(a, "b"), c = v.Dir(b, "c"), d = v.Dir(kRootIno, "d");
  CHECK(Err(v.meta->Rename(v.root, kRootIno, "a", c, "x", 0)) == EINVAL);
  CHECK(Err(v.meta->Rename(v.root, kRootIno, "a", a, "x", 0)) == EINVAL);
  CHECK(Err(v.meta->Rename(v.root, b, "c", kRootIno, "a", 0)) == ENOTEMPTY);
  CHECK(Err(v.meta->Rename(v.root, kRootIno, "a", b, "c", kRenameExchange)) == EINVAL);
  Ok(v.meta->Rename(v.root, a, "b", d, "b", 0));
  CHECK(v.At(a).nlink == 2);
  CHECK(v.At(d).nlink == 3);
  CHECK(Ok(v.meta->Lookup(b, "..")).ino == d);
  CHECK(Ok(v.meta->Paths(c)) == std::vector<std::string>{"/d/b/c"});
  // Over an empty directory elsewhere: one comes, one goes.
  v.Dir(a, "empty");
  Ok(v.meta->Rename(v.root, d, "b", a, "empty", 0));
  CHECK(v.At(a).nlink == 3);
  CHECK(v.At(d).nlink == 2);
}

TEST_CASE("two names of one inode: rename does nothing") {
  Volume v(AnyShape());
  const Ino f = v.File(kRootIno, "f");
  Ok(v.meta->Link(v.root, f, kRootIno, "g"));
  const Attr before = v.At(f), dir = v.At(kRootIno);
  const auto renamed = Ok(v.meta->Rename(v.root, kRootIno, "f", kRootIno, "g", 0));
  CHECK(renamed.moved.ino == f);
  CHECK(!renamed.replaced);
  Ok(v.meta->Rename(v.root, kRootIno, "f", kRootIno, "f", 0));
  CHECK(v.At(f) == before);
  CHECK(v.At(kRootIno) == dir);
  CHECK(v.Names(kRootIno) == std::set<std::string>{"f", "g"});
}

TEST_CASE("NOREPLACE refuses, EXCHANGE swaps") {
  Volume v(AnyShape());
  const Ino a = v.Dir(kRootIno, "a"), b = v.Dir(kRootIno, "b");
  const Ino f = v.File(a, "f"), d = v.Dir(b, "d");
  v.File(d, "inside");
  CHECK(Err(v.meta->Rename(v.root, a, "f", b, "d", kRenameNoReplace)) == EEXIST);
  CHECK(Err(v.meta->Rename(v.root, a, "f", b, "none", kRenameExchange)) == ENOENT);
  CHECK(Err(v.meta->Rename(v.root, a, "f", b, "d", 3)) == EINVAL);
  CHECK(Err(v.meta->Rename(v.root, a, "f", b, "d", 4)) == EINVAL);
  const auto renamed = Ok(v.meta->Rename(v.root, a, "f", b, "d", kRenameExchange));
  CHECK(renamed.moved.ino == f);
  CHECK(renamed.replaced->ino == d);
  CHECK(Ok(v.meta->Lookup(a, "f")).ino == d);
  CHECK(Ok(v.meta->Lookup(b, "d")).ino == f);
  CHECK(v.At(d).parent == a);
  CHECK(v.At(f).parent == b);
  CHECK(v.At(a).nlink == 3);
  CHECK(v.At(b).nlink == 2);
  CHECK(v.At(d).ctime == v.At(f).ctime);
  // Within one directory nothing is won or lost.
  Ok(v.meta->Rename(v.root, kRootIno, "a", kRootIno, "b", kRenameExchange));
  CHECK(v.At(kRootIno).nlink == 4);
  CHECK(Ok(v.meta->Lookup(kRootIno, "a")).ino == b);
  Ok(v.meta->Rename(v.root, kRootIno, "a", kRootIno, "c", kRenameNoReplace));
}

TEST_CASE("a hard-linked file changes the parent of that one link") {
  Volume v(AnyShape());
  const Ino a = v.Dir(kRootIno, "a"), b = v.Dir(kRootIno, "b"), f = v.File(a, "f");
  Ok(v.meta->Link(v.root, f, a, "g"));
  Ok(v.meta->Rename(v.root, a, "g", b, "g", 0));
  CHECK(Ok(v.meta->Paths(f)) == std::vector<std::string>{"/a/f", "/b/g"});
  const Ino other = v.File(kRootIno, "other");
  Ok(v.meta->Rename(v.root, a, "f", kRootIno, "other", kRenameExchange));
  CHECK(Ok(v.meta->Paths(f)) == std::vector<std::string>{"/b/g", "/other"});
  CHECK(Ok(v.meta->Paths(other)) == std::vector<std::string>{"/a/f"});
  CHECK(Ok(v.meta->Unlink(v.root, b, "g")).attr.parent == kRootIno);
}

TEST_CASE("an open file survives a rename over it") {
  Volume v(AnyShape());
  v.File(kRootIno, "f");
  const Ino g = v.File(kRootIno, "g");
  v.open = {g};
  CHECK(Ok(v.meta->Rename(v.root, kRootIno, "f", kRootIno, "g", 0)).replaced->attr.nlink == 0);
  CHECK(v.At(g).nlink == 0);
  v.open.clear();
  Ok(v.meta->ReapSession(false));
  CHECK(Err(v.meta->GetAttr(g)) == ESTALE);
}
