// SPDX-License-Identifier: Apache-2.0
//
// A FUSE mount whose server is a child process that can be killed and
// replaced, with applications working on it meanwhile. The test process is the
// holder: it keeps the descriptor and the arena, and serves nothing.
//
// The file system under it keeps what it was told in memory shared with the
// holder, with a replay record per slot as fs/meta has: so data, and whether
// any request was executed twice, can be checked across servers.

#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::fuse {

struct RigOptions {
  bool use_resend = true;
  // One in so many changes kills its server between commit and reply; 0: none.
  uint32_t suicide_every = 0;
  uint32_t slot_count = 128;
};

// What the servers and the applications leave for the holder; in shared memory.
struct RigShared {
  static constexpr size_t kRecords = 4096;
  static constexpr size_t kUniques = 1 << 20;
  static constexpr size_t kFiles = 32;
  static constexpr size_t kFileBytes = 1 << 20;

  std::atomic<bool> stop;
  std::atomic<uint64_t> errors;
  char first_error[512];
  std::atomic<uint64_t> operations;
  std::atomic<uint64_t> longest_ns;    // of an operation that had nothing to wait for
  std::atomic<uint64_t> lock_waits, interrupted_locks;

  std::atomic<uint64_t> changes;   // executed by the servers
  std::atomic<uint64_t> replayed;  // answered from a replay record
  std::atomic<uint64_t> doubled;   // executed a second time: must stay 0
  std::atomic<uint64_t> resent, repeated_replies;  // last server's statistics, summed at its end
  std::atomic<uint64_t> records[kRecords];         // by slot: unique of the change it made
  std::atomic<uint64_t> uniques[kUniques];         // recently executed changes

  // For the applications' checks of mutual exclusion.
  std::atomic<int32_t> lock_owner[4];
  char data[kFiles][kFileBytes];
};

class TakeoverRig {
 public:
  // False (and says why on stderr) where no FUSE mount can be made at all.
  static bool Possible();

  explicit TakeoverRig(RigOptions options);
  // Mount, servers, applications and directory are gone afterwards.
  ~TakeoverRig();

  const std::string& dir() const { return dir_; }
  RigShared& shared() { return *shared_; }

  Status StartServer();
  // SIGKILL, reap.
  void KillServer();
  // SIGTERM: the server stops as for an upgrade. Its exit code.
  int StopServer();
  // Starts a new server when the old one killed itself.
  Status ReviveIfDead();
  int deaths() const { return deaths_; }

  // Runs `body` in a child until shared().stop; what it returns is ignored.
  void StartApplication(std::function<void()> body);
  // The applications of the standard load: data with verify, overlapping
  // asynchronous direct writes, names, contended and interrupted locks.
  void StartLoad();
  // Tells them to end and waits; false when some did not within `timeout_s`.
  bool StopApplications(int timeout_s);

 private:
  [[noreturn]] void ServeInChild();

  RigOptions options_;
  std::string dir_;
  UniqueFd fuse_fd_, arena_fd_;
  RigShared* shared_ = nullptr;
  pid_t server_ = -1;
  int deaths_ = 0;
  std::vector<pid_t> applications_;
  bool mounted_ = false;
};

}  // namespace moorfs::fuse
