// SPDX-License-Identifier: Apache-2.0
//
// Exactly once: a request that is sent again after its client died answers the
// same and changes nothing.

#include <sys/stat.h>

#include <functional>

#include "test/unit/fs_meta/volume.h"

using namespace moorfs;
using namespace moorfs::meta;
using namespace moorfs::meta::testing;

namespace {

struct Replayed {
  int err = 0;
  Ino ino = 0, other = 0;
  uint32_t nlink = 0;
  friend bool operator==(const Replayed&, const Replayed&) = default;
};
Replayed Of(const Result<Entry>& r) {
  if (!r) return {r.error().err()};
  return {0, r->ino, 0, r->attr.nlink};
}
Replayed Of(const Result<Attr>& r) {
  if (!r) return {r.error().err()};
  return {0, 0, 0, r->nlink};
}
Replayed Of(const Status& s) { return {s.err()}; }
Replayed Of(const Result<Meta::Renamed>& r) {
  if (!r) return {r.error().err()};
  return {0, r->moved.ino, r->replaced ? r->replaced->ino : 0, r->moved.attr.nlink};
}

struct Case {
  const char* name;
  std::function<Replayed(Volume&, Meta&, const OpContext&)> run;
};

SetAttrRequest Chmod() {
  SetAttrRequest request;
  request.valid = kSetMode;
  request.mode = 0600;
  return request;
}

// Each on a volume with directories d and e, a file f, a second name g of it
// and an attribute user.old.
const std::vector<Case> kCases = {
    {"mknod", [](Volume&, Meta& m, const OpContext& c) { return Of(m.MakeNode(c, kRootIno, "new", S_IFREG | 0644, 0)); }},
    {"mkdir", [](Volume&, Meta& m, const OpContext& c) { return Of(m.MakeDir(c, kRootIno, "new", 0755)); }},
    {"symlink", [](Volume&, Meta& m, const OpContext& c) { return Of(m.MakeSymlink(c, kRootIno, "new", "t")); }},
    {"link",
     [](Volume&, Meta& m, const OpContext& c) {
       return Of(m.Link(c, Ok(m.Lookup(kRootIno, "h")).ino, kRootIno, "new"));
     }},
    {"unlink one of two", [](Volume&, Meta& m, const OpContext& c) { return Of(m.Unlink(c, kRootIno, "g")); }},
    {"unlink the last", [](Volume&, Meta& m, const OpContext& c) { return Of(m.Unlink(c, kRootIno, "h")); }},
    {"rmdir", [](Volume&, Meta& m, const OpContext& c) { return Of(m.RemoveDir(c, kRootIno, "d")); }},
    {"rename", [](Volume&, Meta& m, const OpContext& c) { return Of(m.Rename(c, kRootIno, "f", kRootIno, "new", 0)); }},
    {"rename over", [](Volume&, Meta& m, const OpContext& c) { return Of(m.Rename(c, kRootIno, "f", kRootIno, "h", 0)); }},
    {"exchange",
     [](Volume&, Meta& m, const OpContext& c) {
       return Of(m.Rename(c, kRootIno, "f", kRootIno, "d", kRenameExchange));
     }},
    {"chmod",
     [](Volume&, Meta& m, const OpContext& c) { return Of(m.SetAttr(c, Ok(m.Lookup(kRootIno, "e")).ino, Chmod())); }},
    {"setxattr",
     [](Volume&, Meta& m, const OpContext& c) {
       return Of(m.SetXattr(c, Ok(m.Lookup(kRootIno, "e")).ino, "user.new", "v", XattrSet::kCreate));
     }},
    {"removexattr",
     [](Volume&, Meta& m, const OpContext& c) {
       return Of(m.RemoveXattr(c, Ok(m.Lookup(kRootIno, "e")).ino, "user.old"));
     }},
};

void Furnish(Volume& v) {
  v.Dir(kRootIno, "d");
  const Ino e = v.Dir(kRootIno, "e");
  Ok(v.meta->SetXattr(v.root, e, "user.old", "v", XattrSet::kEither));
  Ok(v.meta->Link(v.root, v.File(kRootIno, "f"), kRootIno, "g"));
  v.File(kRootIno, "h");
}

}  // namespace

TEST_CASE("every mutating request is answered twice and done once") {
  const auto& test = GENERATE(from_range(kCases));
  const uint32_t trash_days = GENERATE(0u, 1u);
  INFO(test.name << ", trash " << trash_days);
  Volume v(Shape::kEmbedded, trash_days);
  Furnish(v);
  OpContext ctx;
  ctx.epoch = 11;
  ctx.unique = 1234;
  ctx.slot = 5;
  const Replayed first = test.run(v, *v.meta, ctx);
  CHECK(first.err == 0);
  // The next client, which has taken an inode batch of its own.
  v.meta = v.OpenAnother();
  v.File(kRootIno, "unrelated");
  const auto before = v.Dump();
  const StatFs usage = Ok(v.meta->GetStatFs());
  ctx.resent = true;
  CHECK(test.run(v, *v.meta, ctx) == first);
  CHECK(v.Dump() == before);
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == usage.used_inodes);
}

TEST_CASE("a resent request that was never done is done") {
  Volume v;
  OpContext ctx;
  ctx.epoch = 11;
  ctx.unique = 1234;
  ctx.slot = 5;
  ctx.resent = true;
  CHECK(Ok(v.meta->MakeDir(ctx, kRootIno, "a", 0755)).ino != 0);
  // Same unique of another mount, another unique in the same slot, another slot.
  OpContext other = ctx;
  other.epoch = 12;
  CHECK(Err(v.meta->MakeDir(other, kRootIno, "a", 0755)) == EEXIST);
  other = ctx;
  other.unique = 1236;
  CHECK(Err(v.meta->MakeDir(other, kRootIno, "a", 0755)) == EEXIST);
  other = ctx;
  other.slot = 6;
  CHECK(Err(v.meta->MakeDir(other, kRootIno, "a", 0755)) == EEXIST);
  // A failure is no result: tried again it may succeed.
  Ok(v.meta->RemoveDir(v.root, kRootIno, "a"));
  CHECK(Ok(v.meta->MakeDir(other, kRootIno, "a", 0755)).ino != 0);
  // Not resent: the slot is simply used again.
  ctx.resent = false;
  CHECK(Err(v.meta->MakeDir(ctx, kRootIno, "a", 0755)) == EEXIST);
}

TEST_CASE("the end of a session takes its records along") {
  Volume v(GENERATE(Shape::kEmbedded, Shape::kShared));
  OpContext ctx;
  ctx.epoch = 11;
  for (uint32_t slot = 0; slot < 300; ++slot) {
    ctx.slot = slot;
    ctx.unique = 2 + 2 * slot;
    Ok(v.meta->MakeDir(ctx, kRootIno, std::to_string(slot), 0755));
  }
  const auto records = [&] {
    size_t n = 0;
    for (const auto& [key, value] : v.Dump()) n += key[0] == 'R' ? 1 : 0;
    return n;
  };
  CHECK(records() == 300);
  Ok(v.meta->ReapSession(true));
  CHECK(records() == 0);
}
