// SPDX-License-Identifier: Apache-2.0
//
// What `moorfs mount` or `moorfs supervise` tells the client, as JSON.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace moorfs::admin {

struct ClientConfig {
  std::string meta_url;
  // Of the volume that was mounted: a client serves no other. Empty: the first
  // client serves what is there, and the supervisor tells the later ones.
  std::string uuid;
  bool read_only = false;
  bool noatime = false;
  std::string subdir;
  std::string cache_dir;
  uint64_t cache_bytes = 0;
  uint64_t block_cache_bytes = 0;
  uint64_t memory_bytes = 0;
  std::string log_level;
  std::string host;
  // Added by the keeper.
  std::string mountpoint;
  uint64_t restarts = 0;
};

std::string EncodeClientConfig(const ClientConfig& config);
Result<ClientConfig> DecodeClientConfig(std::string_view json);

}  // namespace moorfs::admin
