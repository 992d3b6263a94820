// SPDX-License-Identifier: Apache-2.0
//
// fsck, gc and dump.

#include "fs/meta/check/fsck.h"

#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "common/base/base64.h"
#include "fs/admin/housekeeping.h"
#include "fs/admin/volume_ops.h"
#include "fs/meta/check/dump.h"
#include "fs/meta/check/gc.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr size_t kDumpLineBytes = 256 << 10;
constexpr size_t kShownObjects = 1000;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

// A listing that says how far it is and stops when nobody listens any more.
meta::ListObjects Watched(meta::ListObjects list, control::Reply& reply) {
  return [list = std::move(list), &reply](const std::function<bool(const meta::StoredObject&)>& visit) -> Status {
    uint64_t count = 0;
    bool cancelled = false;
    RETURN_IF_ERROR(list([&](const meta::StoredObject& object) {
      if (++count % 10'000 == 0) {
        cancelled = !reply.Progress("listing the store: " + std::to_string(count) + " objects").ok();
      }
      return !cancelled && visit(object);
    }));
    return cancelled ? Status(ECANCELED, "list the store: the caller is gone") : Status::Ok();
  };
}

Status StoreUnsaved(VolumeHandles& volume, control::Reply& reply) {
  if (!volume.vfs) return Status::Ok();
  RETURN_IF_ERROR(reply.Progress("storing unsaved data"));
  return volume.vfs->Drain().Annotate("store unsaved data first");
}

}  // namespace

Result<Json> OpFsck(const Json& request, VolumeHandles& volume, control::Reply& reply) {
  meta::FsckOptions options;
  options.repair = request.value("repair", false);
  if (options.repair && volume.vfs) {
    return Error(EBUSY, "repair the volume: it is mounted; unmount it, or run fsck without --repair");
  }
  if (!request.value("skip_store", false)) {
    options.list_objects = Watched(ObjectLister(volume.meta.format().uuid, volume.blocks), reply);
  }
  TRY_VOID(reply.Progress("checking"));
  ASSIGN_OR_RETURN(const meta::FsckReport report, meta::Fsck(volume.kv, options));
  for (const meta::Finding& f : report.findings) {
    TRY_VOID(reply.Line(Dump({{"damage", meta::DamageName(f.damage)}, {"inode", f.ino}, {"text", f.text}})));
  }
  for (const std::string& repair : report.repairs) TRY_VOID(reply.Line(Dump({{"repair", repair}})));
  Json counts = Json::object();
  for (const auto& [damage, count] : report.counts) counts[std::string(meta::DamageName(damage))] = count;
  return Json{{"clean", report.clean()},
              {"inodes", report.inodes},
              {"directories", report.directories},
              {"names", report.names},
              {"slices", report.slices},
              {"objects", report.objects},
              {"used_bytes", report.used_bytes},
              {"repaired", report.repaired},
              {"damage", counts}};
}

Result<Json> OpGc(const Json& request, VolumeHandles& volume, control::Reply& reply) {
  const bool remove = request.value("delete", false);
  uint64_t due = 0;
  if (remove) {
    const Between between = [&] { return reply.Progress("deleting what is due").ok(); };
    TRY_VOID(CleanDeleted(volume.meta, between));
    ASSIGN_OR_RETURN(due, DeleteDueObjects(volume.meta, volume.blocks, between));
  }
  const int64_t safety_ns = request.value("safety_s", int64_t{3600}) * Timestamp::kNsPerSec;
  ASSIGN_OR_RETURN(const meta::GcReport report,
                   meta::FindLeaked(volume.kv, Watched(ObjectLister(volume.meta.format().uuid, volume.blocks), reply),
                                    Timestamp::Now(), safety_ns));
  for (size_t i = 0; i < report.leaked.size() && i < kShownObjects; ++i) {
    const meta::StoredObject& o = report.leaked[i];
    TRY_VOID(reply.Line(Dump({{"object", volume.blocks.NameOf(o.id)}, {"bytes", o.bytes}})));
  }
  uint64_t deleted = 0;
  if (remove) {
    ASSIGN_OR_RETURN(deleted, meta::DeleteLeaked(volume.kv, report.leaked,
                                                 [&](const ObjectId& id) { return volume.blocks.Delete(id); }));
  }
  return Json{{"objects", report.listed},     {"bytes", report.listed_bytes}, {"young", report.young},
              {"leaked", report.leaked.size()}, {"leaked_bytes", report.leaked_bytes},
              {"deleted", deleted},           {"due_deleted", due}};
}

Result<Json> OpDump(const Json&, VolumeHandles& volume, control::Reply& reply) {
  TRY_VOID(StoreUnsaved(volume, reply));
  std::string pending;
  const auto send = [&] {
    const Status s = reply.Line(EncodeBase64(pending));
    pending.clear();
    return s;
  };
  ASSIGN_OR_RETURN(const meta::DumpStats stats, meta::Dump(volume.kv, [&](std::string_view bytes) -> Status {
    while (!bytes.empty()) {
      const size_t n = std::min(bytes.size(), kDumpLineBytes - pending.size());
      pending.append(bytes.substr(0, n));
      bytes.remove_prefix(n);
      if (pending.size() == kDumpLineBytes) RETURN_IF_ERROR(send());
    }
    return Status::Ok();
  }));
  if (!pending.empty()) TRY_VOID(send());
  return Json{{"records", stats.records}, {"bytes", stats.bytes}};
}

}  // namespace moorfs::admin
