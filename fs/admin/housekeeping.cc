// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/housekeeping.h"

namespace moorfs::admin {
namespace {

constexpr size_t kCleanSteps = 16;
constexpr size_t kObjectBatch = 128;

}  // namespace

Status CleanDeleted(meta::Meta& meta, const Between& between) {
  for (bool more = true; more && between();) {
    auto cleaned = meta.Clean(Timestamp::Now(), kCleanSteps);
    if (!cleaned) return cleaned.error().Annotate("clean up deleted files");
    more = *cleaned;
  }
  return Status::Ok();
}

Result<uint64_t> DeleteDueObjects(meta::Meta& meta, chunk::BlockStore& blocks, const Between& between) {
  uint64_t deleted = 0;
  while (between()) {
    ASSIGN_OR_RETURN(const auto due, meta.DueObjects(Timestamp::Now(), kObjectBatch));
    for (const ObjectId& object : due) {
      if (Status s = blocks.Delete(object); !s.ok()) {
        return Error(s.Annotate("delete object " + blocks.NameOf(object)));
      }
    }
    if (due.empty()) break;
    TRY_VOID(meta.ForgetObjects(due).Annotate("forget deleted objects"));
    deleted += due.size();
    if (due.size() < kObjectBatch) break;
  }
  return deleted;
}

meta::ListObjects ObjectLister(const Uuid& volume, chunk::BlockStore& blocks) {
  return [prefix = FormatUuid(volume) + "/", &blocks](const std::function<bool(const meta::StoredObject&)>& visit) {
    return blocks.store().List(prefix, [&](const object::ObjectInfo& info) {
      const auto id = blocks.IdOf(info.name);
      return id ? visit({*id, info.bytes, info.modified}) : true;
    });
  };
}

}  // namespace moorfs::admin
