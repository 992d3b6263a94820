// SPDX-License-Identifier: Apache-2.0

#include "common/base/status.h"

#include <cstring>

namespace moorfs {

Status::Status(int err, std::string message)
    : rep_(std::make_shared<const Rep>(Rep{err, std::move(message)})) {}

Status Status::FromErrno(std::string_view what, int err) {
  std::string message(what);
  message += ": ";
  char buffer[128];
  message += strerror_r(err, buffer, sizeof buffer);
  return Status(err, std::move(message));
}

const std::string& Status::message() const {
  static const std::string kEmpty;
  return rep_ ? rep_->message : kEmpty;
}

std::string Status::ToString() const {
  if (ok()) return "ok";
  return rep_->message + " (" + ErrnoName(rep_->err) + ")";
}

Status Status::Annotate(std::string_view what) const {
  if (ok()) return *this;
  return Status(rep_->err, std::string(what) + ": " + rep_->message);
}

bool IsRetryable(const Status& status) {
  switch (status.err()) {
    case EAGAIN:
    case EINTR:
    case ETIMEDOUT:
    case kErrnoConflict:
      return true;
    default:
      return false;
  }
}

std::string ErrnoName(int err) {
  if (err == kErrnoConflict) return "conflict";
  if (err == kErrnoUnknown) return "outcome unknown";
  if (const char* name = strerrorname_np(err)) return name;
  return "E" + std::to_string(err);
}

}  // namespace moorfs
