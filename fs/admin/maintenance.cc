// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/maintenance.h"

#include <malloc.h>

#include <chrono>

#include "common/log/log.h"

namespace moorfs::admin {
namespace {

constexpr int kTurnMs = 10'000;
// Between two batches of one turn: applications come first.
constexpr int kBatchPauseMs = 20;
constexpr size_t kCleanSteps = 16;
constexpr size_t kObjectBatch = 128;

}  // namespace

Maintenance::Maintenance(Parts parts) : parts_(parts), thread_([this] { Loop(); }) {}

Maintenance::~Maintenance() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stop_changed_.notify_all();
  thread_.join();
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
  for (bool more = true; more;) {
    auto cleaned = parts_.meta.Clean(Timestamp::Now(), kCleanSteps);
    parts_.inodes.FinishUnlink();
    if (!cleaned) return cleaned.error().Annotate("clean up deleted files");
    more = *cleaned;
    if (more && !Pause(kBatchPauseMs)) return Status::Ok();
  }
  for (bool more = true; more;) {
    ASSIGN_OR_RETURN_STATUS(more, DeleteObjects());
    if (more && !Pause(kBatchPauseMs)) return Status::Ok();
  }
  return Status::Ok();
}

Result<bool> Maintenance::DeleteObjects() {
  ASSIGN_OR_RETURN(const auto due, parts_.meta.DueObjects(Timestamp::Now(), kObjectBatch));
  if (due.empty()) return false;
  for (const ObjectId& object : due) {
    if (Status s = parts_.blocks.Delete(object); !s.ok()) {
      return Error(s.Annotate("delete object " + parts_.blocks.NameOf(object)));
    }
  }
  TRY_VOID(parts_.meta.ForgetObjects(due).Annotate("forget deleted objects"));
  return due.size() == kObjectBatch;
}

}  // namespace moorfs::admin
