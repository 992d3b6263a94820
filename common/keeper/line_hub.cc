// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/line_hub.h"

#include <sys/socket.h>
#include <time.h>

#include <algorithm>

#include "common/log/log.h"
#include "common/os/fd_passing.h"

namespace moorfs::keeper {
namespace {

// One caller's share of a round, so that it cannot keep others waiting.
constexpr int kPiecesPerRound = 16;

}  // namespace

LineHub::LineHub(UniqueFd listener, size_t max_callers, Hooks hooks)
    : listener_(std::move(listener)), max_callers_(max_callers), hooks_(std::move(hooks)) {}

void LineHub::AddTo(std::vector<pollfd>* polled) const {
  polled->push_back({listener_.get(), POLLIN, 0});
  for (const auto& [id, caller] : callers_) {
    polled->push_back({caller.socket.fd(), static_cast<short>(POLLIN | (caller.socket.pending() ? POLLOUT : 0)), 0});
  }
}

void LineHub::Handle(const pollfd* polled, size_t count) {
  // Callers that come now get numbers behind those that were polled.
  auto it = callers_.begin();
  for (size_t i = 1; i < count && it != callers_.end(); ++i, ++it) {
    if ((polled[i].revents & POLLOUT) != 0 && !it->second.socket.Flush().ok()) it->second.gone = true;
    if ((polled[i].revents & ~POLLOUT) != 0) Hear(it->first, it->second);
  }
  if (count > 0 && polled[0].revents != 0) Accept();
  std::erase_if(callers_, [](const auto& entry) { return entry.second.gone; });
}

void LineHub::Accept() {
  UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      // Level-triggered: without a pause this would spin until one is free.
      const timespec pause{0, 50'000'000};
      nanosleep(&pause, nullptr);
    }
    return;
  }
  const auto peer = os::GetPeerCredentials(fd.get());
  if (!peer || !hooks_.admits(peer->uid)) {
    LOG_WARNING("socket") << "refused a caller with uid " << (peer ? std::to_string(peer->uid) : "?");
    return;
  }
  if (callers_.size() >= max_callers_) {
    LOG_WARNING("socket") << "hung up on a caller: there are " << callers_.size() << " already";
    return;
  }
  const Id id = next_id_++;
  callers_.emplace(id, Caller{FdLineSocket(std::move(fd))});
  Send(id, hooks_.greeting());
}

void LineHub::Hear(Id id, Caller& caller) {
  for (int i = 0; i < kPiecesPerRound && !caller.gone; ++i) {
    const Status s = caller.socket.Fill();
    if (s.err() == EAGAIN) return;
    if (!s.ok()) {
      if (s.err() != EPIPE) {
        LOG_WARNING("socket") << "hung up on a caller: " << s.ToString();
      }
      caller.gone = true;
      return;
    }
    while (!caller.gone) {
      auto line = caller.socket.Take();
      if (!line) break;
      hooks_.on_line(id, std::move(*line));
    }
  }
}

void LineHub::Send(Id to, std::string_view line, std::vector<UniqueFd> fds) {
  const auto it = callers_.find(to);
  if (it == callers_.end() || it->second.gone) return;
  Status s = it->second.socket.Queue(line, std::move(fds));
  if (s.ok()) s = it->second.socket.Flush();
  if (s.ok()) return;
  LOG_DEBUG("socket") << s.ToString();
  it->second.gone = true;
}

void LineHub::Broadcast(std::string_view line) {
  for (auto& [id, caller] : callers_) Send(id, line);
}

void LineHub::Finish(int timeout_ms) {
  listener_.reset();
  for (auto& [id, caller] : callers_) {
    if (caller.gone || !caller.socket.pending()) continue;
    if (Status s = caller.socket.Drain(timeout_ms); !s.ok()) {
      LOG_DEBUG("socket") << s.ToString();
    }
  }
}

}  // namespace moorfs::keeper
