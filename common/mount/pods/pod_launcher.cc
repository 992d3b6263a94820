// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "common/log/log.h"
#include "common/mount/pods/pod_host.h"
#include "common/mount/target.h"
#include "common/os/file.h"
#include "common/os/fuse_device.h"
#include "common/os/mounts.h"

namespace moorfs::mount {
namespace {

// What speaks against a pod may pass (an image is being pulled, a node makes
// room); what stays so long is told to whoever waits.
constexpr int64_t kTroubleNs = int64_t{8} * 1'000'000'000;
constexpr auto kLook = std::chrono::milliseconds(100);

// The kernel gave the connection up, or the mount is gone.
bool IsDead(int fuse) {
  pollfd p{fuse, 0, 0};
  return poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLNVAL)) != 0;
}

}  // namespace

PodHost::PodHost(Parts parts, PodLauncherConfig config, std::unique_ptr<SourceMounts> sources, UniqueFd kubelet_root,
                 UniqueFd wake)
    : parts_(parts),
      config_(std::move(config)),
      sources_(std::move(sources)),
      kubelet_root_(std::move(kubelet_root)),
      wake_(std::move(wake)) {}

PodHost::~PodHost() {
  stop_ = true;
  Wake();
  if (thread_.joinable()) thread_.join();
}

Status PodHost::Begin() {
  RETURN_IF_ERROR(Recover());
  thread_ = std::thread([this] { Loop(); });
  return Status::Ok();
}

void PodHost::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_.get(), &one, sizeof one);
}

std::string PodHost::SourcePath(const ClientRecord& record) {
  return sources_->PathOf(record.mount_key, record.generation);
}

int PodHost::NextGeneration(const std::string& mount_key) { return sources_->NextGeneration(mount_key); }

Result<std::vector<Source>> PodHost::Sources() { return sources_->All(); }

PodHost::MountPtr PodHost::Find(const ClientRecord& record) {
  const std::lock_guard lock(mutex_);
  const auto it = mounts_.find(record.mount_key + "/" + std::to_string(record.generation));
  return it == mounts_.end() || it->second->leaving ? nullptr : it->second;
}

ClientHealth PodHost::Probe(const ClientRecord& record) {
  ClientHealth health;
  const auto device = sources_->DeviceAt(SourcePath(record));
  if (!device) {
    // Not knowing is no reason to give anything up.
    LOG_ERROR("pods") << device.error().ToString();
    health.state = ClientHealth::kRestarting;
    return health;
  }
  health.mounted = device->has_value();
  health.device = device->value_or(record.device);
  const MountPtr mount = Find(record);
  if (!mount) return health;
  const std::lock_guard lock(mutex_);
  if (mount->finished) return health;
  if (mount->fuse && IsDead(mount->fuse.get())) {
    // What was acknowledged is still stored by whoever serves.
    health.state = mount->ever_ready ? ClientHealth::kAborted : ClientHealth::kDead;
  } else if (mount->serving) {
    health.state = ClientHealth::kServing;
  } else {
    health.state = mount->ever_ready ? ClientHealth::kRestarting : ClientHealth::kStarting;
  }
  return health;
}

// ---- begin -----------------------------------------------------------------------

Result<std::string> PodHost::Ensure(const ClientRecord& record, Deadline deadline) {
  ASSIGN_OR_RETURN(const MountPtr mount, FindOrMount(record, deadline));
  Wake();
  if (Status s = WaitServing(*mount, deadline); !s.ok()) {
    bool first;
    {
      const std::lock_guard lock(mutex_);
      first = !mount->ever_ready;
    }
    // A mount that was served before has its targets and its data: it is kept.
    if (first) GiveUp(*mount);
    return Error(s.Annotate("start the client"));
  }
  return mount->device;
}

Result<PodHost::MountPtr> PodHost::FindOrMount(const ClientRecord& record, Deadline deadline) {
  if (MountPtr there = Find(record)) {
    const std::lock_guard lock(mutex_);
    if (!there->fuse || !IsDead(there->fuse.get())) return there;
  }
  ASSIGN_OR_RETURN(const std::string claim, config::ClaimOf(record.spec.meta));
  if (!claim.empty()) TRY_VOID(parts_.leases.Acquire(record.mount_key, record.spec.meta));
  TRY_VOID(Discard(record.mount_key, record.generation));
  TRY_VOID(WaitLeft(record.mount_key + "/" + std::to_string(record.generation), deadline));
  const std::string source = SourcePath(record);
  TRY_VOID(os::MakeDirs(source, 0700));
  auto mounted = os::MountFuse("moorfs:" + (claim.empty() ? record.mount_key.substr(0, 8) : claim), source, kFsType, 0);
  if (!mounted) {
    if (Status s = sources_->RemoveDirectory(record.mount_key, record.generation); !s.ok()) {
      LOG_WARNING("pods") << s.ToString();
    }
    return Error(mounted.error());
  }
  TRY_VOID(SourceMounts::MakePrivate(source));
  auto mount = std::make_shared<PodMount>();
  mount->mount_key = record.mount_key;
  mount->generation = record.generation;
  mount->spec = record.spec;
  mount->device = std::to_string(mounted->major) + ":" + std::to_string(mounted->minor);
  mount->fuse = std::move(mounted->fuse);
  mount->unserved_since_ns = MonotonicNs();
  const std::lock_guard lock(mutex_);
  mounts_[mount->Name()] = mount;
  return mount;
}

// Something may have changed; some of it without a word.
void PodHost::WaitChange(std::unique_lock<std::mutex>& lock, Deadline deadline) {
  changed_.wait_for(lock, std::min<std::chrono::milliseconds>(kLook, std::chrono::milliseconds(deadline.LeftMs())));
}

Status PodHost::WaitServing(PodMount& mount, Deadline deadline) {
  std::unique_lock lock(mutex_);
  for (;;) {
    // Its arena is here too, then: what is acknowledged from now on outlives the pod.
    if (mount.serving && mount.client_socket) return Status::Ok();
    if (!mount.failure.ok()) return mount.failure;
    const std::string why = mount.trouble.empty() ? "its pod is not there yet" : mount.trouble;
    if (mount.finished) return Status(EAGAIN, "it has just ended; ask again");
    if (mount.trouble_since_ns != 0 && MonotonicNs() - mount.trouble_since_ns > kTroubleNs) {
      return Status(ENOSPC, why);
    }
    if (deadline.LeftMs() == 0) return Status(ETIMEDOUT, why);
    WaitChange(lock, deadline);
  }
}

// Until the thread let go of one that had this name; one that is wanted is no
// obstacle.
Status PodHost::WaitLeft(const std::string& name, Deadline deadline) {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto it = mounts_.find(name);
    if (it == mounts_.end() || !it->second->leaving) return Status::Ok();
    if (deadline.LeftMs() == 0) return Status(ETIMEDOUT, "wait for the end of mount " + name + ": its pod still has it");
    WaitChange(lock, deadline);
  }
}

// Of a start that did not succeed: nobody has used it yet.
void PodHost::GiveUp(const PodMount& mount) {
  if (Status s = Discard(mount.mount_key, mount.generation); !s.ok()) {
    LOG_WARNING("pods") << s.ToString();
  }
}

// ---- end -------------------------------------------------------------------------

Status PodHost::End(const ClientRecord& record, Deadline deadline) {
  const MountPtr mount = Find(record);
  if (!mount) {
    RETURN_IF_ERROR(sources_->Discard(record.mount_key, record.generation));
    return Released(record, deadline);
  }
  RETURN_IF_ERROR(StoreAndUnmount(record, *mount, deadline));
  {
    const std::lock_guard lock(mutex_);
    mount->leaving = true;
  }
  Wake();
  RETURN_IF_ERROR(sources_->RemoveDirectory(record.mount_key, record.generation));
  return Released(record, deadline);
}

Status PodHost::StoreAndUnmount(const ClientRecord& record, PodMount& mount, Deadline deadline) {
  const std::string what = "end the client of " + SourcePath(record);
  bool finished, ever_ready, aborted;
  {
    const std::lock_guard lock(mutex_);
    finished = mount.finished, ever_ready = mount.ever_ready, aborted = IsDead(mount.fuse.get());
  }
  if (!ever_ready) return sources_->Discard(record.mount_key, record.generation);
  if (!finished && !aborted) {
    // Only a client can store what the arena has.
    if (Status s = WaitServing(mount, deadline); !s.ok()) {
      return Status(ETIMEDOUT, what + ": nobody serves it who could store its data: " + s.message());
    }
    control::CallOptions options;
    options.timeout_ms = deadline.LeftMs();
    const auto drained = CallClient(record, {{"cmd", "drain"}}, options);
    if (!drained) {
      if (drained.error().err() == ETIMEDOUT) return Status(ETIMEDOUT, what + ": it still stores data");
      return drained.error().Annotate(what);
    }
  }
  ASSIGN_OR_RETURN_STATUS(const auto there, sources_->DeviceAt(SourcePath(record)));
  if (there) RETURN_IF_ERROR(os::Unmount(SourcePath(record), 0).Annotate(what));
  std::unique_lock lock(mutex_);
  while (!mount.finished) {
    if (deadline.LeftMs() == 0) {
      lock.unlock();
      ASSIGN_OR_RETURN_STATUS(const std::string other, sources_->OtherMount(mount.device));
      return Status(ETIMEDOUT, what + (other.empty() ? ": it is unmounted, and still stores data"
                                                     : ": it is also mounted at " + other));
    }
    WaitChange(lock, deadline);
  }
  return Status::Ok();
}

// The volume's lease goes last: until then a pod of ours may have the volume open.
Status PodHost::Released(const ClientRecord& record, Deadline deadline) {
  RETURN_IF_ERROR(WaitLeft(record.mount_key + "/" + std::to_string(record.generation), deadline));
  const auto claim = config::ClaimOf(record.spec.meta);
  if (!claim || claim->empty()) return Status::Ok();
  return parts_.leases.Release(record.mount_key);
}

Status PodHost::Discard(const std::string& mount_key, int generation) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = mounts_.find(mount_key + "/" + std::to_string(generation));
    if (it != mounts_.end()) it->second->leaving = true;
  }
  Wake();
  return sources_->Discard(mount_key, generation);
}

// ---- the client's own socket --------------------------------------------------------

Result<UniqueFd> PodHost::ClientSocket(const ClientRecord& record) {
  const MountPtr mount = Find(record);
  const std::lock_guard lock(mutex_);
  if (!mount || !mount->client_socket) {
    return Error(ECONNREFUSED, "ask the client: no pod serves it now" +
                                   (mount && !mount->trouble.empty() ? ": " + mount->trouble : std::string()));
  }
  UniqueFd copy(fcntl(mount->client_socket.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return Error(Status::FromErrno("ask the client"));
  return copy;
}

Result<control::Json> PodHost::CallClient(const ClientRecord& record, const control::Json& request,
                                          const control::CallOptions& options) {
  ASSIGN_OR_RETURN(const UniqueFd socket, ClientSocket(record));
  return control::Call("/proc/self/fd/" + std::to_string(socket.get()), request, options);
}

Result<control::LineSocket> PodHost::ConnectClient(const ClientRecord& record, int timeout_ms) {
  ASSIGN_OR_RETURN(const UniqueFd socket, ClientSocket(record));
  return control::ConnectUnix("/proc/self/fd/" + std::to_string(socket.get()), timeout_ms);
}

Result<std::unique_ptr<PodLauncher>> PodLauncher::Start(Parts parts, PodLauncherConfig config) {
  ASSIGN_OR_RETURN(auto sources, SourceMounts::Open(config.mounts_root));
  UniqueFd kubelet_root(open(config.kubelet_root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!kubelet_root) return Error(Status::FromErrno("open the kubelet root " + config.kubelet_root));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return Error(Status::FromErrno("make an eventfd"));
  auto host = std::make_unique<PodHost>(parts, std::move(config), std::move(sources), std::move(kubelet_root),
                                        std::move(wake));
  TRY_VOID(host->Begin());
  return host;
}

}  // namespace moorfs::mount
