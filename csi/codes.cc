// SPDX-License-Identifier: Apache-2.0

#include "csi/codes.h"

#include "common/base/text.h"

namespace moorfs::csi {
namespace {

constexpr size_t kMaxMessageBytes = 900;  // an event's message ends at 1024

using enum grpc::StatusCode;
constexpr CodeRow kTable[] = {
    // Uncertain: it may be done, or be done in a moment.
    {EAGAIN, ABORTED},
    {EINTR, ABORTED},
    {kErrnoConflict, ABORTED},
    {kErrnoUnknown, ABORTED},
    {ETIMEDOUT, DEADLINE_EXCEEDED},
    {ETIME, DEADLINE_EXCEEDED},
    {ECANCELED, CANCELLED},
    // Uncertain by kubelet's rules although nothing is left behind: its later
    // unpublish finds nothing and succeeds.
    {ECONNREFUSED, UNAVAILABLE},
    {ECONNRESET, UNAVAILABLE},
    {ECONNABORTED, UNAVAILABLE},
    {ENOTCONN, UNAVAILABLE},
    {ESHUTDOWN, UNAVAILABLE},
    {EPIPE, UNAVAILABLE},
    {EHOSTDOWN, UNAVAILABLE},
    {EHOSTUNREACH, UNAVAILABLE},
    {ENETDOWN, UNAVAILABLE},
    {ENETUNREACH, UNAVAILABLE},
    {ENOSPC, RESOURCE_EXHAUSTED},
    {EDQUOT, RESOURCE_EXHAUSTED},
    {ENOMEM, RESOURCE_EXHAUSTED},
    {EMFILE, RESOURCE_EXHAUSTED},
    {ENFILE, RESOURCE_EXHAUSTED},
    // Final.
    {EINVAL, INVALID_ARGUMENT},
    {ENAMETOOLONG, INVALID_ARGUMENT},
    {EILSEQ, INVALID_ARGUMENT},
    {ENOENT, NOT_FOUND},
    {EEXIST, ALREADY_EXISTS},
    {ERANGE, OUT_OF_RANGE},
    {EOVERFLOW, OUT_OF_RANGE},
    {EFBIG, OUT_OF_RANGE},
    {EPERM, PERMISSION_DENIED},
    {EACCES, PERMISSION_DENIED},
    {EKEYREJECTED, UNAUTHENTICATED},
    {EKEYEXPIRED, UNAUTHENTICATED},
    {EBUSY, FAILED_PRECONDITION},
    {ENOTEMPTY, FAILED_PRECONDITION},
    {ENOTDIR, FAILED_PRECONDITION},
    {EISDIR, FAILED_PRECONDITION},
    {ELOOP, FAILED_PRECONDITION},
    {EROFS, FAILED_PRECONDITION},
    {ENODEV, FAILED_PRECONDITION},
    {ENXIO, FAILED_PRECONDITION},
    {EPROTONOSUPPORT, FAILED_PRECONDITION},
    {ENOTSUP, FAILED_PRECONDITION},
    {ENOSYS, UNIMPLEMENTED},
};

}  // namespace

std::span<const CodeRow> CodeTable() { return kTable; }

grpc::StatusCode CodeOf(int err) {
  if (err == 0) return OK;
  for (const CodeRow& row : kTable) {
    if (row.err == err) return row.code;
  }
  return INTERNAL;
}

bool IsFinal(grpc::StatusCode code) {
  switch (code) {
    case OK:
    case CANCELLED:
    case DEADLINE_EXCEEDED:
    case UNAVAILABLE:
    case RESOURCE_EXHAUSTED:
    case ABORTED:
      return false;
    default:
      return true;
  }
}

const char* NameOf(grpc::StatusCode code) {
  static constexpr const char* kNames[] = {
      "OK",        "CANCELLED",          "UNKNOWN",             "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
      "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
      "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};
  return code >= 0 && code <= UNAUTHENTICATED ? kNames[code] : "UNKNOWN";
}

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message = Printable(status.message());
  if (message.empty()) message = ErrnoName(status.err());
  if (message.size() > kMaxMessageBytes) {
    size_t cut = kMaxMessageBytes;
    // Not in the middle of a character.
    while (cut > 0 && (message[cut] & 0xC0) == 0x80) --cut;
    message.resize(cut);
    message += "…";
  }
  return {CodeOf(status.err()), message};
}

}  // namespace moorfs::csi
