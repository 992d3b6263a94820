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
#include "common/mount/target.h"
#include "common/os/bounded.h"
#include "common/os/file.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"

namespace moorfs::mount {
namespace {

using Json = nlohmann::json;

constexpr char kFsType[] = "fuse.moorfs";
constexpr int kProbeMs = 1'000;
constexpr int kDetachMs = 5'000;
constexpr useconds_t kStartingPauseUs = 20'000;

keeper::RuntimePaths RuntimeOf(const std::string& root, const std::string& device) {
  uint32_t major = 0, minor = 0;
  const size_t colon = device.find(':');
  if (colon != std::string::npos) {
    std::from_chars(device.data(), device.data() + colon, major);
    std::from_chars(device.data() + colon + 1, device.data() + device.size(), minor);
  }
  return keeper::PathsOf(root, major, minor);
}

bool Refused(const Status& s) { return s.err() == ENOENT || s.err() == ECONNREFUSED || s.err() == EPIPE; }

os::BoundedAnswer DoDetach(void* argument) {
  if (umount2(static_cast<const char*>(argument), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return {};
  return {errno, 0};
}

ClientHealth::State StateOf(const std::string& phase) {
  if (phase == "starting") return ClientHealth::kStarting;
  if (phase == "serving" || phase == "detached") return ClientHealth::kServing;
  if (phase == "restarting") return ClientHealth::kRestarting;
  if (phase == "aborted") return ClientHealth::kAborted;
  return ClientHealth::kDead;  // finished
}

class ProcessLauncher final : public Launcher {
 public:
  explicit ProcessLauncher(ProcessLauncherConfig config) : config_(std::move(config)) {}

  std::string SourcePath(const ClientRecord& record) override {
    return PathOf(record.mount_key, record.generation);
  }

  ClientHealth Probe(const ClientRecord& record) override {
    ClientHealth health;
    const std::string source = SourcePath(record);
    const auto table = os::ReadMountInfo();
    if (!table) {
      // Not knowing is no reason to give anything up.
      LOG_ERROR("mount") << table.error().ToString();
      health.state = ClientHealth::kRestarting;
      return health;
    }
    const auto mounted = os::FindMountAt(*table, source);
    health.mounted = mounted && mounted->fstype == kFsType;
    health.device = health.mounted ? mounted->Device() : record.device;
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
        TRY_VOID(MakePrivate(SourcePath(record)));
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
      ASSIGN_OR_RETURN_STATUS(const auto table, os::ReadMountInfo());
      if (!os::FindMountAt(table, source)) return Ended(record);
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
    std::string source = PathOf(mount_key, generation);
    for (;;) {
      ASSIGN_OR_RETURN_STATUS(const auto table, os::ReadMountInfo());
      if (!os::FindMountAt(table, source)) break;
      ASSIGN_OR_RETURN_STATUS(const os::BoundedAnswer answer, detach_.Run(DoDetach, source.data(), {}, kDetachMs));
      if (answer.err != 0 && answer.err != EINVAL) return Status::FromErrno("unmount " + source, answer.err);
    }
    return RemoveDirectory(mount_key, source);
  }

  int NextGeneration(const std::string& mount_key) override {
    int highest = 0;
    ForEachNumber(config_.mounts_root + "/" + mount_key, [&](int n) { highest = std::max(highest, n); });
    return highest + 1;
  }

  Result<std::vector<Source>> Sources() override {
    ASSIGN_OR_RETURN(const auto table, os::ReadMountInfo());
    const std::string prefix = config_.mounts_root + "/";
    std::vector<Source> out;
    for (const os::MountEntry& m : table) {
      if (m.fstype != kFsType || !m.mountpoint.starts_with(prefix)) continue;
      const std::string_view rest = std::string_view(m.mountpoint).substr(prefix.size());
      const size_t slash = rest.find('/');
      Source source;
      if (slash == std::string_view::npos) continue;
      const auto [end, error] = std::from_chars(rest.data() + slash + 1, rest.data() + rest.size(), source.generation);
      if (error != std::errc() || end != rest.data() + rest.size()) continue;
      source.mount_key = rest.substr(0, slash);
      source.device = m.Device();
      out.push_back(std::move(source));
    }
    return out;
  }

  Status PrepareRoot(const ClientRecord& record, const std::string& root, bool create, std::optional<gid_t> group,
                     Deadline deadline) override {
    Json request = {{"cmd", "prepare-root"}, {"directory", root}, {"create", create}};
    if (group) request["gid"] = *group;
    control::CallOptions options;
    options.timeout_ms = deadline.LeftMs();
    const auto answer = control::Call(RuntimeOf(config_.runtime_root, record.device).ClientSocket(), request, options);
    return answer ? Status::Ok() : answer.error();
  }

 private:
  std::string PathOf(const std::string& mount_key, int generation) const {
    return config_.mounts_root + "/" + mount_key + "/" + std::to_string(generation);
  }

  template <typename Use>
  static void ForEachNumber(const std::string& directory, Use use) {
    DIR* dir = opendir(directory.c_str());
    if (dir == nullptr) return;
    while (const dirent* entry = readdir(dir)) {
      const std::string_view name = entry->d_name;
      int number = 0;
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
      if (error == std::errc() && end == name.data() + name.size()) use(number);
    }
    closedir(dir);
  }

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
      if (Status s = RemoveDirectory(record.mount_key, source); !s.ok()) {
        LOG_DEBUG("mount") << s.ToString();
      }
      return Error(started.error().Annotate("start the client"));
    }
    TRY_VOID(MakePrivate(source));
    ASSIGN_OR_RETURN(const auto table, os::ReadMountInfo());
    const auto mounted = os::FindMountAt(table, source);
    if (!mounted || mounted->fstype != kFsType) {
      return Error(EIO, "start the client: it says it serves, but the mount table does not show " + source);
    }
    return mounted->Device();
  }

  // A bind of a shared mount joins its peer group; a repair of one target would
  // then appear on all of them, and on the host.
  static Status MakePrivate(const std::string& source) {
    if (::mount(nullptr, source.c_str(), nullptr, MS_PRIVATE, nullptr) == 0) return Status::Ok();
    return Status::FromErrno("make " + source + " private");
  }

  Status Ended(const ClientRecord& record) {
    const std::string source = SourcePath(record);
    ASSIGN_OR_RETURN_STATUS(const auto table, os::ReadMountInfo());
    if (os::FindMountAt(table, source)) return Status(EBUSY, "end the client at " + source + ": it is still mounted");
    if (!record.device.empty()) {
      for (const os::MountEntry& m : table) {
        if (m.fstype == kFsType && m.Device() == record.device) {
          return Status(EBUSY, "end the client at " + source + ": it is also mounted at " + m.mountpoint);
        }
      }
    }
    return RemoveDirectory(record.mount_key, source);
  }

  Status RemoveDirectory(const std::string& mount_key, const std::string& source) {
    if (rmdir(source.c_str()) != 0 && errno != ENOENT) return Status::FromErrno("remove " + source);
    // Left when another generation has its directory there.
    if (rmdir((config_.mounts_root + "/" + mount_key).c_str()) != 0 && errno != ENOENT && errno != ENOTEMPTY) {
      return Status::FromErrno("remove " + config_.mounts_root + "/" + mount_key);
    }
    return Status::Ok();
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
  os::BoundedCalls detach_;
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
  TRY_VOID(os::MakeDirs(config.mounts_root, 0700));
  // The mount table has no symlinks in it.
  ProcessLauncherConfig canonical = config;
  char path[PATH_MAX];
  if (realpath(config.mounts_root.c_str(), path) == nullptr) {
    return Error(Status::FromErrno("resolve " + config.mounts_root));
  }
  canonical.mounts_root = path;
  auto launcher = std::make_unique<ProcessLauncher>(canonical);
  // Inherited by a new mount namespace, a private mount comes back shared.
  ASSIGN_OR_RETURN(const auto table, os::ReadMountInfo());
  for (const os::MountEntry& m : table) {
    if (m.fstype != kFsType || !m.mountpoint.starts_with(canonical.mounts_root + "/")) continue;
    if (::mount(nullptr, m.mountpoint.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) {
      return Error(Status::FromErrno("make " + m.mountpoint + " private"));
    }
  }
  return launcher;
}

}  // namespace moorfs::mount
