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
#include "common/keeper/client_runner.h"
#include "common/keeper/mount_state.h"
#include "common/keeper/protocol.h"
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

class Keeper final : private ClientRunner::Observer {
 public:
  Keeper(Starter starter, UniqueFd arena, UniqueFd lock)
      : starter_(std::move(starter)), arena_(std::move(arena)), lock_(std::move(lock)) {}

  int Run();

 private:
  Status Prepare(KeeperConfig config);
  void StartClient();
  void Loop();
  int PollTimeoutMs() const;
  void OnSignal();
  void OnMountTable();
  void OnWake();
  void UnmountInBackground(bool lazy);
  void Finish();
  void Fail(const std::string& why);

  void OnProgress(std::string_view text) override { starter_.Progress(text); }
  void OnCondition() override;
  void OnFirstReady() override;
  void OnStartFailed(const Status& why) override;
  void OnUnmounted() override { Finish(); }
  void OnStopped() override { Finish(); }
  void OnBroken(const Status& why) override { Fail(why.ToString()); }
  void OnOverdue() override;

  Result<Json> Handle(const Json& request, control::Reply& reply);

  Starter starter_;
  UniqueFd arena_;
  UniqueFd lock_;
  os::FuseMount mounted_;
  UniqueFd signals_;
  UniqueFd mount_table_;
  UniqueFd client_listener_;
  std::optional<RuntimeDir> runtime_;
  std::optional<MountState> state_;
  std::unique_ptr<control::Server> server_;
  std::thread unmounter_;
  std::optional<ClientRunner> runner_;

  bool ever_ready_ = false;
  bool done_ = false;
  int exit_code_ = 0;
  int signals_seen_ = 0;
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
  ASSIGN_OR_RETURN_STATUS(mounted_,
                          os::MountFuse(config.source, config.mountpoint, config.fstype, config.mount_flags));
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
  const KeeperConfig& config = state_->config;
  ClientRunner::Config c;
  c.program.executable = config.executable;
  if (config.user) c.program.user = os::SpawnRequest::User{config.user->uid, config.user->gid};
  c.program.reset_oom_score = true;
  c.fds = {mounted_.fuse.get(), arena_.get(), client_listener_.get(), lock_.get()};
  c.client_json = config.client_json;
  c.keeper_json = Dump({{"mountpoint", config.mountpoint},
                        {"device", std::to_string(mounted_.major) + ":" + std::to_string(mounted_.minor)},
                        {"runtime_dir", state_->paths.directory}});
  c.name = config.mountpoint;
  c.start_timeout_s = config.start_timeout_s;
  c.abort_after_s = config.abort_after_s;
  runner_.emplace(std::move(c), static_cast<ClientRunner::Observer&>(*this));
  runner_->Start();
}

void Keeper::OnCondition() {
  const ClientRunner::Condition& c = runner_->condition();
  const std::lock_guard lock(state_->mutex);
  if (state_->phase != Phase::kAborted) {
    switch (c.phase) {
      case ClientRunner::Phase::kStarting: state_->phase = Phase::kStarting; break;
      case ClientRunner::Phase::kServing: state_->phase = Phase::kServing; break;
      case ClientRunner::Phase::kRestarting: state_->phase = Phase::kRestarting; break;
    }
  }
  state_->client_pid = c.client_pid;
  state_->client_details = c.details;
  state_->client_ready_ns = c.ready_ns;
  state_->restarts = c.restarts;
  state_->last_exit = c.last_exit;
  state_->last_error = c.last_error;
}

void Keeper::OnFirstReady() {
  ever_ready_ = true;
  // After INIT: before it the kernel would take the reply's smaller value.
  if (Status s = os::SetReadAhead(mounted_.major, mounted_.minor, state_->config.read_ahead_kib); !s.ok()) {
    LOG_WARNING("keeper") << s.ToString() << "; sequential reads will be slower";
  }
  LOG_INFO("keeper") << state_->config.source << " is mounted at " << state_->config.mountpoint;
  starter_.Ready(state_->ToJson());
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

void Keeper::OnOverdue() {
  const std::lock_guard lock(state_->mutex);
  if (state_->phase == Phase::kAborted) return;
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
  if (!runner_->Stop()) return Finish();
  if (Status s = runner_->Signal(SIGKILL); !s.ok()) {
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
  if (!ever_ready_) return OnStartFailed(Status(EINTR, "mount: interrupted by a signal"));
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

void Keeper::OnStartFailed(const Status& why) {
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
  const int64_t next = runner_->NextNs();
  if (next == INT64_MAX) return -1;
  return static_cast<int>(std::clamp<int64_t>((next - MonotonicNs()) / kNsPerMs + 1, 0, 60'000));
}

void Keeper::Loop() {
  while (!done_) {
    std::array<pollfd, 6> p{{{signals_.get(), POLLIN, 0},
                             {runner_->channel_fd(), POLLIN, 0},
                             {runner_->pidfd(), POLLIN, 0},
                             {mount_table_.get(), POLLPRI, 0},
                             {starter_.fd(), POLLIN, 0},
                             {state_->wake.get(), POLLIN, 0}}};
    if (poll(p.data(), p.size(), PollTimeoutMs()) < 0 && errno != EINTR) {
      return Fail(Status::FromErrno("wait for events").ToString());
    }
    if (p[0].revents) OnSignal();
    if (!done_) runner_->Handle(p[1].revents != 0, p[2].revents != 0);
    // The kernel flags a changed mount table as an error and "priority" data.
    if (p[3].revents && !done_) OnMountTable();
    if (p[4].revents && starter_.fd() >= 0 && !done_) {
      OnStartFailed(Status(EINTR, "mount: the command was interrupted"));
    }
    if (p[5].revents && !done_) OnWake();
    if (!done_) runner_->OnTime();
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
      OnStartFailed(s);
    } else {
      starter_.Failed(s);
      exit_code_ = 1;
    }
  } else {
    StartClient();
    if (!done_) Loop();
  }
  // Callers queued for a client that will not come are refused, callers that
  // wait for the end are answered, and only then everything goes.
  runner_.reset();
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
