// SPDX-License-Identifier: Apache-2.0
//
// The launcher's inside: pod_launcher.cc is what callers ask of it, pod_serving.cc
// its thread.

#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/keeper/depot.h"
#include "common/mount/pods/pod_launcher.h"
#include "common/mount/pods/pod_mount.h"
#include "common/mount/source_mounts.h"

namespace moorfs::mount {

class PodHost final : public PodLauncher {
 public:
  PodHost(Parts parts, PodLauncherConfig config, std::unique_ptr<SourceMounts> sources, UniqueFd kubelet_root,
          UniqueFd wake);
  ~PodHost() override;
  Status Begin();

  // ---- Launcher --------------------------------------------------------------
  std::string SourcePath(const ClientRecord& record) override;
  ClientHealth Probe(const ClientRecord& record) override;
  Result<std::string> Ensure(const ClientRecord& record, Deadline deadline) override;
  Status End(const ClientRecord& record, Deadline deadline) override;
  Status Discard(const std::string& mount_key, int generation) override;
  int NextGeneration(const std::string& mount_key) override;
  Result<std::vector<Source>> Sources() override;
  Result<control::Json> CallClient(const ClientRecord& record, const control::Json& request,
                                   const control::CallOptions& options) override;
  Result<control::LineSocket> ConnectClient(const ClientRecord& record, int timeout_ms) override;
  bool ReportsEnds() const override { return true; }
  void Wake() override;

 private:
  using MountPtr = std::shared_ptr<PodMount>;

  // ---- of callers' threads (pod_launcher.cc) -----------------------------------
  MountPtr Find(const ClientRecord& record);
  Result<MountPtr> FindOrMount(const ClientRecord& record, Deadline deadline);
  Status WaitLeft(const std::string& name, Deadline deadline);
  Status WaitServing(PodMount& mount, Deadline deadline);
  void GiveUp(const PodMount& mount);
  void WaitChange(std::unique_lock<std::mutex>& lock, Deadline deadline);
  Status StoreAndUnmount(const ClientRecord& record, PodMount& mount, Deadline deadline);
  Status Released(const ClientRecord& record, Deadline deadline);
  Result<UniqueFd> ClientSocket(const ClientRecord& record);

  // ---- of the thread (pod_serving.cc) ------------------------------------------
  Status Recover();
  void RecoverFromDepot(const std::map<std::string, Source>& sources);
  void RecoverFromPods(const std::map<std::string, Source>& sources);
  void AdoptSupervisor(const std::map<std::string, Source>& sources, const std::string& uid);
  MountPtr Adopt(const Source& source);

  void Loop();
  void WaitForReason();
  std::vector<MountPtr> Mounts();
  void Advance(PodMount& mount);
  void HearSupervisor(PodMount& mount);
  void TakeState(PodMount& mount);
  void RestartFailed(PodMount& mount);
  void Lose(PodMount& mount);
  void SeekPod(PodMount& mount);
  void CreatePod(PodMount& mount, const std::optional<kube::Pod>& replaced);
  bool EndsAgain(const PodMount& mount, const kube::Pod& pod);
  std::string OtherImage(const PodMount& mount, const kube::Pod& pod) const;
  void Connect(PodMount& mount, const kube::Pod& pod);
  Status HandOver(PodMount& mount, const kube::Pod& pod, std::unique_ptr<keeper::SupervisorLink> next,
                  UniqueFd directory);
  Status MakeRoom(PodMount& mount, keeper::SupervisorLink& supervisor);
  Status StopOthers(PodMount& mount, const std::string& successor);
  Status StopOther(const PodMount& mount, const std::string& uid);
  void Settle(PodMount& mount);
  Status FetchArena(PodMount& mount);
  void Tidy(PodMount& mount);
  Status DeleteOthers(const PodMount& mount, const std::string& kept);
  void AbortUnserved(PodMount& mount);
  void KeepDeposits();
  void LetGo();
  void SetTrouble(PodMount& mount, const std::string& why);
  Result<UniqueFd> PodDirectory(const std::string& uid);
  std::vector<std::string> PodUids();

  Parts parts_;
  const PodLauncherConfig config_;
  const std::unique_ptr<SourceMounts> sources_;
  const UniqueFd kubelet_root_;
  const UniqueFd wake_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, MountPtr> mounts_;  // by Name()

  std::atomic<bool> stop_{false};
  std::thread thread_;
  // Of the thread.
  std::unique_ptr<keeper::DepotClient> depot_;
  std::set<std::string> deposited_;
  int64_t next_depot_try_ns_ = 0;
  bool busy_ = false;  // something is on its way: look again in milliseconds
  bool soon_ = false;  // time alone changes something
};

}  // namespace moorfs::mount
