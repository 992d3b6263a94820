// SPDX-License-Identifier: Apache-2.0

#include "csi/role.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/log/log.h"

namespace moorfs::csi {
namespace {

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

void BeginRole(const char* name) {
  log::SetRole(name);
  signal(SIGPIPE, SIG_IGN);
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // gRPC comes with a dozen threads that do little: one heap for all is enough.
  mallopt(M_ARENA_MAX, 1);
  // Its own words go to stderr unescaped; errors are enough.
  setenv("GRPC_VERBOSITY", "ERROR", /*overwrite=*/0);
}

void WaitForStop() {
  const sigset_t set = StopSignals();
  int signal_number = 0;
  while (sigwait(&set, &signal_number) != 0) {
  }
  LOG_INFO("role") << "stopping: " << strsignal(signal_number) << "; mounts stay as they are";
}

Result<std::unique_ptr<HttpServer>> StartHttp(const std::string& address, HttpPages pages) {
  if (address.empty()) return std::unique_ptr<HttpServer>();
  auto started = HttpServer::Start(address, std::move(pages));
  if (started) LOG_INFO("http") << "serving " << address << ", port " << (*started)->port();
  return started;
}

int Fail(const char* role, const Status& status) {
  LOG_ERROR(role) << status.message() << " errno=" << ErrnoName(status.err());
  return 1;
}

}  // namespace moorfs::csi
