// SPDX-License-Identifier: Apache-2.0
//
// Small files and directories: read whole with a limit, replace atomically,
// make a private directory. For state files and /proc, not for data.

#pragma once

#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::os {

// EFBIG beyond `limit`.
Result<std::string> ReadFile(const std::string& path, size_t limit);
// Writes PATH.tmp-<pid> and renames it over PATH.
Status ReplaceFile(const std::string& path, std::string_view content, unsigned mode);
// The same, and on the disk when it returns: file, then directory.
Status ReplaceFileDurably(const std::string& path, std::string_view content, unsigned mode);
// Flushes a directory's names.
Status SyncDirectory(const std::string& path);
// For /sys and /proc files: opens without O_CREAT, one write.
Status WriteExisting(const std::string& path, std::string_view content);
// Creates missing parents too (0755); the last one with `mode`. OK when it is
// there and a directory.
Status MakeDirs(const std::string& path, unsigned mode);
// Removes a directory and everything below it; does not cross mount points
// and does not follow symlinks. OK when absent.
Status RemoveTree(const std::string& path);

}  // namespace moorfs::os
