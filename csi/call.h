// SPDX-License-Identifier: Apache-2.0
//
// What every RPC has in common: it runs under its deadline, is counted and
// timed, and a failure is logged once, here, by method, code and message.
// Requests are never logged: they hold secrets, mount flags and tokens.

#pragma once

#include <grpcpp/server_context.h>

#include <functional>

#include "common/base/status.h"
#include "csi/metrics.h"

namespace moorfs::csi {

// Milliseconds until the caller stops waiting, less a margin for the answer,
// at most `longest`. 0 or less: it has stopped already.
int BudgetMs(const grpc::ServerContext& context, int longest);

// Runs `work` as the call `method`. An exception (of a library) becomes
// INTERNAL: it may not reach gRPC's thread.
grpc::Status RunCall(CallObserver& observer, const char* method, const std::function<Status()>& work);

}  // namespace moorfs::csi
