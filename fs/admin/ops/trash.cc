// SPDX-License-Identifier: Apache-2.0
//
// The trash: list, restore, empty.

#include <nlohmann/json.hpp>

#include "fs/admin/volume_ops.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

// A kernel that looked a deleted name up knows for an hour that it is not
// there. `ino` and whichever of its parents come back with it are told of.
class KernelNotice {
 public:
  KernelNotice(VolumeHandles& volume, Ino ino) : volume_(volume) {
    if (!volume.kernel) return;
    for (int depth = 0; depth < 4096 && ino != kRootIno; ++depth) {
      const auto attr = volume.meta.GetAttr(ino);
      if (!attr || !(attr->flags & kAttrTrashed)) return;
      restored_.push_back(ino);
      ino = attr->parent;
    }
  }
  void Send() {
    for (const Ino ino : restored_) {
      const auto attr = volume_.meta.GetAttr(ino);
      const auto paths = volume_.meta.Paths(ino);
      if (!attr || !paths || paths->empty()) continue;
      const std::string& path = paths->front();
      volume_.kernel->InvalidateEntry(attr->parent, path.substr(path.rfind('/') + 1));
      volume_.kernel->InvalidateInode(attr->parent);
    }
  }

 private:
  VolumeHandles& volume_;
  std::vector<Ino> restored_;
};

}  // namespace

Result<Json> OpTrashList(const Json&, VolumeHandles& volume, control::Reply& reply) {
  uint64_t count = 0;
  Status sent;
  TRY_VOID(volume.meta.ListTrash([&](const meta::TrashEntry& entry) {
    const Json line = {{"id", entry.ino},
                       {"path", entry.path},
                       {"name", entry.name},
                       {"directory", entry.type == FileType::kDirectory},
                       {"length", entry.length},
                       {"deleted", entry.deleted.sec()}};
    sent = reply.Line(line.dump(-1, ' ', false, Json::error_handler_t::replace));
    ++count;
    return sent.ok();
  }));
  TRY_VOID(sent);
  return Json{{"entries", count}};
}

Result<Json> OpTrashRestore(const Json& request, VolumeHandles& volume, control::Reply&) {
  const Ino ino = request.at("id");
  std::optional<std::string> path;
  if (request.contains("path")) path = request["path"].get<std::string>();
  KernelNotice notice(volume, ino);
  ASSIGN_OR_RETURN(const meta::Entry entry, volume.meta.RestoreTrash(ino, path));
  notice.Send();
  Json out = {{"inode", entry.ino}};
  if (auto paths = volume.meta.Paths(entry.ino); paths && !paths->empty()) out["path"] = paths->front();
  return out;
}

Result<Json> OpTrashEmpty(const Json& request, VolumeHandles& volume, control::Reply&) {
  const int64_t older_s = request.value("older_than_s", int64_t{0});
  const Timestamp before{Timestamp::Now().ns - older_s * Timestamp::kNsPerSec + (older_s == 0 ? 1 : 0)};
  ASSIGN_OR_RETURN(const uint64_t count, volume.meta.EmptyTrash(before));
  return Json{{"deleted", count}};
}

}  // namespace moorfs::admin
