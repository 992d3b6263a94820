// SPDX-License-Identifier: Apache-2.0
//
// Quotas: set, shown, checked. Directories are named by inode (a mounted
// path, resolved by the kernel) or by path inside the volume.

#include <nlohmann/json.hpp>

#include "fs/admin/volume_ops.h"
#include "fs/meta/check/quota_check.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

Result<Ino> FindDirectory(const Json& request, VolumeHandles& volume) {
  if (request.contains("path")) {
    ASSIGN_OR_RETURN(const meta::Entry entry, volume.meta.Resolve(request["path"].get<std::string>()));
    return entry.ino;
  }
  const Ino ino = request.at("ino");
  return ino == kRootIno && volume.vfs ? volume.vfs->options().root : ino;
}

Json ToJson(const meta::QuotaInfo& q, VolumeHandles& volume) {
  Json out = {{"inode", q.dir},
              {"parent", q.parent},
              {"bytes", q.bytes},
              {"inodes", q.inodes},
              {"used_bytes", q.used_bytes},
              {"used_inodes", q.used_inodes},
              {"unflushed_bytes", q.reserved_bytes},
              {"removed", q.gone},
              {"counting", q.tagging}};
  const auto paths = volume.meta.Paths(q.dir);
  out["path"] = paths && !paths->empty() ? Json(paths->front()) : Json();
  return out;
}

}  // namespace

Result<Json> OpQuotaSet(const Json& request, VolumeHandles& volume, control::Reply& reply) {
  ASSIGN_OR_RETURN(const Ino dir, FindDirectory(request, volume));
  std::optional<uint64_t> bytes, inodes;
  if (request.contains("bytes")) bytes = request["bytes"].get<uint64_t>();
  if (request.contains("inodes")) inodes = request["inodes"].get<uint64_t>();
  TRY_VOID(reply.Progress("counting"));
  ASSIGN_OR_RETURN(const meta::QuotaInfo quota, volume.meta.SetQuota(dir, bytes, inodes));
  if (volume.vfs) volume.vfs->RefreshQuotas();
  TRY_VOID(volume.kv.Sync().Annotate("make the quota durable"));
  return ToJson(quota, volume);
}

Result<Json> OpQuotaGet(const Json& request, VolumeHandles& volume, control::Reply&) {
  ASSIGN_OR_RETURN(const Ino dir, FindDirectory(request, volume));
  ASSIGN_OR_RETURN(const meta::QuotaInfo quota, volume.meta.GetQuota(dir));
  return ToJson(quota, volume);
}

Result<Json> OpQuotaList(const Json&, VolumeHandles& volume, control::Reply&) {
  ASSIGN_OR_RETURN(const auto quotas, volume.meta.ListQuotas());
  Json list = Json::array();
  for (const meta::QuotaInfo& q : quotas) list.push_back(ToJson(q, volume));
  return Json{{"quotas", std::move(list)}};
}

Result<Json> OpQuotaCheck(const Json& request, VolumeHandles& volume, control::Reply& reply) {
  TRY_VOID(reply.Progress("counting"));
  const bool repair = request.value("repair", false);
  ASSIGN_OR_RETURN(const meta::QuotaCheck check, meta::CheckQuotas(volume.meta, repair));
  if (check.repaired > 0 && volume.vfs) volume.vfs->RefreshQuotas();
  Json findings = Json::array();
  for (const std::string& text : check.findings) findings.push_back(text);
  return Json{{"clean", check.clean}, {"quotas", check.quotas}, {"repaired", check.repaired}, {"findings", findings}};
}

}  // namespace moorfs::admin
