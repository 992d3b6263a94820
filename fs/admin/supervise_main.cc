// SPDX-License-Identifier: Apache-2.0
//
// `moorfs supervise`: PID 1 of a mount pod. What the supervisor cannot know,
// since it knows no file systems, is said here: the volume's lock, its arena,
// and the client's configuration. The engine is not opened: it would cost this
// process memory for as long as the pod lives.

#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/config/volume_options.h"
#include "common/keeper/supervisor.h"
#include "common/log/log.h"
#include "fs/admin/mount_volume.h"
#include "fs/admin/roles.h"
#include "fs/admin/volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

// In a pod, its name.
std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

Result<UniqueFd> TakeLock(const MetaUrl& meta, const keeper::ClientRequest& request, const std::string& directory) {
  ASSIGN_OR_RETURN(os::LockFile lock, LockVolume(meta, "supervise"));
  // For whoever is refused the volume.
  const Json words = {{"pod", HostName()},       {"host", request.host},    {"mount", request.mount},
                      {"command", "moorfs supervise"}, {"pid", getpid()}, {"runtime_dir", directory},
                      {"control", directory + "/client.sock"}};
  TRY_VOID(lock.SetContent(words.dump(-1, ' ', false, Json::error_handler_t::replace)));
  return UniqueFd(dup(lock.fd()));
}

Result<keeper::ClientPlan> Plan(keeper::ClientRequest request, const std::string& directory) {
  config::OptionParser parser(config::Trust::kAdministrator, config::kMount);
  TRY_VOID(parser.SetWords(request.words));
  ASSIGN_OR_RETURN(const config::VolumeOptions o, parser.Finish());
  ASSIGN_OR_RETURN(const MetaUrl meta, ParseMeta(request.meta));
  if (!o.client_user.empty() || !o.log_file.empty()) {
    LOG_INFO("supervisor") << "client-user and log-file mean nothing in a pod and are ignored";
  }
  keeper::ClientPlan plan;
  ASSIGN_OR_RETURN(plan.lock, TakeLock(meta, request, directory));
  plan.arena = std::move(request.arena);
  if (!plan.arena) {
    ASSIGN_OR_RETURN(plan.arena, MakeArena(o));
  }
  plan.client_json = EncodeClientConfig(MakeClientConfig(meta, o, request.uuid, request.host));
  return plan;
}

int Usage(const char* problem) {
  std::fprintf(stderr, "moorfs supervise: %s\nusage: moorfs supervise --directory DIR\n", problem);
  return 2;
}

}  // namespace

int SuperviseMain(int argc, char** argv) {
  // A handful of small allocations: one heap, returned when free.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
  keeper::SupervisorConfig config;
  for (int i = 2; i < argc; ++i) {
    if (std::strcmp(argv[i], "--directory") != 0) return Usage("only --directory is known");
    if (++i == argc || argv[i][0] != '/') return Usage("--directory needs an absolute path");
    config.directory = argv[i];
  }
  config.plan = [&config](keeper::ClientRequest request) { return Plan(std::move(request), config.directory); };
  return keeper::RunSupervisor(config);
}

}  // namespace moorfs::admin
