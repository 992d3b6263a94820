// SPDX-License-Identifier: Apache-2.0
//
// Files that come into being whole: written under a temporary name, stored,
// checked, then renamed. A reader of the final name sees the old file or the
// new one at every instant, whenever this process is killed.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs::installer {

// Leads with a dot: kubelet ignores such names in its plugin directory.
inline constexpr char kTemporaryPrefix[] = ".moorfs-install-";
// PATH's directory, the prefix, our pid and PATH's last part.
std::string TemporaryFor(const std::string& path);
// What a killed installer left in a directory. Call with the installer's lock held.
Status RemoveTemporaries(const std::string& directory);
Status RemoveWithPrefix(const std::string& directory, std::string_view prefix);

// The old files still work: that is what a person with a full disk wants to know first.
Status ExplainNoSpace(const Status& status);

// A program as it is on disk; at most 512 MB.
Result<std::string> ReadProgram(const std::string& path);
std::string Sha256(std::string_view content);
Result<std::string> Sha256OfFile(const std::string& path);

// Creates PATH with this content, on the disk when it returns. No file is left when it fails.
Status WriteStored(const std::string& path, std::string_view content, unsigned mode);
// Renames over TO, if anything is there, and stores the directory.
Status RenameStored(const std::string& from, const std::string& to);
// A symlink that replaces what is at PATH.
Status LinkStored(const std::string& target, const std::string& path);
// The target of a symlink; empty for anything else.
std::string LinkTarget(const std::string& path);

}  // namespace moorfs::installer
