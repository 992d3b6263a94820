// SPDX-License-Identifier: Apache-2.0
//
// Volumes as the controller makes them: directories with a record and a quota,
// through the commands of the file system (`moorfs volume … --json`), which find
// their way to a mounted volume's client or open the engine themselves. The
// control plane knows the file system by its commands only.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace moorfs::mount {

struct VolumeRecord {
  std::string name;         // as the creator called it
  std::string directory;    // path inside the file system, "volumes/pvc-…"
  uint64_t bytes = 0;       // quota; 0 = none
  uint64_t inodes = 0;
  std::map<std::string, std::string> parameters;  // as given at creation
  uint64_t used_bytes = 0, used_inodes = 0;
};
struct Capacity {
  uint64_t available_bytes = 0, total_bytes = 0;
};

// The answers of the commands, whoever brought them. EPROTO: of another version.
Result<VolumeRecord> DecodeVolume(const nlohmann::json& answer);
Result<std::vector<VolumeRecord>> DecodeVolumes(const nlohmann::json& answer);
Result<Capacity> DecodeCapacity(const nlohmann::json& answer);

class VolumeAdmin {
 public:
  // `executable`: the full moorfs.
  explicit VolumeAdmin(std::string executable) : executable_(std::move(executable)) {}
  // EEXIST: there, with another size or other parameters. Repeating is OK.
  Result<VolumeRecord> Create(const std::string& meta, const VolumeRecord& wanted, int timeout_ms);
  // OK when absent. Returns at once; space is reclaimed behind it.
  Status Delete(const std::string& meta, const std::string& name, int timeout_ms);
  // ENOENT.
  Result<VolumeRecord> Get(const std::string& meta, const std::string& name, int timeout_ms);
  // In order of name, after `after`.
  Result<std::vector<VolumeRecord>> List(const std::string& meta, const std::string& after, size_t limit,
                                         int timeout_ms);
  Result<Capacity> GetCapacity(const std::string& meta, int timeout_ms);

 private:
  std::string executable_;
};

}  // namespace moorfs::mount
