// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/maintenance.h"

#include <malloc.h>

#include <chrono>

#include "common/log/log.h"
#include "fs/admin/housekeeping.h"

namespace moorfs::admin {
namespace {

constexpr int kTurnMs = 10'000;
// Between two steps of one turn: applications come first.
constexpr int kStepPauseMs = 20;

}  // namespace

Maintenance::Maintenance(Parts parts) : parts_(parts), thread_([this] { Loop(); }) {}

Maintenance::~Maintenance() { Stop(); }

void Maintenance::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stop_changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::string Maintenance::last_error() {
  const std::lock_guard lock(mutex_);
  return last_error_;
}

bool Maintenance::Pause(int ms) {
  std::unique_lock lock(mutex_);
  return !stop_changed_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stop_; });
}

void Maintenance::Loop() {
  while (Pause(kTurnMs)) {
    const Status status = parts_.read_only ? Status::Ok() : Turn();
    {
      const std::lock_guard lock(mutex_);
      // Said once, not every ten seconds.
      if (!status.ok() && status.message() != last_error_) {
        LOG_WARNING("maintenance") << status.ToString();
      }
      last_error_ = status.message();
    }
    parts_.vfs.Trim();
    malloc_trim(1 << 20);
  }
}

Status Maintenance::Turn() {
  const Between pause = [this] {
    // Inodes that the last step asked about may be opened again.
    parts_.inodes.FinishUnlink();
    return Pause(kStepPauseMs);
  };
  const Status cleaned = CleanDeleted(parts_.meta, pause);
  parts_.inodes.FinishUnlink();
  RETURN_IF_ERROR(cleaned);
  auto deleted = DeleteDueObjects(parts_.meta, parts_.blocks, pause);
  return deleted ? Status::Ok() : deleted.error();
}

}  // namespace moorfs::admin
