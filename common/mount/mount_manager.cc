// SPDX-License-Identifier: Apache-2.0
//
// The manager with the real parts: records in files, clients as processes, the
// kernel's mounts. What happens in which order, and what a death in between
// leaves, is in core.h.
//
// MOORFS_CRASH_AT=<step> ("publish-5", "unpublish-5a", "generation-2", see
// core.h) makes the process kill itself with SIGKILL after that step. It is for
// tests, and always there, so that they test what is shipped.

#include "common/mount/mount_manager.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "common/base/text.h"
#include "common/base/units.h"
#include "common/keeper/runtime_dir.h"
#include "common/log/log.h"
#include "common/mount/core.h"
#include "common/mount/file_record_store.h"
#include "common/mount/manager_parts.h"
#include "common/mount/process_launcher.h"
#include "common/mount/reconciler.h"
#include "common/mount/stats.h"
#include "common/os/file.h"
#include "common/os/lock_file.h"

namespace moorfs::mount {
namespace {

constexpr int64_t kNsPerSec = 1'000'000'000;

void DieAt(const char* step) {
  static const char* const wanted = getenv("MOORFS_CRASH_AT");
  if (wanted != nullptr && std::strcmp(wanted, step) == 0) kill(getpid(), SIGKILL);
}

Result<std::string> BootId() {
  ASSIGN_OR_RETURN(std::string id, os::ReadFile("/proc/sys/kernel/random/boot_id", 256));
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

// Clients that somebody uses without a target, and those that stay a while.
class Holds {
 public:
  void Begin(const std::string& mount_key) {
    const std::lock_guard lock(mutex_);
    ++holds_[mount_key].users;
  }
  void End(const std::string& mount_key) {
    const std::lock_guard lock(mutex_);
    --holds_[mount_key].users;
  }
  void StayUntil(const std::string& mount_key, int64_t ns) {
    const std::lock_guard lock(mutex_);
    holds_[mount_key].until_ns = ns;
  }
  bool Holding(const std::string& mount_key) {
    const std::lock_guard lock(mutex_);
    const auto it = holds_.find(mount_key);
    return it != holds_.end() && (it->second.users > 0 || it->second.until_ns > MonotonicNs());
  }
  // Forgets what is over; true: something is not.
  bool Any() {
    const std::lock_guard lock(mutex_);
    std::erase_if(holds_, [](const auto& h) { return h.second.users == 0 && h.second.until_ns <= MonotonicNs(); });
    return !holds_.empty();
  }

 private:
  struct Hold {
    int users = 0;
    int64_t until_ns = 0;
  };
  std::mutex mutex_;
  std::map<std::string, Hold> holds_;
};

class Manager final : public ManagerBase {
 public:
  explicit Manager(ManagerParts made)
      : made_(std::move(made)),
        core_({*made_.store, *made_.launcher, *made_.targets, *made_.locks, made_.boot_id, DieAt,
               [this](const std::string& key) { return holds_.Holding(key); }}),
        prober_(*made_.launcher) {}

  // The thread ends before what it uses.
  ~Manager() override { reconciler_.reset(); }

  Status Begin() {
    // What can take long is left to the thread: an agent is there at once.
    Repair(/*start=*/false);
    ASSIGN_OR_RETURN_STATUS(reconciler_, Reconciler::Start([this] {
                              const Core::RepairResult result = Repair(/*start=*/true);
                              Reconciler::Pass pass{holds_.Any() || result.again, {}};
                              WatchProcesses(&pass);
                              return pass;
                            }));
    return Status::Ok();
  }

  Result<Published> Publish(const PublishRequest& request) override {
    ++publishes_;
    auto published = TryPublish(request);
    if (!published) ++publish_failures_;
    return published;
  }

  Status Unpublish(const UnpublishRequest& request) override {
    ++unpublishes_;
    Status s;
    if (auto target = made_.targets->Name(request.target); !target) {
      s = target.error();
    } else {
      LetStay(*target);
      s = core_.Unpublish(*target, Deadline::In(request.timeout_ms));
    }
    if (!s.ok()) ++unpublish_failures_;
    return s;
  }

  std::optional<TargetInfo> FindTarget(std::string_view target) override {
    const auto name = made_.targets->Name(target);
    if (!name) return std::nullopt;
    const auto found = core_.Find(*name);
    const auto table = made_.targets->Table();
    if (!found || !*found || !table) return std::nullopt;
    return InfoOf((*found)->record, (*found)->reference, *table);
  }

  std::vector<ClientInfo> List() override {
    std::vector<ClientInfo> out;
    const auto records = made_.store->List();
    const auto table = made_.targets->Table();
    if (!records || !table) return out;
    for (const ClientRecord& record : *records) {
      const ClientHealth health = made_.launcher->Probe(record);
      ClientInfo info;
      info.mount_key = record.mount_key;
      info.meta = RedactUrl(record.spec.meta);
      info.source = made_.launcher->SourcePath(record);
      info.client_pid = health.client_pid;
      info.keeper_pid = health.keeper_pid;
      info.state = record.phase == RecordPhase::kServing ? StateName(health.state) : PhaseName(record.phase);
      for (const auto& [hash, reference] : record.references) {
        info.targets.push_back(InfoOf(record, reference, *table));
      }
      out.push_back(std::move(info));
    }
    return out;
  }

  Result<VolumeStats> Stats(std::string_view target, int timeout_ms) override {
    const Deadline deadline = Deadline::In(timeout_ms);
    ASSIGN_OR_RETURN(const TargetName name, made_.targets->Name(target));
    ASSIGN_OR_RETURN(const auto found, core_.Find(name));
    if (!found) return Error(ENOENT, "look at the volume at " + name.path + ": nothing is published there");
    ASSIGN_OR_RETURN(const auto table, made_.targets->Table());
    const TargetInfo info = InfoOf(found->record, found->reference, table);
    if (found->record.device.empty()) {
      VolumeStats stats;
      stats.abnormal = true;
      stats.condition = "its client is being started";
      return stats;
    }
    auto stats = prober_.Ask(found->record, found->reference.root, deadline);
    if (stats && !info.mounted) {
      stats->abnormal = true;
      stats->condition = "its mount at " + name.path + " is missing or dead; it is being repaired";
      reconciler_->Wake();
    }
    return stats;
  }

  Result<control::Json> AskVolume(const std::string& meta, const control::Json& request, int timeout_ms) override {
    const Deadline deadline = Deadline::In(timeout_ms);
    config::VolumeOptions options;
    options.meta = meta;
    const std::string key = MountKeyOf(config::MountKeyText(options));
    holds_.Begin(key);
    auto answer = [&]() -> Result<control::Json> {
      ASSIGN_OR_RETURN(const ClientRecord record, core_.Use(key, SpecOf(options), deadline));
      control::CallOptions call;
      call.timeout_ms = call.total_ms = deadline.LeftMs();
      return made_.launcher->CallClient(record, request, call);
    }();
    holds_.End(key);
    if (made_.end_delay_s > 0) holds_.StayUntil(key, MonotonicNs() + made_.end_delay_s * kNsPerSec);
    // Ended by the reconciler, so that the caller has the answer now.
    reconciler_->Wake();
    return answer;
  }

  void WakeReconciler() override {
    if (reconciler_) reconciler_->Wake();
  }

  std::vector<std::string> Reconcile() override { return Repair(/*start=*/true).repaired; }

  Counters GetCounters() override {
    Counters c;
    c.publishes = publishes_;
    c.publish_failures = publish_failures_;
    c.unpublishes = unpublishes_;
    c.unpublish_failures = unpublish_failures_;
    c.repairs = repairs_;
    c.last_reconcile_ns = last_reconcile_ns_;
    if (const auto records = made_.store->List()) {
      c.clients = records->size();
      for (const ClientRecord& record : *records) c.targets += record.references.size();
    }
    return c;
  }

 private:
  static ClientSpec SpecOf(const config::VolumeOptions& o) {
    return {o.meta, config::ClientOptionWords(o), o.start_timeout_s, o.abort_after_s};
  }

  void LetStay(const TargetName& target) {
    if (made_.end_delay_s == 0) return;
    if (const auto found = core_.Find(target); found && *found) {
      holds_.StayUntil((*found)->record.mount_key, MonotonicNs() + made_.end_delay_s * kNsPerSec);
    }
  }

  Result<Published> TryPublish(const PublishRequest& request) {
    const Deadline deadline = Deadline::In(request.timeout_ms);
    PublishPlan plan;
    ASSIGN_OR_RETURN(plan.target, made_.targets->Name(request.target));
    const config::VolumeOptions& o = request.options;
    if (o.meta.empty()) return Error(EINVAL, "meta: it is missing; it says which volume is meant");
    TRY_VOID(CheckVolumeDirectory(o.subdir));
    TRY_VOID(CheckVolumeId(request.volume_id));
    plan.mount_key = MountKeyOf(config::MountKeyText(o));
    plan.spec = SpecOf(o);
    plan.reference = {plan.target.ref, request.volume_id, o.subdir, o.read_only};
    plan.create_root = o.create_subdir;
    plan.group = request.group;
    plan.mount_flags = o.mount_flags;
    auto outcome = core_.Publish(plan, deadline);
    if (!outcome) return Error(outcome.error());
    return Published{plan.mount_key, outcome->device, outcome->already};
  }

  TargetInfo InfoOf(const ClientRecord& record, const Reference& reference,
                    const std::vector<os::MountEntry>& table) {
    const TargetName name = made_.targets->FromRef(reference.target);
    const auto layers = LayersAt(table, name.path);
    TargetInfo info{name.path, reference.volume_id, reference.root, reference.read_only, false};
    info.mounted = !layers.empty() && layers.back().Device() == record.device &&
                   ShowsRoot(layers.back(), reference.root);
    return info;
  }

  Core::RepairResult Repair(bool start) {
    const std::lock_guard lock(repair_mutex_);
    Core::RepairResult result = core_.Repair(start);
    repairs_ += result.repaired.size();
    last_reconcile_ns_ = MonotonicNs();
    return result;
  }

  // Whoever is left of keeper and client: when both are gone a target is dead.
  void WatchProcesses(Reconciler::Pass* pass) {
    const auto records = made_.store->List();
    if (!records) {
      pass->again = true;
      return;
    }
    std::set<std::string> keys;
    for (const ClientRecord& record : *records) {
      keys.insert(record.mount_key);
      if (record.phase != RecordPhase::kServing || made_.launcher->ReportsEnds()) continue;
      const ClientHealth health = made_.launcher->Probe(record);
      const pid_t pid = health.keeper_pid > 0 ? health.keeper_pid : health.client_pid;
      if (health.Lives() && pid > 0) {
        pass->watch.push_back(pid);
      } else {
        // Died since the pass, or nobody says who it is: no event will come.
        pass->again = true;
      }
    }
    prober_.Keep(keys);
  }

  ManagerParts made_;
  Holds holds_;
  Core core_;
  StatsProber prober_;
  std::mutex repair_mutex_;
  std::atomic<uint64_t> publishes_{0}, publish_failures_{0}, unpublishes_{0}, unpublish_failures_{0}, repairs_{0};
  std::atomic<int64_t> last_reconcile_ns_{0};
  std::unique_ptr<Reconciler> reconciler_;
};

Result<std::unique_ptr<os::LockFile>> LockState(const std::string& state_root) {
  const std::string path = state_root + "/agent.lock";
  auto lock = os::LockFile::Acquire(path);
  if (!lock) {
    if (lock.error().err() != EBUSY) return Error(lock.error());
    auto holder = os::ReadLockContent(path);
    return Error(EBUSY, "start on " + state_root + ": another agent works there" +
                            (holder && !holder->empty() ? " (" + *holder + ")" : "") +
                            "; stop it, or use another --state");
  }
  TRY_VOID(lock->SetContent("pid " + std::to_string(getpid())));
  return std::make_unique<os::LockFile>(std::move(*lock));
}

}  // namespace

const char* StateName(ClientHealth::State state) {
  switch (state) {
    case ClientHealth::kDead:
      return "dead";
    case ClientHealth::kStarting:
      return "starting";
    case ClientHealth::kServing:
      return "serving";
    case ClientHealth::kRestarting:
      return "restarting";
    case ClientHealth::kAborted:
      return "aborted";
  }
  return "?";
}

Result<ManagerParts> BeginManagerParts(const ManagerConfig& config) {
  ManagerParts parts;
  TRY_VOID(os::MakeDirs(config.state_root, 0700));
  ASSIGN_OR_RETURN(parts.lock, LockState(config.state_root));
  ASSIGN_OR_RETURN(parts.boot_id, BootId());
  ASSIGN_OR_RETURN(parts.targets, MakeKernelTargets({config.kubelet_root, config.confine_targets}));
  parts.locks = MakeNameLocks();
  return parts;
}

Result<std::unique_ptr<ManagerBase>> MakeManager(ManagerParts parts) {
  auto manager = std::make_unique<Manager>(std::move(parts));
  TRY_VOID(manager->Begin());
  return manager;
}

Result<std::unique_ptr<MountManager>> MountManager::Start(const ManagerConfig& config) {
  ASSIGN_OR_RETURN(ManagerParts parts, BeginManagerParts(config));
  ASSIGN_OR_RETURN(parts.store, OpenFileRecordStore(config.state_root + "/clients"));
  ASSIGN_OR_RETURN(parts.launcher, MakeProcessLauncher({config.state_root + "/mounts", config.executable,
                                                        keeper::RuntimeRoot()}));
  return MakeManager(std::move(parts));
}

}  // namespace moorfs::mount
