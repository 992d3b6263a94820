// SPDX-License-Identifier: Apache-2.0
//
// The launcher's thread: which pod serves a mount, and how it comes to another.
//
//   current pod good, its supervisor connected    hear what it says
//   current pod good, not connected               connect; idle: the previous
//                                                 supervisor steps aside, hand over
//   no good current pod                           make the next generation
//   serves                                        deposit, readiness, event;
//                                                 remove the superseded pods
// A pod that is being deleted serves on until its successor is there.

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#include "common/base/units.h"
#include "common/log/log.h"
#include "common/mount/pods/pod_host.h"
#include "common/mount/target.h"
#include "common/os/fuse_device.h"

namespace moorfs::mount {
namespace {

using keeper::SupervisorLink;
using Phase = keeper::SupervisorState::Phase;

constexpr int kCallMs = 3'000;
constexpr int kConnectMs = 1'000;
constexpr int kBusyMs = 10;     // a container is being started
constexpr int kRecoverMs = 5'000;  // what is not heard then counts as lost
constexpr int64_t kConnectAgainNs = int64_t{200} * 1'000'000;
constexpr int kSoonMs = 250;
constexpr int kIdleMs = 10'000;
constexpr int kFirstDelayMs = 200;
constexpr int kMaxDelayMs = 30'000;
constexpr int64_t kNsPerMs = 1'000'000;
// What kubelet takes to start a container again.
constexpr int64_t kRestartNs = 2'000 * kNsPerMs;
constexpr int64_t kDepotAgainNs = 500 * kNsPerMs;
constexpr int64_t kTidyAgainNs = 5'000 * kNsPerMs;

// Whether it can serve, now or once it has been started.
bool IsGood(const kube::Pod& pod) {
  // kubelet waits up to five minutes between restarts; a new pod does not.
  return !pod.deleting && !pod.Ended() && pod.waiting_reason != "CrashLoopBackOff";
}

// The supervisor's own word about what it was asked to serve; what may pass by
// itself is none.
bool IsRefusal(const Status& s) {
  switch (s.err()) {
    case EPIPE:
    case ETIMEDOUT:
    case EBUSY:
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
      return false;
    default:
      return true;
  }
}

bool LacksImage(const kube::Pod& pod) {
  return pod.waiting_reason == "ImagePullBackOff" || pod.waiting_reason == "ErrImagePull" ||
         pod.waiting_reason == "ErrImageNeverPull" || pod.waiting_reason == "InvalidImageName";
}

bool IsFuseDevice(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 229);
}
bool IsArena(int fd) {
  // It must not shrink under whoever maps it.
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

std::string WhyReplaced(const kube::Pod& pod) {
  if (pod.deleting) return "it is being deleted, and volumes use it";
  const Status why = kube::Trouble(pod);
  return why.ok() ? "its container ends again and again" : why.message();
}

std::string DepositText(const PodMount& mount) {
  return kube::Json{{"device", mount.device}, {"uuid", mount.uuid}}.dump();
}

kube::Json ObjectOf(const kube::Pod& pod) {
  return {{"apiVersion", "v1"},
          {"kind", "Pod"},
          {"metadata",
           {{"name", pod.name}, {"namespace", pod.ns}, {"uid", pod.uid}, {"resourceVersion", pod.resource_version}}}};
}

}  // namespace

Result<UniqueFd> PodHost::PodDirectory(const std::string& uid) {
  return OpenBeneath(kubelet_root_.get(),
                     "pods/" + uid + "/volumes/kubernetes.io~empty-dir/" + std::string(kPodRunVolume), 0);
}

std::vector<std::string> PodHost::PodUids() {
  std::vector<std::string> out;
  const int fd = openat(kubelet_root_.get(), "pods", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR* dir = fd >= 0 ? fdopendir(fd) : nullptr;
  if (dir == nullptr) {
    if (fd >= 0) close(fd);
    return out;
  }
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] != '.') out.emplace_back(entry->d_name);
  }
  closedir(dir);
  return out;
}

void PodHost::Loop() {
  while (!stop_) {
    if (parts_.records.Adopt()) config_.on_change();
    busy_ = soon_ = false;
    for (const MountPtr& mount : Mounts()) Advance(*mount);
    LetGo();
    KeepDeposits();
    if (!stop_) WaitForReason();
  }
}

std::vector<PodHost::MountPtr> PodHost::Mounts() {
  const std::lock_guard lock(mutex_);
  std::vector<MountPtr> out;
  for (const auto& [name, mount] : mounts_) out.push_back(mount);
  return out;
}

void PodHost::WaitForReason() {
  std::vector<pollfd> fds = {{wake_.get(), POLLIN, 0}, {depot_ ? depot_->fd() : -1, POLLIN, 0}};
  const int64_t now = MonotonicNs();
  int64_t next = now + int64_t{busy_ ? kBusyMs : soon_ ? kSoonMs : kIdleMs} * kNsPerMs;
  if (!depot_ && !config_.keeper_socket.empty()) next = std::min(next, next_depot_try_ns_);
  for (const MountPtr& mount : Mounts()) {
    if (mount->link) fds.push_back({mount->link->fd(), POLLIN, 0});
    // What lies in the past was seen to, or is not wanted any more.
    for (const int64_t again : {mount->next_try_ns, mount->next_connect_ns}) {
      if (again > now) next = std::min(next, again);
    }
  }
  const int64_t wait_ms = std::clamp<int64_t>((next - MonotonicNs()) / kNsPerMs + 1, 1, kIdleMs);
  if (poll(fds.data(), fds.size(), static_cast<int>(wait_ms)) < 0 && errno != EINTR) {
    LOG_ERROR("pods") << Status::FromErrno("wait for events").ToString();
  }
  if (fds[0].revents != 0) {
    uint64_t count;
    [[maybe_unused]] const ssize_t n = read(wake_.get(), &count, sizeof count);
  }
  if (depot_ && fds[1].revents != 0) {
    LOG_WARNING("pods") << "the keeper is gone; its deposits are made again once it is back";
    depot_.reset();
    deposited_.clear();
    for (const MountPtr& mount : Mounts()) mount->deposited = mount->deposited_arena = false;
  }
}

// ---- one mount -------------------------------------------------------------------

void PodHost::Advance(PodMount& mount) {
  if (mount.link) HearSupervisor(mount);
  bool finished;
  {
    const std::lock_guard lock(mutex_);
    if (mount.leaving) return;
    finished = mount.finished;
  }
  if (finished) return;
  RestartFailed(mount);
  SeekPod(mount);
  AbortUnserved(mount);
}

// A successor that could not begin is started again, more and more seldom: its
// supervisor leaves, and kubelet starts another.
void PodHost::RestartFailed(PodMount& mount) {
  if (!mount.link || mount.link->state().phase != Phase::kFailed || !mount.ever_ready) return;
  if (!mount.arena) return Lose(mount);
  if (MonotonicNs() < mount.next_try_ns) return;
  mount.delay_ms = std::clamp(mount.delay_ms * 2, kFirstDelayMs, kMaxDelayMs);
  mount.next_try_ns = MonotonicNs() + mount.delay_ms * kNsPerMs;
  if (Status s = mount.link->StepAside(kCallMs); !s.ok()) {
    LOG_WARNING("pods") << "mount " << mount.Name() << ": " << s.ToString();
  }
  mount.link.reset();
}

// It was served, and every holder of its arena died: no client can take it over.
// A new generation replaces it.
void PodHost::Lose(PodMount& mount) {
  LOG_ERROR("pods") << "mount " << mount.Name() << ": its arena is lost with everyone who had it; it is mounted "
                       "afresh, and what was not stored yet is lost";
  if (Status s = os::AbortFuseConnection(NumbersOf(mount.device).minor); !s.ok()) {
    LOG_ERROR("pods") << s.ToString();
  }
  {
    const std::lock_guard lock(mutex_);
    mount.finished = true;
  }
  changed_.notify_all();
  config_.on_change();
}

void PodHost::SetTrouble(PodMount& mount, const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (!why.empty() && why != mount.trouble) LOG_INFO("pods") << "mount " << mount.Name() << ": " << why;
  mount.trouble = why;
}

void PodHost::HearSupervisor(PodMount& mount) {
  const auto changed = mount.link->Update();
  if (!changed) {
    // PID 1 was killed, or its pod is gone. Another one takes over.
    LOG_WARNING("pods") << "mount " << mount.Name() << ": its supervisor is gone: " << changed.error().message();
    mount.link.reset();
    mount.settled_uid.clear();
    const std::lock_guard lock(mutex_);
    if (mount.serving) mount.unserved_since_ns = MonotonicNs();
    mount.serving = false;
    mount.client_socket.reset();
    mount.trouble = "the pod that served it is gone";
  } else {
    TakeState(mount);
  }
  if (mount.link && mount.settled_uid != mount.pod_uid && mount.link->state().phase == Phase::kServing) Settle(mount);
}

void PodHost::TakeState(PodMount& mount) {
  const keeper::SupervisorState& state = mount.link->state();
  const std::lock_guard lock(mutex_);
  if (!state.uuid.empty()) mount.uuid = state.uuid;
  const bool serving = state.phase == Phase::kServing;
  if (serving == mount.serving && state.phase != Phase::kFinished && state.phase != Phase::kFailed) return;
  if (mount.serving && !serving) mount.unserved_since_ns = MonotonicNs();
  mount.serving = serving;
  switch (state.phase) {
    case Phase::kServing:
      mount.unserved_since_ns = 0;
      mount.ever_ready = true;
      mount.trouble.clear();
      mount.trouble_since_ns = 0;
      break;
    case Phase::kFinished:
      mount.finished = true;
      break;
    case Phase::kFailed:
      mount.trouble = state.last_error.empty() ? state.last_exit : state.last_error;
      if (!mount.ever_ready) mount.failure = Status(EIO, mount.trouble);
      break;
    default:
      mount.trouble = state.last_error.empty() ? "its client " + state.last_exit : state.last_error;
  }
  changed_.notify_all();
  config_.on_change();
}

void PodHost::SeekPod(PodMount& mount) {
  const auto current = parts_.pods.Current(mount.mount_key);
  for (const kube::Pod& pod : parts_.pods.Of(mount.mount_key)) {
    if (mount.link && pod.uid == mount.pod_uid) mount.image = pod.image;
  }
  const bool good = current && IsGood(*current) && OtherImage(mount, *current).empty() && !EndsAgain(mount, *current);
  if (mount.link && good && mount.pod_uid == current->uid) return Tidy(mount);
  if (!good) {
    const bool serves = mount.link != nullptr;
    if (current && !serves) {
      SetTrouble(mount, "pod " + current->name + " does not serve: " + WhyReplaced(*current));
    }
    if (parts_.pods.Synced()) CreatePod(mount, current);
    else if (!serves) SetTrouble(mount, "the API server has not been reached yet");
    return;
  }
  if (MonotonicNs() < mount.next_connect_ns) return;
  const Status why = kube::Trouble(*current);
  {
    const std::lock_guard lock(mutex_);
    if (why.ok()) mount.trouble_since_ns = 0;
    else if (mount.trouble_since_ns == 0) mount.trouble_since_ns = MonotonicNs();
  }
  SetTrouble(mount, why.ok() ? "pod " + current->name + " is being started" : why.message());
  Connect(mount, *current);
}

// Its container ended once more and is not started at once: kubelet waits, and
// says so only much later.
bool PodHost::EndsAgain(const PodMount& mount, const kube::Pod& pod) {
  if (mount.link || pod.container_running || pod.restarts < 1 || pod.terminated_reason.empty()) return false;
  soon_ = true;
  const std::lock_guard lock(mutex_);
  return mount.unserved_since_ns != 0 && MonotonicNs() - mount.unserved_since_ns > kRestartNs;
}

// For a pod whose image is not to be had: the one that is configured by now, or
// the one that served last. Empty: there is no other, or none is needed.
std::string PodHost::OtherImage(const PodMount& mount, const kube::Pod& pod) const {
  if (!LacksImage(pod)) return {};
  if (pod.image != config_.pods.image) return config_.pods.image;
  return mount.image != pod.image ? mount.image : std::string();
}

void PodHost::CreatePod(PodMount& mount, const std::optional<kube::Pod>& replaced) {
  if (MonotonicNs() < mount.next_try_ns) return;
  mount.delay_ms = std::clamp(mount.delay_ms * 2, kFirstDelayMs, kMaxDelayMs);
  mount.next_try_ns = MonotonicNs() + mount.delay_ms * kNsPerMs;
  auto made = parts_.records.CreatePod(mount.mount_key, replaced ? OtherImage(mount, *replaced) : "");
  if (!made) {
    SetTrouble(mount, made.error().message());
    const std::lock_guard lock(mutex_);
    if (mount.trouble_since_ns == 0) mount.trouble_since_ns = MonotonicNs();
    return;
  }
  busy_ = true;
  // Those that ended again and again before it are of no use any more.
  if (Status s = DeleteOthers(mount, made->uid); !s.ok()) {
    LOG_WARNING("pods") << s.ToString();
  }
  LOG_INFO("pods") << "mount " << mount.Name() << ": made pod " << made->name
                   << (replaced ? " to replace " + replaced->name : std::string());
  if (!replaced) return;
  parts_.events.Send(ObjectOf(*made), /*warning=*/true, "Replacing",
                     "replaces pod " + replaced->name + " (" + WhyReplaced(*replaced) +
                         "); applications wait meanwhile");
}

void PodHost::Connect(PodMount& mount, const kube::Pod& pod) {
  // A container that is being started is there in a moment; whatever else
  // changes with a pod, an event says.
  const bool starting = !pod.node.empty() && kube::Trouble(pod).ok();
  auto directory = PodDirectory(pod.uid);
  if (!directory) {
    busy_ = busy_ || starting;
    return;
  }
  auto link = SupervisorLink::Connect(directory->get(), static_cast<uid_t>(config_.pods.run_as_user), kConnectMs);
  if (!link) {
    busy_ = busy_ || starting;
    const int err = link.error().err();
    if (err != ENOENT && err != ECONNREFUSED) SetTrouble(mount, "talk to pod " + pod.name + ": " + link.error().message());
    return;
  }
  if (Status s = HandOver(mount, pod, std::move(*link), std::move(*directory)); !s.ok()) {
    SetTrouble(mount, "hand the mount to pod " + pod.name + ": " + s.message());
    if (IsRefusal(s)) {
      const std::lock_guard lock(mutex_);
      if (!mount.ever_ready) mount.failure = s;
      changed_.notify_all();
    }
    mount.next_connect_ns = MonotonicNs() + kConnectAgainNs;
  }
}

Status PodHost::HandOver(PodMount& mount, const kube::Pod& pod, std::unique_ptr<SupervisorLink> next,
                         UniqueFd directory) {
  const keeper::SupervisorState& state = next->state();
  // "failed" gave its descriptors back, and begins again when it is told to.
  const bool free = state.phase == Phase::kIdle || state.phase == Phase::kFailed;
  const bool ours = state.mount == mount.Name() && (mount.adopted || mount.handed.contains(pod.uid));
  if (!free && !ours) return MakeRoom(mount, *next);
  RETURN_IF_ERROR(StopOthers(mount, pod.uid));
  if (free) {
    if (mount.spec.meta.empty()) {
      // The record was lost when this agent began; its pod may have brought it back.
      if (const auto record = parts_.records.Get(mount.mount_key); record && *record) mount.spec = (*record)->spec;
    }
    SupervisorLink::Serve serve;
    serve.mount = mount.Name();
    serve.meta = mount.spec.meta;
    serve.words = mount.spec.words;
    serve.device = mount.device;
    serve.host = config_.node;
    serve.uuid = mount.uuid;
    serve.start_timeout_s = mount.spec.start_timeout_s;
    {
      const std::lock_guard lock(mutex_);
      serve.fuse = mount.fuse.get();
      serve.arena = mount.arena.get();
    }
    mount.handed.insert(pod.uid);
    const Status s = next->StartServing(serve, kCallMs);
    if (!s.ok() && s.err() != EALREADY) return s;
    LOG_INFO("pods") << "mount " << mount.Name() << ": handed to pod " << pod.name;
  }
  mount.link = std::move(next);
  mount.directory = std::move(directory);
  mount.pod_uid = pod.uid;
  mount.settled_uid.clear();
  mount.next_try_ns = 0;
  HearSupervisor(mount);
  return Status::Ok();
}

// The pod still has to do with a mount of before.
Status PodHost::MakeRoom(PodMount& mount, SupervisorLink& supervisor) {
  const std::string name = supervisor.state().mount;
  if (name != mount.Name()) {
    const std::lock_guard lock(mutex_);
    const auto it = mounts_.find(name);
    if (it != mounts_.end() && !it->second->leaving && !it->second->finished) {
      return Status(EBUSY, "it serves mount " + name);
    }
  }
  RETURN_IF_ERROR(supervisor.StepAside(kCallMs));
  return Status(EAGAIN, "it had to do with mount " + name + " of before, and starts anew");
}

// Two clients never serve one mount: whoever has it gives it back before another
// gets it. What had been read by a client that is gone is sent again.
Status PodHost::StopOthers(PodMount& mount, const std::string& successor) {
  std::set<std::string> uids = mount.handed;
  for (const kube::Pod& pod : parts_.pods.Of(mount.mount_key)) uids.insert(pod.uid);
  if (!mount.pod_uid.empty()) uids.insert(mount.pod_uid);
  uids.erase(successor);
  if (mount.link && mount.pod_uid != successor) {
    const Status s = mount.link->StepAside(kCallMs);
    mount.link.reset();
    const std::lock_guard lock(mutex_);
    if (mount.serving) mount.unserved_since_ns = MonotonicNs();
    mount.serving = false;
    mount.client_socket.reset();
    if (s.ok()) uids.erase(mount.pod_uid);
  }
  // Also those to whom the connection broke, or was never made.
  for (const std::string& uid : uids) RETURN_IF_ERROR(StopOther(mount, uid));
  return Status::Ok();
}

Status PodHost::StopOther(const PodMount& mount, const std::string& uid) {
  const auto directory = PodDirectory(uid);
  if (!directory) return Status::Ok();  // kubelet removes it after the processes
  const auto link =
      SupervisorLink::Connect(directory->get(), static_cast<uid_t>(config_.pods.run_as_user), kConnectMs);
  Status s;
  if (!link) {
    const int err = link.error().err();
    // Nobody is there, or nobody who was ever given a mount.
    if (err == ENOENT || err == ECONNREFUSED || err == ENOTSOCK || err == EPERM) return Status::Ok();
    s = link.error();
  } else {
    const keeper::SupervisorState& state = (*link)->state();
    const bool has_it = state.phase == Phase::kStarting || state.phase == Phase::kServing ||
                        state.phase == Phase::kRestarting;
    if (!has_it || state.mount != mount.Name()) return Status::Ok();
    s = (*link)->StepAside(kCallMs);
    if (s.ok()) return s;
  }
  // kubelet ends what does not listen.
  for (const kube::Pod& pod : parts_.pods.Of(mount.mount_key)) {
    if (pod.uid != uid || pod.deleting) continue;
    if (Status deleted = parts_.pods.Delete(pod, -1); !deleted.ok()) LOG_WARNING("pods") << deleted.ToString();
  }
  return s.Annotate("the pod that has it (uid " + uid + ") does not step aside");
}

Status PodHost::FetchArena(PodMount& mount) {
  ASSIGN_OR_RETURN_STATUS(auto fetched, mount.link->Fetch(kCallMs));
  if (!fetched.arena || !IsArena(fetched.arena.get())) {
    return Status(EPROTO, "take the arena of mount " + mount.Name() + ": what the pod sent is none");
  }
  const std::lock_guard lock(mutex_);
  mount.arena = std::move(fetched.arena);
  return Status::Ok();
}

// Everything that follows from a new pod's serving.
void PodHost::Settle(PodMount& mount) {
  if (!mount.arena) {
    if (Status s = FetchArena(mount); !s.ok()) {
      LOG_ERROR("pods") << s.ToString();
      busy_ = true;
      return;
    }
  }
  auto socket = SupervisorLink::OpenClientSocket(mount.directory.get());
  if (!socket) {
    LOG_ERROR("pods") << socket.error().ToString();
    busy_ = true;
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    mount.client_socket = std::move(*socket);
  }
  changed_.notify_all();
  mount.settled_uid = mount.pod_uid;
  mount.delay_ms = 0;
  KeepDeposits();
  const auto [major, minor] = NumbersOf(mount.device);
  const auto read_ahead_kib = static_cast<uint32_t>(ClientOptionsOf(mount.spec.words).read_ahead_bytes >> 10);
  if (Status s = os::SetReadAhead(major, minor, read_ahead_kib); !s.ok()) {
    LOG_WARNING("pods") << s.ToString() << "; sequential reads will be slower";
  }
  mount.told_ready = false;
  mount.next_tidy_ns = 0;
  Tidy(mount);
}

// What may wait while the API server does not answer: the pod's readiness, and
// the end of those before it.
void PodHost::Tidy(PodMount& mount) {
  if (mount.settled_uid != mount.pod_uid || MonotonicNs() < mount.next_tidy_ns) return;
  Status s;
  for (const kube::Pod& pod : parts_.pods.Of(mount.mount_key)) {
    if (mount.told_ready || pod.uid != mount.pod_uid || pod.deleting) continue;
    s = parts_.pods.SetServing(pod, true, "the client serves mount " + mount.Name());
    if (!s.ok()) break;
    mount.told_ready = true;
    parts_.events.Send(ObjectOf(pod), /*warning=*/false, "Serving", "serves mount " + mount.Name());
  }
  if (s.ok()) s = DeleteOthers(mount, mount.pod_uid);
  if (s.ok()) return;
  LOG_WARNING("pods") << s.ToString();
  mount.next_tidy_ns = MonotonicNs() + kTidyAgainNs;
}

Status PodHost::DeleteOthers(const PodMount& mount, const std::string& kept) {
  for (const kube::Pod& pod : parts_.pods.Of(mount.mount_key)) {
    if (pod.uid == kept || pod.deleting || (mount.link && pod.uid == mount.pod_uid)) continue;
    RETURN_IF_ERROR(parts_.pods.Delete(pod, -1));
  }
  return Status::Ok();
}

void PodHost::AbortUnserved(PodMount& mount) {
  const std::lock_guard lock(mutex_);
  if (mount.unserved_since_ns == 0 || !mount.ever_ready || mount.aborted) return;
  const int64_t limit = int64_t{mount.spec.abort_after_s} * 1'000'000'000;
  if (MonotonicNs() - mount.unserved_since_ns < limit) return;
  LOG_ERROR("pods") << "nobody served mount " << mount.Name() << " for " << mount.spec.abort_after_s
                    << " s; aborting the connection: applications now get errors. What they wrote is kept and stored "
                       "once a client can start";
  if (Status s = os::AbortFuseConnection(NumbersOf(mount.device).minor); !s.ok()) {
    LOG_ERROR("pods") << s.ToString();
  }
  mount.aborted = true;
  config_.on_change();
}

// Mounts that nobody wants any more: descriptors closed, supervisors released.
void PodHost::LetGo() {
  for (const MountPtr& mount : Mounts()) {
    {
      const std::lock_guard lock(mutex_);
      if (!mount->leaving) continue;
    }
    // What serves nothing ends with its pod, which is being deleted; kubelet
    // would start it once more if it left before.
    const Phase phase = mount->link ? mount->link->state().phase : Phase::kIdle;
    if (phase != Phase::kFinished && phase != Phase::kFailed && phase != Phase::kIdle) {
      if (Status s = mount->link->StepAside(kCallMs); !s.ok() && s.err() != EPIPE) {
        LOG_WARNING("pods") << "mount " << mount->Name() << ": " << s.ToString();
      }
    }
    {
      // From now on its name is free, and the volume not in use.
      const std::lock_guard lock(mutex_);
      const auto it = mounts_.find(mount->Name());
      if (it != mounts_.end() && it->second == mount) mounts_.erase(it);
    }
    changed_.notify_all();
  }
}

// ---- the second holder ------------------------------------------------------------

void PodHost::KeepDeposits() {
  if (config_.keeper_socket.empty()) return;
  if (!depot_) {
    if (MonotonicNs() < next_depot_try_ns_) return;
    next_depot_try_ns_ = MonotonicNs() + kDepotAgainNs;
    auto depot = keeper::DepotClient::Connect(config_.keeper_socket, kConnectMs);
    if (!depot) return;
    depot_ = std::move(*depot);
    // What a dead predecessor deposited, and nothing mounts any more.
    if (const auto names = depot_->List()) deposited_.insert(names->begin(), names->end());
    for (const MountPtr& mount : Mounts()) deposited_.erase(mount->Name());
  }
  std::set<std::string> wanted;
  const auto failed = [&](const Status& s) {
    LOG_WARNING("pods") << "deposit with the keeper: " << s.ToString();
    depot_.reset();
    deposited_.clear();
  };
  for (const MountPtr& mount : Mounts()) {
    wanted.insert(mount->Name());
    // By the mount, too: its name may have been another's.
    if (deposited_.contains(mount->Name()) && mount->deposited && mount->deposited_arena == static_cast<bool>(mount->arena)) continue;
    std::vector<int> fds = {mount->fuse.get()};
    if (mount->arena) fds.push_back(mount->arena.get());
    if (Status s = depot_->Put(mount->Name(), DepositText(*mount), fds); !s.ok()) return failed(s);
    deposited_.insert(mount->Name());
    mount->deposited = true;
    mount->deposited_arena = static_cast<bool>(mount->arena);
  }
  for (auto it = deposited_.begin(); it != deposited_.end();) {
    if (wanted.contains(*it)) {
      ++it;
      continue;
    }
    if (Status s = depot_->Drop(*it); !s.ok()) return failed(s);
    it = deposited_.erase(it);
  }
}

// ---- after a start of the agent ------------------------------------------------------

Status PodHost::Recover() {
  ASSIGN_OR_RETURN_STATUS(const auto all, sources_->All());
  std::map<std::string, Source> sources;
  for (const Source& source : all) sources[source.mount_key + "/" + std::to_string(source.generation)] = source;
  RecoverFromDepot(sources);
  RecoverFromPods(sources);
  for (const auto& [name, source] : sources) {
    const auto it = mounts_.find(name);
    if (it == mounts_.end() || !it->second->fuse) {
      LOG_ERROR("pods") << "mount " << name << ": its descriptor is lost; it is mounted afresh";
      mounts_.erase(name);
    } else {
      LOG_INFO("pods") << "mount " << name << ": recovered" << (it->second->link ? ", it is served" : "");
    }
  }
  return Status::Ok();
}

PodHost::MountPtr PodHost::Adopt(const Source& source) {
  const std::string name = source.mount_key + "/" + std::to_string(source.generation);
  MountPtr& mount = mounts_[name];
  if (mount) return mount;
  mount = std::make_shared<PodMount>();
  mount->mount_key = source.mount_key;
  mount->generation = source.generation;
  mount->device = source.device;
  mount->adopted = true;
  mount->ever_ready = true;
  mount->unserved_since_ns = MonotonicNs();
  if (const auto record = parts_.records.Get(source.mount_key); record && *record) {
    mount->spec = (*record)->spec;
    // Nothing is bound before the record names the device: a start that is not
    // through can be given up as any other.
    if ((*record)->generation == source.generation && (*record)->device.empty()) mount->ever_ready = false;
  }
  return mount;
}

void PodHost::RecoverFromDepot(const std::map<std::string, Source>& sources) {
  if (config_.keeper_socket.empty()) return;
  auto depot = keeper::DepotClient::Connect(config_.keeper_socket, kConnectMs);
  if (!depot) {
    LOG_WARNING("pods") << "ask the keeper: " << depot.error().ToString();
    return;
  }
  const auto names = (*depot)->List();
  if (!names) return LOG_WARNING("pods") << "ask the keeper: " << names.error().ToString(), void();
  for (const std::string& name : *names) {
    const auto source = sources.find(name);
    if (source == sources.end()) continue;
    auto deposit = (*depot)->Get(name);
    if (!deposit || deposit->fds.empty() || !IsFuseDevice(deposit->fds[0].get())) continue;
    const kube::Json words = kube::Json::parse(deposit->text, nullptr, false);
    // Device numbers are used again.
    if (!words.is_object() || words.value("device", "") != source->second.device) continue;
    const MountPtr mount = Adopt(source->second);
    mount->uuid = words.value("uuid", "");
    mount->fuse = std::move(deposit->fds[0]);
    if (deposit->fds.size() > 1 && IsArena(deposit->fds[1].get())) mount->arena = std::move(deposit->fds[1]);
    mount->deposited_arena = static_cast<bool>(mount->arena);
  }
}

void PodHost::RecoverFromPods(const std::map<std::string, Source>& sources) {
  if (sources.empty()) return;
  // By the directories kubelet made: the API server need not be there.
  for (const std::string& uid : PodUids()) AdoptSupervisor(sources, uid);
}

void PodHost::AdoptSupervisor(const std::map<std::string, Source>& sources, const std::string& uid) {
  auto directory = PodDirectory(uid);
  if (!directory) return;
  auto link = SupervisorLink::Connect(directory->get(), static_cast<uid_t>(config_.pods.run_as_user), kRecoverMs);
  if (!link) {
    if (link.error().err() != ENOENT) LOG_WARNING("pods") << "pod " << uid << ": " << link.error().ToString();
    return;
  }
  const auto source = sources.find((*link)->state().mount);
  if (source == sources.end()) return;
  const MountPtr mount = Adopt(source->second);
  if (mount->link) return;  // two serve it: the launcher's thread sees to that
  if (!mount->fuse || !mount->arena) {
    auto fetched = (*link)->Fetch(kCallMs);
    if (fetched && fetched->device == source->second.device) {
      if (!mount->fuse && fetched->fuse && IsFuseDevice(fetched->fuse.get())) mount->fuse = std::move(fetched->fuse);
      if (!mount->arena && fetched->arena && IsArena(fetched->arena.get())) mount->arena = std::move(fetched->arena);
    }
  }
  mount->link = std::move(*link);
  mount->directory = std::move(*directory);
  mount->pod_uid = uid;
  HearSupervisor(*mount);
}

}  // namespace moorfs::mount
