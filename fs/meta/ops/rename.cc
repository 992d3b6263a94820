// SPDX-License-Identifier: Apache-2.0
//
// rename(2) and its flags. The longest of the operations: up to two parents,
// the moved inode and the one it replaces or changes places with.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

// Deeper trees than any path reaches: a walk this long means a damaged volume.
constexpr int kMaxDepth = 1 << 16;

}  // namespace

// What is renamed, loaded: `dst` is the inode that has the new name already.
struct MetaImpl::RenameCall {
  Ino parent = 0, new_parent = 0;
  std::string_view name, new_name;
  uint32_t flags = 0;

  Attr dir, new_dir;  // attributes of the parents; `new_dir` only when they differ
  NameSlot from, to;
  Attr src, dst;

  bool exchange() const { return (flags & kRenameExchange) != 0; }
  bool one_parent() const { return parent == new_parent; }
  Ino src_ino() const { return from.found->dentry.ino; }
  Ino dst_ino() const { return to.found ? to.found->dentry.ino : 0; }
  bool src_is_dir() const { return src.type == FileType::kDirectory; }
  bool dst_is_dir() const { return to.found && dst.type == FileType::kDirectory; }
};

Status MetaImpl::CheckDirectoryMove(kv::Transaction& kv, Ino moved, Ino new_parent) {
  // Two moves in different transactions could together make a loop that
  // neither sees: the key makes them conflict.
  const kv::Key lock = keys::DirectoryMoveLock();
  ASSIGN_OR_RETURN_STATUS(const auto unused, kv.Get(lock));
  (void)unused;
  kv.Put(lock, "");
  Ino at = new_parent;
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    if (at == moved) {
      return Status(EINVAL, "moving directory " + std::to_string(moved) + ": the target lies below it");
    }
    if (at == kRootIno) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(const Attr attr, LoadBase(kv, at, ENOENT));
    at = attr.parent;
  }
  return Status(ELOOP, "moving directory " + std::to_string(moved) + ": the tree above the target has no root; run moorfs fsck");
}

Status MetaImpl::LoadRename(Txn& txn, RenameCall* call) {
  ASSIGN_OR_RETURN_STATUS(call->dir, LoadParent(txn.kv, call->parent));
  if (!call->one_parent()) {
    ASSIGN_OR_RETURN_STATUS(call->new_dir, LoadParent(txn.kv, call->new_parent));
  }
  ASSIGN_OR_RETURN_STATUS(call->from, FindName(txn.kv, call->parent, call->name));
  ASSIGN_OR_RETURN_STATUS(call->to, FindName(txn.kv, call->new_parent, call->new_name));
  if (!call->from.found) return Status(ENOENT, "renaming in directory " + std::to_string(call->parent) + ": no such entry");
  if (call->exchange() && !call->to.found) return Status(ENOENT, "exchanging names: the second does not exist");
  if (call->to.found && (call->flags & kRenameNoReplace)) return Status(EEXIST, "renaming: the new name exists");
  RETURN_IF_ERROR(txn.Lock(call->src_ino()));
  ASSIGN_OR_RETURN_STATUS(call->src, LoadAttr(txn.kv, call->src_ino(), EIO));
  if (call->to.found && call->dst_ino() != call->src_ino()) {
    RETURN_IF_ERROR(txn.Lock(call->dst_ino()));
    ASSIGN_OR_RETURN_STATUS(call->dst, LoadAttr(txn.kv, call->dst_ino(), EIO));
  }
  return Status::Ok();
}

Status MetaImpl::CheckRename(Txn& txn, const RenameCall& call) {
  if (!call.one_parent()) {
    // Moving a tree would have to charge all of it anew: applications copy.
    // (A quota's own directory belongs to the quota around it like any other.)
    if (call.dir.quota != call.new_dir.quota) {
      return Status(EXDEV, "moving inode " + std::to_string(call.src_ino()) + ": the directories have different quotas");
    }
    if (call.src_is_dir()) RETURN_IF_ERROR(CheckDirectoryMove(txn.kv, call.src_ino(), call.new_parent));
    if (call.exchange() && call.dst_is_dir()) {
      RETURN_IF_ERROR(CheckDirectoryMove(txn.kv, call.dst_ino(), call.parent));
    }
    if (call.src_is_dir() && !call.dst_is_dir() && call.new_dir.nlink >= kMaxNlink) {
      return Status(EMLINK, "moving a directory into " + std::to_string(call.new_parent) + ": it has too many already");
    }
  }
  if (call.exchange() || !call.to.found) return Status::Ok();
  if (call.src_is_dir() && !call.dst_is_dir()) return Status(ENOTDIR, "renaming a directory over what is none");
  if (!call.src_is_dir() && call.dst_is_dir()) return Status(EISDIR, "renaming over a directory what is none");
  if (call.dst_is_dir()) {
    ASSIGN_OR_RETURN_STATUS(const bool empty, IsEmptyDir(txn.kv, call.dst_ino()));
    if (!empty) return Status(ENOTEMPTY, "renaming over directory " + std::to_string(call.dst_ino()) + ": it has entries");
  }
  return Status::Ok();
}

// Both directories have the tag `quota`; what moves between them may lack it
// while a SetQuota() is under way, which would not find it in a directory that
// it has been through.
Status MetaImpl::CheckTag(Txn& txn, Ino ino, Attr* attr, Ino quota) {
  if (attr->quota == quota) return Status::Ok();
  if (attr->type == FileType::kDirectory) {
    Ino outer = attr->quota;
    if (outer == ino) {
      ASSIGN_OR_RETURN_STATUS(const QuotaRecord record, LoadQuota(txn.kv, ino));
      outer = record.parent;
    }
    if (outer == quota) return Status::Ok();
    return Status(EXDEV, "moving directory " + std::to_string(ino) + ": a quota is just being set above it");
  }
  if (attr->flags & kAttrManyParents) return Status::Ok();
  Retag(txn, attr, quota);
  return Status::Ok();
}

Status MetaImpl::ExchangeNames(Txn& txn, RenameCall* call) {
  ReplaceDentry(txn, call->parent, *call->from.found, call->dst.type, call->dst_ino());
  ReplaceDentry(txn, call->new_parent, *call->to.found, call->src.type, call->src_ino());
  RETURN_IF_ERROR(MoveParent(txn, call->dst_ino(), &call->dst, call->new_parent, call->parent));
  TouchAttr(txn, &call->dst);
  return StoreAttr(txn.kv, call->dst_ino(), call->dst);
}

Status MetaImpl::MoveName(Txn& txn, RenameCall* call) {
  RETURN_IF_ERROR(EraseDentry(txn, call->parent, *call->from.found));
  if (call->to.found) {
    ReplaceDentry(txn, call->new_parent, *call->to.found, call->src.type, call->src_ino());
    return DropLink(txn, call->dst_ino(), &call->dst, call->new_parent, call->new_name);
  }
  // The erased name may have made room, or left a tombstone, under this hash.
  if (call->one_parent() && call->from.hash == call->to.hash) {
    ASSIGN_OR_RETURN_STATUS(call->to, FindName(txn.kv, call->new_parent, call->new_name));
  }
  return InsertDentry(txn, call->new_parent, call->to, call->new_name, call->src.type, call->src_ino());
}

Status MetaImpl::TouchRenamed(Txn& txn, RenameCall* call) {
  // Subdirectories that the parents win or lose.
  int64_t leaves = call->src_is_dir() ? 1 : 0, arrives = leaves;
  if (call->dst_is_dir()) --arrives;
  if (call->exchange() && call->dst_is_dir()) --leaves;
  if (call->one_parent()) return TouchDir(txn, call->parent, &call->dir, arrives - leaves);
  RETURN_IF_ERROR(TouchDir(txn, call->parent, &call->dir, -leaves));
  return TouchDir(txn, call->new_parent, &call->new_dir, arrives);
}

Status MetaImpl::RenameBody(Txn& txn, RenameCall* call, Renamed* result) {
  *result = {};
  RETURN_IF_ERROR(LoadRename(txn, call));
  txn.outcome->ino = call->src_ino();
  if (call->src_ino() == call->dst_ino()) {
    // Two names of one inode: POSIX has rename do nothing.
    result->moved = {call->src_ino(), call->src};
    return Status::Ok();
  }
  RETURN_IF_ERROR(CheckRename(txn, *call));
  if (!call->one_parent()) {
    RETURN_IF_ERROR(CheckTag(txn, call->src_ino(), &call->src, call->new_dir.quota));
    if (call->exchange()) RETURN_IF_ERROR(CheckTag(txn, call->dst_ino(), &call->dst, call->dir.quota));
  }
  RETURN_IF_ERROR(call->exchange() ? ExchangeNames(txn, call) : MoveName(txn, call));
  RETURN_IF_ERROR(MoveParent(txn, call->src_ino(), &call->src, call->parent, call->new_parent));
  TouchAttr(txn, &call->src);
  RETURN_IF_ERROR(StoreAttr(txn.kv, call->src_ino(), call->src));
  RETURN_IF_ERROR(TouchRenamed(txn, call));
  txn.outcome->other = call->dst_ino();
  result->moved = {call->src_ino(), call->src};
  if (call->dst_ino() != 0) result->replaced = Entry{call->dst_ino(), call->dst};
  return Status::Ok();
}

Result<Meta::Renamed> MetaImpl::Rename(const OpContext& ctx, Ino parent, std::string_view name, Ino new_parent,
                                       std::string_view new_name, uint32_t flags) {
  TRY_VOID(CheckName(name));
  TRY_VOID(CheckName(new_name));
  constexpr uint32_t kKnown = kRenameNoReplace | kRenameExchange;
  if ((flags & ~kKnown) != 0 || flags == kKnown) return Error(EINVAL, "renaming: unknown or contradicting flags");
  Outcome outcome;
  Renamed result;
  const Status done = Mutate(ctx, {parent, new_parent}, &outcome, [&](Txn& txn) {
    RenameCall call;
    call.parent = parent;
    call.new_parent = new_parent;
    call.name = name;
    call.new_name = new_name;
    call.flags = flags;
    return RenameBody(txn, &call, &result);
  });
  TRY_VOID(done);
  if (outcome.replayed) {
    ASSIGN_OR_RETURN(result.moved, EntryNow(outcome.ino));
    if (outcome.other != 0) {
      ASSIGN_OR_RETURN(result.replaced, EntryNow(outcome.other));
    }
  }
  return result;
}

}  // namespace moorfs::meta
