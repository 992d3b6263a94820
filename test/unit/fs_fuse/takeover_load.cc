// SPDX-License-Identifier: Apache-2.0

#include "test/unit/fs_fuse/takeover_load.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "common/base/units.h"

namespace moorfs::fuse {
namespace {

class Checker {
 public:
  explicit Checker(RigShared& shared) : shared_(shared) {}

  bool stopped() const { return shared_.stop.load(std::memory_order_relaxed); }
  // Runs `op`; a false answer is an error, and its duration counts as a stall.
  template <typename Op>
  bool Do(const char* what, Op op) {
    const int64_t start = MonotonicNs();
    const bool ok = op();
    const int err = errno;
    const auto took = static_cast<uint64_t>(MonotonicNs() - start);
    uint64_t longest = shared_.longest_ns;
    while (took > longest && !shared_.longest_ns.compare_exchange_weak(longest, took)) {
    }
    shared_.operations.fetch_add(1);
    if (!ok) Fail(what, err);
    return ok;
  }
  void Fail(const char* what, int err) {
    if (shared_.errors.fetch_add(1) == 0) {
      std::snprintf(shared_.first_error, sizeof shared_.first_error, "%s: %s", what, std::strerror(err));
    }
  }
  RigShared& shared() { return shared_; }

 private:
  RigShared& shared_;
};

std::unique_ptr<char, decltype(&free)> AlignedBuffer(size_t bytes) {
  return {static_cast<char*>(aligned_alloc(4096, bytes)), &free};
}

// Names on the null file system hash to one of 32 shared files, in which these
// applications each use a range of their own.
void VerifyData(const std::string& dir, Checker check, int me) {
  constexpr size_t kBlock = 4096;
  const int fd = open((dir + "/data" + std::to_string(me)).c_str(), O_RDWR | O_DIRECT);
  if (fd < 0) return check.Fail("open data", errno);
  auto out = AlignedBuffer(kBlock), in = AlignedBuffer(kBlock);
  std::mt19937 random(me);
  const off_t base = me * 64 * static_cast<off_t>(kBlock);
  for (int n = 1; !check.stopped(); ++n) {
    const off_t at = base + static_cast<off_t>(random() % 64 * kBlock);
    std::memset(out.get(), n, kBlock);
    check.Do("direct write", [&] { return pwrite(fd, out.get(), kBlock, at) == kBlock; });
    check.Do("direct read", [&] { return pread(fd, in.get(), kBlock, at) == kBlock; });
    if (std::memcmp(in.get(), out.get(), kBlock) != 0) check.Fail("data read back differs", 0);
    struct stat st;
    check.Do("fstat", [&] { return fstat(fd, &st) == 0; });
  }
  check.Do("close", [&] { return close(fd) == 0; });
}

// Many direct writes to one place at once; whatever is left must be one of
// them, and an older one must never come back over a later one.
void OverlappingAio(const std::string& dir, Checker check) {
  constexpr size_t kBlock = 16 << 10;
  constexpr int kInFlight = 8;
  const off_t at = 768 << 10;
  const int fd = open((dir + "/aio").c_str(), O_RDWR | O_DIRECT);
  if (fd < 0) return check.Fail("open aio", errno);
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, kInFlight, &context) != 0) return check.Fail("io_setup", errno);
  auto buffers = AlignedBuffer(kBlock * kInFlight), in = AlignedBuffer(kBlock);
  for (int round = 0; !check.stopped(); ++round) {
    iocb requests[kInFlight] = {};
    iocb* list[kInFlight];
    for (int i = 0; i < kInFlight; ++i) {
      char* data = buffers.get() + i * kBlock;
      std::memset(data, round * kInFlight + i, kBlock);
      requests[i].aio_fildes = static_cast<uint32_t>(fd);
      requests[i].aio_lio_opcode = IOCB_CMD_PWRITE;
      requests[i].aio_buf = reinterpret_cast<uint64_t>(data);
      requests[i].aio_nbytes = kBlock;
      requests[i].aio_offset = at;
      list[i] = &requests[i];
    }
    check.Do("submit and await overlapping writes", [&] {
      if (syscall(SYS_io_submit, context, kInFlight, list) != kInFlight) return false;
      io_event events[kInFlight];
      if (syscall(SYS_io_getevents, context, kInFlight, kInFlight, events, nullptr) != kInFlight) return false;
      for (const io_event& event : events) {
        if (event.res != static_cast<int64_t>(kBlock)) {
          errno = static_cast<int>(-event.res);
          return false;
        }
      }
      return true;
    });
    std::memset(buffers.get(), 0x55 ^ round, kBlock);
    check.Do("last write", [&] { return pwrite(fd, buffers.get(), kBlock, at) == static_cast<ssize_t>(kBlock); });
    for (int i = 0; i < 4; ++i) {
      check.Do("read", [&] { return pread(fd, in.get(), kBlock, at) == static_cast<ssize_t>(kBlock); });
      if (std::memcmp(in.get(), buffers.get(), kBlock) != 0) check.Fail("an older write came back", 0);
    }
  }
  syscall(SYS_io_destroy, context);
  close(fd);
}

void Names(const std::string& dir, Checker check, int me) {
  for (int n = 0; !check.stopped(); ++n) {
    const std::string name = dir + "/new" + std::to_string(me) + "_" + std::to_string(n);
    const std::string other = name + "b";
    check.Do("mkdir", [&] { return mkdir(name.c_str(), 0755) == 0; });
    check.Do("rename", [&] { return rename(name.c_str(), other.c_str()) == 0; });
    check.Do("rmdir", [&] { return rmdir(other.c_str()) == 0; });
    const int fd = open((dir + "/file" + std::to_string(n % 100)).c_str(), O_RDONLY);
    check.Do("open", [&] { return fd >= 0; });
    check.Do("fchmod", [&] { return fchmod(fd, 0600) == 0; });
    check.Do("close", [&] { return close(fd) == 0; });
    struct statvfs st;
    check.Do("statvfs", [&] { return statvfs(dir.c_str(), &st) == 0; });
  }
}

struct flock WriteLock(off_t start) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = 1;
  return lock;
}

// In the critical section nobody else may be.
void CheckAlone(Checker& check, std::atomic<int32_t>& owner) {
  int32_t nobody = 0;
  if (!owner.compare_exchange_strong(nobody, getpid())) check.Fail("two owners of one lock", 0);
  usleep(50);
  if (owner.exchange(0) != getpid()) check.Fail("the lock had another owner meanwhile", 0);
}

void ContendedPosixLock(const std::string& dir, Checker check) {
  const int fd = open((dir + "/locks").c_str(), O_RDWR);
  if (fd < 0) return check.Fail("open locks", errno);
  while (!check.stopped()) {
    struct flock lock = WriteLock(10);
    if (fcntl(fd, F_SETLKW, &lock) != 0) {
      check.Fail("F_SETLKW", errno);
      continue;
    }
    check.shared().lock_waits.fetch_add(1);
    CheckAlone(check, check.shared().lock_owner[0]);
    lock.l_type = F_UNLCK;
    check.Do("unlock", [&] { return fcntl(fd, F_SETLK, &lock) == 0; });
  }
  close(fd);
}

void ContendedFlock(const std::string& dir, Checker check) {
  const int fd = open((dir + "/flock").c_str(), O_RDWR);
  if (fd < 0) return check.Fail("open flock", errno);
  while (!check.stopped()) {
    if (flock(fd, LOCK_EX) != 0) {
      check.Fail("flock", errno);
      continue;
    }
    check.shared().lock_waits.fetch_add(1);
    CheckAlone(check, check.shared().lock_owner[1]);
    check.Do("unlock flock", [&] { return flock(fd, LOCK_UN) == 0; });
  }
  close(fd);
}

void HoldLockForEver(const std::string& dir, Checker check) {
  const int fd = open((dir + "/held").c_str(), O_RDWR);
  struct flock lock = WriteLock(20);
  if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0) return check.Fail("take the lock that is held", errno);
  check.shared().lock_owner[2] = getpid();
  while (!check.stopped()) usleep(10'000);
  close(fd);
}

// Waits for the lock above, is woken by a signal, and must learn just that.
void InterruptedLock(const std::string& dir, Checker check) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(SIGALRM, &action, nullptr);
  while (check.shared().lock_owner[2] == 0 && !check.stopped()) usleep(1'000);
  const int fd = open((dir + "/held").c_str(), O_RDWR);
  if (fd < 0) return check.Fail("open held", errno);
  while (!check.stopped()) {
    struct flock lock = WriteLock(20);
    // Repeats, in case the first signal comes before the wait.
    const itimerval timer = {{0, 20'000}, {0, 3'000}};
    setitimer(ITIMER_REAL, &timer, nullptr);
    const bool interrupted = fcntl(fd, F_SETLKW, &lock) != 0 && errno == EINTR;
    const int err = errno;
    const itimerval off{};
    setitimer(ITIMER_REAL, &off, nullptr);
    if (check.stopped()) break;  // its holder may be gone
    if (!interrupted) check.Fail("an interrupted F_SETLKW did not answer EINTR", err);
    check.shared().interrupted_locks.fetch_add(1);
  }
  close(fd);
}

}  // namespace

std::vector<std::function<void()>> StandardLoad(const std::string& dir, RigShared& shared) {
  std::vector<std::function<void()>> load;
  const auto add = [&](const char* name, auto function, auto... arguments) {
    load.push_back([=, &shared] {
      prctl(PR_SET_NAME, name);
      function(dir, Checker(shared), arguments...);
    });
  };
  add("data 0", VerifyData, 0);
  add("data 1", VerifyData, 1);
  add("aio", OverlappingAio);
  add("names", Names, 0);
  add("posix lock", ContendedPosixLock);
  add("posix lock", ContendedPosixLock);
  add("flock", ContendedFlock);
  add("flock", ContendedFlock);
  add("holder", HoldLockForEver);
  add("interrupted", InterruptedLock);
  return load;
}

}  // namespace moorfs::fuse
