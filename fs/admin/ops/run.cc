// SPDX-License-Identifier: Apache-2.0

#include <nlohmann/json.hpp>

#include "fs/admin/volume_ops.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

struct Row {
  const char* command;
  Result<Json> (*run)(const Json&, VolumeHandles&, control::Reply&);
};

constexpr Row kRows[] = {
    {"info", OpInfo},
    {"trash-list", OpTrashList},
    {"trash-restore", OpTrashRestore},
    {"trash-empty", OpTrashEmpty},
    {"quota-set", OpQuotaSet},
    {"quota-get", OpQuotaGet},
    {"quota-list", OpQuotaList},
    {"quota-check", OpQuotaCheck},
    {"volume-create", OpVolumeCreate},
    {"volume-delete", OpVolumeDelete},
    {"volume-show", OpVolumeShow},
    {"volume-list", OpVolumeList},
    {"volume-capacity", OpVolumeCapacity},
    {"volume-stat", OpVolumeStat},
    {"prepare-root", OpPrepareRoot},
    {"fsck", OpFsck},
    {"gc", OpGc},
    {"dump", OpDump},
};

}  // namespace

Result<Json> RunVolumeOp(const Json& request, VolumeHandles& volume, control::Reply& reply) {
  const std::string command = request.at("cmd");
  for (const Row& row : kRows) {
    if (command == row.command) return row.run(request, volume, reply);
  }
  return Error(ENOSYS, "run \"" + command + "\": the client has no such command; it is another version than this one");
}

}  // namespace moorfs::admin
