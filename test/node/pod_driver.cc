// SPDX-License-Identifier: Apache-2.0
//
// Plays the node agent towards mount pods, for tests: opens /dev/fuse, mounts,
// hands the descriptor over, keeps what it fetched. Reads one command per line
// from stdin and answers each with one line, "ok …" or "error ERRNO message":
//   mount DIR                      a FUSE mount there; its descriptor is kept
//   connect NAME DIR UID           a supervisor's directory
//   serve NAME META [WORDS]        with the arena, if one was fetched
//   wait NAME PHASE SECONDS [N]    until it is in that phase, after N restarts
//   state NAME                     as JSON
//   fetch NAME                     replaces what is kept
//   step-aside NAME
//   forget-arena                   the next serve is a new mount
//   drop-descriptors               closes both
//   abort                          the connection
//   uuid TEXT                      what the next serve demands
//   timeouts START ABORT           of the next serve
//   put|get SOCKET NAME            what is kept, into and out of a depot
//   drop SOCKET NAME, list SOCKET
//   ask DIR COMMAND                of the client's control socket
//   umount [lazy]
// What it mounted is unmounted when its stdin ends.

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <unistd.h>

#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/base/units.h"
#include "common/control/client.h"
#include "common/keeper/depot.h"
#include "common/keeper/supervisor_link.h"
#include "common/os/fuse_device.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"

using namespace moorfs;
using Json = nlohmann::json;

namespace {

constexpr int kCallMs = 20'000;

const char* PhaseText(keeper::SupervisorState::Phase phase) {
  using Phase = keeper::SupervisorState::Phase;
  switch (phase) {
    case Phase::kIdle: return "idle";
    case Phase::kStarting: return "starting";
    case Phase::kServing: return "serving";
    case Phase::kRestarting: return "restarting";
    case Phase::kFinished: return "finished";
    case Phase::kFailed: return "failed";
  }
  return "?";
}

class Driver {
 public:
  ~Driver() {
    if (mountpoint_.empty()) return;
    if (Status s = os::Unmount(mountpoint_, MNT_DETACH); !s.ok()) std::cerr << s.ToString() << "\n";
  }
  Result<std::string> Do(const std::string& line);

 private:
  using Words = std::vector<std::string>;
  Result<std::string> Mount(const Words& w);
  Result<std::string> Connect(const Words& w);
  Result<std::string> Serve(const Words& w);
  Result<std::string> Wait(const Words& w);
  Result<std::string> State(const Words& w);
  Result<std::string> Fetch(const Words& w);
  Result<std::string> Depot(const Words& w);
  Result<std::string> Ask(const Words& w);
  Result<std::string> Umount(const Words& w);
  Result<keeper::SupervisorLink*> Link(const std::string& name);

  std::string mountpoint_, device_, mount_ = "mount-1", uuid_;
  uint32_t minor_ = 0;
  int start_timeout_s_ = 20, abort_after_s_ = 60;
  UniqueFd fuse_, arena_;
  std::map<std::string, std::unique_ptr<keeper::SupervisorLink>> links_;
};

Result<keeper::SupervisorLink*> Driver::Link(const std::string& name) {
  const auto it = links_.find(name);
  if (it == links_.end()) return Error(EINVAL, "no connection " + name);
  return it->second.get();
}

Result<std::string> Driver::Mount(const Words& w) {
  ASSIGN_OR_RETURN(fuse_, os::OpenFuseDevice());
  arena_.reset();
  TRY_VOID(os::Mount("moorfs:test", w.at(1), "fuse.moorfs", MS_NOSUID | MS_NODEV,
                     "fd=" + std::to_string(fuse_.get()) +
                         ",rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"));
  mountpoint_ = w.at(1);
  ASSIGN_OR_RETURN(const auto mounts, os::ReadMountInfo());
  const auto entry = os::FindMountAt(mounts, mountpoint_);
  if (!entry) return Error(EIO, "the mount is not there");
  device_ = entry->Device();
  minor_ = entry->minor;
  return device_;
}

Result<std::string> Driver::Connect(const Words& w) {
  UniqueFd directory(open(w.at(2).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return Error(Status::FromErrno("open " + w.at(2)));
  ASSIGN_OR_RETURN(auto link, keeper::SupervisorLink::Connect(directory.get(), static_cast<uid_t>(std::stoul(w.at(3))),
                                                              2'000));
  const std::string phase = PhaseText(link->state().phase);
  links_[w.at(1)] = std::move(link);
  return phase;
}

Result<std::string> Driver::Serve(const Words& w) {
  ASSIGN_OR_RETURN(keeper::SupervisorLink * link, Link(w.at(1)));
  keeper::SupervisorLink::Serve s;
  s.mount = mount_;
  s.meta = w.at(2);
  if (w.size() > 3) s.words = w[3];
  s.device = device_;
  s.host = "test-node";
  s.start_timeout_s = start_timeout_s_;
  s.abort_after_s = abort_after_s_;
  s.fuse = fuse_.get();
  s.arena = arena_.get();
  s.uuid = uuid_;
  TRY_VOID(link->StartServing(s, kCallMs));
  return arena_ ? "taken over" : "new";
}

Result<std::string> Driver::Wait(const Words& w) {
  ASSIGN_OR_RETURN(keeper::SupervisorLink * link, Link(w.at(1)));
  const uint64_t restarts = w.size() > 4 ? std::stoull(w[4]) : 0;
  const int64_t until = MonotonicNs() + std::stoll(w.at(3)) * 1'000'000'000;
  for (;;) {
    auto updated = link->Update();
    if (w.at(2) == "gone" && !updated) return std::string("gone");
    if (!updated) return Error(updated.error());
    if (PhaseText(link->state().phase) == w.at(2) && link->state().restarts >= restarts) return w.at(2);
    const int64_t left_ms = (until - MonotonicNs()) / 1'000'000;
    pollfd p{link->fd(), POLLIN, 0};
    if (left_ms <= 0 || poll(&p, 1, static_cast<int>(left_ms)) == 0) {
      return Error(ETIMEDOUT, std::string("it is ") + PhaseText(link->state().phase) + ": " +
                                  link->state().last_error + "; " + link->state().last_exit);
    }
  }
}

Result<std::string> Driver::State(const Words& w) {
  ASSIGN_OR_RETURN(keeper::SupervisorLink * link, Link(w.at(1)));
  TRY_VOID([&] { auto u = link->Update(); return u ? Status::Ok() : u.error(); }());
  const keeper::SupervisorState& s = link->state();
  return Json{{"phase", PhaseText(s.phase)}, {"mount", s.mount},           {"pid", s.pid},
              {"client_pid", s.client_pid},  {"restarts", s.restarts},     {"last_exit", s.last_exit},
              {"last_error", s.last_error},  {"uuid", s.uuid},             {"sigterm", s.sigterm},
              {"progress", s.progress}}
      .dump();
}

Result<std::string> Driver::Fetch(const Words& w) {
  ASSIGN_OR_RETURN(keeper::SupervisorLink * link, Link(w.at(1)));
  ASSIGN_OR_RETURN(auto fetched, link->Fetch(kCallMs));
  if (fetched.mount != mount_ || fetched.device != device_) return Error(EIO, "it serves " + fetched.mount);
  fuse_ = std::move(fetched.fuse);
  arena_ = std::move(fetched.arena);
  uuid_ = fetched.uuid;
  return uuid_;
}

Result<std::string> Driver::Depot(const Words& w) {
  ASSIGN_OR_RETURN(auto depot, keeper::DepotClient::Connect(w.at(1), 2'000));
  if (w[0] == "list") {
    ASSIGN_OR_RETURN(const auto names, depot->List());
    return Json(names).dump();
  }
  if (w[0] == "drop") {
    TRY_VOID(depot->Drop(w.at(2)));
    return std::string();
  }
  if (w[0] == "put") {
    TRY_VOID(depot->Put(w.at(2), Json{{"mount", mount_}, {"uuid", uuid_}}.dump(), {fuse_.get(), arena_.get()}));
    return std::string();
  }
  ASSIGN_OR_RETURN(auto deposit, depot->Get(w.at(2)));
  if (deposit.fds.size() != 2) return Error(EIO, "a deposit with " + std::to_string(deposit.fds.size()) + " descriptors");
  fuse_ = std::move(deposit.fds[0]);
  arena_ = std::move(deposit.fds[1]);
  uuid_ = Json::parse(deposit.text).at("uuid");
  return deposit.text;
}

Result<std::string> Driver::Ask(const Words& w) {
  UniqueFd directory(open(w.at(1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSIGN_OR_RETURN(const UniqueFd socket, keeper::SupervisorLink::OpenClientSocket(directory.get()));
  ASSIGN_OR_RETURN(const Json answer,
                   control::Call("/proc/self/fd/" + std::to_string(socket.get()), {{"cmd", w.at(2)}}, {}));
  return answer.dump();
}

Result<std::string> Driver::Umount(const Words& w) {
  TRY_VOID(os::Unmount(mountpoint_, w.size() > 1 ? MNT_DETACH : 0));
  mountpoint_.clear();
  return std::string();
}

Result<std::string> Driver::Do(const std::string& line) {
  std::istringstream in(line);
  Words w;
  for (std::string word; in >> word;) w.push_back(word);
  if (w.empty()) return Error(EINVAL, "no command");
  const std::string& c = w[0];
  if (c == "mount") return Mount(w);
  if (c == "connect") return Connect(w);
  if (c == "serve") return Serve(w);
  if (c == "wait") return Wait(w);
  if (c == "state") return State(w);
  if (c == "fetch") return Fetch(w);
  if (c == "put" || c == "get" || c == "list" || c == "drop") return Depot(w);
  if (c == "ask") return Ask(w);
  if (c == "umount") return Umount(w);
  if (c == "step-aside") {
    ASSIGN_OR_RETURN(keeper::SupervisorLink * link, Link(w.at(1)));
    TRY_VOID(link->StepAside(kCallMs));
    return std::string();
  }
  if (c == "forget-arena") {
    arena_.reset();
    uuid_.clear();
    return std::string();
  }
  if (c == "drop-descriptors") {
    arena_.reset();
    fuse_.reset();
    return std::string();
  }
  if (c == "abort") {
    TRY_VOID(os::AbortFuseConnection(minor_));
    return std::string();
  }
  if (c == "uuid") {
    uuid_ = w.at(1);
    return std::string();
  }
  if (c == "timeouts") {
    start_timeout_s_ = std::stoi(w.at(1));
    abort_after_s_ = std::stoi(w.at(2));
    return std::string();
  }
  return Error(EINVAL, "unknown command " + c);
}

}  // namespace

int main() {
  Driver driver;
  for (std::string line; std::getline(std::cin, line);) {
    std::string answer;
    try {
      const auto result = driver.Do(line);
      answer = result ? "ok " + *result : "error " + ErrnoName(result.error().err()) + " " + result.error().message();
    } catch (const std::exception& e) {
      answer = std::string("error EINVAL ") + e.what();
    }
    std::cout << answer << std::endl;
  }
  return 0;
}
