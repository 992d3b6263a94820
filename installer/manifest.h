// SPDX-License-Identifier: Apache-2.0
//
// What the installer put onto a host, with hashes, so that uninstall removes
// that and nothing else. It is written before the files are: a killed installer
// leaves no file that the manifest does not name.

#pragma once

#include <map>
#include <set>
#include <string>

#include "common/base/status.h"
#include "installer/host.h"

namespace moorfs::installer {

struct Entry {
  enum class Kind { kDirectory, kFile, kLink };
  Kind kind = Kind::kFile;
  // SHA-256 of a file or the target of a link. Two while one replaces the other.
  std::set<std::string> values;
};

class Manifest {
 public:
  // `file`: ours. Without the file it is empty.
  static Result<Manifest> Load(const std::string& file);
  // Durably; does nothing when nothing changed.
  Status Save();

  // Before the file is put there.
  void Expect(const std::string& path, Entry::Kind kind, const std::string& value);
  // After: the only one from now on.
  void Settle(const std::string& path, const std::string& value);
  void Forget(const std::string& path);
  const Entry* Find(const std::string& path) const;
  // By the host's paths: what lies in a directory comes after it.
  const std::map<std::string, Entry>& entries() const { return entries_; }

  // Makes the missing directories on the way to a host's path and notes them.
  Status MakeDirs(const Host& host, const std::string& path);

 private:
  explicit Manifest(std::string file) : file_(std::move(file)) {}

  std::string file_;
  std::map<std::string, Entry> entries_;
  std::string saved_;
};

}  // namespace moorfs::installer
