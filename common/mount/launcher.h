// SPDX-License-Identifier: Apache-2.0
//
// What makes and ends clients. A client has a mount of its own, its source,
// from which targets are bound. No call touches a path below a source.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/control/client.h"
#include "common/control/line_socket.h"
#include "common/mount/name_locks.h"
#include "common/mount/record.h"

namespace moorfs::mount {

struct ClientHealth {
  enum State {
    kDead,        // nobody serves the device, or there is none
    kStarting,    // mounted, not ready yet
    kServing,     // also: does not answer, but lives
    kRestarting,  // a successor is on its way; callers wait in the kernel
    kAborted,     // the kernel answers errors for ever
  };
  State state = kDead;
  bool mounted = false;  // the source is in the mount table
  std::string device;    // of the source, or as recorded
  pid_t client_pid = 0;
  pid_t keeper_pid = 0;

  // Its targets work.
  bool Lives() const { return state == kServing || state == kRestarting; }
  // New targets can be made.
  bool Usable() const { return Lives() && mounted; }
};
const char* StateName(ClientHealth::State state);

// A client's mount as the mount table has it.
struct Source {
  std::string mount_key;
  int generation = 0;
  std::string device;
};

class Launcher {
 public:
  virtual ~Launcher() = default;
  virtual std::string SourcePath(const ClientRecord& record) = 0;
  // Of the record's generation. Bounded to a second.
  virtual ClientHealth Probe(const ClientRecord& record) = 0;
  // Starts the client of this generation unless it serves already; returns its
  // device once it does. What did not succeed is gone when this returns.
  virtual Result<std::string> Ensure(const ClientRecord& record, Deadline deadline) = 0;
  // Everything stored, unmounted, gone; OK when it was gone before. ETIMEDOUT:
  // it still stores, ask again. Another error: it serves on.
  virtual Status End(const ClientRecord& record, Deadline deadline) = 0;
  // Detaches a source that nobody serves, and removes its directory.
  virtual Status Discard(const std::string& mount_key, int generation) = 0;
  // Above every generation that left a trace.
  virtual int NextGeneration(const std::string& mount_key) = 0;
  virtual Result<std::vector<Source>> Sources() = 0;
  // The volume's directory exists with its group, asked of the client.
  virtual Status PrepareRoot(const ClientRecord& record, const std::string& root, bool create,
                             std::optional<gid_t> group, Deadline deadline);
  // A request to the client's control socket.
  virtual Result<control::Json> CallClient(const ClientRecord& record, const control::Json& request,
                                           const control::CallOptions& options) = 0;
  virtual Result<control::LineSocket> ConnectClient(const ClientRecord& record, int timeout_ms) = 0;
  // Its client's end is noticed by the launcher itself, who wakes the
  // reconciler; else the processes are watched.
  virtual bool ReportsEnds() const { return false; }
};

}  // namespace moorfs::mount
