// SPDX-License-Identifier: Apache-2.0
//
// chmod, chown, utimensat. Lengths change in fs/meta/data/.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Status MetaImpl::ChangeMode(Txn& txn, uint16_t mode, Attr* attr) {
  attr->mode = mode & 07777;
  if (attr->access_acl == 0) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(Acl acl, LoadAcl(txn.kv, attr->access_acl));
  ApplyModeToAcl(attr->mode, &acl);
  ASSIGN_OR_RETURN_STATUS(attr->access_acl, InternAcl(txn, acl));
  return Status::Ok();
}

Result<Attr> MetaImpl::SetAttr(const OpContext& ctx, Ino ino, const SetAttrRequest& request) {
  Outcome outcome;
  Attr attr;
  const Status done = Mutate(ctx, {ino}, &outcome, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(attr, LoadAttr(txn.kv, ino));
    const bool chown = (request.valid & (kSetUid | kSetGid)) != 0;
    if (request.valid & kSetUid) attr.uid = request.uid;
    if (request.valid & kSetGid) attr.gid = request.gid;
    if ((chown && attr.type != FileType::kDirectory) || request.kill_suidgid) {
      KillPrivilegesIn(schema_, txn, ino, &attr);
    }
    if (request.valid & kSetMode) {
      RETURN_IF_ERROR(ChangeMode(txn, static_cast<uint16_t>(request.mode), &attr));
    }
    if (request.valid & kSetAtime) attr.atime = request.atime;
    if (request.valid & kSetMtime) attr.mtime = request.mtime;
    TouchAttr(txn, &attr);
    if (request.valid & kSetCtime) attr.ctime = request.ctime;
    outcome.ino = ino;
    return StoreAttr(txn.kv, ino, attr);
  });
  TRY_VOID(done);
  if (outcome.replayed) return GetAttr(ino);
  return attr;
}

}  // namespace moorfs::meta
