// SPDX-License-Identifier: Apache-2.0

#include "flex/standalone/flex_standalone.h"

#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/log/log.h"
#include "common/mount/agent_server.h"
#include "flex/answer.h"
#include "flex/process.h"

namespace moorfs::standalone {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxRequest = 1 << 20;

Result<Json> ReadRequest() {
  std::string text;
  char chunk[16384];
  for (ssize_t n; (n = read(0, chunk, sizeof chunk)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error(Status::FromErrno("read the request"));
    text.append(chunk, static_cast<size_t>(n));
    if (text.size() > kMaxRequest) return Error(EMSGSIZE, "read the request: it is over 1 MiB");
  }
  Json request = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!request.is_object()) return Error(EINVAL, "read the request: `moorfs flex --standalone` calls this role, not people");
  return request;
}

Result<mount::AgentConfig> ConfigOf(const Json& request) {
  mount::AgentConfig config;
  const auto names = request.find("fs");
  if (names == request.end()) return config;
  if (!names->is_object()) return Error(EINVAL, "read the request: \"fs\" is no object");
  for (const auto& [name, meta] : names->items()) {
    if (!meta.is_string()) return Error(EINVAL, "read the request: \"fs\" holds a value that is no text");
    config.fs_names.emplace(name, meta.get<std::string>());
  }
  return config;
}

Result<std::unique_ptr<mount::MountManager>> StartManager() {
  mount::ManagerConfig config;
  if (const char* root = std::getenv("MOORFS_STATE_ROOT"); root != nullptr && *root != '\0') config.state_root = root;
  config.confine_targets = false;
  auto manager = mount::MountManager::Start(config);
  if (!manager && manager.error().err() == EBUSY) {
    return Error(manager.error().Annotate("an agent serves this host; leave --standalone out"));
  }
  return manager;
}

Status Run(std::map<std::string, std::string>* secrets) {
  if (geteuid() != 0) return Status(EPERM, "mounting needs root: call as root");
  ASSIGN_OR_RETURN_STATUS(const Json request, ReadRequest());
  ASSIGN_OR_RETURN_STATUS(const mount::AgentConfig config, ConfigOf(request));
  if (const auto words = agent::DecodePublish(request)) *secrets = words->secrets;
  ASSIGN_OR_RETURN_STATUS(const auto manager, StartManager());
  const auto answer = mount::AnswerAgent(*manager, config, request);
  return answer ? Status::Ok() : answer.error();
}

}  // namespace

int FlexStandaloneMain() {
  log::SetRole("flex");
  log::SetLevel(log::Level::kWarning);
  std::map<std::string, std::string> secrets;
  const Status status = Run(&secrets);
  const flex::Answer answer = status.ok() ? flex::Success() : flex::Failure(status, secrets);
  flex::WriteStdout(answer.json);
  return answer.exit_code;
}

}  // namespace moorfs::standalone
