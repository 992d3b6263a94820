// SPDX-License-Identifier: Apache-2.0
//
// What the Controller service needs of the file systems' volumes, by META. An
// interface, so that the service is tested over a real socket without a file
// system behind it; the controller's own (controller_main.cc) runs the commands.

#pragma once

#include <string>
#include <vector>

#include "common/mount/volume_admin.h"

namespace moorfs::csi {

class Volumes {
 public:
  virtual ~Volumes() = default;
  // Errors as in common/mount/volume_admin.h.
  virtual Result<mount::VolumeRecord> Create(const std::string& meta, const mount::VolumeRecord& wanted,
                                             int timeout_ms) = 0;
  virtual Status Delete(const std::string& meta, const std::string& name, int timeout_ms) = 0;
  virtual Result<mount::VolumeRecord> Get(const std::string& meta, const std::string& name, int timeout_ms) = 0;
  virtual Result<std::vector<mount::VolumeRecord>> List(const std::string& meta, const std::string& after,
                                                        size_t limit, int timeout_ms) = 0;
  virtual Result<mount::Capacity> GetCapacity(const std::string& meta, int timeout_ms) = 0;
};

}  // namespace moorfs::csi
