// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/stats.h"

#include <iterator>

namespace moorfs::fuse {

const char* OpcodeName(uint32_t opcode) {
  static const char* const kNames[] = {
      "OTHER",       "LOOKUP",      "FORGET",     "GETATTR",     "SETATTR",     "READLINK",   "SYMLINK",
      "OTHER",       "MKNOD",       "MKDIR",      "UNLINK",      "RMDIR",       "RENAME",     "LINK",
      "OPEN",        "READ",        "WRITE",      "STATFS",      "RELEASE",     "OTHER",      "FSYNC",
      "SETXATTR",    "GETXATTR",    "LISTXATTR",  "REMOVEXATTR", "FLUSH",       "INIT",       "OPENDIR",
      "READDIR",     "RELEASEDIR",  "FSYNCDIR",   "GETLK",       "SETLK",       "SETLKW",     "ACCESS",
      "CREATE",      "INTERRUPT",   "BMAP",       "DESTROY",     "IOCTL",       "POLL",       "NOTIFY_REPLY",
      "BATCH_FORGET", "FALLOCATE",  "READDIRPLUS", "RENAME2",    "LSEEK",       "COPY_FILE_RANGE",
      "SETUPMAPPING", "REMOVEMAPPING", "SYNCFS",  "TMPFILE",     "STATX",
  };
  return opcode < std::size(kNames) ? kNames[opcode] : "OTHER";
}

}  // namespace moorfs::fuse
