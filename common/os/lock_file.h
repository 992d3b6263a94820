// SPDX-License-Identifier: Apache-2.0
//
// LockFile: a file whose flock(2) says "taken" and whose content says by whom.
// The lock belongs to the open file, so a descriptor handed to another process
// keeps it when the first one dies: it ends with the last holder, however that
// one ends. The content is only a hint for people and tools; the lock decides.

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::os {

class LockFile {
 public:
  // EBUSY when another holder lives (read its words with ReadContent).
  static Result<LockFile> Acquire(const std::string& path);
  // Takes over the lock that an inherited descriptor already holds.
  LockFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Status SetContent(std::string_view content);
  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }

 private:
  UniqueFd fd_;
  std::string path_;
};

// True while someone holds it. ENOENT: no such file.
Result<bool> IsLocked(const std::string& path);
// What the holder wrote. Bounded; empty before it wrote.
Result<std::string> ReadLockContent(const std::string& path);

}  // namespace moorfs::os
