// SPDX-License-Identifier: Apache-2.0
//
// The one place where a Status becomes an errno for the kernel, and where an
// error that an application will see as a failure of the file system (EIO) is
// logged with its cause.

#pragma once

#include "common/base/status.h"

namespace moorfs::fuse {

// Positive errno for a failed status; never one of ours, never ENOSYS (the
// kernel would stop sending the operation for the life of the mount).
int ToKernelErrno(const Status& status);

// ToKernelErrno, and one log line when the result is EIO. `operation` is the
// request's name ("WRITE").
int AnswerErrno(const char* operation, uint64_t ino, const Status& status);

}  // namespace moorfs::fuse
