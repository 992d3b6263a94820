// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/base/units.h"
#include "common/control/json_line.h"
#include "common/control/line_socket.h"
#include "common/keeper/client_runner.h"
#include "common/keeper/line_hub.h"
#include "common/log/log.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;

constexpr int kProtocol = 1;
constexpr size_t kMaxCallers = 32;
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerSec = 1'000'000'000;
// A predecessor that was killed gives the volume's lock back while its memory
// is torn down.
constexpr int64_t kLockWaitNs = 10 * kNsPerSec;
constexpr int64_t kLockRetryNs = 20 * kNsPerMs;
constexpr int64_t kStepAsideNs = 200 * kNsPerMs;
constexpr int kFinishMs = 1'000;
constexpr unsigned kFuseMajor = 10, kFuseMinor = 229;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

UniqueFd Duplicate(const UniqueFd& fd) {
  return fd ? UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)) : UniqueFd();
}

bool IsFuse(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(kFuseMajor, kFuseMinor);
}

// A mount as the agent handed it over.
struct Served {
  std::string mount, meta, words, device, host, uuid;
  int start_timeout_s = 60;
  int abort_after_s = 300;
  UniqueFd fuse, arena, lock;
  bool takes_over = false;
};

Result<Served> ReadServe(const Json& request, std::vector<UniqueFd> fds) {
  Served s;
  // Members of an unexpected type throw inside nlohmann's accessors.
  try {
    s.mount = request.at("mount");
    s.meta = request.at("meta");
    s.words = request.at("words");
    s.device = request.at("device");
    s.host = request.at("host");
    s.uuid = request.value("uuid", "");
    s.start_timeout_s = std::clamp(request.at("start_timeout_s").get<int>(), 1, 86'400);
    s.abort_after_s = std::clamp(request.at("abort_after_s").get<int>(), 1, 86'400);
  } catch (const Json::exception& e) {
    return Error(EPROTO, std::string("read the order to serve: ") + e.what());
  }
  if (s.mount.empty()) return Error(EINVAL, "read the order to serve: the mount has no name");
  if (fds.empty() || fds.size() > 2) {
    return Error(EINVAL, "read the order to serve: it came with " + std::to_string(fds.size()) +
                             " descriptors; wanted are the FUSE one and, to take over, the arena");
  }
  s.fuse = std::move(fds[0]);
  if (!IsFuse(s.fuse.get())) return Error(EINVAL, "read the order to serve: its descriptor is not one of /dev/fuse");
  s.takes_over = fds.size() == 2;
  if (s.takes_over) s.arena = std::move(fds[1]);
  return s;
}

class Supervisor final : private ClientRunner::Observer {
 public:
  explicit Supervisor(const SupervisorConfig& config) : config_(config) {}
  int Run();

 private:
  enum class Phase { kIdle, kWaitsForLock, kClient, kFinished, kFailed };

  Status Prepare();
  void Loop();
  int PollTimeoutMs() const;
  void OnSignals();
  void ReapOrphans();
  void OnTime();
  void Settle();

  void OnLine(LineHub::Id from, FdLine line);
  void Answer(LineHub::Id to, const Json& ok, std::vector<UniqueFd> fds = {});
  void Refuse(LineHub::Id to, const Status& why);
  void Serve(LineHub::Id from, const Json& request, std::vector<UniqueFd> fds);
  void Fetch(LineHub::Id from);
  void StepAside(LineHub::Id from);

  Result<ClientPlan> Plan();
  void Launch(ClientPlan plan);
  void RetryPlan();
  void Close();
  void Ended(Phase phase);

  std::string PhaseText() const;
  Json State() const;
  void TellState();

  void OnProgress(std::string_view text) override { hub_->Broadcast(Dump({{"progress", text}})); }
  void OnCondition() override;
  void OnFirstReady() override;
  void OnStartFailed(const Status& why) override;
  void OnUnmounted() override;
  void OnStopped() override { Ended(phase_); }
  void OnBroken(const Status& why) override;
  void OnOverdue() override;

  const SupervisorConfig& config_;
  UniqueFd signals_, client_listener_;
  std::optional<LineHub> hub_;
  Phase phase_ = Phase::kIdle;
  Served served_;
  std::optional<ClientRunner> runner_;
  ClientRunner::Condition last_;  // of a runner that is gone, too
  std::string told_;              // the state that everyone heard
  bool runner_ended_ = false;     // to be closed once its call returned
  bool overdue_ = false;
  bool plan_late_ = false;        // longer than any predecessor takes to end
  bool sigterm_ = false;
  bool done_ = false;
  int exit_code_ = 0;
  int64_t plan_again_ns_ = 0, plan_until_ns_ = 0;
  std::vector<LineHub::Id> stepping_;  // who waits for the end
  bool step_aside_ = false;
  int64_t kill_at_ns_ = 0;
};

Status Supervisor::Prepare() {
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signals_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return Status::FromErrno("watch for signals");
  ASSIGN_OR_RETURN_STATUS(client_listener_, control::ListenUnix(config_.directory + "/client.sock"));
  ASSIGN_OR_RETURN_STATUS(UniqueFd listener, control::ListenUnix(config_.directory + "/supervisor.sock"));
  hub_.emplace(std::move(listener), kMaxCallers,
               LineHub::Hooks{[](uid_t uid) { return uid == 0 || uid == geteuid(); },
                              [this] {
                                Json hello = State();
                                hello["protocol"] = kProtocol;
                                hello["version"] = MOORFS_VERSION;
                                hello["pid"] = getpid();
                                return Dump(hello);
                              },
                              [this](LineHub::Id id, FdLine line) { OnLine(id, std::move(line)); }});
  return Status::Ok();
}

// ---- what everyone hears -----------------------------------------------------------

std::string Supervisor::PhaseText() const {
  switch (phase_) {
    case Phase::kIdle: return "idle";
    case Phase::kWaitsForLock: return "starting";
    case Phase::kFinished: return "finished";
    case Phase::kFailed: return "failed";
    case Phase::kClient: break;
  }
  switch (last_.phase) {
    case ClientRunner::Phase::kStarting: return "starting";
    case ClientRunner::Phase::kServing: return "serving";
    case ClientRunner::Phase::kRestarting: return "restarting";
  }
  return "?";
}

Json Supervisor::State() const {
  std::string error = last_.last_error;
  if (overdue_) {
    error = "no client serves " + served_.mount + " since " + std::to_string(served_.abort_after_s) +
            " s or more; " + (error.empty() ? last_.last_exit : error);
  }
  return {{"phase", PhaseText()},         {"mount", served_.mount},         {"client_pid", last_.client_pid},
          {"restarts", last_.restarts},   {"last_exit", last_.last_exit},   {"last_error", error},
          {"uuid", served_.uuid},         {"sigterm", sigterm_}};
}

void Supervisor::TellState() {
  std::string text = Dump({{"event", State()}});
  if (text == told_) return;
  hub_->Broadcast(text);
  told_ = std::move(text);
}

void Supervisor::Answer(LineHub::Id to, const Json& ok, std::vector<UniqueFd> fds) {
  hub_->Send(to, Dump({{"ok", ok}}), std::move(fds));
}

void Supervisor::Refuse(LineHub::Id to, const Status& why) {
  hub_->Send(to, Dump({{"error", {{"errno", why.err()}, {"message", why.message()}}}}));
}

// ---- commands ----------------------------------------------------------------------

void Supervisor::OnLine(LineHub::Id from, FdLine line) {
  const Json request = control::ParseLine(line.text);
  if (!request.is_object() || !request.contains("cmd") || !request["cmd"].is_string()) {
    return Refuse(from, Status(EPROTO, "read an order: it is no JSON object with a \"cmd\""));
  }
  const std::string command = request["cmd"];
  if (command == "serve") {
    if (line.fds_lost) return Refuse(from, Status(EMFILE, "read the order to serve: its descriptors did not all arrive"));
    return Serve(from, request, std::move(line.fds));
  }
  if (command == "fetch") return Fetch(from);
  if (command == "step-aside") return StepAside(from);
  Refuse(from, Status(ENOSYS, "answer \"" + command.substr(0, 64) +
                                  "\": this supervisor has no such command; it is another version"));
}

void Supervisor::Serve(LineHub::Id from, const Json& request, std::vector<UniqueFd> fds) {
  auto order = ReadServe(request, std::move(fds));
  if (!order) return Refuse(from, order.error());
  if (step_aside_) return Refuse(from, Status(EBUSY, "serve " + order->mount + ": this supervisor steps aside"));
  if (phase_ != Phase::kIdle && phase_ != Phase::kFailed) {
    const bool same = phase_ != Phase::kFinished && served_.mount == order->mount;
    return Refuse(from, Status(same ? EALREADY : EBUSY, "serve " + order->mount + ": this supervisor serves " +
                                                            served_.mount + " (" + PhaseText() + ")"));
  }
  // A client that failed in this very round is not settled yet; this one must not be closed in its place.
  if (std::exchange(runner_ended_, false)) Close();
  Served before = std::exchange(served_, std::move(*order));
  auto plan = Plan();
  if (!plan && plan.error().err() != EBUSY) {
    LOG_ERROR("supervisor") << "serve " << served_.mount << ": " << plan.error().ToString();
    served_ = std::move(before);
    return Refuse(from, plan.error());
  }
  LOG_INFO("supervisor") << (served_.takes_over ? "taking over " : "serving ") << served_.mount << " (device "
                         << served_.device << ")";
  last_ = {};
  overdue_ = plan_late_ = false;
  Answer(from, Json::object());
  if (plan) return Launch(std::move(*plan));
  phase_ = Phase::kWaitsForLock;
  last_.last_error = plan.error().message();
  plan_again_ns_ = MonotonicNs() + kLockRetryNs;
  plan_until_ns_ = MonotonicNs() + std::min(kLockWaitNs, served_.start_timeout_s * kNsPerSec);
  TellState();
}

void Supervisor::Fetch(LineHub::Id from) {
  // While the lock is waited for there may be no arena yet.
  if (!served_.fuse || !served_.arena) return Refuse(from, Status(ENOENT, "fetch the mount: none is served here"));
  std::vector<UniqueFd> fds;
  fds.push_back(Duplicate(served_.fuse));
  fds.push_back(Duplicate(served_.arena));
  if (!fds[0] || !fds[1]) return Refuse(from, Status::FromErrno("fetch the mount " + served_.mount));
  Answer(from, {{"mount", served_.mount}, {"device", served_.device}, {"uuid", served_.uuid}}, std::move(fds));
}

void Supervisor::StepAside(LineHub::Id from) {
  stepping_.push_back(from);
  if (step_aside_) return;
  step_aside_ = true;
  LOG_INFO("supervisor") << "stepping aside" << (served_.mount.empty() ? "" : " from " + served_.mount);
  if (!runner_ || !runner_->Stop()) {
    runner_ended_ = true;
    return;
  }
  kill_at_ns_ = MonotonicNs() + kStepAsideNs;
  if (Status s = runner_->Signal(SIGTERM); !s.ok()) {
    LOG_WARNING("supervisor") << s.ToString();
  }
}

// ---- the client --------------------------------------------------------------------

Result<ClientPlan> Supervisor::Plan() {
  ClientRequest request{served_.mount, served_.meta, served_.words, served_.device, served_.host, served_.uuid, {}};
  request.arena = Duplicate(served_.arena);
  if (served_.arena && !request.arena) return Error(Status::FromErrno("duplicate the arena"));
  return config_.plan(std::move(request));
}

void Supervisor::Launch(ClientPlan plan) {
  served_.arena = std::move(plan.arena);
  served_.lock = plan.lock ? std::move(plan.lock) : UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
  ClientRunner::Config c;
  c.program.executable = config_.executable;
  // As PID 1 does anyway.
  c.program.dies_with_parent = true;
  c.fds = {served_.fuse.get(), served_.arena.get(), client_listener_.get(), served_.lock.get()};
  c.client_json = std::move(plan.client_json);
  c.keeper_json = Dump(
      {{"mountpoint", served_.mount}, {"device", served_.device}, {"runtime_dir", config_.directory}});
  c.name = served_.mount;
  c.component = "supervisor";
  c.start_timeout_s = served_.start_timeout_s;
  c.abort_after_s = served_.abort_after_s;
  c.takes_over = served_.takes_over;
  phase_ = Phase::kClient;
  last_ = {};
  runner_.emplace(std::move(c), static_cast<ClientRunner::Observer&>(*this));
  runner_->Start();
}

void Supervisor::RetryPlan() {
  auto plan = Plan();
  if (plan) return Launch(std::move(*plan));
  const bool busy = plan.error().err() == EBUSY;
  if (busy && MonotonicNs() < plan_until_ns_) {
    plan_again_ns_ = MonotonicNs() + kLockRetryNs;
    return;
  }
  const bool news = std::exchange(last_.last_error, plan.error().message()) != plan.error().message();
  if (served_.takes_over) {
    // Its applications wait: nothing else helps them.
    if (news || !plan_late_) {
      LOG_ERROR("supervisor") << plan.error().ToString() << "; trying again every second";
    }
    plan_late_ = true;
    overdue_ = overdue_ || MonotonicNs() >= plan_until_ns_ + served_.abort_after_s * kNsPerSec;
    plan_again_ns_ = MonotonicNs() + kNsPerSec;
    return TellState();
  }
  LOG_ERROR("supervisor") << "serve " << served_.mount << ": " << plan.error().ToString();
  phase_ = Phase::kFailed;
  Close();
  TellState();
}

void Supervisor::Close() {
  runner_.reset();
  served_.fuse.reset();
  served_.arena.reset();
  served_.lock.reset();
}

void Supervisor::Ended(Phase phase) {
  phase_ = phase;
  last_.client_pid = 0;
  runner_ended_ = true;
}

void Supervisor::OnCondition() {
  last_ = runner_->condition();
  const Json details = Json::parse(last_.details, nullptr, false);
  if (details.is_object() && details.contains("uuid") && details["uuid"].is_string()) served_.uuid = details["uuid"];
  if (last_.phase == ClientRunner::Phase::kServing) overdue_ = false;
  TellState();
}

void Supervisor::OnFirstReady() { LOG_INFO("supervisor") << served_.mount << " is served"; }

void Supervisor::OnStartFailed(const Status& why) {
  last_.last_error = why.message();
  Ended(Phase::kFailed);
}

void Supervisor::OnUnmounted() {
  LOG_INFO("supervisor") << served_.mount << " is unmounted, and everything is stored";
  last_.last_error.clear();
  overdue_ = false;
  Ended(Phase::kFinished);
}

void Supervisor::OnBroken(const Status& why) {
  LOG_ERROR("supervisor") << why.ToString();
  exit_code_ = 1;
  done_ = true;
}

void Supervisor::OnOverdue() {
  LOG_ERROR("supervisor") << "no client served " << served_.mount << " for " << served_.abort_after_s << " s";
  overdue_ = true;
  TellState();
}

// ---- the loop ----------------------------------------------------------------------

// PID 1 gets every orphan of the pod. The client's end is its runner's to take.
void Supervisor::ReapOrphans() {
  for (;;) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    if (runner_ && info.si_pid == runner_->client_pid()) return;
    if (waitpid(info.si_pid, nullptr, WNOHANG) <= 0) return;
  }
}

void Supervisor::OnSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGCHLD || info.ssi_signo == SIGHUP) continue;
    if (!sigterm_ && (phase_ == Phase::kClient || phase_ == Phase::kWaitsForLock)) {
      LOG_WARNING("supervisor") << "signal " << info.ssi_signo << ": applications use " << served_.mount
                                << "; serving on until the node agent moves it";
    }
    sigterm_ = true;
  }
}

void Supervisor::OnTime() {
  const int64_t now = MonotonicNs();
  if (phase_ == Phase::kWaitsForLock && !step_aside_ && now >= plan_again_ns_) RetryPlan();
  if (runner_) runner_->OnTime();
  if (kill_at_ns_ != 0 && now >= kill_at_ns_ && runner_ && runner_->client_pid() != 0) {
    kill_at_ns_ = 0;
    if (Status s = runner_->Signal(SIGKILL); !s.ok()) {
      LOG_WARNING("supervisor") << s.ToString();
    }
  }
}

// What a call of the runner decided is done after it returned.
void Supervisor::Settle() {
  if (runner_ended_) {
    runner_ended_ = false;
    Close();
    if (step_aside_) {
      for (const LineHub::Id id : stepping_) Answer(id, Json::object());
      done_ = true;
      return;
    }
  }
  TellState();
  if (sigterm_ && phase_ != Phase::kClient && phase_ != Phase::kWaitsForLock) done_ = true;
}

int Supervisor::PollTimeoutMs() const {
  int64_t next = runner_ ? runner_->NextNs() : INT64_MAX;
  if (phase_ == Phase::kWaitsForLock) next = std::min(next, plan_again_ns_);
  if (kill_at_ns_ != 0) next = std::min(next, kill_at_ns_);
  if (next == INT64_MAX) return -1;
  return static_cast<int>(std::clamp<int64_t>((next - MonotonicNs()) / kNsPerMs + 1, 0, 60'000));
}

void Supervisor::Loop() {
  std::vector<pollfd> p;
  while (!done_) {
    p.assign({{signals_.get(), POLLIN, 0},
              {runner_ ? runner_->channel_fd() : -1, POLLIN, 0},
              {runner_ ? runner_->pidfd() : -1, POLLIN, 0}});
    hub_->AddTo(&p);
    if (poll(p.data(), p.size(), PollTimeoutMs()) < 0 && errno != EINTR) {
      return OnBroken(Status::FromErrno("wait for events"));
    }
    if (p[0].revents) OnSignals();
    if (runner_) runner_->Handle(p[1].revents != 0, p[2].revents != 0);
    ReapOrphans();
    hub_->Handle(p.data() + 3, p.size() - 3);
    OnTime();
    Settle();
  }
}

int Supervisor::Run() {
  if (Status s = Prepare(); !s.ok()) {
    LOG_ERROR("supervisor") << s.ToString();
    return 1;
  }
  LOG_INFO("supervisor") << "waiting in " << config_.directory << " for a mount to serve";
  told_ = Dump({{"event", State()}});
  Loop();
  Close();
  hub_->Finish(kFinishMs);
  return exit_code_;
}

}  // namespace

int RunSupervisor(const SupervisorConfig& config) {
  log::SetRole("supervisor");
  return Supervisor(config).Run();
}

}  // namespace moorfs::keeper
