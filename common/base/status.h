// SPDX-License-Identifier: Apache-2.0
//
// Status and Result<T>: how every MoorFS function that can fail says so.
//
// In the file system an errno is the truth: the kernel, the tests and the
// user's shell all speak it. A Status therefore is an errno and a message of
// the form "doing what to which: cause". Three edges translate it for others
// (fs/fuse, csi, flex), one table each. No exception crosses a library border.
//
// A message never holds a secret and never a newline.

#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace moorfs {

// Errnos that exist for our own use, beyond anything the kernel returns.
// They never leave the process: an edge that meets one has a bug.
inline constexpr int kErrnoConflict = 10001;  // optimistic transaction lost the race; retry
inline constexpr int kErrnoUnknown = 10002;   // commit was sent, its outcome is not known

class [[nodiscard]] Status {
 public:
  // OK. Costs a null pointer: the success path allocates nothing.
  Status() = default;

  // `err` is a positive errno (or one of ours above), never 0.
  Status(int err, std::string message);

  static Status Ok() { return {}; }
  // From the calling thread's `errno`; `what` is "doing what to which".
  static Status FromErrno(std::string_view what) { return FromErrno(what, errno); }
  static Status FromErrno(std::string_view what, int err);

  bool ok() const { return rep_ == nullptr; }
  int err() const { return rep_ ? rep_->err : 0; }
  // Empty when ok().
  const std::string& message() const;
  // "message (ENOENT)" for people; "ok" when ok().
  std::string ToString() const;

  // Same errno, message "what: message". OK stays OK.
  Status Annotate(std::string_view what) const;

 private:
  struct Rep {
    int err;
    std::string message;
  };
  std::shared_ptr<const Rep> rep_;
};

// True for failures that the same call may survive a moment later
// (EAGAIN, EINTR, ETIMEDOUT, conflict).
bool IsRetryable(const Status& status);

// "ENOENT" for ENOENT; "E12345" for numbers without a name.
std::string ErrnoName(int err);

template <typename T>
using Result = tl::expected<T, Status>;

// Failure for a Result<T>: `return Error(ENOENT, "open x: no such file");`
inline tl::unexpected<Status> Error(int err, std::string message) {
  return tl::unexpected<Status>(Status(err, std::move(message)));
}
inline tl::unexpected<Status> Error(Status status) {
  return tl::unexpected<Status>(std::move(status));
}

}  // namespace moorfs

#define MOORFS_CONCAT_INNER(a, b) a##b
#define MOORFS_CONCAT(a, b) MOORFS_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` (a Status) is not OK.
// Works in functions returning Status; in those returning Result<T>, use
// TRY_VOID.
#define RETURN_IF_ERROR(expr) RETURN_IF_ERROR_IMPL(MOORFS_CONCAT(status_, __LINE__), expr)
#define RETURN_IF_ERROR_IMPL(tmp, expr)                 \
  do {                                                  \
    if (::moorfs::Status tmp = (expr); !tmp.ok()) {     \
      return tmp;                                       \
    }                                                   \
  } while (0)

#define TRY_VOID(expr) TRY_VOID_IMPL(MOORFS_CONCAT(status_, __LINE__), expr)
#define TRY_VOID_IMPL(tmp, expr)                        \
  do {                                                  \
    if (::moorfs::Status tmp = (expr); !tmp.ok()) {     \
      return ::moorfs::Error(std::move(tmp));           \
    }                                                   \
  } while (0)

// `ASSIGN_OR_RETURN(auto x, F());` in a function that returns Result<T>.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(MOORFS_CONCAT(result_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr)             \
  auto tmp = (expr);                                      \
  if (!tmp) return ::moorfs::Error(std::move(tmp).error()); \
  lhs = std::move(*tmp)

// The same in a function that returns Status.
#define ASSIGN_OR_RETURN_STATUS(lhs, expr) \
  ASSIGN_OR_RETURN_STATUS_IMPL(MOORFS_CONCAT(result_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_STATUS_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp) return std::move(tmp).error();           \
  lhs = std::move(*tmp)
