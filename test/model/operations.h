// SPDX-License-Identifier: Apache-2.0
//
// The model: one random operation after the other, made in the directory
// under test and in a reference directory, with equal results demanded.
//
// Everything derives from the seed, so a run repeats. A mismatch prints the
// operations that touched the inode or the path in question and ends the
// process: what follows a divergence says nothing.

#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace moorfs::model {

struct Outcome {
  int64_t value = 0;
  int error = 0;
};

// Two descriptors of the same file, tested and reference.
struct Handle {
  std::array<int, 2> fd{-1, -1};
  int flags = 0;
  ino_t ino = 0;  // of the reference
  std::string path;
};

class Model {
 public:
  // Both directories exist and are empty. `direct`: open some files O_DIRECT.
  Model(uint64_t seed, bool direct, std::string tested, std::string reference);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  void Step();
  // Ends the process on a difference. Says what it saw.
  void CompareTrees();
  void CloseHandles();
  uint64_t steps() const { return step_; }
  uint64_t compared_files() const { return compared_files_; }
  uint64_t compared_bytes() const { return compared_bytes_; }
  uint64_t successes() const { return successes_; }

 private:
  using PathCall = std::function<int64_t(const std::string&)>;
  using FdCall = std::function<int64_t(int side, int fd)>;

  // Random material.
  uint64_t Below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(random_); }
  bool Chance(unsigned percent) { return Below(100) < percent; }
  std::string RandomDir();
  std::string RandomPath();
  std::string RandomName();
  uint64_t RandomOffset(const std::string& path);
  std::string RandomBytes(size_t length);
  timespec OldTime();
  Handle* RandomHandle();

  // Runs a call on both sides and demands equal errno and value.
  Outcome OnPath(const std::string& what, const std::string& path, const PathCall& call);
  Outcome OnHandle(const std::string& what, Handle* handle, const FdCall& call);
  void Note(const std::string& text, const std::string& path, ino_t ino, Outcome outcome);
  void SameStat(const std::string& path);
  void SameStat(Handle* handle);
  void ResetTimes(Handle* handle);
  ino_t ReferenceIno(const std::string& path) const;
  bool ReferenceIs(const std::string& path, mode_t type) const;
  [[noreturn]] void Mismatch(const std::string& path, ino_t ino, const std::string& what);

  // Operations on paths.
  void Open();
  void MakeDir();
  void RemoveDir();
  void Unlink();
  void Rename();
  void Link();
  void Symlink();
  void MakeNode();
  void Chmod();
  void Chown();
  void Times();
  void SetXattr();
  void RemoveXattr();
  void SetAcl();
  void TruncatePath();
  void StatPath();
  void Access();
  void ReadLink();
  void ListWhileDeleting();
  void RemoveTree();
  // Operations on handles.
  void Write();
  void Append();
  void Read();
  void Truncate();
  void Allocate();
  void CopyRange();
  void SeekData();
  void MapWrite();
  void MapRead();
  void Fsync();
  void HandleMode();
  void Close();

  std::mt19937_64 random_;
  bool direct_;
  std::array<std::string, 2> roots_;
  std::vector<Handle> handles_;
  struct Record {
    std::string text;
    std::string path;
    ino_t ino = 0;
  };
  std::vector<Record> history_;
  uint64_t step_ = 0, successes_ = 0, compared_files_ = 0, compared_bytes_ = 0;
  uid_t as_ = 0;  // file system uid of this step
  char* aligned_[2] = {nullptr, nullptr};
};

std::string Printable(const std::string& raw);

}  // namespace moorfs::model
