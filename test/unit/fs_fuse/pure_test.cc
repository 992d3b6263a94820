// SPDX-License-Identifier: Apache-2.0

#include <linux/fuse.h>

#include <catch2/catch.hpp>
#include <cstring>

#include "fs/fuse/attr_convert.h"
#include "fs/fuse/errno_map.h"
#include "fs/fuse/init_record.h"
#include "fs/fuse/stats.h"

namespace moorfs::fuse {
namespace {

std::string InitRequest(uint32_t flags, uint32_t flags2) {
  fuse_in_header header{};
  fuse_init_in in{};
  header.len = sizeof header + sizeof in;
  header.opcode = FUSE_INIT;
  header.unique = 2;
  in.major = 7;
  in.minor = 43;
  in.flags = flags;
  in.flags2 = flags2;
  std::string out(reinterpret_cast<char*>(&header), sizeof header);
  return out.append(reinterpret_cast<char*>(&in), sizeof in);
}

std::string InitReply(const fuse_init_out& init) {
  fuse_out_header header{};
  header.len = sizeof header + sizeof init;
  std::string out(reinterpret_cast<char*>(&header), sizeof header);
  return out.append(reinterpret_cast<const char*>(&init), sizeof init);
}

fuse_init_out Decode(const std::string& reply) {
  fuse_init_out out;
  std::memcpy(&out, reply.data() + sizeof(fuse_out_header), sizeof out);
  return out;
}

TEST_CASE("our own errnos never reach the kernel") {
  CHECK(ToKernelErrno(Status(kErrnoConflict, "commit")) == EAGAIN);
  CHECK(ToKernelErrno(Status(kErrnoUnknown, "commit")) == EIO);
  CHECK(ToKernelErrno(Status(20000, "x")) == EIO);
}

TEST_CASE("ENOSYS, which the kernel remembers for ever, is not answered") {
  CHECK(ToKernelErrno(Status(ENOSYS, "x")) == EOPNOTSUPP);
}

TEST_CASE("errnos of POSIX pass as they are") {
  for (const int err : {ENOENT, EEXIST, ENOSPC, EDQUOT, ESTALE, EINTR, EDEADLK, ENODATA}) {
    CHECK(ToKernelErrno(Status(err, "x")) == err);
  }
}

TEST_CASE("a file's blocks are its slices, but never more than its length") {
  Attr attr;
  attr.length = 10'000;
  attr.slice_bytes = 4096;  // the rest is a hole
  CHECK(ToStat(16, attr).st_blocks == 8);
  attr.slice_bytes = 100'000;  // written over and over
  CHECK(ToStat(16, attr).st_blocks == 24);
  attr.slice_bytes = 0;
  CHECK(ToStat(16, attr).st_blocks == 0);
  attr.flags = kAttrInline;
  CHECK(ToStat(16, attr).st_blocks == 24);
}

TEST_CASE("times before 1970 keep nanoseconds in range") {
  Attr attr;
  attr.mtime.ns = -1;
  const struct stat st = ToStat(16, attr);
  CHECK(st.st_mtim.tv_sec == -1);
  CHECK(st.st_mtim.tv_nsec == 999'999'999);
}

TEST_CASE("the INIT reply gains only flags that the kernel offers") {
  fuse_init_out plain{};
  plain.flags = FUSE_ASYNC_READ | FUSE_HANDLE_KILLPRIV;
  std::string reply = InitReply(plain);
  PatchInitReply(InitRequest(FUSE_ASYNC_READ | FUSE_HANDLE_KILLPRIV, 0), reply, true);
  CHECK(Decode(reply).flags == FUSE_ASYNC_READ);
  CHECK(Decode(reply).flags2 == 0);

  reply = InitReply(plain);
  PatchInitReply(InitRequest(FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT, ~0u), reply, true);
  CHECK((Decode(reply).flags & FUSE_HANDLE_KILLPRIV_V2) != 0);
  CHECK((Decode(reply).flags & FUSE_SETXATTR_EXT) != 0);
  CHECK((Decode(reply).flags & FUSE_INIT_EXT) != 0);
  const uint32_t allow_idmap = 1u << 8, direct_io_mmap = 1u << 4;
  CHECK(Decode(reply).flags2 == (allow_idmap | direct_io_mmap));

  reply = InitReply(plain);
  PatchInitReply(InitRequest(FUSE_INIT_EXT, ~0u), reply, false);
  CHECK(Decode(reply).flags2 == direct_io_mmap);
}

TEST_CASE("flags2 counts only when the kernel says it is there") {
  fuse_init_out plain{};
  std::string reply = InitReply(plain);
  PatchInitReply(InitRequest(0, ~0u), reply, true);
  CHECK(Decode(reply).flags2 == 0);
}

TEST_CASE("two INIT replies that differ are told apart by name") {
  fuse_init_out a{}, b{};
  a.max_write = 1 << 20;
  b.max_write = 1 << 17;
  a.flags2 = 1;
  CHECK(DifferenceOfInitReplies(InitReply(a), InitReply(a)).empty());
  CHECK(DifferenceOfInitReplies(InitReply(a), InitReply(b)) ==
        "flags 0x100000000 instead of 0x0, max_write 0x100000 instead of 0x20000");
  CHECK_FALSE(DifferenceOfInitReplies("", InitReply(b)).empty());
  CHECK_FALSE(DifferenceOfInitReplies(InitReply(b).substr(0, 20), InitReply(b)).empty());
}

TEST_CASE("a refused INIT is a difference") {
  fuse_init_out a{};
  std::string refused = InitReply(a);
  const int32_t error = -EPROTO;
  std::memcpy(refused.data() + offsetof(fuse_out_header, error), &error, sizeof error);
  CHECK_FALSE(DifferenceOfInitReplies(refused, InitReply(a)).empty());
}

TEST_CASE("operations have names") {
  CHECK(std::string(OpcodeName(FUSE_LOOKUP)) == "LOOKUP");
  CHECK(std::string(OpcodeName(FUSE_COPY_FILE_RANGE)) == "COPY_FILE_RANGE");
  CHECK(std::string(OpcodeName(FUSE_RENAME2)) == "RENAME2");
  CHECK(std::string(OpcodeName(FUSE_CREATE)) == "CREATE");
  CHECK(std::string(OpcodeName(9999)) == "OTHER");
}

}  // namespace
}  // namespace moorfs::fuse
