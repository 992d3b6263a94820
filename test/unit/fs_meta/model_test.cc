// SPDX-License-Identifier: Apache-2.0
//
// Random operations on a volume and on a model made of two maps: same answers,
// same tree, same counts. A failure prints its seed; MOORFS_SEED repeats it.

#include <sys/stat.h>

#include <cstdlib>
#include <map>
#include <random>

#include "test/unit/fs_meta/volume.h"

using namespace moorfs;
using namespace moorfs::meta;
using namespace moorfs::meta::testing;

namespace {

struct Node {
  bool dir = false;
  uint32_t links = 0;  // names; a directory has one
  std::map<std::string, Ino> entries;
  Ino parent = 0;  // of a directory
};

// What POSIX says of the operations, by the letter, with the inode numbers
// that the volume gives out.
class Model {
 public:
  Model() { nodes_[kRootIno] = {true, 1, {}, kRootIno}; }

  Ino Find(Ino dir, const std::string& name) const {
    const auto& entries = nodes_.at(dir).entries;
    const auto it = entries.find(name);
    return it == entries.end() ? 0 : it->second;
  }
  int Make(Ino dir, const std::string& name, Ino ino, bool is_dir) {
    if (Find(dir, name) != 0) return EEXIST;
    nodes_[ino] = {is_dir, 1, {}, dir};
    nodes_[dir].entries[name] = ino;
    return 0;
  }
  int Link(Ino ino, Ino dir, const std::string& name) {
    if (Find(dir, name) != 0) return EEXIST;
    if (nodes_[ino].dir) return EPERM;
    ++nodes_[ino].links;
    nodes_[dir].entries[name] = ino;
    return 0;
  }
  int Remove(Ino dir, const std::string& name, bool want_dir) {
    const Ino ino = Find(dir, name);
    if (ino == 0) return ENOENT;
    if (nodes_[ino].dir != want_dir) return want_dir ? ENOTDIR : EISDIR;
    if (want_dir && !nodes_[ino].entries.empty()) return ENOTEMPTY;
    nodes_[dir].entries.erase(name);
    Drop(ino);
    return 0;
  }
  int Rename(Ino from, const std::string& name, Ino to, const std::string& new_name, uint32_t flags) {
    const Ino src = Find(from, name), dst = Find(to, new_name);
    const bool exchange = flags == kRenameExchange;
    if (src == 0 || (exchange && dst == 0)) return ENOENT;
    if (flags == kRenameNoReplace && dst != 0) return EEXIST;
    if (src == dst) return 0;
    if (nodes_[src].dir && IsAbove(src, to)) return EINVAL;
    if (exchange && nodes_[dst].dir && IsAbove(dst, from)) return EINVAL;
    if (!exchange && dst != 0) {
      if (nodes_[src].dir != nodes_[dst].dir) return nodes_[src].dir ? ENOTDIR : EISDIR;
      if (!nodes_[dst].entries.empty()) return ENOTEMPTY;
      Drop(dst);
    }
    nodes_[from].entries.erase(name);
    nodes_[to].entries[new_name] = src;
    if (nodes_[src].dir) nodes_[src].parent = to;
    if (exchange) {
      nodes_[from].entries[name] = dst;
      if (nodes_[dst].dir) nodes_[dst].parent = from;
    }
    return 0;
  }

  const std::map<Ino, Node>& nodes() const { return nodes_; }
  std::vector<Ino> Dirs() const {
    std::vector<Ino> out;
    for (const auto& [ino, node] : nodes_) {
      if (node.dir) out.push_back(ino);
    }
    return out;
  }

 private:
  bool IsAbove(Ino ino, Ino below) const {
    for (; below != kRootIno; below = nodes_.at(below).parent) {
      if (below == ino) return true;
    }
    return ino == kRootIno;
  }
  void Drop(Ino ino) {
    if (--nodes_[ino].links == 0) nodes_.erase(ino);
  }

  std::map<Ino, Node> nodes_;
};

void CheckTree(Volume& v, const Model& model) {
  for (const auto& [ino, node] : model.nodes()) {
    const Attr attr = v.At(ino);
    if (!node.dir) {
      CHECK(attr.nlink == node.links);
      continue;
    }
    uint32_t subdirs = 0;
    std::map<std::string, Ino> entries;
    for (const DirEntry& entry : Ok(v.meta->ReadDir(ino, 0, 100000, false))) {
      entries[entry.name] = entry.ino;
      CHECK((entry.type == FileType::kDirectory) == model.nodes().at(entry.ino).dir);
      subdirs += entry.type == FileType::kDirectory ? 1 : 0;
    }
    CHECK(entries == node.entries);
    CHECK(attr.nlink == 2 + subdirs);
    CHECK(attr.parent == node.parent);
  }
  size_t trashed = 0;
  Ok(v.meta->ListTrash([&](const TrashEntry&) {
    ++trashed;
    return true;
  }));
  CHECK(Ok(v.meta->GetStatFs()).used_inodes == model.nodes().size() + trashed);
  // fsck looks names up by their true hash.
  if (v.shape != Shape::kColliding) v.CheckClean();
}

uint32_t Seed() {
  const char* given = std::getenv("MOORFS_SEED");
  return given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
}

}  // namespace

TEST_CASE("10,000 random operations leave the tree that POSIX describes") {
  const Shape shape = GENERATE(Shape::kEmbedded, Shape::kShared, Shape::kColliding);
  const uint32_t trash_days = GENERATE(0u, 1u);
  const uint32_t seed = Seed();
  INFO("MOORFS_SEED=" << seed << " shape " << ShapeName(shape) << " trash " << trash_days);
  std::mt19937 random(seed);
  Volume v(shape, trash_days);
  Model model;
  const auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  const auto dir = [&] {
    const auto dirs = model.Dirs();
    return dirs[pick(static_cast<uint32_t>(dirs.size()))];
  };
  const auto name = [&] { return "n" + std::to_string(pick(12)); };
  const auto some_ino = [&] {
    auto it = model.nodes().begin();
    std::advance(it, pick(static_cast<uint32_t>(model.nodes().size())));
    return it->first;
  };

  for (int i = 0; i < 10'000; ++i) {
    const Ino a = dir(), b = dir();
    const std::string x = name(), y = name();
    int got = 0, want = 0;
    switch (pick(11)) {
      case 0:
      case 1: {
        const bool is_dir = pick(2) == 0;
        const auto made = is_dir ? v.meta->MakeDir(v.root, a, x, 0755) : v.meta->MakeNode(v.root, a, x, S_IFREG, 0);
        got = Err(made);
        want = model.Make(a, x, made ? made->ino : 0, is_dir);
        break;
      }
      case 2: {
        const Ino ino = some_ino();
        got = Err(v.meta->Link(v.root, ino, a, x));
        want = model.Link(ino, a, x);
        break;
      }
      case 3:
        got = Err(v.meta->Unlink(v.root, a, x));
        want = model.Remove(a, x, false);
        break;
      case 4:
        got = Err(v.meta->RemoveDir(v.root, a, x));
        want = model.Remove(a, x, true);
        break;
      case 5: {
        const auto found = v.meta->Lookup(a, x);
        got = found ? static_cast<int>(found->ino) : 0;
        want = static_cast<int>(model.Find(a, x));
        break;
      }
      case 6: {
        const Ino ino = some_ino();
        if (pick(2) == 0) {
          got = Err(v.meta->SetXattr(v.root, ino, "user." + x, y, XattrSet::kEither));
        } else {
          const int err = Err(v.meta->RemoveXattr(v.root, ino, "user." + x));
          got = err == ENODATA ? 0 : err;
        }
        break;
      }
      default: {
        const uint32_t flags = pick(4) == 0 ? 1 + pick(2) : 0;
        got = Err(v.meta->Rename(v.root, a, x, b, y, flags));
        want = model.Rename(a, x, b, y, flags);
      }
    }
    INFO("operation " << i << ": " << a << "/" << x << " " << b << "/" << y);
    REQUIRE(got == want);
    if (i % 2000 == 1999) CheckTree(v, model);
  }
}
