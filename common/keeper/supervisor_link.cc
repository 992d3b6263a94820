// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/supervisor_link.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "common/control/json_line.h"
#include "common/control/line_socket.h"
#include "common/keeper/fd_line_socket.h"
#include "common/os/fd_passing.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;

constexpr int kProtocol = 1;
// What a pod may tell us at most; longer texts are cut.
constexpr size_t kMaxText = 4096;
// Pieces (16 KiB) taken in by one Update(), so that a flood cannot hold us.
constexpr int kMaxPieces = 64;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

// JSON text is UTF-8; it shall be afterwards.
std::string Cut(std::string text) {
  if (text.size() <= kMaxText) return text;
  size_t end = kMaxText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  text.resize(end);
  return text;
}

SupervisorState ReadState(const Json& j) {
  using Phase = SupervisorState::Phase;
  static constexpr std::pair<const char*, Phase> kPhases[] = {
      {"idle", Phase::kIdle},             {"starting", Phase::kStarting}, {"serving", Phase::kServing},
      {"restarting", Phase::kRestarting}, {"finished", Phase::kFinished}, {"failed", Phase::kFailed}};
  const std::string phase = j.at("phase");
  const auto* known = std::find_if(std::begin(kPhases), std::end(kPhases), [&](auto& p) { return p.first == phase; });
  if (known == std::end(kPhases)) throw Json::other_error::create(501, "unknown phase", &j);
  SupervisorState s;
  s.phase = known->second;
  s.mount = Cut(j.at("mount"));
  s.client_pid = j.at("client_pid");
  s.restarts = j.at("restarts");
  s.last_exit = Cut(j.at("last_exit"));
  s.last_error = Cut(j.at("last_error"));
  s.uuid = Cut(j.value("uuid", ""));
  s.sigterm = j.value("sigterm", false);
  return s;
}

Result<UniqueFd> OpenSocket(int directory, const char* name) {
  UniqueFd fd(openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Error(Status::FromErrno(std::string("open ") + name + " of a mount pod"));
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return Error(Status::FromErrno(std::string("look at ") + name + " of a mount pod"));
  if (!S_ISSOCK(st.st_mode)) {
    return Error(ENOTSOCK, std::string("open ") + name + " of a mount pod: it is no socket; somebody put it there");
  }
  return fd;
}

}  // namespace

struct SupervisorLink::Impl {
  explicit Impl(UniqueFd fd) : socket(std::move(fd)) {}
  FdLineSocket socket;
  Status broken;
  bool changed = false;
  // A call may read events on its way, which the socket then does not announce:
  // who polls sees `either`, which is readable for `news` too.
  UniqueFd news, either;

  Status Watch();
  void Announce() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = write(news.get(), &one, sizeof one);
  }
  Status Break(Status why) {
    if (broken.ok()) broken = Status(EPIPE, "speak to a mount pod: the connection is of no use any more: " + why.message());
    return why;
  }
  // True: it was an event, and is taken in.
  Result<bool> TakeEvent(const Json& j, SupervisorState* state);
  Result<std::pair<Json, FdLine>> Call(const Json& request, const std::vector<int>& fds, int timeout_ms,
                                       SupervisorState* state);
};

Status SupervisorLink::Impl::Watch() {
  news = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  either = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!news || !either) return Status::FromErrno("watch a mount pod");
  for (const int fd : {news.get(), socket.fd()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(either.get(), EPOLL_CTL_ADD, fd, &event) != 0) return Status::FromErrno("watch a mount pod");
  }
  Announce();
  return Status::Ok();
}

Result<bool> SupervisorLink::Impl::TakeEvent(const Json& j, SupervisorState* state) {
  if (!j.is_object()) return Error(Break(Status(EPROTO, "read a mount pod's word: it is no JSON object")));
  try {
    if (j.contains("event")) {
      const pid_t pid = state->pid;
      const std::string progress = state->progress;
      *state = ReadState(j.at("event"));
      state->pid = pid;
      if (state->phase == SupervisorState::Phase::kStarting) state->progress = progress;
      return changed = true;
    }
    if (j.contains("progress")) {
      state->progress = Cut(j.at("progress"));
      return changed = true;
    }
  } catch (const Json::exception& e) {
    return Error(Break(Status(EPROTO, std::string("read a mount pod's word: ") + e.what())));
  }
  return false;
}

Result<std::pair<Json, FdLine>> SupervisorLink::Impl::Call(const Json& request, const std::vector<int>& fds,
                                                           int timeout_ms, SupervisorState* state) {
  if (!broken.ok()) return Error(broken);
  Announce();
  const int64_t deadline = MonotonicNs() + int64_t{timeout_ms} * 1'000'000;
  const auto left_ms = [&] {
    return static_cast<int>(std::clamp<int64_t>((deadline - MonotonicNs()) / 1'000'000, 0, timeout_ms));
  };
  std::vector<UniqueFd> copies;
  for (const int fd : fds) {
    copies.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copies.back()) return Error(Status::FromErrno("duplicate a descriptor for a mount pod"));
  }
  TRY_VOID(socket.Queue(Dump(request), std::move(copies)));
  if (Status s = socket.Drain(left_ms()); !s.ok()) return Error(Break(s));
  for (;;) {
    if (MonotonicNs() > deadline) {
      return Error(Break(Status(ETIMEDOUT, "ask a mount pod: no answer within " + std::to_string(timeout_ms) + " ms")));
    }
    auto line = socket.Receive(left_ms());
    if (!line) return Error(Break(line.error()));
    Json j = control::ParseLine(line->text);
    ASSIGN_OR_RETURN(const bool event, TakeEvent(j, state));
    if (event) continue;
    try {
      if (j.contains("error")) {
        const int err = j["error"].value("errno", EIO);
        return Error(err > 0 ? err : EIO, Cut(j["error"].value("message", "a mount pod gave no reason")));
      }
      return std::pair(j.at("ok"), std::move(*line));
    } catch (const Json::exception& e) {
      return Error(Break(Status(EPROTO, std::string("read a mount pod's answer: ") + e.what())));
    }
  }
}

SupervisorLink::SupervisorLink(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SupervisorLink::~SupervisorLink() = default;

Result<std::unique_ptr<SupervisorLink>> SupervisorLink::Connect(int directory, uid_t uid, int timeout_ms) {
  ASSIGN_OR_RETURN(const UniqueFd at, OpenSocket(directory, "supervisor.sock"));
  ASSIGN_OR_RETURN(auto socket, control::ConnectUnix("/proc/self/fd/" + std::to_string(at.get()), timeout_ms));
  ASSIGN_OR_RETURN(const auto peer, os::GetPeerCredentials(socket.fd()));
  if (peer.uid != uid) {
    return Error(EPERM, "connect to a mount pod: user " + std::to_string(peer.uid) + " answers, expected is " +
                            std::to_string(uid));
  }
  auto impl = std::make_unique<Impl>(socket.Release());
  TRY_VOID(impl->Watch());
  ASSIGN_OR_RETURN(const FdLine hello, impl->socket.Receive(timeout_ms));
  const Json j = control::ParseLine(hello.text);
  auto link = std::unique_ptr<SupervisorLink>(new SupervisorLink(std::move(impl)));
  try {
    if (!j.is_object() || j.at("protocol") != kProtocol) {
      return Error(EPROTO, "connect to a mount pod: it speaks another protocol than version 1");
    }
    link->state_ = ReadState(j);
    link->state_.pid = j.at("pid");
  } catch (const Json::exception& e) {
    return Error(EPROTO, std::string("connect to a mount pod: ") + e.what());
  }
  return link;
}

int SupervisorLink::fd() const { return impl_->either.get(); }

Result<bool> SupervisorLink::Update() {
  uint64_t count;
  [[maybe_unused]] const ssize_t n = read(impl_->news.get(), &count, sizeof count);
  if (!impl_->broken.ok()) return Error(impl_->broken);
  for (int i = 0; i < kMaxPieces; ++i) {
    // Events that a call read along the way are there already.
    while (auto line = impl_->socket.Take()) {
      ASSIGN_OR_RETURN(const bool event, impl_->TakeEvent(control::ParseLine(line->text), &state_));
      if (!event) return Error(impl_->Break(Status(EPROTO, "read a mount pod's word: an answer to no question")));
    }
    const Status s = impl_->socket.Fill();
    if (s.err() == EAGAIN) break;
    if (s.ok()) continue;
    static_cast<void>(impl_->Break(s));
    // The last word of a supervisor that ended counts; the next call says it did.
    if (!impl_->changed) return Error(s);
    break;
  }
  return std::exchange(impl_->changed, false);
}

Status SupervisorLink::StartServing(const Serve& s, int timeout_ms) {
  std::vector<int> fds = {s.fuse};
  if (s.arena >= 0) fds.push_back(s.arena);
  Json request = {{"cmd", "serve"},         {"mount", s.mount},
                  {"meta", s.meta},         {"words", s.words},
                  {"device", s.device},     {"host", s.host},
                  {"start_timeout_s", s.start_timeout_s}, {"abort_after_s", s.abort_after_s}};
  if (!s.uuid.empty()) request["uuid"] = s.uuid;
  auto answer = impl_->Call(request, fds, timeout_ms, &state_);
  if (!answer) return answer.error();
  // True from the answer on; the events of it follow.
  state_.phase = SupervisorState::Phase::kStarting;
  state_.mount = s.mount;
  state_.last_error.clear();
  return Status::Ok();
}

Result<SupervisorLink::Fetched> SupervisorLink::Fetch(int timeout_ms) {
  ASSIGN_OR_RETURN(auto answer, impl_->Call({{"cmd", "fetch"}}, {}, timeout_ms, &state_));
  auto& [ok, line] = answer;
  Fetched out;
  try {
    out.mount = Cut(ok.at("mount"));
    out.device = Cut(ok.at("device"));
    out.uuid = Cut(ok.value("uuid", ""));
  } catch (const Json::exception& e) {
    return Error(impl_->Break(Status(EPROTO, std::string("fetch a mount from its pod: ") + e.what())));
  }
  if (line.fds.size() != 2 || line.fds_lost) {
    return Error(impl_->Break(Status(EPROTO, "fetch a mount from its pod: it sent " + std::to_string(line.fds.size()) +
                                                 (line.fds_lost ? " or more" : "") + " descriptors instead of 2")));
  }
  out.fuse = std::move(line.fds[0]);
  out.arena = std::move(line.fds[1]);
  return out;
}

Status SupervisorLink::StepAside(int timeout_ms) {
  auto answer = impl_->Call({{"cmd", "step-aside"}}, {}, timeout_ms, &state_);
  return answer ? Status::Ok() : answer.error();
}

Result<UniqueFd> SupervisorLink::OpenClientSocket(int directory) { return OpenSocket(directory, "client.sock"); }

}  // namespace moorfs::keeper
