// SPDX-License-Identifier: Apache-2.0

#include "common/control/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "common/control/line_socket.h"
#include "common/control/json_line.h"
#include "common/log/log.h"
#include "common/os/fd_passing.h"

namespace moorfs::control {
namespace {

// A caller that does not read its answer for this long is given up.
constexpr int kSendTimeoutMs = 30'000;
// An idle connection holds a thread no longer than this.
constexpr int kIdleTimeoutMs = 300'000;

// File names may hold any bytes; in JSON they become U+FFFD rather than an
// exception.
std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json ErrorJson(const Status& status) {
  return {{"error", {{"errno", status.err()}, {"message", status.message()}}}};
}

class SocketReply final : public Reply {
 public:
  explicit SocketReply(LineSocket& socket) : socket_(socket) {}
  Status Progress(std::string_view text) override { return Send("progress", text); }
  Status Line(std::string_view text) override { return Send("line", text); }
  bool Cancelled() override {
    pollfd p{socket_.fd(), POLLRDHUP, 0};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }

 private:
  Status Send(const char* kind, std::string_view text) {
    return socket_.Send(Dump(Json{{kind, std::string(text)}}), kSendTimeoutMs);
  }
  LineSocket& socket_;
};

}  // namespace

struct Server::Impl {
  UniqueFd listener;
  UniqueFd stop;
  Handler handler;
  int max_connections = 0;
  std::thread acceptor;

  std::mutex mutex;
  std::condition_variable idle;
  std::set<int> connections;  // fds being served
  int threads = 0;

  void Accept();
  void Admit(UniqueFd fd);
  void Serve(LineSocket socket, Peer peer);
  Json Answer(const std::string& line, const Peer& peer, LineSocket& socket);
};

Json Server::Impl::Answer(const std::string& line, const Peer& peer, LineSocket& socket) {
  const Json request = ParseLine(line);
  if (!request.is_object() || !request.contains("cmd") || !request["cmd"].is_string()) {
    return ErrorJson(Status(EPROTO, "read a control request: it is no JSON object with a \"cmd\""));
  }
  SocketReply reply(socket);
  // Arguments of an unexpected JSON type throw inside nlohmann's accessors;
  // the caller sent them and gets told.
  try {
    Result<Json> result = handler(request, peer, reply);
    if (!result) return ErrorJson(result.error());
    return {{"ok", std::move(*result)}};
  } catch (const Json::exception& e) {
    return ErrorJson(Status(EPROTO, std::string("read a control request: ") + e.what()));
  }
}

void Server::Impl::Serve(LineSocket socket, Peer peer) {
  for (;;) {
    auto line = socket.Receive(kIdleTimeoutMs);
    if (!line) break;
    if (!socket.Send(Dump(Answer(*line, peer, socket)), kSendTimeoutMs).ok()) break;
  }
  const std::lock_guard lock(mutex);
  connections.erase(socket.fd());
  socket.Release().reset();
  --threads;
  idle.notify_all();
}

void Server::Impl::Admit(UniqueFd fd) {
  auto peer = os::GetPeerCredentials(fd.get());
  if (!peer || (peer->uid != 0 && peer->uid != geteuid())) {
    LOG_WARNING("control") << "refused a caller with uid " << (peer ? std::to_string(peer->uid) : "?");
    return;
  }
  LineSocket socket(std::move(fd));
  std::unique_lock lock(mutex);
  if (threads >= max_connections) {
    lock.unlock();
    const Status busy(EAGAIN, "answer a control request: too many callers at once; try again");
    if (Status s = socket.Send(Dump(ErrorJson(busy)), 0); !s.ok()) {
      LOG_DEBUG("control") << s.ToString();
    }
    return;
  }
  ++threads;
  connections.insert(socket.fd());
  std::thread([this, s = std::move(socket), p = Peer{peer->pid, peer->uid}]() mutable {
    Serve(std::move(s), p);
  }).detach();
}

void Server::Impl::Accept() {
  for (;;) {
    pollfd p[2] = {{listener.get(), POLLIN, 0}, {stop.get(), POLLIN, 0}};
    if (poll(p, 2, -1) < 0 && errno != EINTR) {
      LOG_ERROR("control") << Status::FromErrno("wait for control callers").ToString();
      return;
    }
    if (p[1].revents) return;
    UniqueFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) {
      Admit(std::move(fd));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      // Level-triggered: without a pause this would spin until one is free.
      const timespec pause{0, 100'000'000};
      nanosleep(&pause, nullptr);
    }
  }
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::Start(UniqueFd listener, Handler handler, int max_connections) {
  auto impl = std::make_unique<Impl>();
  // accept must not block when a caller hangs up between poll and accept.
  if (fcntl(listener.get(), F_SETFL, fcntl(listener.get(), F_GETFL) | O_NONBLOCK) != 0) {
    return Error(Status::FromErrno("prepare a control socket"));
  }
  impl->listener = std::move(listener);
  impl->stop = UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (!impl->stop) return Error(Status::FromErrno("make an eventfd"));
  impl->handler = std::move(handler);
  impl->max_connections = max_connections;
  Impl* raw = impl.get();
  impl->acceptor = std::thread([raw] { raw->Accept(); });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(impl_->stop.get(), &one, sizeof one);
  impl_->acceptor.join();
  std::unique_lock lock(impl_->mutex);
  // The reading side only: an answer under way still goes out.
  for (int fd : impl_->connections) shutdown(fd, SHUT_RD);
  impl_->idle.wait(lock, [this] { return impl_->threads == 0; });
}

}  // namespace moorfs::control
