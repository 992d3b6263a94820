// SPDX-License-Identifier: Apache-2.0
//
// Random changes of three files, against a model that knows nothing of chunks,
// sequence numbers and counts: a file there is a list of stretches, each taken
// from some object at some offset.

#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <set>

#include "fs/format/slice_view.h"
#include "fs/kv/open.h"
#include "test/support/temp_dir.h"
#include "volume.h"

namespace moorfs::meta::testing {
namespace {

// Objects that compaction made, as pieces of others; everything else is ContentByte's.
struct Composite {
  struct Part {
    uint64_t begin, end;  // in the composite
    ObjectId object;
    uint64_t offset;
  };
  std::vector<Part> parts;
};

class ModelFile {
 public:
  struct Source {
    ObjectId object;
    int64_t shift = 0;  // byte p of the file is byte p + shift of the object
  };
  uint64_t length = 0;

  void Paint(uint64_t begin, uint64_t end, Source source) {
    if (begin >= end) return;
    Split(begin);
    Split(end);
    stretches_.erase(stretches_.lower_bound(begin), stretches_.lower_bound(end));
    stretches_[begin] = {end, source};
  }
  void Truncate(uint64_t to) {
    if (to < length) Paint(to, UINT64_MAX, {});
    length = to;
  }
  void CopyFrom(const ModelFile& from, uint64_t src, uint64_t dst, uint64_t len) {
    std::map<uint64_t, Stretch> pieces;
    ModelFile copy = from;
    copy.Split(src);
    copy.Split(src + len);
    Paint(dst, dst + len, {});
    const auto end = copy.stretches_.lower_bound(src + len);
    for (auto it = copy.stretches_.lower_bound(src); it != end; ++it) {
      const int64_t moved = static_cast<int64_t>(src) - static_cast<int64_t>(dst);
      Paint(it->first - src + dst, it->second.end - src + dst,
            {it->second.source.object, it->second.source.shift + moved});
    }
    length = std::max(length, dst + len);
  }
  Source At(uint64_t pos) const {
    auto it = stretches_.upper_bound(pos);
    if (it == stretches_.begin()) return {};
    --it;
    return pos < it->second.end ? it->second.source : Source{};
  }
  std::vector<uint64_t> Edges() const {
    std::vector<uint64_t> out{0, length};
    for (const auto& [begin, stretch] : stretches_) {
      out.push_back(begin);
      out.push_back(stretch.end);
    }
    return out;
  }

 private:
  struct Stretch {
    uint64_t end;
    Source source;
  };
  void Split(uint64_t at) {
    auto it = stretches_.upper_bound(at);
    if (it == stretches_.begin()) return;
    --it;
    if (it->first == at || it->second.end <= at) return;
    stretches_[at] = it->second;
    it->second.end = at;
  }
  std::map<uint64_t, Stretch> stretches_;
};

class Run {
 public:
  Run(uint64_t seed, size_t steps, std::unique_ptr<kv::KvStore> engine = kv::NewMemStore())
      : random_(seed), steps_(steps), volume_(std::move(engine)) {
    for (int i = 0; i < 3; ++i) files_.push_back({volume_.NewFile("f" + std::to_string(i)), {}});
  }

  void All() {
    for (size_t step = 0; step < steps_; ++step) {
      One();
      if (step % 97 == 0) Check();
      if (step % 997 == 0) RequireExactCounts(*volume_.kv);
    }
    Check();
    RequireExactCounts(*volume_.kv);
    RemoveAll();
  }

 private:
  struct File {
    Ino ino;
    ModelFile model;
  };

  uint64_t Below(uint64_t n) { return n == 0 ? 0 : random_() % n; }
  File& AnyFile() { return files_[Below(files_.size())]; }
  // Mostly near the start and near chunk borders, where the cases are.
  uint64_t Offset() {
    switch (Below(8)) {
      case 0: return Below(5000);
      case 1: return 0;
      case 2: return Below(4) * kChunkBytes;
      case 3: return (1 + Below(3)) * kChunkBytes - Below(100);
      case 4: return Below(3) * kChunkBytes + Below(100);
      case 5: return (uint64_t{1} << 50) + Below(1000);
      default: return Below(4 * kChunkBytes);
    }
  }
  uint64_t Length() {
    switch (Below(4)) {
      case 0: return 1 + Below(300);
      case 1: return 1 + Below(5000);
      case 2: return 1 + Below(kChunkBytes);
      default: return 1 + Below(3 * kChunkBytes);
    }
  }

  void One() {
    const uint64_t kind = Below(100);
    if (kind < 45) return Write();
    if (kind < 52) return WriteInline();
    if (kind < 62) return Truncate();
    if (kind < 74) return Zero();
    if (kind < 77) return Extend();
    if (kind < 89) return Copy();
    Compact();
  }

  void Write() {
    File& file = AnyFile();
    FileUpdate update;
    update.ino = file.ino;
    const ObjectId object{1, next_object_++};
    uint32_t offset = 0;
    const size_t pieces = 1 + Below(4);
    for (size_t i = 0; i < pieces; ++i) {
      const uint64_t at = Offset();
      const uint64_t room = kChunkBytes - at % kChunkBytes;
      const uint32_t len = static_cast<uint32_t>(std::min({Length(), room, uint64_t{4} << 20}));
      SliceRecord record;
      record.pos = static_cast<uint32_t>(at % kChunkBytes);
      record.len = len;
      record.object = object;
      record.offset = offset;
      update.pieces.push_back({static_cast<uint32_t>(at / kChunkBytes), record});
      update.grow_to = std::max(update.grow_to, at + len);
      file.model.Paint(at, at + len, {object, static_cast<int64_t>(offset) - static_cast<int64_t>(at)});
      offset += len;
    }
    file.model.length = std::max(file.model.length, update.grow_to);
    const auto results = Must(volume_.meta->Commit({{object, offset}}, {update}));
    REQUIRE_FALSE(results.front().gone);
    REQUIRE(results.front().length == file.model.length);
    objects_.insert(object);
  }

  void WriteInline() {
    File& file = AnyFile();
    const ObjectId source{2, next_object_++};
    FileUpdate update;
    update.ino = file.ino;
    const uint64_t len = 1 + Below(kMaxInlineBytes);
    update.grow_to = len;
    std::string bytes(len, '\0');
    for (size_t i = 0; i < len; ++i) bytes[i] = static_cast<char>(ContentByte(source, i));
    update.inline_bytes = bytes;
    const auto result = volume_.meta->Commit({}, {update});
    if (!result) {
      REQUIRE(result.error().err() == EINVAL);  // it has slices
      return;
    }
    file.model.Paint(0, kMaxInlineBytes, {});
    file.model.Paint(0, len, {source, 0});
    file.model.length = std::max(file.model.length, len);
  }

  void Truncate() {
    File& file = AnyFile();
    const uint64_t length = Below(3) == 0 ? 0 : Offset();
    const Attr attr = Must(volume_.meta->Truncate({}, file.ino, length, false));
    file.model.Truncate(length);
    REQUIRE(attr.length == length);
  }

  void Zero() {
    File& file = AnyFile();
    const uint64_t offset = Offset(), len = Length();
    const bool extend = Below(3) == 0;
    const Attr attr = Must(volume_.meta->Zero({}, file.ino, offset, len, extend));
    if (extend) file.model.length = std::max(file.model.length, offset + len);
    file.model.Paint(offset, std::min(offset + len, file.model.length), {});
    REQUIRE(attr.length == file.model.length);
  }

  void Extend() {
    File& file = AnyFile();
    const uint64_t length = Offset();
    Must(volume_.meta->Extend({}, file.ino, length));
    file.model.length = std::max(file.model.length, length);
  }

  void Copy() {
    File& from = AnyFile();
    File& to = AnyFile();
    const uint64_t src = Offset(), dst = Offset(), len = Length();
    const auto copied = volume_.meta->CopyRange({}, from.ino, src, to.ino, dst, len);
    if (!copied) {
      const bool overlap = &from == &to && src < dst + len && dst < src + len;
      REQUIRE(copied.error().err() == (overlap ? EINVAL : EOPNOTSUPP));
      if (!overlap) REQUIRE_FALSE(Must(volume_.meta->LoadInline(from.ino)).empty());
      return;
    }
    const uint64_t left = src < from.model.length ? from.model.length - src : 0;
    REQUIRE(*copied <= std::min(len, left));
    if (*copied < std::min(len, left)) REQUIRE(src + *copied < kMaxInlineBytes);
    if (*copied > 0) to.model.CopyFrom(from.model, src, dst, *copied);
  }

  // The bytes of some of the oldest records of a chunk, as one new object.
  void Compact() {
    File& file = AnyFile();
    const uint32_t chunk = static_cast<uint32_t>(Below(5));
    auto slices = Must(volume_.meta->LoadSlices(file.ino, chunk));
    if (slices.empty()) return;
    const size_t keep = Below(slices.size());
    slices.resize(slices.size() - keep);
    const uint64_t up_to = slices.back().seq;
    const ObjectId object{3, next_object_++};
    Composite content;
    std::vector<SliceRecord> with;
    uint32_t end = 0;
    for (const ViewExtent& e : ResolveSlices(slices)) {
      if (with.empty() || uint64_t{with.back().pos} + with.back().len != e.pos) {
        with.push_back({e.pos, 0, object, end});
      }
      with.back().len += e.len;
      content.parts.push_back({end, uint64_t{end} + e.len, e.object, e.offset});
      end += e.len;
    }
    const Status status =
        volume_.meta->ReplaceSlices(file.ino, chunk, up_to, slices.size(), {{object, end}}, with);
    RequireOk(status);
    composites_[object] = std::move(content);
    objects_.insert(object);
    const Status stale =
        volume_.meta->ReplaceSlices(file.ino, chunk, up_to, slices.size() + with.size() + 1, {{{4, 4}, 1}},
                                    with);
    REQUIRE(stale.err() == kErrnoConflict);
  }

  // Byte value of an object, through compaction.
  uint8_t Byte(ObjectId object, uint64_t offset) {
    while (true) {
      const auto found = composites_.find(object);
      if (found == composites_.end()) return ContentByte(object, offset);
      const auto& parts = found->second.parts;
      auto it = std::upper_bound(parts.begin(), parts.end(), offset,
                                 [](uint64_t o, const Composite::Part& p) { return o < p.begin; });
      REQUIRE(it != parts.begin());
      --it;
      object = it->object;
      offset = it->offset + offset - it->begin;
    }
  }

  void Check() {
    for (File& file : files_) {
      Reader reader(*volume_.meta, file.ino, [this](const ObjectId& o, uint64_t at) { return Byte(o, at); });
      REQUIRE(reader.length() == file.model.length);
      std::vector<uint64_t> points = file.model.Edges();
      points.insert(points.end(), reader.edges().begin(), reader.edges().end());
      std::sort(points.begin(), points.end());
      points.erase(std::unique(points.begin(), points.end()), points.end());
      for (size_t i = 0; i < points.size(); ++i) {
        const uint64_t next = i + 1 < points.size() ? points[i + 1] : points[i];
        const uint64_t middle = points[i] + (next - points[i]) / 2;
        for (const uint64_t p : {points[i] - 1, points[i], points[i] + 1, middle}) {
          if (p >= file.model.length) continue;
          const ModelFile::Source source = file.model.At(p);
          const uint64_t at = p + static_cast<uint64_t>(source.shift);
          const uint8_t expected = ContentByte(source.object, at);
          if (reader.At(p) != expected) {
            FAIL("inode " << file.ino << " differs at " << p);
          }
        }
      }
    }
  }

  void RemoveAll() {
    for (size_t i = 0; i < files_.size(); ++i) {
      Must(volume_.meta->Unlink({}, kRootIno, "f" + std::to_string(i)));
    }
    while (Must(volume_.meta->Clean(Timestamp::Now(), 3))) {
    }
    REQUIRE(CountFamily(*volume_.kv, 'O') == 0);
    REQUIRE(CountFamily(*volume_.kv, 'D') == 0);
    REQUIRE(CountFamily(*volume_.kv, 'I') == 1);  // the root's attributes
    std::set<ObjectId> due;
    const Timestamp later{Timestamp::Now().ns + 7200 * Timestamp::kNsPerSec};
    while (true) {
      const auto some = Must(volume_.meta->DueObjects(later, 100));
      if (some.empty()) break;
      due.insert(some.begin(), some.end());
      RequireOk(volume_.meta->ForgetObjects(some));
    }
    due.erase({4, 4});
    REQUIRE(due == objects_);
    REQUIRE(CountFamily(*volume_.kv, 'Z') == 0);
  }

  std::mt19937_64 random_;
  const size_t steps_;
  Volume volume_;
  std::vector<File> files_;
  std::map<ObjectId, Composite> composites_;
  std::set<ObjectId> objects_;
  uint64_t next_object_ = 1;
};

uint64_t Seed() {
  const char* given = std::getenv("MOORFS_SEED");
  return given ? std::strtoull(given, nullptr, 10) : RandomU64() % 1000000;
}

TEST_CASE("random changes of files read back as a model says, and leave exact counts") {
  const uint64_t seed = Seed();
  for (uint64_t i = 0; i < 10; ++i) {
    std::cout << "data map model: MOORFS_SEED=" << seed + i << std::endl;
    INFO("MOORFS_SEED=" << seed + i);
    Run(seed + i, 2000).All();
  }
}

TEST_CASE("the same on LevelDB") {
  const uint64_t seed = Seed();
  std::cout << "data map model on LevelDB: MOORFS_SEED=" << seed << std::endl;
  INFO("MOORFS_SEED=" << seed);
  test::TempDir dir;
  kv::Options options;
  options.create_if_missing = true;
  Run(seed, 2000, Must(kv::OpenKvStore("leveldb:" + (dir / "meta"), options))).All();
}

}  // namespace
}  // namespace moorfs::meta::testing
