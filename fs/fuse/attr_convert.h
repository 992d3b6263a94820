// SPDX-License-Identifier: Apache-2.0
//
// Attributes as stat(2) shows them. Pure.

#pragma once

#include <sys/stat.h>

#include "fs/format/types.h"

namespace moorfs::fuse {

// What stat tells as the good size for one read or write. It is also what
// stdio allocates per open file, and with no write-back cache one stdio flush
// is one request: 128 KiB is the size from which on requests cost little.
inline constexpr uint32_t kPreferredIoBytes = 128 << 10;

struct stat ToStat(Ino ino, const Attr& attr);

}  // namespace moorfs::fuse
