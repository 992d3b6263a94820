// SPDX-License-Identifier: Apache-2.0
//
// The volume's own description as JSON. Its own file, so that the JSON library
// is compiled once for fs/format.

#include <nlohmann/json.hpp>

#include "fs/format/types.h"

namespace moorfs {
namespace {

std::string Hex(const std::array<uint8_t, 16>& bytes) {
  std::string text = FormatUuid(bytes);
  std::erase(text, '-');
  return text;
}

// 32 hex digits.
Result<std::array<uint8_t, 16>> FromHex(const std::string& hex) {
  if (hex.size() != 32) return Error(EINVAL, "'" + hex + "' is not 32 hex digits");
  return ParseUuid(hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" + hex.substr(16, 4) +
                   "-" + hex.substr(20));
}

}  // namespace

std::string EncodeVolumeFormat(const VolumeFormat& f) {
  const nlohmann::ordered_json j = {
      {"magic", "moorfs"},
      {"version", f.version},
      {"compat", f.compat},
      {"ro_compat", f.ro_compat},
      {"incompat", f.incompat},
      {"uuid", FormatUuid(f.uuid)},
      {"name", f.name},
      {"store", f.store},
      {"block_bytes", f.block_bytes},
      {"compression", std::string(CodecName(f.codec))},
      {"trash_days", f.trash_days},
      {"key_hash_bytes", f.key_hash_bytes},
      {"name_hash_key", Hex(f.name_hash_key)},
      {"created_ns", f.created.ns},
      {"created_by", f.created_by},
  };
  // A name is the user's bytes; what is not UTF-8 must not throw.
  return j.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<VolumeFormat> DecodeVolumeFormat(std::string_view json) {
  const auto bad = [](const std::string& why) {
    return Error(EIO, "reading the volume's format record: " + why);
  };
  const auto j = nlohmann::json::parse(json, nullptr, false);
  if (!j.is_object() || j.value("magic", nlohmann::json()) != "moorfs") return bad("it is not one of MoorFS");
  VolumeFormat f;
  try {
    f.version = j.at("version").get<uint32_t>();
    f.compat = j.at("compat").get<uint64_t>();
    f.ro_compat = j.at("ro_compat").get<uint64_t>();
    f.incompat = j.at("incompat").get<uint64_t>();
    f.name = j.at("name").get<std::string>();
    f.store = j.at("store").get<std::string>();
    f.block_bytes = j.at("block_bytes").get<uint32_t>();
    f.trash_days = j.at("trash_days").get<uint32_t>();
    f.key_hash_bytes = j.at("key_hash_bytes").get<uint32_t>();
    f.created.ns = j.at("created_ns").get<int64_t>();
    f.created_by = j.at("created_by").get<std::string>();
    const auto codec = CodecFromName(j.at("compression").get<std::string>());
    if (!codec) return bad("unknown compression '" + j.at("compression").get<std::string>() + "'");
    f.codec = *codec;
    auto uuid = ParseUuid(j.at("uuid").get<std::string>());
    auto key = FromHex(j.at("name_hash_key").get<std::string>());
    if (!uuid) return bad(uuid.error().message());
    if (!key) return bad(key.error().message());
    f.uuid = *uuid;
    f.name_hash_key = *key;
  } catch (const nlohmann::json::exception& e) {
    return bad(e.what());
  }
  return f;
}

}  // namespace moorfs
