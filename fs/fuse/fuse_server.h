// SPDX-License-Identifier: Apache-2.0
//
// FuseServer: serves a vfs::FileSystem on a /dev/fuse descriptor it was given.
// It may be the first server of the connection or the successor of one that
// died or stepped back: what was agreed with the kernel and what was in hand
// lies in the arena, and nothing here assumes to be first.
//
// Taking over: (1) replay INIT to our own session and compare the reply with
// the one the kernel has; refuse on a difference. (2) Ask the kernel to resend
// unanswered requests; where it cannot (before Linux 6.9), take them from the
// slots. Requests run with OpContext::resent and their old replay number (see
// slot_table.h). (3) Serve.
//
// Before Run(): the arena's BecomeActive(), and a FileSystem that has recovered
// its state (a predecessor's transaction must not land after the resent
// operation).

#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "fs/fuse/stats.h"
#include "fs/vfs/arena.h"
#include "fs/vfs/file_system.h"

namespace moorfs::fuse {

// Everything here but the time-outs and thread counts becomes part of INIT: it
// must not change while the mount lives.
struct FuseOptions {
  // How long the kernel may use what it knows, in seconds. With an exclusive
  // engine every change passes through this kernel, so for ever; with a shared
  // one entry and negative must be 0 unless a watch revokes them.
  double entry_ttl_s = 3600;
  double attr_ttl_s = 3600;
  double negative_ttl_s = 3600;
  // Nobody else changes the volume: the kernel drops cached pages only when
  // told to, not when it sees a new mtime.
  bool exclusive = true;
  // The mount has `default_permissions`, which ID-mapped mounts need. With it
  // (Linux 6.12) the kernel tells uid and gid only for operations that create;
  // OpContext has ~0 in all others.
  bool allow_idmap = true;
  bool cache_directories = true;

  uint32_t min_readers = 2;
  uint32_t max_readers = 64;
  uint32_t max_executors = 32;
  int drain_ms = 200;  // of Stop()
  // False: behave as on a kernel that cannot resend.
  bool use_resend = true;
  // Called once from Run(), when requests are about to be answered.
  std::function<void()> on_ready;
};

enum class Outcome {
  kUnmounted,  // nobody uses the mount any more; all requests are finished
  kStopped,    // Stop(); the mount lives on and waits for a successor
};

class Core;

class FuseServer {
 public:
  // `arena` outlives the server.
  static Result<std::unique_ptr<FuseServer>> Create(UniqueFd fuse_fd, vfs::Arena& arena, FuseOptions options);
  // Waits for work still running (see drained()).
  ~FuseServer();

  // Usable before, during and after Run().
  vfs::Invalidator& invalidator();

  // Serves until unmounted or stopped. Once per server. EPROTO: this version
  // cannot serve a mount made by that one.
  Result<Outcome> Run(vfs::FileSystem& fs);
  // From any thread: no further request is read, what is in flight gets
  // `drain_ms` to finish, the rest is the successor's.
  void Stop();
  // After Run(): nothing is running any more. When false, leave by _exit: the
  // work still running belongs to requests that the successor gets again.
  bool drained() const;

  FuseStats stats() const;

 private:
  explicit FuseServer(std::shared_ptr<Core> core);
  // Shared with the callbacks of waiting locks, which the file system keeps.
  std::shared_ptr<Core> core_;
};

}  // namespace moorfs::fuse
