// SPDX-License-Identifier: Apache-2.0
//
// The client: serves one mounted volume over inherited descriptors. This is
// where the parts of the file system are put together; it opens no device,
// mounts nothing and needs no privilege.

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/base/units.h"
#include "common/keeper/client_channel.h"
#include "common/keeper/protocol.h"
#include "common/log/log.h"
#include "fs/admin/client_config.h"
#include "fs/admin/client_control.h"
#include "fs/admin/maintenance.h"
#include "fs/admin/roles.h"
#include "fs/fuse/fuse_server.h"
#include "fs/kv/open.h"
#include "fs/vfs/lost_blocks.h"
#include "fs/vfs/vfs.h"

#ifdef MOORFS_SANITIZE_address
#include <sanitizer/lsan_interface.h>
#endif

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

// A predecessor that was killed gives its locks back while its memory is torn
// down, milliseconds after it was reaped.
constexpr int kTakeOverMs = 10'000;
constexpr int kDrainRetryMs = 1'000;

UniqueFd Inherit(int fd) {
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return UniqueFd(fd);
}

Result<std::unique_ptr<kv::KvStore>> OpenEngine(const std::string& url) {
  const int64_t deadline = MonotonicNs() + int64_t{kTakeOverMs} * 1'000'000;
  for (;;) {
    auto kv = kv::OpenKvStore(url, {});
    if (kv || kv.error().err() != EBUSY || MonotonicNs() > deadline) return kv;
    usleep(1'000);
  }
}

// Members in the order they are made; they go in the reverse one.
struct Client {
  ClientConfig config;
  std::unique_ptr<vfs::Arena> arena;
  std::unique_ptr<kv::KvStore> kv;
  std::unique_ptr<object::ObjectStore> store;
  std::unique_ptr<chunk::BlockStore> blocks;
  vfs::InodeTable inodes;
  std::unique_ptr<meta::Meta> meta;
  std::unique_ptr<vfs::Vfs> vfs;
  std::unique_ptr<fuse::FuseServer> server;
  std::unique_ptr<Maintenance> maintenance;
  std::unique_ptr<ClientParts> parts;
  std::unique_ptr<control::Server> control;

  Status OpenVolume();
  Status StartFileSystem();
  Status StartServer(UniqueFd fuse_fd, std::function<void()> on_ready);
  void DrainUntilStored();
};

Status Client::OpenVolume() {
  ASSIGN_OR_RETURN_STATUS(kv, OpenEngine(config.meta_url));
  ASSIGN_OR_RETURN_STATUS(const VolumeFormat format, meta::Meta::LoadFormat(*kv));
  if (config.uuid.empty()) config.uuid = FormatUuid(format.uuid);
  if (FormatUuid(format.uuid) != config.uuid) {
    return Status(EMEDIUMTYPE, "open " + config.meta_url + ": it holds volume " + FormatUuid(format.uuid) + " now, but " +
                                   config.uuid + " is mounted; put that one back");
  }
  ASSIGN_OR_RETURN_STATUS(store, object::OpenObjectStore(format.store, false));
  RETURN_IF_ERROR(store->CheckStore(format.uuid));
  chunk::BlockStoreOptions options;
  options.volume = format.uuid;
  options.codec = format.codec;
  options.memory_bytes = config.block_cache_bytes;
  options.cache_dir = config.cache_dir;
  options.cache_bytes = config.cache_bytes;
  ASSIGN_OR_RETURN_STATUS(blocks, chunk::BlockStore::Create(*store, options));
  return Status::Ok();
}

Status Client::StartFileSystem() {
  meta::MetaOptions meta_options;
  meta_options.is_open = [this](Ino ino) { return inodes.IsOpen(ino); };
  meta_options.read_only = config.read_only;
  ASSIGN_OR_RETURN_STATUS(meta, meta::Meta::Open(*kv, meta_options));
  meta::SessionInfo session;
  session.host = config.host;
  session.mountpoint = config.mountpoint;
  session.version = MOORFS_VERSION;
  session.pid = getpid();
  session.started = Timestamp::Now();
  RETURN_IF_ERROR(meta->StartSession(session, config.restarts > 0));
  // A successor's predecessor died alone: the kernel still had every block.
  if (config.restarts == 0 && !config.read_only) {
    if (auto lost = vfs::DropLostBlocks(*meta, *blocks); !lost) return lost.error();
  }

  vfs::VfsOptions options;
  if (!config.subdir.empty()) {
    auto root = meta->Resolve(config.subdir);
    if (!root) return root.error().Annotate("use subdir=" + config.subdir);
    if (root->attr.type != FileType::kDirectory) {
      return Status(ENOTDIR, "use subdir=" + config.subdir + ": it is no directory of the volume");
    }
    options.root = root->ino;
  }
  options.read_only = config.read_only;
  options.noatime = config.noatime;
  vfs = std::make_unique<vfs::Vfs>(*arena, inodes, *meta, *blocks, options);
  RETURN_IF_ERROR(vfs->Start());
  // Files that were open and unlinked when the previous mount or client ended,
  // and whose handles nobody has any more.
  const Status reaped = meta->ReapSession(/*end=*/false);
  inodes.FinishUnlink();
  return reaped;
}

Status Client::StartServer(UniqueFd fuse_fd, std::function<void()> on_ready) {
  fuse::FuseOptions options;
  options.exclusive = kv->exclusive();
  if (!options.exclusive) options.entry_ttl_s = options.attr_ttl_s = options.negative_ttl_s = 0;
  options.on_ready = std::move(on_ready);
  ASSIGN_OR_RETURN_STATUS(server, fuse::FuseServer::Create(std::move(fuse_fd), *arena, options));
  maintenance = std::make_unique<Maintenance>(Maintenance::Parts{*meta, *blocks, *vfs, inodes, config.read_only});
  parts.reset(new ClientParts{config, *kv, *meta, *blocks, inodes, *vfs, *server, *maintenance, MonotonicNs()});
  ASSIGN_OR_RETURN_STATUS(
      control, control::Server::Start(Inherit(keeper::kClientListenerFd),
                                      [this](const Json& request, const control::Peer&, control::Reply& reply) {
                                        return AnswerClient(*parts, request, reply);
                                      }));
  return Status::Ok();
}

// The kernel is gone; what it gave us must not be. The data waits in the arena
// until the store takes it, however long that is.
void Client::DrainUntilStored() {
  parts->draining = true;
  for (std::string last;;) {
    const Status s = vfs->Drain();
    if (s.ok()) return;
    if (vfs->Stats().dirty_bytes == 0) {
      // All is in the store, which will not promise to keep it: a disk that
      // lost a write says so for ever, and waiting mends nothing.
      LOG_ERROR("client") << "unmounted, but the store does not make everything durable: " << s.ToString();
      return;
    }
    if (s.message() != last) {
      LOG_ERROR("client") << "unmounted, but " << FormatBytes(vfs->Stats().dirty_bytes)
                          << " are not stored yet; trying again every second: " << s.ToString();
    }
    last = s.message();
    usleep(kDrainRetryMs * 1'000);
  }
}

// SIGTERM steps back for a successor. A second one, or one that comes while
// nothing is served, leaves at once: the arena and the engine's log have
// everything that was acknowledged.
class SignalThread {
 public:
  explicit SignalThread(const sigset_t& set) {
    std::thread([this, set] { Loop(set); }).detach();
  }
  void SetServer(fuse::FuseServer* server) { server_ = server; }

 private:
  [[noreturn]] void Loop(sigset_t set) {
    for (;;) {
      int signal;
      if (sigwait(&set, &signal) != 0) continue;
      fuse::FuseServer* const server = server_.exchange(nullptr);
      if (server == nullptr) _exit(keeper::kExitRestart);
      LOG_INFO("client") << "stepping back after signal " << signal;
      server->Stop();
    }
  }
  std::atomic<fuse::FuseServer*> server_{nullptr};
};

int Fail(keeper::ClientChannel& channel, const Status& why, int code = keeper::kExitStartFailed) {
  if (Status s = channel.Failed(why); !s.ok()) {
    LOG_ERROR("client") << why.ToString();
  }
  return code;
}

// What every acknowledged operation needs is out of this process. Destructors
// would only wait for work that the successor repeats.
[[noreturn]] void Leave(int code) {
#ifdef MOORFS_SANITIZE_address
  // By itself it looks for leaks at exit(), where this process never arrives.
  __lsan_do_recoverable_leak_check();
#endif
  _exit(code);
}

}  // namespace

int ClientMain() {
  log::SetRole("client");
  // Few heaps and early return of memory: dozens of threads would keep 64 MiB
  // of address space and many pages each.
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  signal(SIGPIPE, SIG_IGN);
  // The terminal's and the keeper's signals are not for the client.
  signal(SIGINT, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);

  keeper::ClientChannel channel = keeper::ClientChannel::Inherited();
  UniqueFd fuse_fd = Inherit(keeper::kClientFuseFd);
  UniqueFd arena_fd = Inherit(keeper::kClientArenaFd);
  // Held until the process ends: the volume stays locked if the keeper dies.
  const int lock_fd = Inherit(keeper::kClientLockFd).release();
  static_cast<void>(lock_fd);

  const auto text = channel.ReceiveConfig();
  if (!text) return Fail(channel, text.error());
  auto config = DecodeClientConfig(*text);
  if (!config) return Fail(channel, config.error(), keeper::kExitIncompatible);
  log::Level level;
  if (log::ParseLevel(config->log_level, &level)) log::SetLevel(level);

  SignalThread signals(set);
  // Never destroyed: see Leave(). Static, so that it is no leak when we return.
  static Client& client = *new Client();
  client.config = std::move(*config);
  auto arena = vfs::Arena::Map(std::move(arena_fd));
  if (!arena) return Fail(channel, arena.error(), keeper::kExitIncompatible);
  client.arena = std::move(*arena);
  if (Status s = client.arena->BecomeActive(kTakeOverMs); !s.ok()) return Fail(channel, s);
  if (Status s = client.OpenVolume(); !s.ok()) return Fail(channel, s);
  if (Status s = client.StartFileSystem(); !s.ok()) return Fail(channel, s);
  const auto on_ready = [&] {
    const Json details = {{"pid", getpid()}, {"version", MOORFS_VERSION}, {"uuid", client.config.uuid}};
    if (Status s = channel.Ready(details.dump()); !s.ok()) {
      LOG_WARNING("client") << s.ToString();
    }
  };
  if (Status s = client.StartServer(std::move(fuse_fd), on_ready); !s.ok()) {
    const bool incompatible = s.err() == EPROTO;
    return Fail(channel, s, incompatible ? keeper::kExitIncompatible : keeper::kExitStartFailed);
  }
  signals.SetServer(client.server.get());
  const auto outcome = client.server->Run(*client.vfs);
  if (!outcome) {
    const bool incompatible = outcome.error().err() == EPROTO;
    Leave(Fail(channel, outcome.error(), incompatible ? keeper::kExitIncompatible : keeper::kExitStartFailed));
  }
  if (*outcome == fuse::Outcome::kStopped) Leave(keeper::kExitRestart);

  signals.SetServer(nullptr);
  client.DrainUntilStored();
  // Not destroyed: the control socket still answers, with what it says.
  client.maintenance->Stop();
  if (Status s = client.meta->ReapSession(/*end=*/true); !s.ok()) {
    LOG_WARNING("client") << s.ToString() << "; the next mount cleans up";
  }
  if (Status s = client.kv->Sync(); !s.ok()) {
    LOG_ERROR("client") << s.ToString();
  }
  Leave(keeper::kExitUnmounted);
}

}  // namespace moorfs::admin
