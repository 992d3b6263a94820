// SPDX-License-Identifier: Apache-2.0
//
// THE table from errno to gRPC code.
//
// For kubelet a code is final or uncertain. After a final one it forgets the
// mount and never unpublishes it, so a final code may be answered only when
// everything is undone; after an uncertain one it unpublishes later, even when
// the pod is gone. The mount manager's ETIMEDOUT and EAGAIN mean "maybe done"
// and map to uncertain codes; all its other errors leave nothing behind.

#pragma once

#include <grpcpp/support/status.h>

#include <span>

#include "common/base/status.h"

namespace moorfs::csi {

struct CodeRow {
  int err;
  grpc::StatusCode code;
};
// Errnos that are not listed are INTERNAL (final).
std::span<const CodeRow> CodeTable();

grpc::StatusCode CodeOf(int err);
// As kubelet and the external-provisioner judge it.
bool IsFinal(grpc::StatusCode code);
const char* NameOf(grpc::StatusCode code);

// The message is the status's own, made printable and cut to a length that an
// event can hold; never empty. OK stays OK.
grpc::Status ToGrpc(const Status& status);

}  // namespace moorfs::csi
