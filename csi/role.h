// SPDX-License-Identifier: Apache-2.0
//
// What both roles do around their work: the process's settings, and waiting for
// the signal to stop.

#pragma once

#include <memory>
#include <string>

#include "common/base/status.h"
#include "csi/http.h"

namespace moorfs::csi {

// Before the first thread: log role, SIGPIPE, the stop signals (blocked, so
// that WaitForStop gets them in whichever thread), and malloc's arenas.
void BeginRole(const char* name);
// Until SIGTERM or SIGINT; says which in the log.
void WaitForStop();
// Null for an empty address.
Result<std::unique_ptr<HttpServer>> StartHttp(const std::string& address, HttpPages pages);
// Logs why the role cannot go on; its exit code.
int Fail(const char* role, const Status& status);

}  // namespace moorfs::csi
