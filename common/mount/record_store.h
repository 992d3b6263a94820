// SPDX-License-Identifier: Apache-2.0
//
// Where records live. One discipline for files and for pods: whoever changes a
// record names the version it has read; when it is another by now the store
// answers kErrnoConflict and nothing happened. Deleting is changing.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/mount/record.h"

namespace moorfs::mount {

class RecordStore {
 public:
  virtual ~RecordStore() = default;
  // nullopt: there is none.
  virtual Result<std::optional<ClientRecord>> Get(const std::string& mount_key) = 0;
  // Returns it with its version. kErrnoConflict: there is one already.
  virtual Result<ClientRecord> Create(const ClientRecord& record) = 0;
  // Replaces the one whose version is record.version; returns the new version.
  virtual Result<ClientRecord> Update(const ClientRecord& record) = 0;
  // kErrnoConflict also when there is none.
  virtual Status Delete(const std::string& mount_key, const std::string& version) = 0;
  virtual Result<std::vector<ClientRecord>> List() = 0;
};

}  // namespace moorfs::mount
