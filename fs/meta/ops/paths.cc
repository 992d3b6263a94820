// SPDX-License-Identifier: Apache-2.0
//
// From paths to inodes and back, for people and tools. The way back lists each
// directory on it until the name is found: fine for a question, not for a loop.

#include <algorithm>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr size_t kPage = 1024;
constexpr size_t kMaxPaths = 1000;
// No path that the kernel takes is deeper.
constexpr int kMaxDepth = 4096;

}  // namespace

Result<Entry> MetaImpl::Resolve(std::string_view path) {
  Entry at;
  at.ino = kRootIno;
  ASSIGN_OR_RETURN(at.attr, GetAttr(kRootIno));
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (name.empty() || name == ".") continue;
    if (at.attr.type != FileType::kDirectory) return Error(ENOTDIR, "resolving a path: a part of it is no directory");
    ASSIGN_OR_RETURN(at, Lookup(at.ino, name));
  }
  return at;
}

Result<std::vector<Ino>> MetaImpl::ParentsOf(Ino ino, const Attr& attr) {
  std::vector<Ino> parents;
  if (!(attr.flags & kAttrManyParents)) {
    parents.push_back(attr.parent);
    return parents;
  }
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    parents.clear();
    ASSIGN_OR_RETURN_STATUS(const auto entries, kv.Scan(schema_.Parents(ino), kMaxPaths));
    for (const kv::Entry& entry : entries) {
      if (const auto parent = keys::TrailingU64(entry.suffix)) parents.push_back(*parent);
    }
    return Status::Ok();
  });
  TRY_VOID(done);
  return parents;
}

Result<std::vector<std::string>> MetaImpl::NamesIn(Ino parent, Ino ino) {
  std::vector<std::string> names;
  for (uint64_t after = 0;;) {
    ASSIGN_OR_RETURN(auto page, ReadDir(parent, after, kPage, false));
    for (DirEntry& entry : page) {
      if (entry.ino == ino && names.size() < kMaxPaths) names.push_back(std::move(entry.name));
    }
    if (page.size() < kPage) return names;
    after = page.back().position;
  }
}

Result<std::string> MetaImpl::DirPath(Ino dir) {
  std::string path;
  for (int depth = 0; dir != kRootIno; ++depth) {
    if (depth == kMaxDepth) return Error(ELOOP, "naming a directory: the tree above it has no root; run moorfs fsck");
    ASSIGN_OR_RETURN(const Attr attr, GetAttr(dir));
    std::string name;
    if (attr.flags & kAttrTrashed) {
      ASSIGN_OR_RETURN(name, TrashedName(dir, attr));
    } else {
      ASSIGN_OR_RETURN(auto names, NamesIn(attr.parent, dir));
      if (names.empty()) return Error(ENOENT, "naming directory " + std::to_string(dir) + ": it has no name any more");
      name = std::move(names.front());
    }
    path.insert(0, "/" + name);
    dir = attr.parent;
  }
  return path;
}

Result<std::vector<std::string>> MetaImpl::Paths(Ino ino) {
  std::vector<std::string> paths;
  if (ino == kRootIno) {
    paths.emplace_back("/");
    return paths;
  }
  ASSIGN_OR_RETURN(const Attr attr, GetAttr(ino));
  if (attr.nlink == 0) return paths;
  ASSIGN_OR_RETURN(const auto parents, ParentsOf(ino, attr));
  for (const Ino parent : parents) {
    ASSIGN_OR_RETURN(const std::string above, DirPath(parent));
    ASSIGN_OR_RETURN(const auto names, NamesIn(parent, ino));
    for (const std::string& name : names) {
      if (paths.size() < kMaxPaths) paths.push_back(above + "/" + name);
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace moorfs::meta
