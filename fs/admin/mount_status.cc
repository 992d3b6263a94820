// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/mount_status.h"

#include <nlohmann/json.hpp>

#include "common/control/client.h"
#include "common/os/file.h"
#include "common/os/mountinfo.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

// A client that is being replaced answers once the next one serves.
constexpr int kAskMs = 3'000;

// Where else its files are shown: binds of it, as the node agent makes for
// each target, in this mount namespace.
Json TargetsOf(const Json& status) {
  Json out = Json::array();
  const auto mounts = os::ReadMountInfo();
  if (!mounts) return out;
  const std::string device = status.value("device", ""), own = status.value("mountpoint", "");
  for (const os::MountEntry& m : *mounts) {
    if (device.empty() || m.Device() != device || m.mountpoint == own) continue;
    out.push_back({{"path", m.mountpoint},
                   {"directory", m.root},
                   {"read_only", m.options == "ro" || m.options.starts_with("ro,")}});
  }
  return out;
}

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
  out["targets"] = TargetsOf(out);
  return out;
}

std::vector<keeper::RuntimePaths> AllMounts() { return keeper::ListRuntimeDirs(keeper::RuntimeRoot()); }

}  // namespace moorfs::admin
