// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/client_channel.h"

#include <fcntl.h>

#include <nlohmann/json.hpp>

#include "common/keeper/protocol.h"
#include "common/log/log.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;
constexpr int kTimeoutMs = 10'000;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

ClientChannel ClientChannel::Inherited() {
  fcntl(kClientChannelFd, F_SETFD, FD_CLOEXEC);
  return ClientChannel(UniqueFd(kClientChannelFd));
}

Result<std::string> ClientChannel::ReceiveConfig() { return socket_.Receive(kTimeoutMs); }

void ClientChannel::Progress(std::string_view text) {
  if (Status s = socket_.Send(Dump({{"progress", text}}), kTimeoutMs); !s.ok()) {
    LOG_DEBUG("channel") << s.ToString();
  }
}

Status ClientChannel::Ready(std::string_view details_json) {
  const Json details = Json::parse(details_json, nullptr, false);
  return socket_.Send(Dump({{"ready", details}}), kTimeoutMs);
}

Status ClientChannel::Failed(const Status& why) {
  return socket_.Send(Dump({{"failed", {{"errno", why.err()}, {"message", why.message()}}}}), kTimeoutMs);
}

}  // namespace moorfs::keeper
