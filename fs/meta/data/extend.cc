// SPDX-License-Identifier: Apache-2.0
//
// Extend: fallocate without flags. Nothing is reserved: space in an object
// store cannot be, so only the length grows.

#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<Attr> MetaImpl::Extend(const OpContext& ctx, Ino ino, uint64_t length) {
  if (length > kMaxFileBytes) {
    return Error(EFBIG, "extending inode " + std::to_string(ino) + ": beyond the largest file size");
  }
  Attr out;
  const auto body = [&](Txn& txn, bool& unfinished) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadFile(txn.kv, ino));
    if (length > attr.length) {
      unfinished = attr.flags & kAttrTruncating;
      if (unfinished) return Status(EAGAIN, "extending: a truncation has to be finished first");
      RefChanges none;
      FileEdit edit(txn, schema_, ino, attr, none);
      attr.length = length;
      edit.FinishChange();
    }
    out = attr;
    return Status::Ok();
  };
  Outcome outcome;
  TRY_VOID(MutateFile(ctx, ino, &outcome, body));
  if (outcome.replayed) return GetAttr(ino);
  return out;
}

}  // namespace moorfs::meta
