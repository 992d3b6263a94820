// SPDX-License-Identifier: Apache-2.0
//
// What the client answers on its control socket: drain, status, stats, and the
// operations on a volume (volume_ops.h).

#pragma once

#include <atomic>
#include <nlohmann/json_fwd.hpp>

#include "common/base/status.h"
#include "common/control/server.h"
#include "fs/admin/client_config.h"
#include "fs/admin/maintenance.h"
#include "fs/fuse/fuse_server.h"
#include "fs/kv/kv.h"
#include "fs/vfs/vfs.h"

namespace moorfs::admin {

struct ClientParts {
  const ClientConfig& config;
  kv::KvStore& kv;
  meta::Meta& meta;
  chunk::BlockStore& blocks;
  vfs::InodeTable& inodes;
  vfs::Vfs& vfs;
  fuse::FuseServer& server;
  Maintenance& maintenance;
  int64_t started_ns = 0;
  // Unmounted; what is left is being stored.
  std::atomic<bool> draining{false};
};

Result<nlohmann::json> AnswerClient(ClientParts& parts, const nlohmann::json& request, control::Reply& reply);

}  // namespace moorfs::admin
