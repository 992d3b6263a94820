// SPDX-License-Identifier: Apache-2.0

#include "common/agent/protocol.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

namespace moorfs::agent {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxVolumeId = 1024;
constexpr uint64_t kMaxGid = 0xfffffffe;  // (gid_t)-1 means "leave it"

Status Bad(const char* member, const char* what) {
  return Status(EINVAL, std::string("read a publish request: \"") + member + "\" " + what);
}

Status ReadText(const Json& request, const char* member, size_t limit, std::string* out) {
  const auto it = request.find(member);
  if (it == request.end() || !it->is_string()) return Bad(member, "is no text");
  *out = it->get<std::string>();
  if (out->size() > limit) return Bad(member, "is too long");
  return Status::Ok();
}

Status ReadMap(const Json& request, const char* member, std::map<std::string, std::string>* out) {
  const auto it = request.find(member);
  if (it == request.end()) return Status::Ok();
  if (!it->is_object()) return Bad(member, "is no object");
  for (const auto& [name, value] : it->items()) {
    if (!value.is_string()) return Bad(member, "holds a value that is no text");
    out->emplace(name, value.get<std::string>());
  }
  return Status::Ok();
}

Status ReadTrust(const Json& request, bool* from_pod) {
  std::string trust;
  RETURN_IF_ERROR(ReadText(request, "trust", 16, &trust));
  if (trust != "pod" && trust != "volume") return Bad("trust", "is neither \"pod\" nor \"volume\"");
  *from_pod = trust == "pod";
  return Status::Ok();
}

Status ReadGroup(const Json& request, std::optional<uint32_t>* out) {
  const auto it = request.find("fs_group");
  if (it == request.end() || it->is_null()) return Status::Ok();
  // A negative number is an integer for the library, but no unsigned one.
  if (!it->is_number_unsigned() || it->get<uint64_t>() > kMaxGid) return Bad("fs_group", "is no group id");
  *out = it->get<uint32_t>();
  return Status::Ok();
}

}  // namespace

std::string SocketPath() {
  const char* path = std::getenv("MOORFS_AGENT_SOCKET");
  return path != nullptr && *path != '\0' ? path : kDefaultSocket;
}

Json EncodePublish(const FlexPublish& request) {
  Json out = {{"cmd", "publish"},
              {"protocol", kProtocol},
              {"target", request.target},
              {"options", Json::object()},
              {"secrets", Json::object()},
              {"volume_id", request.volume_id},
              {"read_only", request.read_only},
              {"trust", request.from_pod ? "pod" : "volume"}};
  for (const auto& [name, value] : request.options) out["options"][name] = value;
  for (const auto& [name, value] : request.secrets) out["secrets"][name] = value;
  if (request.fs_group) out["fs_group"] = *request.fs_group;
  return out;
}

Result<FlexPublish> DecodePublish(const Json& request) {
  if (!request.is_object()) return Error(EINVAL, "read a publish request: it is no object");
  FlexPublish out;
  TRY_VOID(ReadText(request, "target", kMaxPath, &out.target));
  TRY_VOID(ReadMap(request, "options", &out.options));
  TRY_VOID(ReadMap(request, "secrets", &out.secrets));
  TRY_VOID(ReadText(request, "volume_id", kMaxVolumeId, &out.volume_id));
  const auto read_only = request.find("read_only");
  if (read_only == request.end() || !read_only->is_boolean()) return Error(Bad("read_only", "is neither true nor false"));
  out.read_only = read_only->get<bool>();
  TRY_VOID(ReadGroup(request, &out.fs_group));
  TRY_VOID(ReadTrust(request, &out.from_pod));
  return out;
}

Json EncodeUnpublish(const std::string& target) {
  return {{"cmd", "unpublish"}, {"protocol", kProtocol}, {"target", target}};
}

}  // namespace moorfs::agent
