// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/mount_state.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/units.h"

namespace moorfs::keeper {

const char* PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kStarting: return "starting";
    case Phase::kServing: return "serving";
    case Phase::kRestarting: return "restarting";
    case Phase::kAborted: return "aborted";
    case Phase::kFinished: return "finished";
  }
  return "?";
}

MountState::MountState(KeeperConfig c, uint32_t device_major, uint32_t device_minor)
    : config(std::move(c)),
      major(device_major),
      minor(device_minor),
      started_ns(MonotonicNs()),
      wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void MountState::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake.get(), &one, sizeof one);
}

nlohmann::json MountState::ToJson() {
  using Json = nlohmann::json;
  const std::lock_guard lock(mutex);
  Json j = Json::parse(config.info_json, nullptr, false);
  if (!j.is_object()) j = Json::object();
  const Json details = Json::parse(client_details, nullptr, false);
  if (details.is_object()) j["client"] = details;
  j["mountpoint"] = config.mountpoint;
  j["device"] = std::to_string(major) + ":" + std::to_string(minor);
  j["state"] = !mounted && phase == Phase::kServing ? "detached" : PhaseName(phase);
  j["mounted"] = mounted;
  j["keeper_pid"] = getpid();
  j["client_pid"] = client_pid;
  j["restarts"] = restarts;
  j["uptime_s"] = (MonotonicNs() - started_ns) / 1'000'000'000;
  j["client_uptime_s"] = phase == Phase::kServing ? (MonotonicNs() - client_ready_ns) / 1'000'000'000 : 0;
  j["last_exit"] = last_exit;
  j["last_error"] = last_error;
  j["log_file"] = config.log_file;
  j["runtime_dir"] = paths.directory;
  return j;
}

}  // namespace moorfs::keeper
