// SPDX-License-Identifier: Apache-2.0
//
// Listing a directory in pages. A position is a property of the entry, not of
// the listing, so pages stay right while others create and delete.

#include <algorithm>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

// A page as an engine is asked for it; bounds what a huge `limit` costs.
constexpr size_t kPage = 4096;

}  // namespace

Status MetaImpl::AddAttrs(kv::Snapshot& snapshot, std::vector<DirEntry>* entries) {
  for (DirEntry& entry : *entries) {
    ASSIGN_OR_RETURN_STATUS(const auto value, snapshot.Get(schema_.Attr(entry.ino)));
    if (!value) {
      return Status(EIO, "listing a directory: inode " + std::to_string(entry.ino) + " is missing; run moorfs fsck");
    }
    ASSIGN_OR_RETURN_STATUS(entry.attr, DecodeAttr(*value));
    if (entry.type == FileType::kDirectory && shared()) {
      ASSIGN_OR_RETURN_STATUS(const auto deltas, snapshot.Scan(schema_.DirDeltas(entry.ino), kPage));
      RETURN_IF_ERROR(AddDeltas(deltas, &entry.attr));
    }
  }
  return Status::Ok();
}

Result<std::vector<DirEntry>> MetaImpl::ReadDir(Ino dir, uint64_t after, size_t limit, bool with_attrs) {
  ASSIGN_OR_RETURN(const auto snapshot, kv_.NewSnapshot());
  ASSIGN_OR_RETURN(const auto value, snapshot->Get(schema_.Attr(dir)));
  if (!value) return Error(ENOENT, "listing directory " + std::to_string(dir) + ": it is removed");
  ASSIGN_OR_RETURN(const Attr attr, DecodeAttr(*value));
  if (attr.type != FileType::kDirectory) return Error(ENOTDIR, "listing inode " + std::to_string(dir) + ": no directory");

  std::vector<DirEntry> out;
  out.reserve(std::min(limit, kPage));
  while (out.size() < limit) {
    const size_t want = std::min(limit - out.size(), kPage);
    ASSIGN_OR_RETURN(const auto page, snapshot->Scan(schema_.DentriesAfter(dir, after), want));
    for (const kv::Entry& record : page) {
      const auto pos = keys::ParseDentrySuffix(record.suffix);
      if (!pos) return Error(EIO, "directory " + std::to_string(dir) + ": an entry's key is damaged; run moorfs fsck");
      after = *pos;
      ASSIGN_OR_RETURN(Dentry dentry, DecodeDentry(record.value));
      if (dentry.tombstone) continue;
      out.push_back({*pos, dentry.ino, dentry.type, std::move(dentry.name), {}});
    }
    if (page.size() < want) break;
  }
  if (with_attrs) TRY_VOID(AddAttrs(*snapshot, &out));
  return out;
}

}  // namespace moorfs::meta
