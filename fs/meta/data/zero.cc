// SPDX-License-Identifier: Apache-2.0
//
// Zero: hole punching and zero range. A range with many records takes several
// transactions; a crash in between leaves a part of the range zeroed, as on
// local file systems; the request, which was not answered, then runs again, and
// doing it twice does no harm.

#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<Attr> MetaImpl::Zero(const OpContext& ctx, Ino ino, uint64_t offset, uint64_t len, bool extend) {
  if (offset > kMaxFileBytes || len > kMaxFileBytes - offset) {
    return Error(EFBIG, "zeroing in inode " + std::to_string(ino) + ": beyond the largest file size");
  }
  const uint64_t end = offset + len;
  Attr out;
  ClearCursor cursor, next;
  bool all_at_once = true, more = false;
  const auto step = [&](Txn& txn, bool& unfinished) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadFile(txn.kv, ino));
    RefChanges refs;
    FileEdit edit(txn, schema_, ino, attr, refs);
    if (extend && end > attr.length) {
      unfinished = attr.flags & kAttrTruncating;
      if (unfinished) return Status(EAGAIN, "zeroing: a truncation has to be finished first");
      attr.length = end;
    }
    const uint64_t to = std::min(end, attr.length);
    next = cursor;
    ASSIGN_OR_RETURN_STATUS(const bool done, ClearStep(edit, offset, to, kRecordsPerStep, next));
    more = !done;
    if (more && all_at_once) return Status(EAGAIN, "zeroing: takes more than one transaction");
    RETURN_IF_ERROR(ClearInline(edit, offset, to));
    edit.FinishChange();
    out = attr;
    return refs.Settle(txn.kv, ObjectDeleteTime(txn));
  };

  // Only a result that is complete may be recorded as the request's.
  Outcome outcome;
  const Status status = MutateFile(ctx, ino, &outcome, step);
  if (outcome.replayed) return GetAttr(ino);
  if (!status.ok() && !more) return Error(status);
  all_at_once = false;
  while (more) {
    TRY_VOID(MutateFile({}, ino, nullptr, step));
    cursor = next;
  }
  return out;
}

}  // namespace moorfs::meta
