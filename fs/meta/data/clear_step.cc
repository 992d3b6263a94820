// SPDX-License-Identifier: Apache-2.0
//
// ClearStep: the one way bytes of a file become zeros, for truncation, hole
// punching and the target of a copy alike. Bounded per transaction, and never
// more work than there are records.

#include <span>

#include "fs/meta/data/file_edit.h"

namespace moorfs::meta {

namespace {

// One chunk's part of the range, relative to the chunk.
struct Window {
  uint64_t begin;
  uint64_t end;
  bool Covers(const SliceRecord& r) const { return r.pos >= begin && uint64_t{r.pos} + r.len <= end; }
  bool Touches(const SliceRecord& r) const { return r.pos < end && uint64_t{r.pos} + r.len > begin; }
  bool CoveredBy(const SliceRecord& r) const { return r.pos <= begin && uint64_t{r.pos} + r.len >= end; }
  bool WholeChunk() const { return begin == 0 && end == kChunkBytes; }
};

Window WindowOf(uint32_t chunk, uint64_t from, uint64_t to) {
  const uint64_t base = chunk * kChunkBytes;
  return {std::max(from, base) - base, std::min(to, base + kChunkBytes) - base};
}

void LayHole(FileEdit& edit, uint32_t chunk, const Window& window) {
  SliceRecord hole;
  hole.pos = static_cast<uint32_t>(window.begin);
  hole.len = static_cast<uint32_t>(window.end - window.begin);
  edit.Add(chunk, hole);
}

// All records of the chunk are known: removes what is covered, and lays a hole
// only if data still shows. A hole that already hides everything stays, so
// that cutting a file at one place again and again does not pile up holes.
void ClearWholeList(FileEdit& edit, std::span<const ChunkSlice> slices, const Window& window) {
  uint64_t data_seq = 0, hole_seq = 0;
  bool data = false, hole = false;
  for (const ChunkSlice& s : slices) {
    const SliceRecord& r = s.slice.record;
    if (r.object.is_hole() && window.CoveredBy(r)) {
      hole = true;
      hole_seq = s.slice.seq;  // slices come in order of seq
    } else if (!r.object.is_hole() && window.Touches(r) && !window.Covers(r)) {
      data = true;
      data_seq = s.slice.seq;
    }
  }
  const bool hidden = data && hole && hole_seq > data_seq;
  for (const ChunkSlice& s : slices) {
    if (hidden && s.slice.seq == hole_seq) continue;
    if (window.Covers(s.slice.record)) edit.Remove(s.chunk, s.slice);
  }
  if (data && !hidden) LayHole(edit, slices.front().chunk, window);
}

}  // namespace

Result<bool> ClearStep(FileEdit& edit, uint64_t from, uint64_t to, size_t max_records, ClearCursor& cursor) {
  if (from >= to) return true;
  const uint32_t first = static_cast<uint32_t>(from / kChunkBytes);
  const uint32_t last = static_cast<uint32_t>((to - 1) / kChunkBytes);
  if (cursor.chunk < first) cursor = {first, 0, 0};
  if (cursor.chunk == first) cursor.next_seq = std::max(cursor.next_seq, edit.FirstSeq(first));
  if (cursor.chunk > last) return true;
  const Ino ino = edit.ino();
  const keys::Schema& schema = edit.schema();
  kv::Range range = schema.Slices(ino, last);
  range.begin = std::string(schema.Slice(ino, cursor.chunk, cursor.next_seq).suffix());
  ASSIGN_OR_RETURN(const auto entries, edit.kv().Scan(range, max_records));
  ASSIGN_OR_RETURN(const auto slices, ParseSlices(ino, entries));
  const bool more = entries.size() == max_records;

  for (size_t i = 0; i < slices.size();) {
    const uint32_t chunk = slices[i].chunk;
    size_t end = i;
    while (end < slices.size() && slices[end].chunk == chunk) ++end;
    const std::span<const ChunkSlice> group(&slices[i], end - i);
    const bool resumed = cursor.chunk == chunk && cursor.below_seq != 0;
    const bool complete = end < slices.size() || !more;
    const Window window = WindowOf(chunk, from, to);
    if (!complete && i > 0) {
      // Starts over with this chunk next time, when it may fit as a whole.
      cursor = {chunk, 0, 0};
      return false;
    }
    if (complete && !resumed) {
      ClearWholeList(edit, group, window);
    } else {
      // Oldest first, so that a removal never brings older bytes to light.
      if (!resumed && to == kNoEnd && window.WholeChunk()) {
        cursor.below_seq = UINT64_MAX;
      } else if (!resumed) {
        cursor.below_seq = edit.attr().slice_seq;
        LayHole(edit, chunk, window);
      }
      for (const ChunkSlice& s : group) {
        if (s.slice.seq < cursor.below_seq && window.Covers(s.slice.record)) edit.Remove(chunk, s.slice);
      }
    }
    if (!complete) {
      cursor.chunk = chunk;
      cursor.next_seq = group.back().slice.seq + 1;
      return false;
    }
    i = end;
  }
  cursor = {last + 1, 0, 0};
  return true;
}

Status ClearInline(FileEdit& edit, uint64_t from, uint64_t to) {
  if (!(edit.attr().flags & kAttrInline) || from >= kMaxInlineBytes || from >= to) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(std::string bytes, edit.ReadInline());
  if (from >= bytes.size()) return Status::Ok();
  if (to >= bytes.size()) {
    bytes.resize(from);
  } else {
    std::fill(bytes.begin() + from, bytes.begin() + to, '\0');
  }
  edit.WriteInline(bytes);
  return Status::Ok();
}

}  // namespace moorfs::meta
