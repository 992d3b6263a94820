// SPDX-License-Identifier: Apache-2.0
//
// DurableEnv: the order in which the files of one LevelDB reach the disk.
//
// LevelDB 1.23 alone breaks a promise: when its memtable is full it closes the
// log without a sync and starts another; a synced write then syncs only the
// new one, and no log's directory entry is ever synced. After a power cut
// acknowledged commits in the older log are gone. Here
//  - a log takes its first byte only when all older logs and every directory
//    entry are durable, so what survives is always a prefix of the commits;
//  - SyncLogs() makes the newest log and its entry durable;
//  - a manifest takes a record only when the entries of the tables it may
//    name are durable, and a rename (CURRENT) is durable when it returns.
// Beside a log NNNNNN.log lies NNNNNN.synced: how much of the log was known to
// be durable. Written after the fact and never waited for, it lets the next
// open tell a power cut (fewer bytes than written) from damage (fewer than
// were durable).

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fs/kv/leveldb/file_env.h"

namespace moorfs::kv {

class DurableEnv final : public leveldb::EnvWrapper {
 public:
  // `base` outlives this. `dir` is the one directory this serves.
  DurableEnv(FileEnv* base, std::string dir) : leveldb::EnvWrapper(base), base_(base), dir_(std::move(dir)) {}

  // Everything appended to any log before the call is durable on OK. One
  // caller at a time.
  leveldb::Status SyncLogs();

  leveldb::Status NewWritableFile(const std::string& name, leveldb::WritableFile** file) override;
  leveldb::Status NewAppendableFile(const std::string& name, leveldb::WritableFile** file) override;
  leveldb::Status RenameFile(const std::string& from, const std::string& to) override;
  leveldb::Status RemoveFile(const std::string& name) override;
  // The store holds the lock itself, before and after LevelDB does.
  leveldb::Status LockFile(const std::string& name, leveldb::FileLock** lock) override;
  leveldb::Status UnlockFile(leveldb::FileLock* lock) override;

 private:
  friend class LogHandle;
  friend class OrderedFile;

  // A log from its creation until it is durable and closed, or removed.
  struct Log {
    std::string name;
    std::unique_ptr<EnvFile> file;
    std::unique_ptr<EnvFile> marker;  // NNNNNN.synced; guarded by persist_mutex_
    std::atomic<uint64_t> flushed{0};
    uint64_t persisted = 0;  // guarded by persist_mutex_
    std::atomic<bool> closed{false};
  };

  leveldb::WritableFile* Wrap(const std::string& name, std::unique_ptr<EnvFile> file, uint64_t size);
  leveldb::Status PersistDir();
  leveldb::Status PersistLog(const std::shared_ptr<Log>& log);
  // All logs but `newest`, and the directory.
  leveldb::Status PersistOlder(const Log* newest);
  std::vector<std::shared_ptr<Log>> Logs();
  void WriteMarker(Log* log);

  FileEnv* const base_;
  const std::string dir_;
  std::mutex logs_mutex_;
  std::vector<std::shared_ptr<Log>> logs_;
  std::mutex persist_mutex_;
  std::mutex dir_mutex_;
  // Not equal: what an earlier process left may not be durable either.
  std::atomic<uint64_t> dir_changes_{1};
  std::atomic<uint64_t> dir_persisted_{0};
};

}  // namespace moorfs::kv
