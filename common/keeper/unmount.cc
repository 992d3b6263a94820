// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/unmount.h"

#include <sys/mount.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "common/control/client.h"
#include "common/log/log.h"
#include "common/os/mountinfo.h"
#include "common/os/mounts.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

constexpr int kDrainTries = 3;

// Claims the mount for one request.
class Claim {
 public:
  explicit Claim(MountState& state) : state_(state) {
    const std::lock_guard lock(state.mutex);
    owned_ = !state.unmounting && state.phase != Phase::kFinished;
    if (owned_) state.unmounting = true;
  }
  ~Claim() {
    if (!owned_) return;
    const std::lock_guard lock(state_.mutex);
    state_.unmounting = false;
  }
  bool owned() const { return owned_; }

 private:
  MountState& state_;
  bool owned_ = false;
};

Phase CurrentPhase(MountState& state) {
  const std::lock_guard lock(state.mutex);
  return state.phase;
}

std::string ClientSocket(MountState& state) {
  const std::lock_guard lock(state.mutex);
  return state.paths.ClientSocket();
}

std::string LastError(MountState& state) {
  const std::lock_guard lock(state.mutex);
  return state.last_error.empty() ? state.last_exit : state.last_error;
}

// Progress that nobody listens to is no reason to stop.
void Tell(control::Reply& reply, std::string_view text) {
  if (Status s = reply.Progress(text); !s.ok()) {
    LOG_DEBUG("keeper") << s.ToString();
  }
}

Status Drain(MountState& state, control::Reply& reply) {
  control::CallOptions options;
  options.timeout_ms = 60'000;
  options.on_progress = [&](std::string_view text) { Tell(reply, text); };
  auto result = control::Call(ClientSocket(state), {{"cmd", "drain"}}, options);
  // A client that died over it has a successor, which has the data.
  for (int i = 0; i < kDrainTries && !result && result.error().err() == EPIPE; ++i) {
    result = control::Call(ClientSocket(state), {{"cmd", "drain"}}, options);
  }
  if (result) return Status::Ok();
  return Status(result.error().err(),
                "store unsaved data of " + state.config.mountpoint + ": " + result.error().message() +
                    "; nothing was unmounted; make the store take data again, or drop what is not saved "
                    "with --discard-unsaved");
}

Status Detach(MountState& state, bool lazy) {
  ASSIGN_OR_RETURN_STATUS(const auto mounts, os::ReadMountInfo());
  const auto ours = os::FindDevice(mounts, state.major, state.minor);
  if (!ours) return Status::Ok();  // somebody was quicker
  const std::string where = ours->mountpoint;
  const auto top = os::FindMountAt(mounts, where);
  if (top && top->Device() != ours->Device()) {
    return Status(EBUSY, "unmount " + where + ": " + top->source + " (" + top->fstype +
                             ") is mounted over it; unmount that first");
  }
  const Status s = os::Unmount(where, lazy ? MNT_DETACH : 0);
  if (s.err() != EBUSY) return s;
  const std::string holders = os::DescribeHolders(os::FindHolders(state.major, state.minor, 8));
  return Status(EBUSY, "unmount " + where + ": it is in use" +
                           (holders.empty() ? "; no process shows it, so another mount lies below it"
                                            : " by " + holders) +
                           "; end them, or detach it with --lazy");
}

// What the client still has in memory; -1 when it does not answer.
int64_t UnsavedBytes(MountState& state) {
  control::CallOptions options;
  options.timeout_ms = 2'000;
  auto status = control::Call(ClientSocket(state), {{"cmd", "status"}}, options);
  if (!status || !status->is_object()) return -1;
  return status->value("dirty_bytes", int64_t{-1});
}

// True once the client stored everything and ended.
bool WaitFinished(MountState& state, std::chrono::milliseconds time) {
  std::unique_lock lock(state.mutex);
  return state.changed.wait_for(lock, time, [&] { return state.phase == Phase::kFinished; });
}

}  // namespace

Result<Json> Unmount(MountState& state, const UnmountOptions& options, control::Reply& reply) {
  const Claim claim(state);
  if (!claim.owned()) return Error(EBUSY, "unmount " + state.config.mountpoint + ": it is being unmounted already");
  // An aborted connection takes no requests; its data is stored by the client
  // that drains it.
  bool drop = false;
  if (CurrentPhase(state) == Phase::kServing) {
    if (Status s = Drain(state, reply); !s.ok()) {
      if (!options.discard) return Error(s);
      drop = true;
    }
  } else {
    drop = options.discard;
  }
  TRY_VOID(Detach(state, options.lazy));
  if (drop) {
    Tell(reply, "dropping what was not saved");
    const std::lock_guard lock(state.mutex);
    state.discard = true;
  }
  state.Wake();
  // A plain end takes milliseconds. After that, say what is waited for.
  for (int second = 0; !WaitFinished(state, 1s); ++second) {
    const auto mounts = os::ReadMountInfo();
    if (const auto other = mounts ? os::FindDevice(*mounts, state.major, state.minor) : std::nullopt) {
      return Json{{"finished", false}, {"note", "it is also mounted at " + other->mountpoint + " and served on"}};
    }
    if (CurrentPhase(state) != Phase::kServing) {
      Tell(reply, "waiting for a client that can store unsaved data: " + LastError(state));
      continue;
    }
    const int64_t unsaved = UnsavedBytes(state);
    if (unsaved == 0 && second >= (options.lazy ? 1 : 3)) {
      return Json{{"finished", false},
                  {"note", "it is still in use, by open files or in another mount namespace, and served on"}};
    }
    if (unsaved > 0) Tell(reply, "storing " + FormatBytes(static_cast<uint64_t>(unsaved)));
  }
  return Json{{"finished", true}};
}

}  // namespace moorfs::keeper
