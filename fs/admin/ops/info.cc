// SPDX-License-Identifier: Apache-2.0
//
// `moorfs info PATH`: what is stored of an inode, and where.

#include <set>

#include <nlohmann/json.hpp>

#include "fs/admin/volume_ops.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

// Slices in one answer; a file of more says so.
constexpr size_t kMaxSlices = 2000;

const char* TypeName(FileType type) {
  switch (type) {
    case FileType::kFile: return "file";
    case FileType::kDirectory: return "directory";
    case FileType::kSymlink: return "symlink";
    case FileType::kFifo: return "fifo";
    case FileType::kSocket: return "socket";
    case FileType::kCharDevice: return "character device";
    case FileType::kBlockDevice: return "block device";
  }
  return "?";
}

Result<Ino> FindInode(const Json& request, VolumeHandles& volume) {
  if (request.contains("path")) {
    ASSIGN_OR_RETURN(const meta::Entry entry, volume.meta.Resolve(request["path"].get<std::string>()));
    return entry.ino;
  }
  const Ino ino = request.at("ino");
  // A mount of a subdirectory shows that one as inode 1.
  return ino == kRootIno && volume.vfs ? volume.vfs->options().root : ino;
}

Status AddSlices(Ino ino, VolumeHandles& volume, Json* out) {
  ASSIGN_OR_RETURN_STATUS(auto snapshot, volume.kv.NewSnapshot());
  ASSIGN_OR_RETURN_STATUS(const auto entries, snapshot->Scan(volume.meta.schema().SlicesFrom(ino, 0), kMaxSlices + 1));
  Json slices = Json::array();
  std::set<std::string> objects;
  for (const kv::Entry& entry : entries) {
    if (slices.size() == kMaxSlices) break;
    const auto at = keys::ParseSliceSuffix(entry.suffix);
    if (!at) return Status(EIO, "read slices of inode " + std::to_string(ino) + ": a key has an unknown shape; run fsck");
    ASSIGN_OR_RETURN_STATUS(const SliceRecord record, DecodeSlice(entry.value));
    const std::string object = record.object.is_hole() ? "" : volume.blocks.NameOf(record.object);
    if (!object.empty()) objects.insert(object);
    slices.push_back({{"file_offset", at->chunk * kChunkBytes + record.pos},
                      {"bytes", record.len},
                      {"sequence", at->seq},
                      {"object", object.empty() ? Json() : Json(object)},
                      {"object_offset", record.offset}});
  }
  (*out)["slices"] = std::move(slices);
  (*out)["objects"] = objects;
  (*out)["more_slices"] = entries.size() > kMaxSlices;
  return Status::Ok();
}

}  // namespace

Result<Json> OpInfo(const Json& request, VolumeHandles& volume, control::Reply&) {
  ASSIGN_OR_RETURN(const Ino ino, FindInode(request, volume));
  ASSIGN_OR_RETURN(const Attr attr, volume.meta.GetAttr(ino));
  Json out = {{"inode", ino},
              {"type", TypeName(attr.type)},
              {"mode", attr.mode},
              {"uid", attr.uid},
              {"gid", attr.gid},
              {"links", attr.nlink},
              {"length", attr.length},
              {"parent", attr.parent},
              {"in_trash", (attr.flags & kAttrTrashed) != 0},
              {"inline", (attr.flags & kAttrInline) != 0},
              {"store", volume.blocks.store().Url()}};
  if (auto paths = volume.meta.Paths(ino)) out["paths"] = *paths;
  if (volume.vfs) {
    if (auto seen = volume.vfs->GetAttr({}, ino == volume.vfs->options().root ? kRootIno : ino)) {
      out["seen_length"] = seen->length;  // with what is not stored yet
    }
  }
  if (attr.type == FileType::kFile) TRY_VOID(AddSlices(ino, volume, &out));
  return out;
}

}  // namespace moorfs::admin
