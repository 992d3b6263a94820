// SPDX-License-Identifier: Apache-2.0
//
// Volumes: made, removed, shown; and what the mount manager asks of a client
// about a directory, so that it need not touch a path of the mount.

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "fs/admin/volume_ops.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr uint16_t kRootMode = 0755;
// A group that shall own a volume may do everything there, and hands itself on.
constexpr uint16_t kGroupMode = 02070;

Json ToJson(const meta::VolumeInfo& v) {
  return {{"name", v.spec.name},
          {"directory", v.directory},
          {"bytes", v.spec.bytes},
          {"inodes", v.spec.inodes},
          {"parameters", v.spec.parameters},
          {"created_at", v.created.sec()},
          {"used_bytes", v.used_bytes},
          {"used_inodes", v.used_inodes}};
}

// Of an inode as the kernel knows it: a mount of a subdirectory shows that as 1.
Ino AsMounted(const VolumeHandles& volume, Ino ino) {
  return volume.vfs && ino == volume.vfs->options().root ? kRootIno : ino;
}

// A name came or went behind the kernel's back.
void TellKernel(VolumeHandles& volume, Ino parent, std::string_view name) {
  if (!volume.kernel || parent == 0) return;
  const Ino ino = AsMounted(volume, parent);
  volume.kernel->InvalidateEntry(ino, name);
  volume.kernel->InvalidateInode(ino);
}

void TellOfVolume(VolumeHandles& volume, const meta::VolumeInfo& v) {
  TellKernel(volume, kRootIno, "volumes");
  TellKernel(volume, v.parent, v.directory.substr(v.directory.find('/') + 1));
}

// The parts of "a/b". EINVAL for what could lead elsewhere.
Result<std::vector<std::string>> PartsOf(const std::string& directory) {
  std::vector<std::string> parts;
  if (directory.empty()) return parts;
  for (size_t begin = 0; begin <= directory.size();) {
    const size_t end = std::min(directory.find('/', begin), directory.size());
    parts.push_back(directory.substr(begin, end - begin));
    const std::string& part = parts.back();
    if (part.empty() || part == "." || part == ".." || part.find('\0') != std::string::npos) {
      return Error(EINVAL, "understand directory \"" + directory + "\": parts separated by single slashes, none of "
                           "them \".\" or \"..\"");
    }
    begin = end + 1;
  }
  return parts;
}

Ino RootOf(const VolumeHandles& volume) { return volume.vfs ? volume.vfs->options().root : kRootIno; }

// Never through a symbolic link: such an inode is no directory.
Result<Ino> WalkTo(VolumeHandles& volume, const std::string& directory, bool create) {
  ASSIGN_OR_RETURN(const auto parts, PartsOf(directory));
  Ino at = RootOf(volume);
  for (const std::string& part : parts) {
    auto next = volume.meta.Lookup(at, part);
    if (!next && next.error().err() == ENOENT && create) {
      next = volume.meta.MakeDir({}, at, part, kRootMode);
      if (next) TellKernel(volume, at, part);
      // Another caller was faster.
      if (!next && next.error().err() == EEXIST) next = volume.meta.Lookup(at, part);
    }
    if (!next) return Error(next.error().Annotate("find directory \"" + directory + "\""));
    if (next->attr.type != FileType::kDirectory) {
      return Error(ENOTDIR, "find directory \"" + directory + "\": \"" + part + "\" is no directory");
    }
    at = next->ino;
  }
  return at;
}

Status GiveToGroup(VolumeHandles& volume, Ino root, uint32_t gid) {
  ASSIGN_OR_RETURN_STATUS(const Attr attr, volume.meta.GetAttr(root));
  if (attr.gid == gid && (attr.mode & kGroupMode) == kGroupMode) return Status::Ok();
  meta::SetAttrRequest request;
  request.valid = meta::kSetGid | meta::kSetMode;
  request.gid = gid;
  request.mode = attr.mode | kGroupMode;
  auto set = volume.meta.SetAttr({}, root, request);
  if (!set) return set.error();
  if (volume.kernel) volume.kernel->InvalidateInode(AsMounted(volume, root));
  return Status::Ok();
}

Result<object::Space> SpaceOf(VolumeHandles& volume) {
  ASSIGN_OR_RETURN(object::Space space, volume.blocks.store().GetSpace());
  // A store without bounds.
  if (space.total_bytes == 0) space.total_bytes = space.available_bytes = 1_PiB;
  return space;
}

}  // namespace

Result<Json> OpVolumeCreate(const Json& request, VolumeHandles& volume, control::Reply&) {
  meta::VolumeSpec spec;
  spec.name = request.at("name");
  spec.bytes = request.value("bytes", uint64_t{0});
  spec.inodes = request.value("inodes", uint64_t{0});
  if (request.contains("parameters")) spec.parameters = request["parameters"].get<std::map<std::string, std::string>>();
  ASSIGN_OR_RETURN(const meta::Meta::CreatedVolume made, volume.meta.CreateVolume(spec));
  if (made.created) {
    TellOfVolume(volume, made.volume);
    // Whoever asked acts on it elsewhere: a power cut must not take it back.
    TRY_VOID(volume.kv.Sync().Annotate("make the new volume durable"));
  }
  Json out = ToJson(made.volume);
  out["created"] = made.created;
  return out;
}

Result<Json> OpVolumeDelete(const Json& request, VolumeHandles& volume, control::Reply&) {
  ASSIGN_OR_RETURN(const auto deleted, volume.meta.DeleteVolume(request.at("name").get<std::string>()));
  if (deleted) {
    TellOfVolume(volume, *deleted);
    TRY_VOID(volume.kv.Sync().Annotate("make the deletion durable"));
  }
  return Json{{"deleted", deleted.has_value()}};
}

Result<Json> OpVolumeShow(const Json& request, VolumeHandles& volume, control::Reply&) {
  ASSIGN_OR_RETURN(const meta::VolumeInfo info, volume.meta.GetVolume(request.at("name").get<std::string>()));
  return ToJson(info);
}

Result<Json> OpVolumeList(const Json& request, VolumeHandles& volume, control::Reply&) {
  constexpr size_t kMost = 10'000;
  const size_t limit = std::min(request.value("limit", kMost), kMost);
  ASSIGN_OR_RETURN(const auto infos, volume.meta.ListVolumes(request.value("after", ""), limit));
  Json list = Json::array();
  for (const meta::VolumeInfo& info : infos) list.push_back(ToJson(info));
  return Json{{"volumes", std::move(list)}};
}

Result<Json> OpVolumeCapacity(const Json&, VolumeHandles& volume, control::Reply&) {
  ASSIGN_OR_RETURN(const object::Space space, SpaceOf(volume));
  return Json{{"total_bytes", space.total_bytes}, {"available_bytes", space.available_bytes}};
}

Result<Json> OpVolumeStat(const Json& request, VolumeHandles& volume, control::Reply&) {
  ASSIGN_OR_RETURN(const Ino dir, WalkTo(volume, request.value("directory", ""), false));
  if (!volume.vfs) return Error(ENOTCONN, "volume-stat: the volume is not mounted");
  ASSIGN_OR_RETURN(const vfs::StatFsReply stat, volume.vfs->StatFsOf({}, AsMounted(volume, dir)));
  return Json{{"total_bytes", stat.total_bytes},
              {"used_bytes", stat.total_bytes - std::min(stat.total_bytes, stat.free_bytes)},
              {"available_bytes", stat.free_bytes},
              {"total_inodes", stat.total_inodes},
              {"used_inodes", stat.total_inodes - std::min(stat.total_inodes, stat.free_inodes)},
              {"available_inodes", stat.free_inodes}};
}

Result<Json> OpPrepareRoot(const Json& request, VolumeHandles& volume, control::Reply&) {
  ASSIGN_OR_RETURN(const Ino root, WalkTo(volume, request.value("directory", ""), request.value("create", false)));
  if (request.contains("gid") && !request["gid"].is_null()) {
    TRY_VOID(GiveToGroup(volume, root, request["gid"].get<uint32_t>()));
  }
  return Json::object();
}

}  // namespace moorfs::admin
