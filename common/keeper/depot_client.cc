// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/control/line_socket.h"
#include "common/keeper/depot.h"
#include "common/keeper/fd_line_socket.h"
#include "common/os/fd_passing.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;

constexpr int kProtocol = 1;
// It answers from memory.
constexpr int kCallMs = 10'000;

}  // namespace

struct DepotClient::Impl {
  explicit Impl(UniqueFd fd) : socket(std::move(fd)) {}
  FdLineSocket socket;
  bool broken = false;

  Result<std::pair<Json, FdLine>> Call(const Json& request, const std::vector<int>& fds = {});
  Status Exchange(const std::string& text, const std::vector<int>& fds, FdLine* answer);
};

Status DepotClient::Impl::Exchange(const std::string& text, const std::vector<int>& fds, FdLine* answer) {
  std::vector<UniqueFd> copies;
  for (const int fd : fds) {
    copies.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copies.back()) return Status::FromErrno("duplicate a descriptor for the keeper");
  }
  RETURN_IF_ERROR(socket.Queue(text, std::move(copies)));
  // From here on a failure leaves an answer on its way that nobody may mistake
  // for another's.
  broken = true;
  RETURN_IF_ERROR(socket.Drain(kCallMs));
  ASSIGN_OR_RETURN_STATUS(*answer, socket.Receive(kCallMs));
  broken = false;
  return Status::Ok();
}

Result<std::pair<Json, FdLine>> DepotClient::Impl::Call(const Json& request, const std::vector<int>& fds) {
  if (broken) return Error(EPIPE, "ask the keeper: the connection is of no use any more");
  std::string text;
  try {
    text = request.dump();
  } catch (const Json::exception&) {
    return Error(EINVAL, "ask the keeper: a text is not UTF-8");
  }
  FdLine line;
  const Status sent = Exchange(text, fds, &line);
  explicit_bzero(text.data(), text.size());
  if (!sent.ok()) return Error(sent.Annotate("ask the keeper"));
  const Json j = Json::parse(line.text, nullptr, false);
  explicit_bzero(line.text.data(), line.text.size());
  try {
    if (j.contains("error")) return Error(j["error"].at("errno"), j["error"].at("message"));
    return std::pair(j.at("ok"), std::move(line));
  } catch (const Json::exception& e) {
    broken = true;
    return Error(EPROTO, std::string("read the keeper's answer: ") + e.what());
  }
}

DepotClient::DepotClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DepotClient::~DepotClient() = default;

Result<std::unique_ptr<DepotClient>> DepotClient::Connect(const std::string& socket_path, int timeout_ms) {
  ASSIGN_OR_RETURN(auto socket, control::ConnectUnix(socket_path, timeout_ms));
  ASSIGN_OR_RETURN(const auto peer, os::GetPeerCredentials(socket.fd()));
  if (peer.uid != 0) return Error(EPERM, "connect to the keeper at " + socket_path + ": it is not root's");
  auto impl = std::make_unique<Impl>(socket.Release());
  ASSIGN_OR_RETURN(const FdLine hello, impl->socket.Receive(timeout_ms));
  const Json j = Json::parse(hello.text, nullptr, false);
  if (!j.is_object() || !j.contains("protocol") || j["protocol"] != kProtocol) {
    return Error(EPROTO, "connect to the keeper at " + socket_path + ": it speaks another protocol than version 1");
  }
  return std::unique_ptr<DepotClient>(new DepotClient(std::move(impl)));
}

int DepotClient::fd() const { return impl_->socket.fd(); }

Status DepotClient::Put(const std::string& name, const std::string& text, const std::vector<int>& fds) {
  auto answer = impl_->Call({{"cmd", "put"}, {"name", name}, {"text", text}}, fds);
  return answer ? Status::Ok() : answer.error();
}

Result<std::vector<std::string>> DepotClient::List() {
  ASSIGN_OR_RETURN(const auto answer, impl_->Call({{"cmd", "list"}}));
  try {
    return answer.first.at("names").get<std::vector<std::string>>();
  } catch (const Json::exception& e) {
    return Error(EPROTO, std::string("read the keeper's list: ") + e.what());
  }
}

Result<Deposit> DepotClient::Get(const std::string& name) {
  ASSIGN_OR_RETURN(auto answer, impl_->Call({{"cmd", "get"}, {"name", name}}));
  if (answer.second.fds_lost) return Error(EMFILE, "get " + name + " from the keeper: its descriptors did not all arrive");
  try {
    return Deposit{name, answer.first.at("text"), std::move(answer.second.fds)};
  } catch (const Json::exception& e) {
    return Error(EPROTO, std::string("read a deposit of the keeper: ") + e.what());
  }
}

Status DepotClient::Drop(const std::string& name) {
  auto answer = impl_->Call({{"cmd", "drop"}, {"name", name}});
  return answer ? Status::Ok() : answer.error();
}

}  // namespace moorfs::keeper
