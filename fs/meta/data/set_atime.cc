// SPDX-License-Identifier: Apache-2.0
//
// SetAtime, KillPrivileges: what reading and writing do to attributes.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Status MetaImpl::SetAtime(Ino ino, Timestamp atime) {
  return Mutate({}, {ino}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadAttr(txn.kv, ino));
    // Two readers report in any order; time does not run backwards for that.
    if (atime <= attr.atime) return Status::Ok();
    attr.atime = atime;
    return StoreAttr(txn.kv, ino, attr);
  });
}

Status MetaImpl::KillPrivileges(Ino ino) {
  return Mutate({}, {ino}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadFile(txn.kv, ino));
    const Attr before = attr;
    KillPrivilegesIn(schema_, txn, ino, &attr);
    if (attr == before) return Status::Ok();
    TouchAttr(txn, &attr);
    return StoreAttr(txn.kv, ino, attr);
  });
}

}  // namespace moorfs::meta
