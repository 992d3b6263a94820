// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/client_process.h"

#include <fcntl.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "common/keeper/protocol.h"
#include "common/log/log.h"
#include "common/os/fd_passing.h"
#include "common/os/file.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;

std::optional<ClientProcess::Message> Decode(const std::string& line) {
  const Json j = Json::parse(line, nullptr, false);
  if (!j.is_object()) return std::nullopt;
  ClientProcess::Message m;
  if (j.contains("progress") && j["progress"].is_string()) {
    m.text = j["progress"];
    return m;
  }
  if (j.contains("ready")) {
    m.kind = ClientProcess::Message::Kind::kReady;
    m.text = j["ready"].dump(-1, ' ', false, Json::error_handler_t::replace);
    return m;
  }
  if (j.contains("failed") && j["failed"].is_object()) {
    const Json& f = j["failed"];
    m.kind = ClientProcess::Message::Kind::kFailed;
    const int err = f.value("errno", EIO);
    m.failure = Status(err > 0 ? err : EIO, f.value("message", "the client gave no reason"));
    return m;
  }
  return std::nullopt;
}

}  // namespace

Result<std::unique_ptr<ClientProcess>> ClientProcess::Start(const ClientProgram& program, const ClientFds& fds,
                                                            const std::string& client_json) {
  ASSIGN_OR_RETURN(auto pair, os::SocketPair());
  os::SpawnRequest request;
  request.executable = program.executable;
  request.argv = {"moorfs", "client"};
  request.fds = {fds.fuse, fds.arena, pair.second.get(), fds.listener, fds.lock};
  request.user = program.user;
  if (program.dies_with_parent) request.parent_death_signal = SIGKILL;
  // Not in the terminal's process group: Ctrl-C is for the keeper, which drains.
  request.new_session = true;
  request.directory = "/";
  auto child = os::Spawn(request);
  if (!child && child.error().err() == ENOENT) {
    // The program was removed or replaced half way; the keeper's own still
    // exists as long as the keeper runs.
    request.executable = "/proc/self/exe";
    child = os::Spawn(request);
  }
  if (!child) return Error(child.error());
  auto client = std::unique_ptr<ClientProcess>(new ClientProcess());
  client->child_ = std::move(*child);
  client->channel_.emplace(std::move(pair.first));
  if (program.reset_oom_score) {
    if (Status s = os::WriteExisting("/proc/" + std::to_string(client->pid()) + "/oom_score_adj", "0"); !s.ok()) {
      LOG_DEBUG("keeper") << s.ToString();
    }
  }
  TRY_VOID(client->channel_->Send(client_json, 10'000));
  return client;
}

ClientProcess::~ClientProcess() {
  if (child_.pid == 0 || reaped_) return;
  if (Status s = Signal(SIGKILL); !s.ok()) {
    LOG_WARNING("keeper") << s.ToString();
  }
  auto ended = os::WaitChild(child_, 5'000);
  if (!ended || !*ended) {
    LOG_WARNING("keeper") << "client " << child_.pid << " does not end";
  }
}

std::optional<ClientProcess::Message> ClientProcess::TakeMessage() {
  while (channel_) {
    auto line = channel_->TryReceive();
    if (!line) {
      if (line.error().err() != EAGAIN) channel_.reset();
      return std::nullopt;
    }
    if (auto message = Decode(*line)) return message;
    LOG_WARNING("keeper") << "client " << child_.pid << " sent an unknown message";
  }
  return std::nullopt;
}

Status ClientProcess::Signal(int signal) { return os::SignalPidfd(child_.pidfd.get(), signal); }

Result<os::ExitStatus> ClientProcess::Reap() {
  ASSIGN_OR_RETURN(auto status, os::WaitChild(child_, 0));
  if (!status) return Error(EAGAIN, "reap the client: it still runs");
  reaped_ = true;
  return *status;
}

}  // namespace moorfs::keeper
