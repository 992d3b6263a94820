// SPDX-License-Identifier: Apache-2.0
//
// Names of files that are being written. A dot leads them, which no object's
// name may have, so a listing tells one from the other.

#pragma once

#include <string>

namespace moorfs::object {

inline constexpr char kTempPrefix[] = ".moorfs-tmp-";

// Unique on this store: random per process, counted within it.
std::string NewTempName();

}  // namespace moorfs::object
