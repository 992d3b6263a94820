// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/mount_status.h"

#include <nlohmann/json.hpp>

#include "common/control/client.h"
#include "common/os/file.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

// A client that is being replaced answers once the next one serves.
constexpr int kAskMs = 3'000;

}  // namespace

Json QueryMount(const keeper::RuntimePaths& paths) {
  control::CallOptions options;
  options.timeout_ms = kAskMs;
  Json out;
  const auto keeper = control::Call(paths.KeeperSocket(), {{"cmd", "status"}}, options);
  if (keeper && keeper->is_object()) {
    out = *keeper;
  } else {
    // What the keeper wrote when it started.
    const auto text = os::ReadFile(paths.InfoFile(), 1 << 20);
    if (text) out = Json::parse(*text, nullptr, false);
    if (!out.is_object()) out = Json::object();
    out["keeper_pid"] = nullptr;
  }
  const auto client = control::Call(paths.ClientSocket(), {{"cmd", "status"}}, options);
  if (client && client->is_object()) {
    if (!keeper) out["state"] = "keeper gone";
    for (const auto& [key, value] : client->items()) out[key] = value;
  } else if (!keeper) {
    out["state"] = "dead";
    out["client_pid"] = nullptr;
  }
  return out;
}

std::vector<keeper::RuntimePaths> AllMounts() { return keeper::ListRuntimeDirs(keeper::RuntimeRoot()); }

}  // namespace moorfs::admin
