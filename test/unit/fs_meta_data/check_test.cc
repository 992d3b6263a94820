// SPDX-License-Identifier: Apache-2.0
//
// Fsck finds each planted damage and mends what can be mended; gc deletes what
// nobody knows and nothing else; a dump comes back equal or not at all.

#include <random>
#include <set>

#include "common/base/coding.h"
#include "fs/format/records.h"
#include "fs/meta/check/dump.h"
#include "fs/meta/check/fsck.h"
#include "fs/meta/check/gc.h"
#include "fs/kv/open.h"
#include "test/support/temp_dir.h"
#include "volume.h"

namespace moorfs::meta::testing {
namespace {

// A volume with one of everything.
struct Town : Volume {
  Town() {
    dir = Must(meta->MakeDir({}, kRootIno, "dir", 0755)).ino;
    sub = Must(meta->MakeDir({}, dir, "sub", 0755)).ino;
    file = Must(meta->MakeNode({}, dir, "file", 0100644, 0)).ino;
    linked = Must(meta->MakeNode({}, sub, "one", 0100644, 0)).ino;
    Must(meta->Link({}, linked, dir, "two"));
    tiny = Must(meta->MakeNode({}, dir, "tiny", 0100644, 0)).ino;
    Must(meta->MakeSymlink({}, dir, "symlink", "file"));
    RequireOk(meta->SetXattr({}, file, "user.a", "b", XattrSet::kEither));
    object = Write(*this, file, 0, 5000);
    Write(*this, linked, kChunkBytes - 10, 10);
    Must(meta->CopyRange({}, file, 0, linked, 100, 3000));
    FileUpdate update;
    update.ino = tiny;
    update.inline_bytes = "hello";
    update.grow_to = 5;
    Must(meta->Commit({}, {update}));
  }
  void Change(const std::function<void(kv::Transaction&)>& change) {
    RequireOk(kv->Transact([&](kv::Transaction& txn) {
      change(txn);
      return Status::Ok();
    }));
  }
  void ChangeAttr(Ino ino, const std::function<void(Attr&)>& change) {
    Attr attr = Must(meta->GetAttr(ino));
    change(attr);
    Change([&](kv::Transaction& txn) { txn.Put(meta->schema().Attr(ino), EncodeAttr(attr)); });
  }
  kv::Key NameKey(Ino dir_ino, std::string_view name) {
    return meta->schema().Dentry(dir_ino, keys::NameHash56(meta->format().name_hash_key, name) << 7);
  }
  Ino dir, sub, file, linked, tiny;
  ObjectId object;
};

FsckReport Check(Town& town, bool repair = false) {
  FsckOptions options;
  options.repair = repair;
  return Must(Fsck(*town.kv, options));
}
std::string Texts(const FsckReport& report) {
  std::string out;
  for (const Finding& f : report.findings) out += std::string(DamageName(f.damage)) + ": " + f.text + "\n";
  return out;
}

TEST_CASE("fsck finds a healthy volume clean") {
  Town town;
  const FsckReport report = Check(town);
  INFO(Texts(report));
  REQUIRE(report.clean());
  REQUIRE(report.inodes == 7);
  REQUIRE(report.directories == 3);
  REQUIRE(report.names == 7);
  REQUIRE(report.objects == 2);
  REQUIRE(report.used_bytes == Must(town.meta->GetStatFs()).used_bytes);
}

TEST_CASE("fsck finds and mends each planted damage") {
  struct Plant {
    const char* what;
    Damage damage;
    std::function<void(Town&)> plant;
  };
  const keys::Schema schema;
  const std::vector<Plant> plants = {
      {"a name whose inode is gone", Damage::kDanglingName,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Delete(schema.Attr(t.tiny)); }); }},
      {"records whose inode is gone", Damage::kStrayRecords,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Delete(schema.Attr(t.file)); }); }},
      {"a directory that is gone", Damage::kWrongParent,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Delete(schema.Attr(t.sub)); }); }},
      {"a file without name", Damage::kOrphan,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Delete(t.NameKey(t.dir, "file")); }); }},
      {"a directory without name", Damage::kOrphan,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Delete(t.NameKey(kRootIno, "dir")); }); }},
      {"a file's link count", Damage::kWrongLinks,
       [&](Town& t) { t.ChangeAttr(t.file, [](Attr& a) { a.nlink = 3; }); }},
      {"a directory's link count", Damage::kWrongLinks,
       [&](Town& t) { t.ChangeAttr(t.dir, [](Attr& a) { a.nlink = 9; }); }},
      {"a parent", Damage::kWrongParent,
       [&](Town& t) { t.ChangeAttr(t.file, [&](Attr& a) { a.parent = t.sub; }); }},
      {"the parents of a hard link", Damage::kWrongParent,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Delete(schema.Parent(t.linked, t.sub)); }); }},
      {"the type in a directory", Damage::kWrongType,
       [&](Town& t) {
         t.Change([&](kv::Transaction& txn) {
           Dentry dentry;
           dentry.type = FileType::kFifo;
           dentry.ino = t.file;
           dentry.name = "file";
           txn.Put(t.NameKey(t.dir, "file"), EncodeDentry(dentry));
         });
       }},
      {"a name that lookup cannot find", Damage::kMisplacedName,
       [&](Town& t) {
         t.Change([&](kv::Transaction& txn) {
           Dentry dentry;
           dentry.ino = t.file;
           dentry.name = "file";
           txn.Delete(t.NameKey(t.dir, "file"));
           txn.Put(schema.Dentry(t.dir, 4711 << 7), EncodeDentry(dentry));
         });
       }},
      {"a directory inside itself", Damage::kLoop,
       [&](Town& t) {
         t.Change([&](kv::Transaction& txn) {
           Dentry dentry;
           dentry.type = FileType::kDirectory;
           dentry.ino = t.dir;
           dentry.name = "dir";
           txn.Delete(t.NameKey(kRootIno, "dir"));
           txn.Put(t.NameKey(t.sub, "dir"), EncodeDentry(dentry));
         });
       }},
      {"a directory with two names", Damage::kManyNames,
       [&](Town& t) {
         t.Change([&](kv::Transaction& txn) {
           Dentry dentry;
           dentry.type = FileType::kDirectory;
           dentry.ino = t.sub;
           dentry.name = "again";
           txn.Put(t.NameKey(kRootIno, "again"), EncodeDentry(dentry));
         });
       }},
      {"an object's count", Damage::kWrongReferences,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Add(keys::ObjectRefs(t.object), 5); }); }},
      {"an object's record", Damage::kWrongReferences,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Delete(keys::ObjectRefs(t.object)); }); }},
      {"an object nobody uses", Damage::kWrongReferences,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Add(keys::ObjectRefs({9, 9}), 1); }); }},
      {"the used bytes", Damage::kWrongCounter,
       [&](Town& t) {
         const kv::Key key = keys::CounterKey(keys::Counter::kUsedBytes, 1);
         t.Change([&](kv::Transaction& txn) { txn.Add(key, 4096); });
       }},
      {"the used inodes", Damage::kWrongCounter,
       [&](Town& t) {
         const kv::Key key = keys::CounterKey(keys::Counter::kUsedInodes, 1);
         t.Change([&](kv::Transaction& txn) { txn.Add(key, -2); });
       }},
      {"data behind the end", Damage::kDataBehindEnd,
       [&](Town& t) { t.ChangeAttr(t.linked, [](Attr& a) { a.length = 50; }); }},
      {"inline bytes behind the end", Damage::kDataBehindEnd,
       [&](Town& t) { t.ChangeAttr(t.tiny, [](Attr& a) { a.length = 2; }); }},
      {"the size of the data", Damage::kWrongSliceBytes,
       [&](Town& t) { t.ChangeAttr(t.file, [](Attr& a) { a.slice_bytes = 1; }); }},
      {"the slice sequence", Damage::kWrongSequence,
       [&](Town& t) { t.ChangeAttr(t.file, [](Attr& a) { a.slice_seq = 0; }); }},
      {"the inline flag", Damage::kWrongFlags,
       [&](Town& t) { t.ChangeAttr(t.tiny, [](Attr& a) { a.flags &= ~kAttrInline; }); }},
      {"the xattr flag", Damage::kWrongFlags,
       [&](Town& t) { t.ChangeAttr(t.file, [](Attr& a) { a.flags &= ~kAttrHasXattr; }); }},
      {"a trash record of a living file", Damage::kWrongTrash,
       [&](Town& t) {
         const std::string record = EncodeTrash(TrashRecord{});
         t.Change([&](kv::Transaction& txn) { txn.Put(keys::Trash({1}, t.file), record); });
       }},
      {"an open-file record of a living file", Damage::kWrongSustained,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Put(keys::Sustained(1, t.file), ""); }); }},
      {"results of a dead session", Damage::kDanglingReplay,
       [&](Town& t) { t.Change([&](kv::Transaction& txn) { txn.Put(keys::Replay(77, 1), "x"); }); }},
  };
  for (const Plant& plant : plants) {
    INFO(plant.what);
    Town town;
    plant.plant(town);
    const FsckReport found = Check(town);
    INFO("found:\n" << Texts(found));
    REQUIRE(found.counts.contains(plant.damage));
    REQUIRE(found.repaired == 0);
    const FsckReport mended = Check(town, true);
    INFO("after mending:\n" << Texts(mended));
    REQUIRE(mended.clean());
    REQUIRE(mended.repaired > 0);
    town.Reopen(*town.kv);
    while (Must(town.meta->Clean(Timestamp::Now(), 10))) {
    }
    const FsckReport after = Check(town);
    INFO("after cleaning:\n" << Texts(after));
    REQUIRE(after.clean());
  }
}

TEST_CASE("an adopted file keeps its data") {
  Town town;
  town.Change([&](kv::Transaction& txn) { txn.Delete(town.NameKey(town.dir, "file")); });
  REQUIRE(Check(town, true).clean());
  town.Reopen(*town.kv);
  const Entry entry = Must(town.meta->Resolve("/lost+found/#" + std::to_string(town.file)));
  REQUIRE(entry.ino == town.file);
  REQUIRE(entry.attr.nlink == 1);
  REQUIRE(Reader(*town.meta, town.file).At(17) == ContentByte(town.object, 17));
}

TEST_CASE("what cannot be read is reported, and nothing is let go because of it") {
  Town town;
  const keys::Schema schema;
  SECTION("attributes") {
    town.Change([&](kv::Transaction& txn) { txn.Put(schema.Attr(town.file), "?"); });
  }
  SECTION("a slice") {
    town.Change([&](kv::Transaction& txn) { txn.Put(schema.Slice(town.file, 0, 0), "?"); });
  }
  const FsckReport report = Check(town, true);
  INFO(Texts(report));
  REQUIRE(report.counts.contains(Damage::kUnreadable));
  std::string refs;
  town.Change([&](kv::Transaction& txn) {
    refs = Must(txn.Get(keys::ObjectRefs(town.object))).value_or("");
  });
  REQUIRE(DecodeLe64(refs) == 2);
  REQUIRE(CountFamily(*town.kv, 'Z') == 0);
  REQUIRE(CountFamily(*town.kv, 'D') == 0);
}

TEST_CASE("fsck names the files whose objects are gone from the store") {
  Town town;
  FsckOptions options;
  options.list_objects = [&](const std::function<bool(const StoredObject&)>& visit) {
    for (uint64_t id = 1; id < town.next_object; ++id) {
      if (ObjectId{77, id} != town.object) visit({{77, id}, 1, {}});
    }
    return Status::Ok();
  };
  const FsckReport report = Must(Fsck(*town.kv, options));
  REQUIRE(report.counts.at(Damage::kMissingObject) == 2);
  std::set<Ino> files;
  for (const Finding& finding : report.findings) files.insert(finding.ino);
  REQUIRE(files == std::set<Ino>{town.file, town.linked});
  options.list_objects = [](const auto&) { return Status(EIO, "the store is away"); };
  REQUIRE(Fsck(*town.kv, options).error().err() == EIO);
}

TEST_CASE("a volume with files in the trash, open and half removed is clean") {
  Volume volume;
  volume.meta.reset();
  MetaOptions options;
  Ino open = 0;
  options.is_open = [&](Ino ino) { return ino == open; };
  volume.meta = Must(Meta::Open(*volume.kv, options));
  RequireOk(volume.meta->StartSession({}, false));
  open = volume.NewFile("open");
  const Ino removed = volume.NewFile("removed");
  Write(volume, open, 0, 10);
  Write(volume, removed, 0, 10);
  Must(volume.meta->Unlink({}, kRootIno, "open"));
  Must(volume.meta->Unlink({}, kRootIno, "removed"));
  RequireOk(volume.meta->SetTrashDays(1));
  Must(volume.meta->MakeDir({}, kRootIno, "trashed", 0755));
  Must(volume.meta->RemoveDir({}, kRootIno, "trashed"));
  const Ino both = volume.NewFile("both");
  Must(volume.meta->Link({}, both, kRootIno, "other"));
  Must(volume.meta->Unlink({}, kRootIno, "other"));
  const FsckReport report = Must(Fsck(*volume.kv, {}));
  INFO(Texts(report));
  REQUIRE(report.clean());
}

// ---- gc -----------------------------------------------------------------------

TEST_CASE("gc finds what no metadata knows, and only that") {
  Town town;
  const Timestamp now = Timestamp::Now();
  const Timestamp old{now.ns - 2 * kDefaultSafetyAgeNs};
  std::vector<StoredObject> store = {{town.object, 10, old}, {{50, 1}, 10, old}, {{50, 2}, 20, now}};
  // Queued for deletion: known.
  town.Change([&](kv::Transaction& txn) { txn.Put(keys::ObjectDelete(now, {50, 3}), ""); });
  store.push_back({{50, 3}, 10, old});
  const ListObjects list = [&](const std::function<bool(const StoredObject&)>& visit) {
    for (const StoredObject& object : store) visit(object);
    return Status::Ok();
  };
  SECTION("an object whose count got lost is still pointed at") {
    town.Change([&](kv::Transaction& txn) { txn.Delete(keys::ObjectRefs(town.object)); });
  }
  SECTION("all is well") {}
  const GcReport report = Must(FindLeaked(*town.kv, list, now));
  REQUIRE(report.listed == 4);
  REQUIRE(report.young == 1);
  REQUIRE(report.leaked.size() == 1);
  REQUIRE(report.leaked[0].id == ObjectId{50, 1});
  REQUIRE(report.leaked_bytes == 10);
}

TEST_CASE("gc looks again before it deletes, and stops at the first error") {
  Town town;
  const std::vector<StoredObject> leaked = {{town.object, 1, {}}, {{50, 1}, 1, {}}, {{50, 2}, 1, {}}};
  std::vector<ObjectId> removed;
  REQUIRE(Must(DeleteLeaked(*town.kv, leaked, [&](const ObjectId& id) {
            removed.push_back(id);
            return Status::Ok();
          })) == 2);
  REQUIRE(removed == std::vector<ObjectId>{{50, 1}, {50, 2}});
  int calls = 0;
  const auto failing = DeleteLeaked(*town.kv, leaked, [&](const ObjectId&) {
    ++calls;
    return Status(EIO, "the store is away");
  });
  REQUIRE_FALSE(failing);
  REQUIRE(calls == 1);
}

TEST_CASE("gc gives up when the store or the metadata cannot be read whole") {
  Town town;
  REQUIRE_FALSE(FindLeaked(*town.kv, [](const auto&) { return Status(EIO, "no"); }, Timestamp::Now()));
  town.Change([&](kv::Transaction& txn) { txn.Put(keys::Schema().Slice(town.file, 9, 9), "?"); });
  REQUIRE_FALSE(FindLeaked(*town.kv, [](const auto&) { return Status::Ok(); }, Timestamp::Now()));
}

// ---- dump and load ---------------------------------------------------------------

std::string DumpOf(kv::KvStore& kv) {
  std::string out;
  const DumpStats stats = Must(Dump(kv, [&](std::string_view bytes) {
    out.append(bytes);
    return Status::Ok();
  }));
  REQUIRE(stats.bytes == out.size());
  return out;
}
DumpSource From(const std::string& bytes) {
  return [&bytes, at = size_t{0}](char* out, size_t size) mutable -> Result<size_t> {
    const size_t n = std::min({size, bytes.size() - at, size_t{1000}});
    std::copy_n(bytes.data() + at, n, out);
    at += n;
    return n;
  };
}

TEST_CASE("a dump comes back equal") {
  Town town;
  for (int i = 0; i < 3000; ++i) {
    RequireOk(town.meta->SetXattr({}, town.file, "user.x" + std::to_string(i), std::string(300, 'v'),
                                  XattrSet::kEither));
  }
  const std::string dump = DumpOf(*town.kv);
  REQUIRE(Must(VerifyDump(From(dump))).format.uuid == town.meta->format().uuid);
  const auto copy = kv::NewMemStore();
  const DumpStats stats = Must(Load(*copy, From(dump)));
  REQUIRE(stats.bytes == dump.size());
  REQUIRE(AllRecords(*copy) == AllRecords(*town.kv));
  REQUIRE(DumpOf(*copy) == dump);
  REQUIRE(Must(Fsck(*copy, {})).clean());
  REQUIRE(Load(*copy, From(dump)).error().err() == EEXIST);
}

TEST_CASE("a volume moves between engines by its dump") {
  Town town;
  test::TempDir dir;
  kv::Options options;
  options.create_if_missing = true;
  const std::string dump = DumpOf(*town.kv);
  {
    const auto engine = Must(kv::OpenKvStore("leveldb:" + (dir / "meta"), options));
    Must(Load(*engine, From(dump)));
  }
  const auto engine = Must(kv::OpenKvStore("leveldb:" + (dir / "meta"), options));
  REQUIRE(AllRecords(*engine) == AllRecords(*town.kv));
  REQUIRE(DumpOf(*engine) == dump);
}

TEST_CASE("a dump with any byte changed or missing is refused and makes no volume") {
  Town town;
  for (int i = 0; i < 2000; ++i) {
    RequireOk(town.meta->SetXattr({}, town.file, "user.x" + std::to_string(i), std::string(300, 'v'),
                                  XattrSet::kEither));
  }
  const std::string dump = DumpOf(*town.kv);
  REQUIRE(dump.size() > 2 * (256 << 10));  // several blocks
  const auto engine = kv::NewMemStore();
  std::mt19937_64 random(RandomU64());
  for (int i = 0; i < 300; ++i) {
    std::string damaged = dump;
    // The first bytes, the last bytes, and any.
    size_t at = random() % dump.size();
    if (i < 100) at = static_cast<size_t>(i);
    if (i >= 100 && i < 150) at = dump.size() - 1 - static_cast<size_t>(i - 100);
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    INFO("byte " << at);
    REQUIRE_FALSE(VerifyDump(From(damaged)));
    if (i % 10 != 0) continue;
    REQUIRE_FALSE(Load(*engine, From(damaged)));
    REQUIRE(Meta::LoadFormat(*engine).error().err() == ENOENT);
  }
  for (const size_t size : {size_t{0}, size_t{5}, size_t{100}, dump.size() / 2, dump.size() - 1}) {
    const auto loaded = Load(*engine, From(dump.substr(0, size)));
    REQUIRE(loaded.error().err() == EIO);
    REQUIRE(loaded.error().message().find("offset") != std::string::npos);
  }
  REQUIRE_FALSE(VerifyDump(From(dump + "x")));
  // The engine with the half load: not a volume, not to be formatted, but to be loaded into again.
  REQUIRE_FALSE(Meta::FormatVolume(*engine, TestFormat(), 0, 0).ok());
  Must(Load(*engine, From(dump)));
  REQUIRE(AllRecords(*engine) == AllRecords(*town.kv));
}

TEST_CASE("a dump is not loaded over something else, and blocks cannot change places") {
  Town town;
  const std::string dump = DumpOf(*town.kv);
  const auto engine = kv::NewMemStore();
  RequireOk(engine->Transact([](kv::Transaction& txn) {
    txn.Put(keys::Allocator("something"), "1");
    return Status::Ok();
  }));
  REQUIRE(Load(*engine, From(dump)).error().err() == ENOTEMPTY);
  REQUIRE(AllRecords(*engine).size() == 1);
}

}  // namespace
}  // namespace moorfs::meta::testing
