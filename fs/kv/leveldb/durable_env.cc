// SPDX-License-Identifier: Apache-2.0
//
// See durable_env.h.

#include "fs/kv/leveldb/durable_env.h"

#include <algorithm>

#include "common/log/log.h"
#include "fs/kv/leveldb/log_check.h"

namespace moorfs::kv {
namespace {

bool IsLog(const std::string& name) { return name.ends_with(".log"); }

class NoLock final : public leveldb::FileLock {};

}  // namespace

// What LevelDB writes a log through. LevelDB deletes it at a memtable switch;
// the file stays with the Env until it is durable.
class LogHandle final : public leveldb::WritableFile {
 public:
  // A log that holds something is the only one left, and was allowed its
  // first byte when the ones before it were durable.
  LogHandle(DurableEnv* env, std::shared_ptr<DurableEnv::Log> log)
      : env_(env), log_(std::move(log)), older_durable_(log_->flushed > 0), appended_(log_->flushed) {}
  ~LogHandle() override { log_->closed = true; }

  leveldb::Status Append(const leveldb::Slice& data) override {
    if (!failure_.ok()) return failure_;
    if (!older_durable_) {
      failure_ = env_->PersistOlder(log_.get());
      if (!failure_.ok()) return failure_;
      older_durable_ = true;
    }
    failure_ = log_->file->Append(data);
    appended_ += data.size();
    return failure_;
  }

  // After a failure the log ends in a torn record; anything after it would be
  // lost at the next open, so nothing may follow.
  leveldb::Status Flush() override {
    if (!failure_.ok()) return failure_;
    failure_ = log_->file->Flush();
    if (failure_.ok()) log_->flushed.store(appended_, std::memory_order_release);
    return failure_;
  }

  leveldb::Status Sync() override {
    leveldb::Status status = Flush();
    if (status.ok()) status = env_->PersistDir();
    return status.ok() ? env_->PersistLog(log_) : status;
  }

  leveldb::Status Close() override { return Flush(); }

 private:
  DurableEnv* const env_;
  const std::shared_ptr<DurableEnv::Log> log_;
  bool older_durable_;
  uint64_t appended_;
  leveldb::Status failure_;
};

// A manifest: no record before the entries of the files it names.
class OrderedFile final : public leveldb::WritableFile {
 public:
  OrderedFile(DurableEnv* env, std::unique_ptr<EnvFile> file) : env_(env), file_(std::move(file)) {}

  leveldb::Status Append(const leveldb::Slice& data) override {
    leveldb::Status status = env_->PersistDir();
    return status.ok() ? file_->Append(data) : status;
  }
  leveldb::Status Close() override { return file_->Close(); }
  leveldb::Status Flush() override { return file_->Flush(); }
  leveldb::Status Sync() override { return file_->Sync(); }

 private:
  DurableEnv* const env_;
  const std::unique_ptr<EnvFile> file_;
};

leveldb::Status DurableEnv::NewWritableFile(const std::string& name, leveldb::WritableFile** file) {
  *file = nullptr;
  std::unique_ptr<EnvFile> made;
  leveldb::Status status = base_->NewFile(name, FileEnv::Start::kEmpty, &made);
  if (!status.ok()) return status;
  // Of a temporary file only its new name after the rename matters.
  if (!name.ends_with(".dbtmp")) ++dir_changes_;
  *file = Wrap(name, std::move(made), 0);
  return {};
}

leveldb::Status DurableEnv::NewAppendableFile(const std::string& name, leveldb::WritableFile** file) {
  *file = nullptr;
  uint64_t size = 0;
  leveldb::Status status = base_->GetFileSize(name, &size);
  std::unique_ptr<EnvFile> made;
  if (status.ok()) status = base_->NewFile(name, FileEnv::Start::kAtEnd, &made);
  if (status.ok()) *file = Wrap(name, std::move(made), size);
  return status;
}

leveldb::WritableFile* DurableEnv::Wrap(const std::string& name, std::unique_ptr<EnvFile> file, uint64_t size) {
  if (name.find("/MANIFEST-") != std::string::npos) return new OrderedFile(this, std::move(file));
  if (!IsLog(name)) return file.release();
  auto log = std::make_shared<Log>();
  log->name = name;
  log->file = std::move(file);
  log->flushed = size;
  {
    std::lock_guard lock(logs_mutex_);
    logs_.push_back(log);
  }
  return new LogHandle(this, std::move(log));
}

leveldb::Status DurableEnv::RenameFile(const std::string& from, const std::string& to) {
  leveldb::Status status = PersistDir();
  if (!status.ok()) return status;
  status = base_->RenameFile(from, to);
  if (!status.ok()) return status;
  ++dir_changes_;
  return PersistDir();
}

leveldb::Status DurableEnv::RemoveFile(const std::string& name) {
  if (IsLog(name)) {
    {
      std::lock_guard lock(logs_mutex_);
      std::erase_if(logs_, [&](const auto& log) { return log->name == name; });
    }
    const std::string marker = MarkerNameOf(name);
    if (base_->FileExists(marker)) {
      leveldb::Status status = base_->RemoveFile(marker);
      if (!status.ok()) {
        LOG_WARNING("leveldb") << "remove " << marker << ": " << status.ToString();
      }
    }
  }
  return base_->RemoveFile(name);
}

leveldb::Status DurableEnv::LockFile(const std::string&, leveldb::FileLock** lock) {
  *lock = new NoLock;
  return {};
}

leveldb::Status DurableEnv::UnlockFile(leveldb::FileLock* lock) {
  delete lock;
  return {};
}

leveldb::Status DurableEnv::SyncLogs() {
  leveldb::Status status = PersistDir();
  for (const auto& log : Logs()) {
    if (!status.ok()) break;
    status = PersistLog(log);
  }
  return status;
}

leveldb::Status DurableEnv::PersistOlder(const Log* newest) {
  leveldb::Status status = PersistDir();
  for (const auto& log : Logs()) {
    if (!status.ok() || log.get() == newest) break;
    status = PersistLog(log);
  }
  return status;
}

leveldb::Status DurableEnv::PersistDir() {
  if (dir_changes_.load() == dir_persisted_.load()) return {};
  std::lock_guard lock(dir_mutex_);
  const uint64_t changes = dir_changes_.load();
  if (changes == dir_persisted_.load()) return {};
  leveldb::Status status = base_->SyncDir(dir_);
  if (status.ok()) dir_persisted_.store(changes);
  return status;
}

leveldb::Status DurableEnv::PersistLog(const std::shared_ptr<Log>& log) {
  std::lock_guard lock(persist_mutex_);
  const bool closed = log->closed.load();
  const uint64_t flushed = log->flushed.load(std::memory_order_acquire);
  if (flushed > log->persisted) {
    leveldb::Status status = log->file->Persist();
    if (!status.ok()) return status;
    log->persisted = flushed;
    WriteMarker(log.get());
  }
  if (closed) {
    std::lock_guard list_lock(logs_mutex_);
    std::erase(logs_, log);
  }
  return {};
}

std::vector<std::shared_ptr<DurableEnv::Log>> DurableEnv::Logs() {
  std::lock_guard lock(logs_mutex_);
  return logs_;
}

// A marker that cannot be written only makes the next open less wary.
void DurableEnv::WriteMarker(Log* log) {
  leveldb::Status status;
  if (!log->marker) status = base_->NewFile(MarkerNameOf(log->name), FileEnv::Start::kEmpty, &log->marker);
  if (status.ok()) status = log->marker->Append(EncodeMarker(log->persisted));
  if (status.ok()) status = log->marker->Flush();
  if (!status.ok()) {
    LOG_DEBUG("leveldb") << "note how much of " << log->name << " is durable: " << status.ToString();
  }
}

}  // namespace moorfs::kv
