// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/base/units.h"
#include "common/control/server.h"
#include "common/keeper/client_process.h"
#include "common/keeper/mount_state.h"
#include "common/keeper/protocol.h"
#include "common/keeper/restart_policy.h"
#include "common/keeper/unmount.h"
#include "common/log/log.h"
#include "common/os/file.h"
#include "common/os/fuse_device.h"
#include "common/os/lock_file.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerSec = 1'000'000'000;
constexpr off_t kLogRotateBytes = 16 << 20;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

// The command that started the keeper and waits for the mount.
class Starter {
 public:
  explicit Starter(UniqueFd fd) : socket_(std::move(fd)) {}
  Result<KeeperConfig> ReceiveConfig() {
    ASSIGN_OR_RETURN(const std::string line, socket_->Receive(10'000));
    return DecodeKeeperConfig(line);
  }
  void Progress(std::string_view text) { Send({{"progress", text}}); }
  void Ready(const Json& details) {
    Send({{"ready", details}});
    socket_.reset();
  }
  void Failed(const Status& why) {
    Send({{"error", {{"errno", why.err()}, {"message", why.message()}}}});
    socket_.reset();
  }
  // Becomes readable when the starter goes away; -1 once it was answered.
  int fd() const { return socket_ ? socket_->fd() : -1; }

 private:
  void Send(const Json& j) {
    if (!socket_) return;
    if (Status s = socket_->Send(Dump(j), 5'000); !s.ok()) {
      LOG_DEBUG("keeper") << s.ToString();
    }
  }
  std::optional<control::LineSocket> socket_;
};

// Answers an unmount that a signal asked for: into the log.
class LogReply final : public control::Reply {
 public:
  Status Progress(std::string_view text) override {
    LOG_INFO("keeper") << text;
    return Status::Ok();
  }
  Status Line(std::string_view text) override { return Progress(text); }
  bool Cancelled() override { return false; }
};

Status OpenLog(const KeeperConfig& config) {
  if (config.log_file.empty()) return Status::Ok();
  struct stat st;
  if (stat(config.log_file.c_str(), &st) == 0 && st.st_size > kLogRotateBytes &&
      rename(config.log_file.c_str(), (config.log_file + ".1").c_str()) != 0) {
    return Status::FromErrno("rotate " + config.log_file);
  }
  UniqueFd fd(open(config.log_file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640));
  if (!fd) return Status::FromErrno("open log " + config.log_file);
  if (dup2(fd.get(), STDOUT_FILENO) < 0 || dup2(fd.get(), STDERR_FILENO) < 0) {
    return Status::FromErrno("redirect output to " + config.log_file);
  }
  return Status::Ok();
}

struct Mounted {
  UniqueFd fuse;
  uint32_t major = 0;
  uint32_t minor = 0;
};

Result<Mounted> MountVolume(const KeeperConfig& config) {
  Mounted out;
  ASSIGN_OR_RETURN(out.fuse, os::OpenFuseDevice());
  const std::string data = "fd=" + std::to_string(out.fuse.get()) + ",rootmode=40000,user_id=" +
                           std::to_string(geteuid()) + ",group_id=" + std::to_string(getegid()) +
                           ",default_permissions,allow_other";
  TRY_VOID(os::Mount(config.source, config.mountpoint, config.fstype, config.mount_flags, data));
  const auto fail = [&](Status s) {
    if (Status u = os::Unmount(config.mountpoint, MNT_DETACH); !u.ok()) {
      LOG_ERROR("keeper") << u.ToString();
    }
    return Error(std::move(s));
  };
  auto mounts = os::ReadMountInfo();
  if (!mounts) return fail(mounts.error());
  const auto entry = os::FindMountAt(*mounts, config.mountpoint);
  if (!entry || entry->fstype != config.fstype || entry->source != config.source) {
    return fail(Status(EIO, "mount " + config.mountpoint + ": the mount table does not show it; another mount "
                            "was made at the same moment"));
  }
  out.major = entry->major;
  out.minor = entry->minor;
  return out;
}

class Keeper {
 public:
  Keeper(Starter starter, UniqueFd arena, UniqueFd lock)
      : starter_(std::move(starter)), arena_(std::move(arena)), lock_(std::move(lock)) {}

  int Run();

 private:
  Status Prepare(KeeperConfig config);
  void Announce();
  void StartClient();
  void Loop();
  int PollTimeoutMs() const;
  void OnSignal();
  void OnMessage(const ClientProcess::Message& message);
  void OnClientEnd();
  void OnMountTable();
  void OnDeadlines();
  void OnWake();
  void UnmountInBackground(bool lazy);
  void FailStart(const Status& why);
  void Finish();
  void Fail(const std::string& why);
  Result<Json> Handle(const Json& request, control::Reply& reply);

  Starter starter_;
  UniqueFd arena_;
  UniqueFd lock_;
  Mounted mounted_;
  UniqueFd signals_;
  UniqueFd mount_table_;
  UniqueFd client_listener_;
  std::optional<RuntimeDir> runtime_;
  std::optional<MountState> state_;
  std::unique_ptr<control::Server> server_;
  std::thread unmounter_;
  std::unique_ptr<ClientProcess> client_;
  RestartPolicy policy_;

  bool ever_ready_ = false;
  bool done_ = false;
  int exit_code_ = 0;
  int signals_seen_ = 0;
  int64_t restart_at_ns_ = 0;     // with no client: when to start one
  int64_t unserved_since_ns_ = 0; // 0 while a client serves
};

Result<Json> Keeper::Handle(const Json& request, control::Reply& reply) {
  const std::string command = request["cmd"];
  if (command == "status") return state_->ToJson();
  if (command == "unmount") {
    return Unmount(*state_, {request.value("lazy", false), request.value("discard", false)}, reply);
  }
  return Error(ENOSYS, "answer \"" + command + "\": this keeper has no such command; it is another version");
}

Status Keeper::Prepare(KeeperConfig config) {
  RETURN_IF_ERROR(OpenLog(config));
  ASSIGN_OR_RETURN_STATUS(mounted_, MountVolume(config));
  state_.emplace(std::move(config), mounted_.major, mounted_.minor);
  auto runtime = RuntimeDir::Claim(state_->config.runtime_root, mounted_.major, mounted_.minor);
  if (!runtime) return runtime.error();
  runtime_ = std::move(*runtime);
  state_->paths = runtime_->paths();
  ASSIGN_OR_RETURN_STATUS(client_listener_, control::ListenUnix(state_->paths.ClientSocket()));
  ASSIGN_OR_RETURN_STATUS(UniqueFd listener, control::ListenUnix(state_->paths.KeeperSocket()));
  RETURN_IF_ERROR(runtime_->WriteInfo(Dump(state_->ToJson())));
  if (!state_->config.lock_path.empty()) {
    os::LockFile lock(UniqueFd(dup(lock_.get())), state_->config.lock_path);
    Json words = state_->ToJson();
    words["control"] = state_->paths.KeeperSocket();
    RETURN_IF_ERROR(lock.SetContent(Dump(words)));
  }
  mount_table_ = UniqueFd(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!mount_table_) return Status::FromErrno("watch the mount table");
  ASSIGN_OR_RETURN_STATUS(server_, control::Server::Start(
      std::move(listener),
      [this](const Json& request, const control::Peer&, control::Reply& reply) { return Handle(request, reply); }));
  return Status::Ok();
}

void Keeper::StartClient() {
  restart_at_ns_ = 0;
  Json config = Json::parse(state_->config.client_json, nullptr, false);
  if (!config.is_object()) config = Json::object();
  config["keeper"] = {{"mountpoint", state_->config.mountpoint},
                      {"device", std::to_string(mounted_.major) + ":" + std::to_string(mounted_.minor)},
                      {"restarts", state_->restarts},
                      {"runtime_dir", state_->paths.directory}};
  policy_.Started(MonotonicNs());
  auto client = ClientProcess::Start(
      state_->config, {mounted_.fuse.get(), arena_.get(), client_listener_.get(), lock_.get()}, Dump(config));
  if (!client) {
    const Status why = client.error().Annotate("start the client");
    LOG_ERROR("keeper") << why.ToString();
    if (!ever_ready_) return FailStart(why);
    const std::lock_guard lock(state_->mutex);
    state_->last_error = why.message();
    restart_at_ns_ = MonotonicNs() + policy_.AfterEnd(MonotonicNs(), false) * kNsPerMs;
    return;
  }
  client_ = std::move(*client);
  const std::lock_guard lock(state_->mutex);
  state_->client_pid = client_->pid();
}

void Keeper::Announce() {
  // After INIT: before it the kernel would take the reply's smaller value.
  if (Status s = os::SetReadAhead(mounted_.major, mounted_.minor, state_->config.read_ahead_kib); !s.ok()) {
    LOG_WARNING("keeper") << s.ToString() << "; sequential reads will be slower";
  }
  LOG_INFO("keeper") << state_->config.source << " is mounted at " << state_->config.mountpoint;
  starter_.Ready(state_->ToJson());
}

void Keeper::OnMessage(const ClientProcess::Message& message) {
  using Kind = ClientProcess::Message::Kind;
  switch (message.kind) {
    case Kind::kProgress:
      starter_.Progress(message.text);
      return;
    case Kind::kReady: {
      policy_.Ready();
      {
        const std::lock_guard lock(state_->mutex);
        if (state_->phase != Phase::kAborted) state_->phase = Phase::kServing;
        state_->client_details = message.text;
        state_->client_ready_ns = MonotonicNs();
        state_->last_error.clear();
      }
      if (ever_ready_) {
        LOG_INFO("keeper") << "client " << client_->pid() << " serves after "
                           << (MonotonicNs() - unserved_since_ns_) / kNsPerMs << " ms without one";
      }
      unserved_since_ns_ = 0;
      if (!ever_ready_) {
        ever_ready_ = true;
        Announce();
      }
      return;
    }
    case Kind::kFailed:
      LOG_ERROR("keeper") << "client " << client_->pid() << " cannot serve: " << message.failure.ToString();
      if (!ever_ready_) return FailStart(message.failure);
      const std::lock_guard lock(state_->mutex);
      state_->last_error = message.failure.message();
      return;
  }
}

void Keeper::OnClientEnd() {
  // What it said before it ended is still in the channel.
  while (auto message = client_->TakeMessage()) {
    OnMessage(*message);
    if (done_) return;
  }
  auto ended = client_->Reap();
  if (!ended) return Fail(ended.error().ToString());
  const pid_t pid = client_->pid();
  client_.reset();
  if (!ended->signaled && ended->code == kExitUnmounted) return Finish();
  const std::string how = "client " + std::to_string(pid) + " " + ended->Describe();
  if (!ever_ready_) return FailStart(Status(EIO, "start the client: " + how + "; see the log"));
  bool discard;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->phase != Phase::kAborted) state_->phase = Phase::kRestarting;
    state_->client_pid = 0;
    state_->last_exit = how;
    ++state_->restarts;
    discard = state_->discard;
  }
  if (discard) return Finish();
  const int64_t now = MonotonicNs();
  if (unserved_since_ns_ == 0) unserved_since_ns_ = now;
  const bool incompatible = !ended->signaled && ended->code == kExitIncompatible;
  const int delay = policy_.AfterEnd(now, incompatible);
  const std::string next = delay ? " in " + std::to_string(delay) + " ms" : " now";
  if (!ended->signaled && ended->code == kExitRestart) {
    LOG_INFO("keeper") << "client " << pid << " stepped back; starting its successor" << next;
  } else {
    LOG_WARNING("keeper") << how << "; starting its successor" << next;
  }
  if (delay == 0) return StartClient();
  restart_at_ns_ = now + delay * kNsPerMs;
}

void Keeper::OnMountTable() {
  auto mounts = os::ReadMountInfo();
  if (!mounts) {
    LOG_ERROR("keeper") << mounts.error().ToString();
    return;
  }
  const bool mounted = os::FindDevice(*mounts, mounted_.major, mounted_.minor).has_value();
  const std::lock_guard lock(state_->mutex);
  if (state_->mounted && !mounted) {
    LOG_INFO("keeper") << state_->config.mountpoint << " was unmounted";
  }
  state_->mounted = mounted;
}

void Keeper::OnDeadlines() {
  const int64_t now = MonotonicNs();
  if (!client_ && restart_at_ns_ != 0 && now >= restart_at_ns_) StartClient();
  if (done_ || unserved_since_ns_ == 0) return;
  if (!ever_ready_) {
    if (now - unserved_since_ns_ >= state_->config.start_timeout_s * kNsPerSec) {
      FailStart(Status(ETIMEDOUT, "start the client: it was not ready within " +
                                      std::to_string(state_->config.start_timeout_s) +
                                      " s; look at its log and at the store"));
    }
    return;
  }
  const std::lock_guard lock(state_->mutex);
  if (state_->phase != Phase::kRestarting || now - unserved_since_ns_ < state_->config.abort_after_s * kNsPerSec) {
    return;
  }
  LOG_ERROR("keeper") << "no client served " << state_->config.mountpoint << " for " << state_->config.abort_after_s
                      << " s; aborting the connection: applications now get errors. What they wrote is kept "
                         "and stored once a client can start";
  if (Status s = os::AbortFuseConnection(mounted_.minor); !s.ok()) {
    LOG_ERROR("keeper") << s.ToString();
  }
  state_->phase = Phase::kAborted;
}

void Keeper::OnWake() {
  uint64_t count;
  [[maybe_unused]] const ssize_t n = read(state_->wake.get(), &count, sizeof count);
  bool discard;
  {
    const std::lock_guard lock(state_->mutex);
    discard = state_->discard;
  }
  if (!discard) return;
  if (!client_) return Finish();
  if (Status s = client_->Signal(SIGKILL); !s.ok()) {
    LOG_WARNING("keeper") << s.ToString();
  }
}

void Keeper::UnmountInBackground(bool lazy) {
  if (unmounter_.joinable()) unmounter_.join();
  unmounter_ = std::thread([this, lazy] {
    LogReply reply;
    auto result = Unmount(*state_, {lazy, false}, reply);
    if (!result) {
      LOG_ERROR("keeper") << result.error().ToString();
    }
  });
}

void Keeper::OnSignal() {
  signalfd_siginfo info;
  if (read(signals_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return;
  if (!ever_ready_) return FailStart(Status(EINTR, "mount: interrupted by a signal"));
  ++signals_seen_;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->unmounting) {
      LOG_WARNING("keeper") << "a signal while unmounting; waiting for that";
      return;
    }
  }
  // The first asks politely; files that are in use make it fail and are named
  // in the log. The second detaches.
  LOG_INFO("keeper") << "asked to end by signal " << info.ssi_signo;
  UnmountInBackground(signals_seen_ > 1);
}

void Keeper::FailStart(const Status& why) {
  if (Status s = os::Unmount(state_->config.mountpoint, MNT_DETACH); !s.ok()) {
    LOG_ERROR("keeper") << s.ToString();
  }
  starter_.Failed(why);
  exit_code_ = 1;
  done_ = true;
}

void Keeper::Fail(const std::string& why) {
  LOG_ERROR("keeper") << why;
  exit_code_ = 1;
  done_ = true;
}

void Keeper::Finish() {
  LOG_INFO("keeper") << state_->config.mountpoint << " is finished";
  done_ = true;
}

int Keeper::PollTimeoutMs() const {
  int64_t next = INT64_MAX;
  if (!client_ && restart_at_ns_ != 0) next = restart_at_ns_;
  if (unserved_since_ns_ != 0) {
    const int limit = ever_ready_ ? state_->config.abort_after_s : state_->config.start_timeout_s;
    const int64_t at = unserved_since_ns_ + limit * kNsPerSec;
    // Past it there is nothing more to do at a time; the next event counts.
    if (at > MonotonicNs()) next = std::min(next, at);
  }
  if (next == INT64_MAX) return -1;
  return static_cast<int>(std::clamp<int64_t>((next - MonotonicNs()) / kNsPerMs + 1, 0, 60'000));
}

void Keeper::Loop() {
  while (!done_) {
    std::array<pollfd, 6> p{{{signals_.get(), POLLIN, 0},
                             {client_ ? client_->channel_fd() : -1, POLLIN, 0},
                             {client_ ? client_->pidfd() : -1, POLLIN, 0},
                             {mount_table_.get(), POLLPRI, 0},
                             {starter_.fd(), POLLIN, 0},
                             {state_->wake.get(), POLLIN, 0}}};
    if (poll(p.data(), p.size(), PollTimeoutMs()) < 0 && errno != EINTR) {
      return Fail(Status::FromErrno("wait for events").ToString());
    }
    if (p[0].revents) OnSignal();
    if (p[1].revents && client_ && !done_) {
      while (auto message = client_->TakeMessage()) {
        OnMessage(*message);
        if (done_) break;
      }
    }
    if (p[2].revents && client_ && !done_) OnClientEnd();
    // The kernel flags a changed mount table as an error and "priority" data.
    if (p[3].revents && !done_) OnMountTable();
    if (p[4].revents && starter_.fd() >= 0 && !done_) FailStart(Status(EINTR, "mount: the command was interrupted"));
    if (p[5].revents && !done_) OnWake();
    if (!done_) OnDeadlines();
  }
}

int Keeper::Run() {
  auto config = starter_.ReceiveConfig();
  if (!config) {
    starter_.Failed(config.error());
    return 1;
  }
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signals_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (Status s = os::WriteExisting("/proc/self/oom_score_adj", "-900"); !s.ok()) {
    LOG_DEBUG("keeper") << s.ToString();
  }

  if (Status s = Prepare(std::move(*config)); !s.ok()) {
    if (state_) {
      FailStart(s);
    } else {
      starter_.Failed(s);
      exit_code_ = 1;
    }
  } else {
    unserved_since_ns_ = MonotonicNs();
    StartClient();
    Loop();
  }
  // Callers queued for a client that will not come are refused, callers that
  // wait for the end are answered, and only then everything goes.
  client_.reset();
  client_listener_.reset();
  if (state_) {
    const std::lock_guard lock(state_->mutex);
    state_->phase = Phase::kFinished;
    state_->changed.notify_all();
  }
  if (unmounter_.joinable()) unmounter_.join();
  server_.reset();
  if (runtime_) {
    if (Status s = runtime_->Remove(); !s.ok()) {
      LOG_WARNING("keeper") << s.ToString();
    }
  }
  return exit_code_;
}

UniqueFd Inherit(int fd) {
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return UniqueFd(fd);
}

}  // namespace

int RunKeeper() {
  log::SetRole("keeper");
  Keeper keeper(Starter(Inherit(kKeeperChannelFd)), Inherit(kKeeperArenaFd), Inherit(kKeeperLockFd));
  return keeper.Run();
}

}  // namespace moorfs::keeper
