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
Result<nlohmann::json> OpQuotaSet(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpQuotaGet(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpQuotaList(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpQuotaCheck(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpVolumeCreate(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpVolumeDelete(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpVolumeShow(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpVolumeList(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpVolumeCapacity(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
// {"directory"} -> total, used and available bytes and inodes, of the quota
// the directory is in, else of the whole file system. From memory.
Result<nlohmann::json> OpVolumeStat(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
// {"directory", "create", "gid"} -> {}: the directory is there, and belongs to
// the group. ENOENT, ENOTDIR.
Result<nlohmann::json> OpPrepareRoot(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpFsck(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
Result<nlohmann::json> OpGc(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);
// Lines are base64 of the dump's bytes.
Result<nlohmann::json> OpDump(const nlohmann::json& request, VolumeHandles& volume, control::Reply& reply);

}  // namespace moorfs::admin
