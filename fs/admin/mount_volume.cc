// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/mount_volume.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/control/line_socket.h"
#include "common/keeper/keeper_config.h"
#include "common/keeper/runtime_dir.h"
#include "common/os/fd_passing.h"
#include "common/os/file.h"
#include "common/os/host.h"
#include "common/os/mountinfo.h"
#include "common/os/process.h"
#include "fs/admin/volume.h"
#include "fs/kv/open.h"
#include "fs/vfs/arena.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr char kFsType[] = "fuse.moorfs";
constexpr char kSourcePrefix[] = "moorfs:";
// The keeper always answers before: it has a limit of its own.
constexpr int kKeeperGraceMs = 30'000;

Status CheckMountpoint(const std::string& path, const os::MountEntry* mounted) {
  if (mounted != nullptr) {
    if (mounted->fstype == kFsType) {
      return Status(EBUSY, "mount at " + path + ": " + mounted->source + " is mounted there; `moorfs status " + path +
                               "` shows it, `moorfs umount " + path + "` ends it");
    }
    // Mounting over "/" or a disk hides it; nobody means that.
    return Status(EBUSY, "mount at " + path + ": " + mounted->source + " (" + mounted->fstype +
                             ") is mounted there; unmount it or choose another directory");
  }
  struct stat st;
  if (stat(path.c_str(), &st) != 0) {
    const int err = errno;
    if (err == ENOENT) return Status(err, "mount at " + path + ": there is no such directory; `mkdir -p " + path + "`");
    return Status::FromErrno("mount at " + path, err);
  }
  if (!S_ISDIR(st.st_mode)) return Status(ENOTDIR, "mount at " + path + ": it is no directory; choose one");
  return Status::Ok();
}

size_t CountEntries(const std::string& path) {
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) return 0;
  size_t count = 0;
  while (const dirent* entry = readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") ++count;
  }
  closedir(dir);
  return count;
}

// Where the program is, for clients to come: a newer one put there is started
// by the keeper at the next change of client.
Result<std::string> OwnPath() {
  char path[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0) return Error(Status::FromErrno("find this program"));
  return std::string(path, static_cast<size_t>(n));
}

Result<std::string> LogFile(const MountRequest& request, const std::string& volume) {
  if (request.foreground && request.options.log_file.empty()) return std::string();
  if (!request.options.log_file.empty()) return request.options.log_file;
  const char* runtime = std::getenv("MOORFS_RUNTIME_DIR");
  const std::string directory = runtime && *runtime ? runtime : "/var/log/moorfs";
  TRY_VOID(os::MakeDirs(directory, 0750));
  return directory + "/" + volume + ".log";
}

// Files are made as the user who will serve, or the client could not use them.
class ActAs {
 public:
  explicit ActAs(const std::optional<keeper::KeeperConfig::User>& user) {
    if (!user) return;
    active_ = true;
    if (setegid(user->gid) != 0 || seteuid(user->uid) != 0) status_ = Status::FromErrno("act as the client's user");
  }
  ~ActAs() {
    // Going back to root cannot fail; serving on as somebody else must not be.
    if (active_ && (seteuid(0) != 0 || setegid(0) != 0)) std::abort();
  }
  const Status& status() const { return status_; }

 private:
  bool active_ = false;
  Status status_;
};

struct Prepared {
  std::optional<os::LockFile> lock;
  VolumeFormat format;
  UniqueFd arena;
  keeper::KeeperConfig config;
};

Result<Prepared> Prepare(const MountRequest& request, const MetaUrl& meta, const std::string& mountpoint) {
  Prepared p;
  const config::VolumeOptions& o = request.options;
  keeper::KeeperConfig& k = p.config;
  if (!o.client_user.empty()) {
    ASSIGN_OR_RETURN(const auto user, os::LookUpUser(o.client_user));
    k.user = keeper::KeeperConfig::User{user.uid, user.gid};
  }
  ASSIGN_OR_RETURN(p.lock, LockVolume(meta, "mount"));
  {
    const ActAs user(k.user);
    TRY_VOID(user.status());
    // Opened and closed again: the client will own the engine. The lock above
    // keeps others out in between.
    ASSIGN_OR_RETURN(auto kv, kv::OpenKvStore(meta.url, {}));
    ASSIGN_OR_RETURN(p.format, meta::Meta::LoadFormat(*kv));
  }
  ASSIGN_OR_RETURN(p.arena, MakeArena(o));
  const ClientConfig client = MakeClientConfig(meta, o, FormatUuid(p.format.uuid), os::HostName());

  k.mountpoint = mountpoint;
  k.source = kSourcePrefix + p.format.name;
  k.fstype = kFsType;
  k.mount_flags = o.mount_flags;
  k.read_ahead_kib = static_cast<uint32_t>(o.read_ahead_bytes >> 10);
  k.runtime_root = keeper::RuntimeRoot();
  ASSIGN_OR_RETURN(k.log_file, LogFile(request, p.format.name));
  k.foreground = request.foreground;
  ASSIGN_OR_RETURN(k.executable, OwnPath());
  k.abort_after_s = o.abort_after_s;
  k.start_timeout_s = o.start_timeout_s;
  k.lock_path = meta.lock_path;
  k.client_json = EncodeClientConfig(client);
  k.info_json = Json{{"volume", p.format.name},
                     {"uuid", client.uuid},
                     {"meta", meta.Shown()},
                     {"store", RedactUrl(p.format.store)},
                     {"version", MOORFS_VERSION},
                     {"host", client.host},
                     {"read_only", o.read_only},
                     {"subdir", o.subdir},
                     {"memory_bytes", o.memory_bytes}}
                    .dump(-1, ' ', false, Json::error_handler_t::replace);
  return p;
}

Result<os::Child> StartKeeper(const MountRequest& request, const Prepared& p, int channel) {
  os::SpawnRequest spawn;
  spawn.executable = "/proc/self/exe";
  spawn.argv = {"moorfs", "keeper"};
  spawn.fds = {channel, p.arena.get(), p.lock->fd()};
  spawn.new_session = !request.foreground;
  spawn.directory = "/";
  // A shell that waits for the end of a pipe must not wait for a daemon.
  UniqueFd null_fd;
  if (!p.config.log_file.empty()) {
    null_fd = UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
    spawn.stdout_fd = null_fd.get();
    spawn.stderr_fd = null_fd.get();
  }
  return os::Spawn(spawn);
}

Result<Json> WaitReady(control::LineSocket& channel, int start_timeout_s, Output& out) {
  for (;;) {
    auto line = channel.Receive(start_timeout_s * 1000 + kKeeperGraceMs);
    if (!line) {
      return Error(line.error().err(), "start the keeper: it ended without a word; see its log");
    }
    const Json j = Json::parse(*line, nullptr, false);
    if (j.contains("ready")) return j["ready"];
    if (j.contains("error")) return Error(j["error"].value("errno", EIO), j["error"].value("message", "unknown error"));
    if (j.contains("progress")) out.Progress(j["progress"].get<std::string>());
  }
}

std::atomic<int> g_keeper_pidfd{-1};

void ForwardSignal(int signal) {
  // Async-signal-safe: one system call.
  if (const int fd = g_keeper_pidfd; fd >= 0) {
    [[maybe_unused]] const Status ignored = os::SignalPidfd(fd, signal);
  }
}

// Ctrl-C reaches the keeper by itself (one process group); TERM and HUP are
// passed on.
Result<Json> StayInForeground(const os::Child& keeper, Json ready) {
  g_keeper_pidfd = keeper.pidfd.get();
  struct sigaction action {};
  action.sa_handler = ForwardSignal;
  for (int s : {SIGTERM, SIGHUP}) sigaction(s, &action, nullptr);
  signal(SIGINT, SIG_IGN);
  ASSIGN_OR_RETURN(const auto ended, os::WaitChild(keeper, -1));
  if (ended->signaled || ended->code != 0) return Error(EIO, "serve: the keeper " + ended->Describe());
  return ready;
}

}  // namespace

Result<UniqueFd> MakeArena(const config::VolumeOptions& o) {
  vfs::ArenaGeometry geometry;
  geometry.data_bytes = (o.memory_bytes / 2 + 0xfff) & ~uint64_t{0xfff};
  return vfs::Arena::CreateMemfd(geometry);
}

ClientConfig MakeClientConfig(const MetaUrl& meta, const config::VolumeOptions& o, const std::string& uuid,
                              const std::string& host) {
  ClientConfig client;
  client.meta_url = meta.url;
  client.uuid = uuid;
  client.read_only = o.read_only;
  client.noatime = (o.mount_flags & MS_NOATIME) != 0;
  client.subdir = o.subdir;
  client.cache_dir = o.cache_dir;
  client.cache_bytes = o.cache_bytes;
  client.block_cache_bytes = o.memory_bytes / 4;
  client.memory_bytes = o.memory_bytes;
  client.log_level = o.log_level;
  client.host = host;
  return client;
}

Result<Json> MountVolume(const MountRequest& request, Output& out) {
  ASSIGN_OR_RETURN(const MetaUrl meta, ParseMeta(request.meta));
  if (geteuid() != 0) {
    return Error(EPERM, "mount " + meta.Shown() + ": mounting needs root; use sudo (the part that serves files can "
                        "run as anyone: -o client-user=USER)");
  }
  ASSIGN_OR_RETURN(const std::string mountpoint, os::CanonicalPath(request.mountpoint));
  ASSIGN_OR_RETURN(const auto mounts, os::ReadMountInfo());
  const auto mounted = os::FindMountAt(mounts, mountpoint);
  if (request.already_mounted_is_fine && mounted && mounted->fstype == kFsType) {
    const auto holder = FindHolder(meta);
    if (holder && *holder && (*holder)->mountpoint == mountpoint) {
      out.Note("moorfs mount: " + meta.Shown() + " is mounted at " + mountpoint + " already");
      return Json::object();
    }
  }
  TRY_VOID(CheckMountpoint(mountpoint, mounted ? &*mounted : nullptr));
  ASSIGN_OR_RETURN(const Prepared prepared, Prepare(request, meta, mountpoint));
  if (const size_t hidden = CountEntries(mountpoint); hidden > 0) {
    out.Note("moorfs mount: " + mountpoint + " is not empty; its " + std::to_string(hidden) +
             (hidden == 1 ? " entry is" : " entries are") + " hidden while the volume is mounted there");
  }
  ASSIGN_OR_RETURN(auto pair, os::SocketPair());
  ASSIGN_OR_RETURN(const os::Child keeper, StartKeeper(request, prepared, pair.second.get()));
  pair.second.reset();
  control::LineSocket channel(std::move(pair.first));
  TRY_VOID(channel.Send(keeper::EncodeKeeperConfig(prepared.config), 10'000));
  auto answer = WaitReady(channel, request.options.start_timeout_s, out);
  if (!answer) {
    // Until it is gone it holds the volume's lock, and a second try would fail
    // for another reason than the first.
    if (auto ended = os::WaitChild(keeper, kKeeperGraceMs); !ended) return Error(ended.error());
    return answer;
  }
  Json ready = std::move(*answer);
  if (request.foreground) return StayInForeground(keeper, std::move(ready));
  return ready;
}

}  // namespace moorfs::admin
