// SPDX-License-Identifier: Apache-2.0

#include "common/mount/pods/pod_manager.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "common/log/log.h"
#include "common/mount/file_record_store.h"
#include "common/mount/manager_parts.h"
#include "common/mount/pods/node_pods.h"
#include "common/mount/pods/pod_launcher.h"
#include "common/mount/pods/pod_records.h"
#include "common/mount/pods/volume_leases.h"

namespace moorfs::mount {
namespace {

using kube::Json;

constexpr int kAskMs = 50'000;
constexpr size_t kMaxAsks = 256;
constexpr int kDeskThreads = 4;

// Answers asks, a few at a time: one client that hangs does not hold up the others.
class AskDesk {
 public:
  ~AskDesk() { Stop(); }

  // Asks that came before wait in the queue.
  void Begin(VolumeLeases& leases, MountManager& manager) {
    for (int i = 0; i < kDeskThreads; ++i) {
      threads_.emplace_back([this, &leases, &manager] { Loop(leases, manager); });
    }
  }
  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : std::exchange(threads_, {})) thread.join();
  }
  void Take(VolumeLeases::Ask ask) {
    const std::lock_guard lock(mutex_);
    // The asker's own deadline ends what is dropped here.
    if (asks_.size() < kMaxAsks) asks_.push_back(std::move(ask));
    changed_.notify_all();
  }

 private:
  void Loop(VolumeLeases& leases, MountManager& manager) {
    for (;;) {
      VolumeLeases::Ask ask;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stop_ || !asks_.empty(); });
        if (stop_) return;
        ask = std::move(asks_.front());
        asks_.pop_front();
      }
      if (Status s = leases.Answer(ask.mount_key, ask.id, Execute(manager, ask)); !s.ok()) {
        LOG_WARNING("asks") << s.ToString();
      }
    }
  }

  static Json Execute(MountManager& manager, const VolumeLeases::Ask& ask) {
    const auto error = [](const Status& s) {
      return Json{{"error", {{"errno", s.err()}, {"message", s.message()}}}};
    };
    const std::string command = ask.request.is_object() ? ask.request.value("cmd", "") : "";
    // Whoever may write a Lease manages volumes, and nothing else.
    if (!command.starts_with("volume-")) {
      return error(Status(EPERM, "answer \"" + command + "\": only commands about volumes are taken"));
    }
    // The Lease says which volume; its annotation is not believed to be of another.
    config::VolumeOptions options;
    options.meta = ask.meta;
    if (MountKeyOf(config::MountKeyText(options)) != ask.mount_key) {
      return error(Status(EINVAL, "answer \"" + command + "\": the lease is of another volume than its annotation says"));
    }
    const auto answer = manager.AskVolume(ask.meta, ask.request, kAskMs);
    return answer ? Json{{"ok", *answer}} : error(answer.error());
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<VolumeLeases::Ask> asks_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

// What the launcher, the records and the leases use; outlives them.
struct Context {
  // Set once they exist, cleared before they go; callers are the watches' threads,
  // which end before it.
  std::mutex mutex;
  PodLauncher* launcher = nullptr;
  ManagerBase* manager = nullptr;
  std::unique_ptr<kube::Api> api;
  std::unique_ptr<kube::EventSender> events;
  std::unique_ptr<RecordStore> copies;
  AskDesk desk;
  std::unique_ptr<VolumeLeases> leases;
  std::unique_ptr<NodePods> pods;

  void PodsChanged() {
    const std::lock_guard lock(mutex);
    if (launcher != nullptr) launcher->Wake();
  }
  void Reconcile() {
    const std::lock_guard lock(mutex);
    if (manager != nullptr) manager->WakeReconciler();
  }
};

// The manager, and what speaks to it from outside.
class PodManager final : public MountManager {
 public:
  PodManager(std::shared_ptr<Context> context, std::unique_ptr<ManagerBase> manager)
      : context_(std::move(context)), manager_(std::move(manager)) {
    {
      const std::lock_guard lock(context_->mutex);
      context_->manager = manager_.get();
    }
    context_->desk.Begin(*context_->leases, *manager_);
  }
  ~PodManager() override {
    context_->desk.Stop();
    const std::lock_guard lock(context_->mutex);
    context_->manager = nullptr;
    context_->launcher = nullptr;
  }

  Result<Published> Publish(const PublishRequest& r) override { return manager_->Publish(r); }
  Status Unpublish(const UnpublishRequest& r) override { return manager_->Unpublish(r); }
  std::optional<TargetInfo> FindTarget(std::string_view target) override { return manager_->FindTarget(target); }
  std::vector<ClientInfo> List() override { return manager_->List(); }
  Result<VolumeStats> Stats(std::string_view target, int ms) override { return manager_->Stats(target, ms); }
  Result<Json> AskVolume(const std::string& meta, const Json& request, int ms) override {
    return manager_->AskVolume(meta, request, ms);
  }
  std::vector<std::string> Reconcile() override { return manager_->Reconcile(); }
  Counters GetCounters() override { return manager_->GetCounters(); }

 private:
  std::shared_ptr<Context> context_;
  std::unique_ptr<ManagerBase> manager_;
};

}  // namespace

Result<std::unique_ptr<MountManager>> StartPodManager(const PodManagerConfig& config) {
  ASSIGN_OR_RETURN(ManagerParts parts, BeginManagerParts(config.manager));
  auto context = std::make_shared<Context>();
  Context* const raw = context.get();
  ASSIGN_OR_RETURN(context->api, kube::Api::Create(config.api));
  context->events = kube::EventSender::Start(*context->api, "moorfs-node", config.node);
  ASSIGN_OR_RETURN(context->copies, OpenFileRecordStore(config.manager.state_root + "/clients"));

  context->leases = VolumeLeases::Start(
      *context->api, {config.pods.ns, config.node, [raw](VolumeLeases::Ask ask) { raw->desk.Take(std::move(ask)); }});
  context->pods = NodePods::Start(*context->api, {config.node, config.pods, [raw] { raw->PodsChanged(); }});

  auto records = PodRecords::Over(*context->pods, *context->copies);
  ASSIGN_OR_RETURN(auto launcher,
                   PodLauncher::Start({*context->pods, *records, *context->leases, *context->events},
                                      {config.manager.state_root + "/mounts", config.manager.kubelet_root, config.node,
                                       config.keeper_socket, config.pods, [raw] { raw->Reconcile(); }}));
  {
    const std::lock_guard lock(context->mutex);
    context->launcher = launcher.get();
  }
  parts.context = context;
  parts.store = std::move(records);
  parts.launcher = std::move(launcher);
  parts.end_delay_s = config.pods.delete_delay_s;
  ASSIGN_OR_RETURN(auto manager, MakeManager(std::move(parts)));
  return std::make_unique<PodManager>(std::move(context), std::move(manager));
}

}  // namespace moorfs::mount
