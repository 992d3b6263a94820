// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/client_config.h"

#include <nlohmann/json.hpp>

namespace moorfs::admin {

using Json = nlohmann::json;

std::string EncodeClientConfig(const ClientConfig& c) {
  return Json{{"meta", c.meta_url},
              {"uuid", c.uuid},
              {"read_only", c.read_only},
              {"noatime", c.noatime},
              {"subdir", c.subdir},
              {"cache_dir", c.cache_dir},
              {"cache_bytes", c.cache_bytes},
              {"block_cache_bytes", c.block_cache_bytes},
              {"memory_bytes", c.memory_bytes},
              {"log_level", c.log_level},
              {"host", c.host}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<ClientConfig> DecodeClientConfig(std::string_view text) {
  try {
    const Json j = Json::parse(text);
    ClientConfig c;
    c.meta_url = j.at("meta");
    c.uuid = j.at("uuid");
    c.read_only = j.at("read_only");
    c.noatime = j.at("noatime");
    c.subdir = j.at("subdir");
    c.cache_dir = j.at("cache_dir");
    c.cache_bytes = j.at("cache_bytes");
    c.block_cache_bytes = j.at("block_cache_bytes");
    c.memory_bytes = j.at("memory_bytes");
    c.log_level = j.at("log_level");
    c.host = j.at("host");
    c.mountpoint = j.at("keeper").at("mountpoint");
    c.restarts = j.at("keeper").at("restarts");
    if (c.uuid.empty()) c.uuid = j.at("keeper").value("uuid", "");
    return c;
  } catch (const Json::exception& e) {
    return Error(EPROTO, std::string("read the client's configuration: ") + e.what());
  }
}

}  // namespace moorfs::admin
