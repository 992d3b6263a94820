// SPDX-License-Identifier: Apache-2.0
//
// PID 1 of a mount pod: sees to it that a client serves, as the keeper does for
// a mount of this host, but mounts nothing and has no privilege. What to serve,
// and the descriptor to serve it on, come from the node agent over a socket in
// the pod's own directory. The client is restarted here, in milliseconds, with
// nobody else awake.
//
// The socket (DIR/supervisor.sock, DIR/client.sock is the client's own control
// socket) speaks JSON lines (common/control/line_socket.h); descriptors ride on
// the line they belong to. Only root and the supervisor's own user are answered.
// Any number of connections; every one hears every event. Version 1:
//
//   supervisor, at once: {"protocol": 1, "version", "pid", STATE…}
//   STATE = {"phase": "idle"|"starting"|"serving"|"restarting"|"finished"|"failed",
//            "mount": TEXT, "client_pid", "restarts", "last_exit", "last_error",
//            "uuid": TEXT, "sigterm": BOOL}
//     "mount" is what `serve` said, so that an agent that starts anew knows whose
//     it is; empty while idle. "uuid" is the volume's, once a client told it.
//     "sigterm": kubelet wants the pod gone.
//   agent: {"cmd": "serve", "mount": TEXT, "meta": URL, "words": TEXT (as after -o),
//           "device": "0:57", "host": TEXT, "start_timeout_s": N, "abort_after_s": N}
//           + optionally "uuid": TEXT, of the volume that must be served
//           + [fuse] for a new mount, [fuse, arena] to take one over
//     -> {"ok": {}}; then events. EALREADY: it serves this mount; EBUSY: another.
//     Another error (options, a volume that is not there): nothing was begun. A
//     volume that another process still holds is waited for, for 10 s. Allowed
//     again when "failed": a new mount failed to start, its descriptors are
//     closed. One taken over never fails: its applications wait, so it is tried
//     again and again ("restarting", and last_error says why).
//   agent: {"cmd": "fetch"} -> {"ok": {"mount", "device", "uuid"}} + [fuse, arena]
//     ENOENT when nothing is served.
//   agent: {"cmd": "step-aside"} -> {"ok": {}} once the client has ended (it stops
//     within 200 ms, else it is killed: its arena has what it acknowledged) and its
//     descriptors are closed; the supervisor then exits 0. For a successor in
//     another pod. "finished" and "idle" step aside too.
//   Answers to a command are {"ok": …} or {"error": {"errno", "message"}}, in order.
//   Events: {"event": STATE} whenever it changes, {"progress": TEXT} while starting.
//
// SIGTERM (kubelet wants the pod gone): ends at once while idle, failed or
// finished; while a mount is served it is noted and ignored, since applications
// hang on it: the agent moves the mount to another pod and says step-aside.
//
// A mount that nobody serves for abort_after_s: last_error begins with "no client
// serves"; the agent, who may, aborts the connection. The next client that can
// start then stores what was left, and the mount is "finished".

#pragma once

#include <functional>
#include <string>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::keeper {

// What the keeper's side cannot know, since it knows no file systems: what to
// tell the client, and the arena and lock that it needs.
struct ClientPlan {
  std::string client_json;  // an object
  UniqueFd arena;           // the given one, or a new one
  UniqueFd lock;            // of the volume; may be empty
};
struct ClientRequest {
  std::string mount, meta, words, device, host;
  std::string uuid;  // the only volume to serve; empty: the one that is there
  UniqueFd arena;  // empty: a new mount
};
// EBUSY: another process holds the volume; the supervisor asks again.
using PlanClient = std::function<Result<ClientPlan>(ClientRequest)>;

struct SupervisorConfig {
  std::string directory = "/run/moorfs";
  std::string executable = "/proc/self/exe";  // of the client
  PlanClient plan;
};
// Reaps whatever the kernel hands to PID 1. Returns the exit code.
int RunSupervisor(const SupervisorConfig& config);

}  // namespace moorfs::keeper
