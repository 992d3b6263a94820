// SPDX-License-Identifier: Apache-2.0

#include "test/unit/fs_fuse/takeover_rig.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <thread>

#include "common/base/units.h"
#include "fs/fuse/fuse_server.h"
#include "fs/vfs/arena.h"
#include "test/bench/null_file_system.h"
#include "test/unit/fs_fuse/takeover_load.h"

namespace moorfs::fuse {
namespace {

// Mounts of a test that crashes vanish with its name space.
bool EnterPrivateMountNamespace() {
  static const bool done = unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  return done;
}

void PrintWhereItHangs(pid_t pid) {
  for (const char* file : {"comm", "syscall", "stack"}) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/" + file);
    std::stringstream text;
    text << in.rdbuf();
    std::fprintf(stderr, "process %d %s: %s\n", pid, file, text.str().c_str());
  }
}

// NullFileSystem with memory: data, and exactly-once changes by replay record.
class RecordingFileSystem : public bench::NullFileSystem {
 public:
  RecordingFileSystem(vfs::Arena& arena, RigShared& shared, uint32_t suicide_every)
      : NullFileSystem(arena), shared_(shared), suicide_every_(suicide_every) {}

  Result<Entry> MakeDir(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode) override {
    Change(ctx);
    return NullFileSystem::MakeDir(ctx, parent, name, mode);
  }
  Status RemoveDir(const OpContext& ctx, Ino parent, std::string_view name) override {
    Change(ctx);
    return NullFileSystem::RemoveDir(ctx, parent, name);
  }
  Status Rename(const OpContext& ctx, Ino parent, std::string_view name, Ino new_parent, std::string_view new_name,
                uint32_t flags) override {
    Change(ctx);
    return NullFileSystem::Rename(ctx, parent, name, new_parent, new_name, flags);
  }
  Result<Attr> SetAttribute(const OpContext& ctx, Ino ino, const vfs::SetAttr& request) override {
    Change(ctx);
    return NullFileSystem::SetAttribute(ctx, ino, request);
  }
  Status TryWrite(const OpContext& ctx, Ino ino, Handle, uint64_t offset, std::span<const char> data, bool) override {
    if (offset + data.size() > RigShared::kFileBytes) return Status(EFBIG, "write: beyond the rig's files");
    // Some go the long way, through the executor.
    if (ctx.unique % 16 == 0) return Status(EWOULDBLOCK, "write: later");
    Store(ctx, ino, offset, data);
    return Status::Ok();
  }
  Status Write(const OpContext& ctx, Ino ino, Handle, uint64_t offset, std::span<const char> data, bool) override {
    Store(ctx, ino, offset, data);
    return Status::Ok();
  }
  Result<size_t> TryRead(const OpContext& ctx, Ino ino, Handle handle, uint64_t offset,
                         std::span<char> out) override {
    if (ctx.unique % 16 == 2) return Error(EWOULDBLOCK, "read: later");
    return Read(ctx, ino, handle, offset, out);
  }
  Result<size_t> Read(const OpContext&, Ino ino, Handle, uint64_t offset, std::span<char> out) override {
    if (offset >= RigShared::kFileBytes) return size_t{0};
    const size_t n = std::min<size_t>(out.size(), RigShared::kFileBytes - offset);
    std::lock_guard lock(files_mutex_);
    std::memcpy(out.data(), FileOf(ino) + offset, n);
    return n;
  }

 private:
  char* FileOf(Ino ino) { return shared_.data[ino % RigShared::kFiles]; }

  // A change is one atomic step as far as SIGKILL can see: the record.
  // True when it was done before.
  bool Change(const OpContext& ctx) {
    std::atomic<uint64_t>& record = shared_.records[ctx.slot % RigShared::kRecords];
    if (ctx.resent && record == ctx.unique) {
      shared_.replayed.fetch_add(1);
      return true;
    }
    record = ctx.unique;
    std::atomic<uint64_t>& seen = shared_.uniques[(ctx.unique >> 1) % RigShared::kUniques];
    if (seen.exchange(ctx.unique) == ctx.unique) shared_.doubled.fetch_add(1);
    const uint64_t n = shared_.changes.fetch_add(1) + 1;
    if (suicide_every_ != 0 && n % suicide_every_ == 0) kill(getpid(), SIGKILL);
    return false;
  }

  void Store(const OpContext& ctx, Ino ino, uint64_t offset, std::span<const char> data) {
    std::atomic<uint64_t>& record = shared_.records[ctx.slot % RigShared::kRecords];
    if (ctx.resent && record == ctx.unique) {
      shared_.replayed.fetch_add(1);
      return;
    }
    {
      std::lock_guard lock(files_mutex_);
      std::memcpy(FileOf(ino) + offset, data.data(), data.size());
    }
    Change(ctx);
  }

  RigShared& shared_;
  // The kernel lets only one at a file, but ThreadSanitizer does not see the kernel.
  std::mutex files_mutex_;
  const uint32_t suicide_every_;
};

}  // namespace

bool TakeoverRig::Possible() {
  UniqueFd fd(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (fd) return true;
  std::fprintf(stderr, "SKIPPED: no FUSE here: open /dev/fuse: %s\n", std::strerror(errno));
  return false;
}

TakeoverRig::TakeoverRig(RigOptions options) : options_(options) {
  if (!EnterPrivateMountNamespace()) std::perror("private mount name space");
  char name[] = "/tmp/moorfs-takeover-XXXXXX";
  if (mkdtemp(name) == nullptr) return;
  dir_ = name;
  void* memory =
      mmap(nullptr, sizeof(RigShared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  shared_ = static_cast<RigShared*>(memory);
  vfs::ArenaGeometry geometry;
  geometry.slot_count = options_.slot_count;
  geometry.handle_count = 4096;
  geometry.lock_count = 4096;
  geometry.data_bytes = 1 << 20;
  auto arena = vfs::Arena::CreateMemfd(geometry);
  if (!arena) return;
  arena_fd_ = std::move(*arena);
  fuse_fd_.reset(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  const std::string data = "fd=" + std::to_string(fuse_fd_.get()) +
                           ",rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions";
  mounted_ = mount("rig", dir_.c_str(), "fuse.rig", MS_NOSUID | MS_NODEV, data.c_str()) == 0;
  if (!mounted_) std::perror("mount");
}

TakeoverRig::~TakeoverRig() {
  if (shared_) shared_->stop = true;
  if (!applications_.empty() && !StopApplications(5)) {
    // Somebody hangs: end the connection, so that they can die.
    umount2(dir_.c_str(), MNT_FORCE);
    for (const pid_t pid : applications_) kill(pid, SIGKILL);
    for (const pid_t pid : applications_) waitpid(pid, nullptr, 0);
  }
  if (mounted_) umount2(dir_.c_str(), MNT_DETACH);
  KillServer();
  fuse_fd_.reset();
  if (!dir_.empty()) rmdir(dir_.c_str());
  if (shared_) munmap(shared_, sizeof(RigShared));
}

void TakeoverRig::ServeInChild() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);
  const auto die = [](const Status& status) {
    std::fprintf(stderr, "rig server: %s\n", status.ToString().c_str());
    _exit(3);
  };
  auto arena = vfs::Arena::Map(UniqueFd(arena_fd_.release()));
  if (!arena) die(arena.error());
  if (const Status status = (*arena)->BecomeActive(10'000); !status.ok()) die(status);
  RecordingFileSystem fs(**arena, *shared_, options_.suicide_every);
  FuseOptions fuse_options;
  fuse_options.use_resend = options_.use_resend;
  auto server = FuseServer::Create(UniqueFd(fuse_fd_.release()), **arena, fuse_options);
  if (!server) die(server.error());
  std::thread([&] {
    int signal = 0;
    sigwait(&term, &signal);
    (*server)->Stop();
  }).detach();
  const auto outcome = (*server)->Run(fs);
  if (!outcome) die(outcome.error());
  const FuseStats stats = (*server)->stats();
  shared_->resent += stats.resent;
  shared_->repeated_replies += stats.repeated_replies;
  _exit(*outcome == Outcome::kStopped ? ((*server)->drained() ? 0 : 4) : 5);
}

Status TakeoverRig::StartServer() {
  if (!mounted_) return Status(EINVAL, "start a server: there is no mount");
  server_ = fork();
  if (server_ < 0) return Status::FromErrno("fork a server");
  if (server_ == 0) ServeInChild();
  return Status::Ok();
}

void TakeoverRig::KillServer() {
  if (server_ <= 0) return;
  kill(server_, SIGKILL);
  waitpid(server_, nullptr, 0);
  server_ = -1;
  ++deaths_;
}

int TakeoverRig::StopServer() {
  kill(server_, SIGTERM);
  int status = 0;
  waitpid(server_, &status, 0);
  server_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Status TakeoverRig::ReviveIfDead() {
  int status = 0;
  if (server_ <= 0 || waitpid(server_, &status, WNOHANG) != server_) return Status::Ok();
  server_ = -1;
  if (WIFEXITED(status)) {
    return Status(EIO, "the server exited with code " + std::to_string(WEXITSTATUS(status)));
  }
  if (WTERMSIG(status) != SIGKILL) {
    return Status(EIO, "the server died of signal " + std::to_string(WTERMSIG(status)));
  }
  ++deaths_;
  return StartServer();
}

void TakeoverRig::StartApplication(std::function<void()> body) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // An application that holds the connection would keep it alive by itself.
    fuse_fd_.reset();
    arena_fd_.reset();
    body();
    _exit(0);
  }
  if (pid > 0) applications_.push_back(pid);
}

void TakeoverRig::StartLoad() {
  for (auto& body : StandardLoad(dir_, *shared_)) StartApplication(std::move(body));
}

bool TakeoverRig::StopApplications(int timeout_s) {
  shared_->stop = true;
  const int64_t deadline = MonotonicNs() + int64_t{timeout_s} * Timestamp::kNsPerSec;
  while (true) {
    std::erase_if(applications_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) == pid; });
    if (applications_.empty()) return true;
    if (MonotonicNs() > deadline) {
      for (const pid_t pid : applications_) PrintWhereItHangs(pid);
      return false;
    }
    usleep(5'000);
    if (!ReviveIfDead().ok()) return false;
  }
}

}  // namespace moorfs::fuse
