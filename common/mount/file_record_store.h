// SPDX-License-Identifier: Apache-2.0
//
// Records as files: DIRECTORY/<mount key>.json, each replaced as a whole and on
// the disk before the call returns. Comparison and replacement happen under a
// lock that also holds between processes. A file that does not parse is put
// aside as <name>.damaged, and the references in it are found again in the
// mount table.

#pragma once

#include <memory>
#include <string>

#include "common/mount/record_store.h"

namespace moorfs::mount {

Result<std::unique_ptr<RecordStore>> OpenFileRecordStore(const std::string& directory);

}  // namespace moorfs::mount
