// SPDX-License-Identifier: Apache-2.0

#include "common/mount/reconciler.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "common/base/unique_fd.h"
#include "common/os/process.h"

namespace moorfs::mount {
namespace {

constexpr int kIdleMs = 30'000;
// What is not through is looked at again, more and more seldom.
constexpr int kAgainMs = 500;
constexpr int kMaxAgainMs = 15'000;
// Publishing changes the mount table all the time; changes are looked at in
// batches.
constexpr int kSettleMs = 300;

}  // namespace

struct Reconciler::Impl {
  std::function<Pass()> pass;
  UniqueFd wake;
  UniqueFd table;
  std::atomic<bool> stop{false};
  std::thread thread;

  void Loop() {
    int wait_ms = 0;  // the first pass at once
    int again_ms = kAgainMs;
    std::vector<UniqueFd> watched;
    for (;;) {
      if (!WaitForReason(watched, wait_ms)) return;
      const Pass done = pass();
      watched.clear();
      bool died = false;
      for (pid_t pid : done.watch) {
        auto fd = os::OpenPidfd(pid);
        if (fd) watched.push_back(std::move(*fd));
        died = died || !fd;
      }
      if (done.again || died) {
        wait_ms = again_ms;
        again_ms = std::min(again_ms * 2, kMaxAgainMs);
      } else {
        wait_ms = kIdleMs;
        again_ms = kAgainMs;
      }
    }
  }

  // False: the end.
  bool WaitForReason(const std::vector<UniqueFd>& watched, int wait_ms) {
    std::vector<pollfd> p = {{wake.get(), POLLIN, 0}, {table.get(), POLLPRI, 0}};
    for (const UniqueFd& fd : watched) p.push_back({fd.get(), POLLIN, 0});
    if (poll(p.data(), p.size(), wait_ms) < 0 && errno != EINTR) return false;
    if (stop) return false;
    if (p[1].revents != 0 && p[0].revents == 0) {
      pollfd stopping{wake.get(), POLLIN, 0};
      poll(&stopping, 1, kSettleMs);
    }
    uint64_t count;
    if (p[0].revents != 0) {
      [[maybe_unused]] const ssize_t n = read(wake.get(), &count, sizeof count);
    }
    return !stop;
  }
};

Result<std::unique_ptr<Reconciler>> Reconciler::Start(std::function<Pass()> pass) {
  auto impl = std::make_unique<Impl>();
  impl->pass = std::move(pass);
  impl->wake = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->wake) return Error(Status::FromErrno("make an eventfd"));
  impl->table = UniqueFd(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!impl->table) return Error(Status::FromErrno("watch the mount table"));
  Impl* raw = impl.get();
  impl->thread = std::thread([raw] { raw->Loop(); });
  return std::unique_ptr<Reconciler>(new Reconciler(std::move(impl)));
}

Reconciler::Reconciler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Reconciler::~Reconciler() {
  impl_->stop = true;
  Wake();
  impl_->thread.join();
}

void Reconciler::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(impl_->wake.get(), &one, sizeof one);
}

}  // namespace moorfs::mount
