// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/attr_convert.h"

#include <algorithm>

namespace moorfs::fuse {
namespace {

timespec ToTimespec(Timestamp t) { return {static_cast<time_t>(t.sec()), static_cast<long>(t.nsec())}; }

// What a file occupies: never more than its length in whole pages (slices that
// lie over each other are counted twice in slice_bytes), less when it has holes.
uint64_t Blocks(const Attr& attr) {
  if (attr.type == FileType::kDirectory) return 8;
  if (attr.type != FileType::kFile) return 0;
  const uint64_t whole_pages = (attr.length + 4095) / 4096 * 4096;
  // Inline data has no slices.
  if (attr.flags & kAttrInline) return whole_pages / 512;
  return (std::min(whole_pages, attr.slice_bytes) + 511) / 512;
}

}  // namespace

struct stat ToStat(Ino ino, const Attr& attr) {
  struct stat st {};
  st.st_ino = ino;
  st.st_mode = ToModeBits(attr.type) | attr.mode;
  st.st_nlink = attr.nlink;
  st.st_uid = attr.uid;
  st.st_gid = attr.gid;
  st.st_rdev = attr.rdev;
  st.st_size = static_cast<off_t>(attr.length);
  st.st_blksize = kPreferredIoBytes;
  st.st_blocks = static_cast<blkcnt_t>(Blocks(attr));
  st.st_atim = ToTimespec(attr.atime);
  st.st_mtim = ToTimespec(attr.mtime);
  st.st_ctim = ToTimespec(attr.ctime);
  return st;
}

}  // namespace moorfs::fuse
