// SPDX-License-Identifier: Apache-2.0
//
// Compares two directory trees: names, types, modes, owners, link counts and
// identity of hard links, sizes, contents, extended attributes and times.
//
// Times: the model only ever sets times before 2001. A time that is still
// there was not touched by any later operation, so both trees must have it;
// otherwise both must show one of today.

#pragma once

#include <sys/stat.h>

#include <map>
#include <string>
#include <vector>

namespace moorfs::model {

struct Difference {
  std::string path;  // relative to the roots
  std::string what;
};

class TreeCompare {
 public:
  TreeCompare(std::string tested, std::string reference);

  // Differences found, at most `limit`.
  std::vector<Difference> Run(size_t limit);
  uint64_t files() const { return files_; }
  uint64_t bytes() const { return bytes_; }

 private:
  void Directory(const std::string& path);
  void Node(const std::string& path);
  void Content(const std::string& path, uint64_t size);
  bool Range(int tested, int reference, uint64_t offset, uint64_t length, const std::string& path);
  void Xattrs(const std::string& path);
  void Add(const std::string& path, const std::string& what);

  std::string tested_, reference_;
  std::map<ino_t, ino_t> identity_;  // reference inode -> tested inode
  std::vector<Difference> found_;
  size_t limit_ = 0;
  uint64_t files_ = 0, bytes_ = 0;
  std::string buffer_[2];
};

// Empty when equal. Used on one node after an operation, too.
std::string CompareStat(const struct stat& tested, const struct stat& reference);

}  // namespace moorfs::model
