// SPDX-License-Identifier: Apache-2.0
//
// LoadSlices, LoadInline: what the reader of a file lays its chunks out from.

#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<std::vector<Slice>> MetaImpl::LoadSlices(Ino ino, uint32_t chunk) {
  std::vector<Slice> out;
  const uint64_t first_seq = chunk_starts_.Of(ino, chunk);
  uint64_t next_seq = 0;
  TRY_VOID(Read([&](kv::Transaction& txn) -> Status {
    out.clear();
    next_seq = 0;
    ASSIGN_OR_RETURN_STATUS(const Attr attr, LoadBase(txn, ino));
    // A truncation that was cut short left records behind its end. The chunk
    // it cut through has its hole; those after are as good as empty.
    if ((attr.flags & kAttrTruncating) && chunk * kChunkBytes >= attr.length) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(out, ScanChunk(txn, schema_, ino, chunk, first_seq));
    next_seq = attr.slice_seq;
    return Status::Ok();
  }));
  chunk_starts_.Learn(ino, chunk, out.empty() ? next_seq : out.front().seq);
  return out;
}

Result<std::string> MetaImpl::LoadInline(Ino ino) {
  std::string out;
  TRY_VOID(Read([&](kv::Transaction& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(auto value, txn.Get(schema_.Inline(ino)));
    out = value ? *std::move(value) : std::string();
    return Status::Ok();
  }));
  return out;
}

}  // namespace moorfs::meta
