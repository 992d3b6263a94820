// SPDX-License-Identifier: Apache-2.0
//
// MutateFile and FinishTruncate. The latter removes what a truncation left behind its new end, in
// bounded transactions. Runs at the end of a long truncation, and before
// anything grows a file whose truncation was interrupted by a crash. A crash
// in here leaves kAttrTruncating set, and the next caller goes on.

#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<Attr> MetaImpl::LoadFile(kv::Transaction& kv, Ino ino) {
  ASSIGN_OR_RETURN(Attr attr, LoadBase(kv, ino));
  if (attr.type == FileType::kFile) return attr;
  const int err = attr.type == FileType::kDirectory ? EISDIR : EINVAL;
  return Error(err, "changing data of inode " + std::to_string(ino) + ": not a regular file");
}

Status MetaImpl::MutateFile(const OpContext& ctx, Ino ino, Outcome* outcome, const FileBody& body) {
  while (true) {
    bool unfinished = false;
    const Status status = Mutate(ctx, {ino}, outcome, [&](Txn& txn) {
      unfinished = false;
      return body(txn, unfinished);
    });
    if (status.ok() || !unfinished) return status;
    RETURN_IF_ERROR(FinishTruncate(ino));
  }
}

Status MetaImpl::FinishTruncate(Ino ino) {
  ClearCursor cursor;
  std::optional<uint64_t> length;
  bool done = false;
  while (!done) {
    ClearCursor next;
    uint64_t seen_length = 0;
    RETURN_IF_ERROR(Mutate({}, {ino}, nullptr, [&](Txn& txn) -> Status {
      ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(schema_.Attr(ino)));
      done = true;
      if (!value) return Status::Ok();
      ASSIGN_OR_RETURN_STATUS(Attr attr, DecodeAttr(*value));
      if (!(attr.flags & kAttrTruncating)) return Status::Ok();
      // Another truncation may have cut deeper meanwhile: start over from there.
      next = length == attr.length ? cursor : ClearCursor{};
      seen_length = attr.length;
      RefChanges refs;
      FileEdit edit(txn, schema_, ino, attr, refs);
      ASSIGN_OR_RETURN_STATUS(done, ClearStep(edit, attr.length, kNoEnd, kRecordsPerStep, next));
      if (done) attr.flags &= ~kAttrTruncating;
      edit.Finish();
      return refs.Settle(txn.kv, ObjectDeleteTime(txn));
    }));
    cursor = next;
    length = seen_length;
  }
  return Status::Ok();
}

}  // namespace moorfs::meta
