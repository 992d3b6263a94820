// SPDX-License-Identifier: Apache-2.0
//
// The trash: what lost its last name waits here, in buckets by the hour, until
// somebody wants it back or its time is up. An entry keeps its inode number,
// attributes and data; only its name is gone from the tree.

#include <algorithm>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr int64_t kNsPerHour = int64_t{3600} * Timestamp::kNsPerSec;
constexpr size_t kPage = 256;
constexpr size_t kMaxPathCache = 4096;
constexpr int kMaxDepth = 4096;

uint64_t HourOf(Timestamp t) { return t.ns <= 0 ? 0 : static_cast<uint64_t>(t.ns / kNsPerHour); }

// Suffix of family T: time8 ino8.
struct TrashSuffix {
  Timestamp when;
  Ino ino = 0;
};
std::optional<TrashSuffix> ParseTrashSuffix(std::string_view suffix) {
  if (suffix.size() != 16) return std::nullopt;
  const auto when = keys::TrailingU64(suffix.substr(0, 8));
  const auto ino = keys::TrailingU64(suffix);
  return TrashSuffix{{static_cast<int64_t>(*when)}, *ino};
}

}  // namespace

Result<HourSpan> MetaImpl::LoadTrashHours(kv::Transaction& kv) {
  ASSIGN_OR_RETURN(const auto first, kv.Get(keys::Allocator("trash_first")));
  ASSIGN_OR_RETURN(const auto last, kv.Get(keys::Allocator("trash_last")));
  HourSpan hours;
  if (first) hours.first = DecodeLe64(*first);
  if (last) hours.last = DecodeLe64(*last);
  return hours;
}

Result<std::string> MetaImpl::TrashedName(Ino ino, const Attr& attr) {
  std::string name;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto value, kv.Get(keys::Trash(attr.trashed, ino)));
    if (!value) return Status(ENOENT, "inode " + std::to_string(ino) + " is not in the trash");
    ASSIGN_OR_RETURN_STATUS(const TrashRecord record, DecodeTrash(*value));
    name = record.name;
    return Status::Ok();
  });
  TRY_VOID(done);
  return name;
}

Status MetaImpl::VisitTrash(Timestamp before, const std::function<Result<bool>(const kv::Entry&)>& visit) {
  HourSpan hours;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    ASSIGN_OR_RETURN_STATUS(hours, LoadTrashHours(kv));
    return Status::Ok();
  });
  RETURN_IF_ERROR(done);
  if (hours.first > hours.last) return Status::Ok();
  const uint64_t last = std::min(hours.last, HourOf(before));
  for (uint64_t hour = hours.first; hour <= last; ++hour) {
    kv::Range range = keys::TrashHour(hour);
    for (;;) {
      std::vector<kv::Entry> page;
      const Status read = Read([&](kv::Transaction& kv) -> Status {
        ASSIGN_OR_RETURN_STATUS(page, kv.Scan(range, kPage));
        return Status::Ok();
      });
      RETURN_IF_ERROR(read);
      for (const kv::Entry& entry : page) {
        ASSIGN_OR_RETURN_STATUS(const bool more, visit(entry));
        if (!more) return Status::Ok();
      }
      if (page.size() < kPage) break;
      range.begin = page.back().suffix + '\0';
    }
  }
  return Status::Ok();
}

Status MetaImpl::ListTrash(const std::function<bool(const TrashEntry&)>& visit) {
  std::unordered_map<Ino, std::optional<std::string>> paths;  // of directories, when they can be told
  return VisitTrash({INT64_MAX}, [&](const kv::Entry& entry) -> Result<bool> {
    const auto key = ParseTrashSuffix(entry.suffix);
    if (!key) return Error(EIO, "listing the trash: a key is damaged; run moorfs fsck");
    ASSIGN_OR_RETURN(TrashRecord record, DecodeTrash(entry.value));
    const auto attr = GetAttr(key->ino);
    if (!attr) {
      // Deleted or restored since the page was read.
      if (attr.error().err() == ESTALE) return true;
      return Error(attr.error());
    }
    if (paths.size() >= kMaxPathCache) paths.clear();
    auto [path, is_new] = paths.try_emplace(record.parent);
    if (is_new) {
      if (auto above = DirPath(record.parent)) path->second = *std::move(above);
    }
    TrashEntry out;
    out.ino = key->ino;
    out.parent = record.parent;
    out.name = std::move(record.name);
    out.type = record.type;
    out.deleted = key->when;
    out.length = attr->length;
    if (path->second) out.path = *path->second + "/" + out.name;
    return visit(out);
  });
}

Result<Entry> MetaImpl::RestoreTrash(Ino ino, std::optional<std::string> path) { return RestoreOne(ino, path, 0); }

// Parents come back first, each in a transaction of its own: a crash in
// between leaves an empty directory restored, and the rest still in the trash.
Result<Entry> MetaImpl::RestoreOne(Ino ino, const std::optional<std::string>& path, int depth) {
  if (depth > kMaxDepth) return Error(ELOOP, "restoring from the trash: parents without end; run moorfs fsck");
  const auto found = GetAttr(ino);
  if (!found) {
    return Error(found.error().err() == ESTALE ? ENOENT : found.error().err(), found.error().message());
  }
  if (!(found->flags & kAttrTrashed)) return Error(ENOENT, "inode " + std::to_string(ino) + " is not in the trash");
  Ino parent = found->parent;
  std::string name;
  if (path) {
    const size_t slash = path->rfind('/');
    name = slash == std::string::npos ? *path : path->substr(slash + 1);
    ASSIGN_OR_RETURN(const Entry dir, Resolve(slash == std::string::npos ? "" : path->substr(0, slash)));
    parent = dir.ino;
  } else {
    ASSIGN_OR_RETURN(name, TrashedName(ino, *found));
    const auto dir = GetAttr(parent);
    if (!dir) {
      return Error(ENOENT, "restoring '" + name + "': its directory is gone for good; give a path to restore it at");
    }
    if (dir->flags & kAttrTrashed) {
      ASSIGN_OR_RETURN(const Entry restored, RestoreOne(parent, std::nullopt, depth + 1));
      parent = restored.ino;
    }
  }
  TRY_VOID(CheckName(name));
  return PutBack(ino, parent, name);
}

Result<Entry> MetaImpl::PutBack(Ino ino, Ino parent, const std::string& name) {
  const OpContext ctx;
  Entry entry;
  const Status done = Mutate(ctx, {parent, ino}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadAttr(txn.kv, ino, ENOENT));
    if (!(attr.flags & kAttrTrashed)) return Status(ENOENT, "inode " + std::to_string(ino) + " is not in the trash");
    ASSIGN_OR_RETURN_STATUS(Attr dir, LoadParent(txn.kv, parent));
    ASSIGN_OR_RETURN_STATUS(const NameSlot slot, FindName(txn.kv, parent, name));
    if (slot.found) return Status(EEXIST, "restoring '" + name + "': the name is taken; give a path to restore it at");
    const bool is_dir = attr.type == FileType::kDirectory;
    txn.kv.Delete(keys::Trash(attr.trashed, ino));
    attr.flags &= ~kAttrTrashed;
    attr.trashed = {};
    attr.nlink = is_dir ? 2 : 1;
    attr.parent = parent;
    attr.quota = dir.quota;
    txn.Charge(attr.quota, static_cast<int64_t>(QuotaBytes(attr)), 1);
    TouchAttr(txn, &attr);
    RETURN_IF_ERROR(StoreAttr(txn.kv, ino, attr));
    RETURN_IF_ERROR(InsertDentry(txn, parent, slot, name, attr.type, ino));
    RETURN_IF_ERROR(TouchDir(txn, parent, &dir, is_dir ? 1 : 0));
    entry = {ino, attr};
    return Status::Ok();
  });
  TRY_VOID(done);
  return entry;
}

Result<bool> MetaImpl::DropTrashEntry(Timestamp when, Ino ino) {
  const OpContext ctx;
  bool dropped = false;
  const Status done = Mutate(ctx, {ino}, nullptr, [&](Txn& txn) -> Status {
    const kv::Key key = keys::Trash(when, ino);
    ASSIGN_OR_RETURN_STATUS(const auto record, txn.kv.Get(key));
    dropped = record.has_value();
    if (!dropped) return Status::Ok();  // restored meanwhile
    txn.kv.Delete(key);
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadAttr(txn.kv, ino, EIO));
    return DropLastClaim(txn, ino, &attr);
  });
  TRY_VOID(done);
  return dropped;
}

Result<uint64_t> MetaImpl::EmptyTrashSome(Timestamp before, uint64_t limit) {
  uint64_t count = 0;
  const Status done = VisitTrash(before, [&](const kv::Entry& entry) -> Result<bool> {
    if (count == limit) return false;
    const auto key = ParseTrashSuffix(entry.suffix);
    if (!key) return Error(EIO, "emptying the trash: a key is damaged; run moorfs fsck");
    if (key->when >= before) return false;
    ASSIGN_OR_RETURN(const bool dropped, DropTrashEntry(key->when, key->ino));
    count += dropped ? 1 : 0;
    return true;
  });
  TRY_VOID(done);
  // Hours that are wholly emptied need no visit again. The current hour and
  // the one before it may still receive entries from a clock that lags.
  if (count < limit) {
    const uint64_t settled = HourOf(Timestamp::Now());
    TRY_VOID(RaiseFirstTrashHour(std::min(HourOf(before), settled == 0 ? 0 : settled - 1)));
  }
  return count;
}

Status MetaImpl::RaiseFirstTrashHour(uint64_t hour) {
  const OpContext ctx;
  HourSpan hours;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    ASSIGN_OR_RETURN_STATUS(hours, LoadTrashHours(kv));
    return Status::Ok();
  });
  RETURN_IF_ERROR(done);
  if (hours.first > hours.last || hours.first >= hour) return Status::Ok();
  return Mutate(ctx, {}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(hours, LoadTrashHours(txn.kv));
    hours.first = std::min(hour, hours.last);
    txn.kv.Put(keys::Allocator("trash_first"), EncodeLe64(hours.first));
    txn.trash_hours_ = hours;
    return Status::Ok();
  });
}

Result<uint64_t> MetaImpl::EmptyTrash(Timestamp before) { return EmptyTrashSome(before, UINT64_MAX); }

}  // namespace moorfs::meta
