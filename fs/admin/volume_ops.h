// SPDX-License-Identifier: Apache-2.0
//
// Operations on an open volume that a command asks for. The same function runs
// in the client of a mounted volume and in the command itself for one that is
// not mounted.

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "common/base/status.h"
#include "common/control/server.h"
#include "fs/chunk/block_store.h"
#include "fs/kv/kv.h"
#include "fs/meta/meta.h"
#include "fs/vfs/file_system.h"
#include "fs/vfs/vfs.h"

namespace moorfs::admin {

struct VolumeHandles {
  kv::KvStore& kv;
  meta::Meta& meta;
  chunk::BlockStore& blocks;
  // Null when the volume is not mounted.
  vfs::Vfs* vfs = nullptr;
  vfs::Invalidator* kernel = nullptr;
};

// ENOSYS for a command this program does not have (another version asks).
Result<nlohmann::json> RunVolumeOp(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);

// One function per command, one file per group (ops/).
Result<nlohmann::json> OpInfo(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpTrashList(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpTrashRestore(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpTrashEmpty(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpFsck(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpGc(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
// Lines are base64 of the dump's bytes.
Result<nlohmann::json> OpDump(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);

}  // namespace moorfs::admin
