// SPDX-License-Identifier: Apache-2.0
//
// Truncate: the first transaction sets the length and hides everything behind
// it, by a hole record in the chunk that is cut through and by kAttrTruncating
// for the chunks after it. Removing their records may take more transactions;
// whatever grows the file finishes them first.

#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<Attr> MetaImpl::Truncate(const OpContext& ctx, Ino ino, uint64_t length, bool kill_suidgid) {
  if (length > kMaxFileBytes) {
    return Error(EFBIG, "truncating inode " + std::to_string(ino) + ": beyond the largest file size");
  }
  Attr out;
  const auto body = [&](Txn& txn, bool& unfinished) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadFile(txn.kv, ino));
    if ((attr.flags & kAttrTruncating) && length > attr.length) {
      unfinished = true;
      return Status(EAGAIN, "truncating: an earlier truncation has to be finished first");
    }
    RefChanges refs;
    FileEdit edit(txn, schema_, ino, attr, refs);
    if (length < attr.length || (attr.flags & kAttrTruncating)) {
      ClearCursor cursor;
      ASSIGN_OR_RETURN_STATUS(const bool done, ClearStep(edit, length, kNoEnd, kRecordsPerStep, cursor));
      attr.flags = done ? attr.flags & ~kAttrTruncating : attr.flags | kAttrTruncating;
      RETURN_IF_ERROR(ClearInline(edit, length, kNoEnd));
    }
    attr.length = length;
    if (kill_suidgid) KillPrivilegesIn(schema_, txn, ino, &attr);
    edit.FinishChange();
    out = attr;
    return refs.Settle(txn.kv, ObjectDeleteTime(txn));
  };
  Outcome outcome;
  TRY_VOID(MutateFile(ctx, ino, &outcome, body));
  if (!outcome.replayed && !(out.flags & kAttrTruncating)) return out;
  TRY_VOID(FinishTruncate(ino));
  return GetAttr(ino);
}

}  // namespace moorfs::meta
