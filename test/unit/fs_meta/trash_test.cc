// SPDX-License-Identifier: Apache-2.0
//
// The trash and the sessions: what survives its name, and for how long.

#include <sys/stat.h>

#include "test/unit/fs_meta/volume.h"

using namespace moorfs;
using namespace moorfs::meta;
using namespace moorfs::meta::testing;

namespace {

constexpr Timestamp kEverything{INT64_MAX};

std::vector<TrashEntry> List(Volume& v) {
  std::vector<TrashEntry> out;
  Ok(v.meta->ListTrash([&](const TrashEntry& entry) {
    out.push_back(entry);
    return true;
  }));
  return out;
}

}  // namespace

TEST_CASE("the last name takes a file to the trash, with all it has") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared), 1);
  const Ino d = v.Dir(kRootIno, "d"), f = v.File(d, "f");
  Ok(v.meta->SetXattr(v.root, f, "user.a", "1", XattrSet::kEither));
  Ok(v.meta->Link(v.root, f, d, "g"));
  CHECK((Ok(v.meta->Unlink(v.root, d, "g")).attr.flags & kAttrTrashed) == 0);
  CHECK(List(v).empty());
  const Entry gone = Ok(v.meta->Unlink(v.root, d, "f"));
  CHECK(gone.attr.nlink == 0);
  CHECK((gone.attr.flags & kAttrTrashed) != 0);
  CHECK(v.At(f) == gone.attr);
  CHECK(v.Names(d).empty());
  CHECK(Err(v.meta->Link(v.root, f, d, "back")) == ENOENT);
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 3);

  const auto list = List(v);
  REQUIRE(list.size() == 1);
  CHECK(list[0].ino == f);
  CHECK(list[0].parent == d);
  CHECK(list[0].name == "f");
  CHECK(list[0].path == "/d/f");
  CHECK(list[0].deleted == gone.attr.trashed);

  const Entry back = Ok(v.meta->RestoreTrash(f, std::nullopt));
  CHECK(back.attr.nlink == 1);
  CHECK(back.attr.flags == kAttrHasXattr);
  CHECK(Ok(v.meta->Lookup(d, "f")).ino == f);
  CHECK(Ok(v.meta->GetXattr(f, "user.a")) == "1");
  CHECK(List(v).empty());
  CHECK(Err(v.meta->RestoreTrash(f, std::nullopt)) == ENOENT);
  CHECK(Err(v.meta->RestoreTrash(9999, std::nullopt)) == ENOENT);
}

TEST_CASE("a tree that was removed comes back from its leaf") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared), 1);
  const Ino a = v.Dir(kRootIno, "a"), b = v.Dir(a, "b"), f = v.File(b, "f");
  Ok(v.meta->Unlink(v.root, b, "f"));
  Ok(v.meta->RemoveDir(v.root, a, "b"));
  Ok(v.meta->RemoveDir(v.root, kRootIno, "a"));
  CHECK(Err(v.meta->MakeDir(v.root, b, "x", 0755)) == ENOENT);
  CHECK(Err(v.meta->ReadDir(b, 0, 1, false)) == 0);
  const auto list = List(v);
  REQUIRE(list.size() == 3);
  CHECK(list[0].path == "/a/b/f");
  CHECK(list[2].path == "/a");
  Ok(v.meta->RestoreTrash(f, std::nullopt));
  CHECK(Ok(v.meta->Resolve("/a/b/f")).ino == f);
  CHECK(Ok(v.meta->Paths(f)) == std::vector<std::string>{"/a/b/f"});
  CHECK(v.At(a).nlink == 3);
  CHECK(v.At(kRootIno).nlink == 3);
  CHECK(List(v).empty());
}

TEST_CASE("a name that is taken stays, the trash can go elsewhere") {
  Volume v(Shape::kEmbedded, 1);
  const Ino d = v.Dir(kRootIno, "d"), f = v.File(kRootIno, "f");
  Ok(v.meta->Unlink(v.root, kRootIno, "f"));
  const Ino second = v.File(kRootIno, "f");
  CHECK(Err(v.meta->RestoreTrash(f, std::nullopt)) == EEXIST);
  CHECK(Err(v.meta->RestoreTrash(f, "/none/f")) == ENOENT);
  CHECK(Err(v.meta->RestoreTrash(f, "/d/")) == ENOENT);
  Ok(v.meta->RestoreTrash(f, "/d/old"));
  CHECK(Ok(v.meta->Lookup(d, "old")).ino == f);
  CHECK(v.At(f).parent == d);
  // What a rename replaced is in the trash as well.
  Ok(v.meta->Rename(v.root, d, "old", kRootIno, "f", 0));
  REQUIRE(List(v).size() == 1);
  CHECK(List(v)[0].ino == second);
}

TEST_CASE("emptying the trash removes what is older, for good") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared), 1);
  v.File(kRootIno, "old");
  Ok(v.meta->Unlink(v.root, kRootIno, "old"));
  const Timestamp between = Timestamp::Now();
  const Ino young = v.File(kRootIno, "young"), d = v.Dir(kRootIno, "d");
  Ok(v.meta->Unlink(v.root, kRootIno, "young"));
  Ok(v.meta->RemoveDir(v.root, kRootIno, "d"));
  CHECK(Ok(v.meta->EmptyTrash({between.ns - 3600 * Timestamp::kNsPerSec})) == 0);
  CHECK(Ok(v.meta->EmptyTrash(between)) == 1);
  CHECK(List(v).size() == 2);
  v.open = {young};
  CHECK(Ok(v.meta->EmptyTrash(kEverything)) == 2);
  CHECK(List(v).empty());
  CHECK(v.At(young).nlink == 0);  // its handle is the last claim now
  CHECK((v.At(young).flags & kAttrTrashed) == 0);
  CHECK(Err(v.meta->GetAttr(d)) == ESTALE);
  CHECK(Err(v.meta->RestoreTrash(young, std::nullopt)) == ENOENT);
  v.open.clear();
  Ok(v.meta->ReleaseSustained(young));
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 1);
  // And the trash goes on working.
  const Ino next = v.File(kRootIno, "next");
  Ok(v.meta->Unlink(v.root, kRootIno, "next"));
  REQUIRE(List(v).size() == 1);
  CHECK(List(v)[0].ino == next);
}

TEST_CASE("a directory whose parent is gone for good needs a new place") {
  Volume v(Shape::kEmbedded, 1);
  const Ino a = v.Dir(kRootIno, "a");
  const Ino f = v.File(a, "f");
  Ok(v.meta->Unlink(v.root, a, "f"));
  Ok(v.meta->SetTrashDays(0));
  Ok(v.meta->RemoveDir(v.root, kRootIno, "a"));
  CHECK(Err(v.meta->GetAttr(a)) == ESTALE);
  CHECK(Err(v.meta->RestoreTrash(f, std::nullopt)) == ENOENT);
  CHECK(List(v)[0].path.empty());
  Ok(v.meta->RestoreTrash(f, "/f"));
  CHECK(Ok(Meta::LoadFormat(*v.mem)).trash_days == 0);
}

TEST_CASE("a client that comes back finds the sustained inodes of the last one") {
  Volume v(Shape::kEmbedded);
  const Ino held = v.File(kRootIno, "held"), lost = v.File(kRootIno, "lost");
  v.open = {held, lost};
  Ok(v.meta->Unlink(v.root, kRootIno, "held"));
  Ok(v.meta->Unlink(v.root, kRootIno, "lost"));
  v.meta = v.OpenAnother();
  v.open = {held};
  Ok(v.meta->ReapSession(false));
  CHECK(v.At(held).nlink == 0);
  CHECK(Err(v.meta->GetAttr(lost)) == ESTALE);
  v.open.clear();
  REQUIRE(Ok(v.meta->ListSessions()).size() == 1);
  Ok(v.meta->ReapSession(true));
  CHECK(Err(v.meta->GetAttr(held)) == ESTALE);
  CHECK(Ok(v.meta->ListSessions()).empty());
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == 1);
}

TEST_CASE("a session tells who it is") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared));
  SessionInfo info;
  info.host = "h";
  info.mountpoint = "/m";
  info.version = "1";
  info.pid = 42;
  info.started = {7};
  auto other = v.OpenAnother();
  Ok(other->StartSession(info, false));
  const auto sessions = Ok(v.meta->ListSessions());
  const SessionInfo& last = sessions.back();
  CHECK(last.host == "h");
  CHECK(last.mountpoint == "/m");
  CHECK(last.version == "1");
  CHECK(last.pid == 42);
  CHECK(last.started.ns == 7);
}
