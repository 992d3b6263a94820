// SPDX-License-Identifier: Apache-2.0
//
// null_server MOUNTPOINT [entry TTL [attribute TTL]]: serves NullFileSystem,
// as root, until SIGINT or SIGTERM. What an application measures on it is the
// kernel, the transport and nothing else. Statistics go to stderr at the end.

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "fs/fuse/fuse_server.h"
#include "fs/vfs/arena.h"
#include "test/bench/null_file_system.h"

namespace moorfs::bench {
namespace {

int Fail(const Status& status) {
  std::fprintf(stderr, "null_server: %s\n", status.ToString().c_str());
  return 1;
}

Result<UniqueFd> MountAt(const char* mountpoint) {
  UniqueFd fd(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fd) return Error(Status::FromErrno("open /dev/fuse"));
  const std::string data = "fd=" + std::to_string(fd.get()) +
                           ",rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions";
  if (mount("null", mountpoint, "fuse.null", MS_NOSUID | MS_NODEV, data.c_str()) != 0) {
    return Error(Status::FromErrno(std::string("mount at ") + mountpoint));
  }
  return fd;
}

void PrintStats(const fuse::FuseStats& stats) {
  for (const fuse::OpStats& op : stats.ops) {
    std::fprintf(stderr, "%-16s %10llu  mean %7.1f us  errors %llu\n", op.name,
                 static_cast<unsigned long long>(op.count),
                 static_cast<double>(op.total_ns) / 1000 / static_cast<double>(op.count),
                 static_cast<unsigned long long>(op.errors));
  }
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: null_server MOUNTPOINT [entry-ttl [attr-ttl]]\n");
    return 2;
  }
  fuse::FuseOptions options;
  options.entry_ttl_s = argc > 2 ? std::atof(argv[2]) : 0;
  options.attr_ttl_s = argc > 3 ? std::atof(argv[3]) : options.entry_ttl_s;
  options.negative_ttl_s = options.entry_ttl_s;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);

  auto memfd = vfs::Arena::CreateMemfd({});
  if (!memfd) return Fail(memfd.error());
  auto arena = vfs::Arena::Map(std::move(*memfd));
  if (!arena) return Fail(arena.error());
  auto fd = MountAt(argv[1]);
  if (!fd) return Fail(fd.error());
  auto server = fuse::FuseServer::Create(std::move(*fd), **arena, options);
  if (!server) return Fail(server.error());
  NullFileSystem fs(**arena);
  std::thread waiter([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    umount2(argv[1], MNT_DETACH);
    (*server)->Stop();
  });
  const auto outcome = (*server)->Run(fs);
  umount2(argv[1], MNT_DETACH);
  // Also when it was unmounted by somebody else.
  pthread_kill(waiter.native_handle(), SIGTERM);
  waiter.join();
  PrintStats((*server)->stats());
  return outcome ? 0 : Fail(outcome.error());
}

}  // namespace
}  // namespace moorfs::bench

int main(int argc, char** argv) { return moorfs::bench::Main(argc, argv); }
