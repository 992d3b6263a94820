// SPDX-License-Identifier: Apache-2.0
//
// FileEnv: LevelDB's door to the operating system as we want it.
//  - tables are read with pread(2), not mmap(2): mapped tables count as
//    resident memory of the client;
//  - a file can be made durable from another thread while it grows (Persist);
//  - a directory can be made durable (SyncDir), a file cut (Truncate);
//  - a second open of one directory inside this process does not drop the
//    first one's lock, as it would with LevelDB's own Env.
//  - compactions run on a thread of this object. LevelDB's own Env has one
//    thread for the process, which does not exist after a fork.
// DurableEnv (durable_env.h) adds the order of syncs on top. Tests derive from
// FileEnv to record or break what passes.

#pragma once

#include <leveldb/env.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace moorfs::kv {

class EnvFile : public leveldb::WritableFile {
 public:
  // Makes everything flushed so far durable. Any thread, while another appends.
  virtual leveldb::Status Persist() = 0;
};

class FileEnv : public leveldb::EnvWrapper {
 public:
  FileEnv();
  ~FileEnv() override;

  // How an existing file is taken.
  enum class Start { kEmpty, kAtEnd };
  virtual leveldb::Status NewFile(const std::string& name, Start start, std::unique_ptr<EnvFile>* file);
  virtual leveldb::Status SyncDir(const std::string& dir);
  // Cuts the file to `size`; durable with the file's next sync.
  virtual leveldb::Status Truncate(const std::string& name, uint64_t size);

  leveldb::Status NewRandomAccessFile(const std::string& name, leveldb::RandomAccessFile** file) override;
  leveldb::Status NewWritableFile(const std::string& name, leveldb::WritableFile** file) override;
  leveldb::Status NewAppendableFile(const std::string& name, leveldb::WritableFile** file) override;
  leveldb::Status LockFile(const std::string& name, leveldb::FileLock** lock) override;
  leveldb::Status UnlockFile(leveldb::FileLock* lock) override;
  void Schedule(void (*function)(void* argument), void* argument) override;

 private:
  struct Work {
    void (*function)(void* argument);
    void* argument;
  };
  void RunWork();

  std::mutex work_mutex_;
  std::condition_variable work_arrived_;
  std::deque<Work> work_;
  bool stopping_ = false;
  std::thread worker_;  // started by the first work
};

// The errno behind a LevelDB status (which keeps only its text); EIO for
// corruption and everything unknown, 0 for OK.
int ErrnoOf(const leveldb::Status& status);

// "pid 12 (moorfs)" of whoever holds a lock on `lock_file`; empty if unknown.
std::string LockHolder(const std::string& lock_file);

}  // namespace moorfs::kv
