// SPDX-License-Identifier: Apache-2.0

#include "common/mount/process_launcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "common/control/client.h"
#include "common/control/line_socket.h"
#include "common/keeper/runtime_dir.h"
#include "common/log/log.h"
#include "common/mount/command.h"
#include "common/mount/source_mounts.h"
#include "common/mount/target.h"
#include "common/os/bounded.h"
#include "common/os/file.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"

namespace moorfs::mount {
namespace {

using Json = nlohmann::json;

constexpr int kProbeMs = 1'000;
constexpr useconds_t kStartingPauseUs = 20'000;

keeper::RuntimePaths RuntimeOf(const std::string& root, const std::string& device) {
  const auto [major, minor] = NumbersOf(device);
  return keeper::PathsOf(root, major, minor);
}

bool Refused(const Status& s) { return s.err() == ENOENT || s.err() == ECONNREFUSED || s.err() == EPIPE; }

ClientHealth::State StateOf(const std::string& phase) {
  if (phase == "starting") return ClientHealth::kStarting;
  if (phase == "serving" || phase == "detached") return ClientHealth::kServing;
  if (phase == "restarting") return ClientHealth::kRestarting;
  if (phase == "aborted") return ClientHealth::kAborted;
  return ClientHealth::kDead;  // finished
}

class ProcessLauncher final : public Launcher {
 public:
  ProcessLauncher(ProcessLauncherConfig config, std::unique_ptr<SourceMounts> sources)
      : config_(std::move(config)), sources_(std::move(sources)) {}

  std::string SourcePath(const ClientRecord& record) override {
    return sources_->PathOf(record.mount_key, record.generation);
  }

  ClientHealth Probe(const ClientRecord& record) override {
    ClientHealth health;
    const std::string source = SourcePath(record);
    const auto device = sources_->DeviceAt(source);
    if (!device) {
      // Not knowing is no reason to give anything up.
      LOG_ERROR("mount") << device.error().ToString();
      health.state = ClientHealth::kRestarting;
      return health;
    }
    health.mounted = device->has_value();
    health.device = device->value_or(record.device);
    if (health.device.empty()) return health;
    const keeper::RuntimePaths runtime = RuntimeOf(config_.runtime_root, health.device);
    control::CallOptions options;
    options.timeout_ms = kProbeMs;
    const auto status = control::Call(runtime.KeeperSocket(), {{"cmd", "status"}}, options);
    if (status && status->is_object()) {
      // Device numbers are used again: is it ours?
      if (status->value("mountpoint", "") != source) return health;
      health.state = StateOf(status->value("state", ""));
      health.client_pid = status->value("client_pid", 0);
      health.keeper_pid = status->value("keeper_pid", 0);
      return health;
    }
    if (!status && !Refused(status.error())) {
      health.state = ClientHealth::kServing;  // slow, not dead
      return health;
    }
    // No keeper: the client serves on alone, as long as it has its socket.
    const auto client = control::Call(runtime.ClientSocket(), {{"cmd", "status"}}, options);
    if (client || !Refused(client.error())) health.state = ClientHealth::kServing;
    if (client && client->is_object()) health.client_pid = client->value("client_pid", 0);
    return health;
  }

  Result<std::string> Ensure(const ClientRecord& record, Deadline deadline) override {
    for (;;) {
      const ClientHealth health = Probe(record);
      if (health.Usable()) {
        TRY_VOID(SourceMounts::MakePrivate(SourcePath(record)));
        return health.device;
      }
      if (!health.mounted) return Start(record, deadline);
      if (health.state != ClientHealth::kStarting) {
        TRY_VOID(Discard(record.mount_key, record.generation));
        continue;
      }
      // A dead agent began it; it is ready or gone in a moment.
      if (deadline.LeftMs() == 0) return Error(ETIMEDOUT, "start the client: an earlier start is not through");
      usleep(kStartingPauseUs);
    }
  }

  Status End(const ClientRecord& record, Deadline deadline) override {
    const std::string source = SourcePath(record);
    std::unique_ptr<Command> command = TakeEnding(source);
    if (!command) {
      ASSIGN_OR_RETURN_STATUS(const auto device, sources_->DeviceAt(source));
      if (!device) return Ended(record);
      if (Probe(record).state == ClientHealth::kDead) return Discard(record.mount_key, record.generation);
      auto started = Command::Start({config_.executable, {"umount", source}, /*own_cgroup=*/true,
                                     /*ends_with_caller=*/false});
      if (!started) return started.error().Annotate("end the client at " + source);
      command = std::make_unique<Command>(std::move(*started));
    }
    auto ended = command->Wait(deadline);
    if (!ended && ended.error().err() == ETIMEDOUT) {
      const std::lock_guard lock(mutex_);
      ending_[source] = std::move(command);
      return Status(ETIMEDOUT, "end the client at " + source + ": it still stores data");
    }
    if (!ended) return ended.error().Annotate("end the client at " + source);
    return Ended(record);
  }

  Status Discard(const std::string& mount_key, int generation) override {
    return sources_->Discard(mount_key, generation);
  }
  int NextGeneration(const std::string& mount_key) override { return sources_->NextGeneration(mount_key); }
  Result<std::vector<Source>> Sources() override { return sources_->All(); }

  Result<Json> CallClient(const ClientRecord& record, const Json& request,
                          const control::CallOptions& options) override {
    return control::Call(ClientSocketOf(config_.runtime_root, record.device), request, options);
  }
  Result<control::LineSocket> ConnectClient(const ClientRecord& record, int timeout_ms) override {
    return control::ConnectUnix(ClientSocketOf(config_.runtime_root, record.device), timeout_ms);
  }

 private:
  Result<std::string> Start(const ClientRecord& record, Deadline deadline) {
    const std::string source = SourcePath(record);
    TRY_VOID(os::MakeDirs(source, 0700));
    Command::Options options;
    options.executable = config_.executable;
    options.arguments = {"mount", record.spec.meta, source, "--json"};
    if (!record.spec.words.empty()) options.arguments.insert(options.arguments.end(), {"-o", record.spec.words});
    options.own_cgroup = true;
    // A start that nobody waits for any more ends: its keeper sees it go.
    options.ends_with_caller = true;
    ASSIGN_OR_RETURN(Command command, Command::Start(options));
    const auto started = command.Wait(deadline);
    if (!started) {
      if (started.error().err() == ETIMEDOUT) command.Kill();
      if (Status s = sources_->RemoveDirectory(record.mount_key, record.generation); !s.ok()) {
        LOG_DEBUG("mount") << s.ToString();
      }
      return Error(started.error().Annotate("start the client"));
    }
    TRY_VOID(SourceMounts::MakePrivate(source));
    ASSIGN_OR_RETURN(const auto device, sources_->DeviceAt(source));
    if (device) return *device;
    return Error(EIO, "start the client: it says it serves, but the mount table does not show " + source);
  }

  Status Ended(const ClientRecord& record) {
    const std::string source = SourcePath(record);
    ASSIGN_OR_RETURN_STATUS(const auto device, sources_->DeviceAt(source));
    if (device) return Status(EBUSY, "end the client at " + source + ": it is still mounted");
    if (!record.device.empty()) {
      ASSIGN_OR_RETURN_STATUS(const std::string other, sources_->OtherMount(record.device));
      if (!other.empty()) return Status(EBUSY, "end the client at " + source + ": it is also mounted at " + other);
    }
    return sources_->RemoveDirectory(record.mount_key, record.generation);
  }

  std::unique_ptr<Command> TakeEnding(const std::string& source) {
    const std::lock_guard lock(mutex_);
    const auto it = ending_.find(source);
    if (it == ending_.end()) return nullptr;
    std::unique_ptr<Command> out = std::move(it->second);
    ending_.erase(it);
    return out;
  }

  const ProcessLauncherConfig config_;
  const std::unique_ptr<SourceMounts> sources_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Command>> ending_;  // `moorfs umount` under way
};

}  // namespace

std::string ClientSocketOf(const std::string& runtime_root, const std::string& device) {
  return RuntimeOf(runtime_root, device).ClientSocket();
}
std::string KeeperSocketOf(const std::string& runtime_root, const std::string& device) {
  return RuntimeOf(runtime_root, device).KeeperSocket();
}

Result<std::unique_ptr<Launcher>> MakeProcessLauncher(const ProcessLauncherConfig& config) {
  ASSIGN_OR_RETURN(auto sources, SourceMounts::Open(config.mounts_root));
  return std::make_unique<ProcessLauncher>(config, std::move(sources));
}

}  // namespace moorfs::mount
