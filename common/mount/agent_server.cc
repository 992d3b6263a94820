// SPDX-License-Identifier: Apache-2.0

#include "common/mount/agent_server.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/control/line_socket.h"
#include "common/control/server.h"
#include "common/log/log.h"
#include "common/os/file.h"

namespace moorfs::mount {
namespace {

using Json = nlohmann::json;

// Kubelet starts one door per volume at once when a node comes up; each waits
// here for its mount.
constexpr int kMaxCallers = 128;
// The door waits a little longer than the manager works (flex/door.cc).
constexpr int kPublishMs = 90'000;
constexpr int kUnpublishMs = 60'000;
constexpr int kUndoMs = 10'000;

Status CheckProtocol(const Json& request) {
  const auto it = request.find("protocol");
  const bool number = it != request.end() && it->is_number_integer();
  if (number && *it == agent::kProtocol) return Status::Ok();
  return Status(EPROTONOSUPPORT, "understand the caller: the agent speaks protocol " + std::to_string(agent::kProtocol) +
                                     ", the caller " + (number ? it->dump() : "none") +
                                     "; bring both to one version of MoorFS");
}

Result<std::string> Target(const Json& request) {
  const auto it = request.find("target");
  if (it == request.end() || !it->is_string()) return Error(EINVAL, "read a request: \"target\" is no text");
  return it->get<std::string>();
}

Result<Json> Publish(MountManager& manager, const AgentConfig& config, const Json& request) {
  ASSIGN_OR_RETURN(const agent::FlexPublish words, agent::DecodePublish(request));
  ASSIGN_OR_RETURN(const PublishRequest publish, ReadPublish(words, config));
  const bool was_there = manager.FindTarget(publish.target).has_value();
  const auto published = manager.Publish(publish);
  if (published) {
    return Json{{"mount_key", published->mount_key}, {"device", published->device}, {"already", published->already}};
  }
  if (published.error().err() == ETIMEDOUT && !was_there) {
    const Status undone = manager.Unpublish({.target = publish.target, .timeout_ms = kUndoMs});
    if (!undone.ok()) LOG_WARNING("agent") << "take back " << publish.target << ": " << undone.ToString();
  }
  return Error(published.error());
}

Result<Json> Unpublish(MountManager& manager, const Json& request) {
  ASSIGN_OR_RETURN(const std::string target, Target(request));
  TRY_VOID(manager.Unpublish({.target = target, .timeout_ms = kUnpublishMs}));
  return Json::object();
}

Json List(MountManager& manager) {
  Json clients = Json::array();
  for (const ClientInfo& c : manager.List()) {
    Json targets = Json::array();
    for (const TargetInfo& t : c.targets) {
      targets.push_back({{"target", t.target},
                         {"volume_id", t.volume_id},
                         {"subdir", t.subdir},
                         {"read_only", t.read_only},
                         {"mounted", t.mounted}});
    }
    clients.push_back({{"mount_key", c.mount_key},
                       {"meta", c.meta},
                       {"source", c.source},
                       {"state", c.state},
                       {"client_pid", c.client_pid},
                       {"keeper_pid", c.keeper_pid},
                       {"targets", std::move(targets)}});
  }
  return {{"clients", std::move(clients)}};
}

Json Ping(const AgentConfig& config) {
  Json names = Json::array();
  for (const auto& [name, meta] : config.fs_names) names.push_back(name);
  return {{"protocol", agent::kProtocol},
          {"version", MOORFS_VERSION},
          {"flex_trust", config::TrustName(config.flex_trust)},
          {"fs", std::move(names)}};
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos || slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<PublishRequest> ReadPublish(const agent::FlexPublish& words, const AgentConfig& config) {
  const config::Trust trust = words.from_pod ? config.flex_trust : config::Trust::kVolume;
  config::OptionParser parser(trust, config::kFlex);
  for (const auto& [name, value] : words.options) TRY_VOID(parser.Set(name, value));
  for (const auto& [name, value] : words.secrets) {
    if (const Status s = parser.Set(name, value); !s.ok()) return Error(s.Annotate("in the Secret"));
  }
  PublishRequest out;
  ASSIGN_OR_RETURN(out.options, parser.Finish());
  TRY_VOID(config::ResolveVolume(config.fs_names, trust, "", &out.options));
  TRY_VOID(config::CheckOpenToPods(config.pod_fs, trust, out.options));
  out.options.read_only = out.options.read_only || words.read_only;
  out.target = words.target;
  out.volume_id = words.volume_id;
  if (words.fs_group) out.group = *words.fs_group;
  out.timeout_ms = kPublishMs;
  return out;
}

Result<Json> AnswerAgent(MountManager& manager, const AgentConfig& config, const Json& request) {
  TRY_VOID(CheckProtocol(request));
  const std::string command = request.value("cmd", "");
  if (command == "publish") return Publish(manager, config, request);
  if (command == "unpublish") return Unpublish(manager, request);
  if (command == "list") return List(manager);
  if (command == "ping") return Ping(config);
  return Error(EOPNOTSUPP, "answer the caller: the agent knows publish, unpublish, list and ping only");
}

struct AgentServer::Impl {
  std::string path;
  std::unique_ptr<control::Server> server;
};

Result<std::unique_ptr<AgentServer>> AgentServer::Start(MountManager& manager, const AgentConfig& config) {
  TRY_VOID(os::MakeDirs(DirectoryOf(config.socket_path), 0755));
  ASSIGN_OR_RETURN(UniqueFd listener, control::ListenUnix(config.socket_path));
  auto impl = std::make_unique<Impl>();
  impl->path = config.socket_path;
  const auto handler = [&manager, config](const Json& request, const control::Peer&, control::Reply&) -> Result<Json> {
    auto answer = AnswerAgent(manager, config, request);
    if (!answer) {
      LOG_WARNING("agent") << request.value("cmd", "") << " " << request.value("target", "") << ": "
                           << answer.error().ToString();
    }
    return answer;
  };
  ASSIGN_OR_RETURN(impl->server, control::Server::Start(std::move(listener), handler, kMaxCallers));
  LOG_INFO("agent") << "serving FlexVolume calls at " << config.socket_path;
  return std::unique_ptr<AgentServer>(new AgentServer(std::move(impl)));
}

AgentServer::AgentServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

// The socket's file stays: a successor may have put its own there already.
AgentServer::~AgentServer() = default;

}  // namespace moorfs::mount
