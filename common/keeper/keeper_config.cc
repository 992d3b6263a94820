// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/keeper_config.h"

#include <nlohmann/json.hpp>

namespace moorfs::keeper {

using Json = nlohmann::json;

std::string EncodeKeeperConfig(const KeeperConfig& c) {
  Json j = {{"mountpoint", c.mountpoint},
            {"source", c.source},
            {"fstype", c.fstype},
            {"mount_flags", c.mount_flags},
            {"read_ahead_kib", c.read_ahead_kib},
            {"runtime_root", c.runtime_root},
            {"log_file", c.log_file},
            {"foreground", c.foreground},
            {"executable", c.executable},
            {"abort_after_s", c.abort_after_s},
            {"start_timeout_s", c.start_timeout_s},
            {"lock_path", c.lock_path},
            {"client", c.client_json},
            {"info", c.info_json}};
  if (c.user) j["user"] = {{"uid", c.user->uid}, {"gid", c.user->gid}};
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<KeeperConfig> DecodeKeeperConfig(std::string_view text) {
  try {
    const Json j = Json::parse(text);
    KeeperConfig c;
    c.mountpoint = j.at("mountpoint");
    c.source = j.at("source");
    c.fstype = j.at("fstype");
    c.mount_flags = j.at("mount_flags");
    c.read_ahead_kib = j.at("read_ahead_kib");
    c.runtime_root = j.at("runtime_root");
    c.log_file = j.at("log_file");
    c.foreground = j.at("foreground");
    c.executable = j.at("executable");
    c.abort_after_s = j.at("abort_after_s");
    c.start_timeout_s = j.at("start_timeout_s");
    c.lock_path = j.at("lock_path");
    c.client_json = j.at("client");
    c.info_json = j.at("info");
    if (j.contains("user")) c.user = KeeperConfig::User{j.at("user").at("uid"), j.at("user").at("gid")};
    return c;
  } catch (const Json::exception& e) {
    return Error(EPROTO, std::string("read the keeper's configuration: ") + e.what());
  }
}

}  // namespace moorfs::keeper
