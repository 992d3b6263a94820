// SPDX-License-Identifier: Apache-2.0
//
// RecordingEnv: a FileEnv that remembers which bytes and directory entries were
// made durable, and builds what a power cut may leave: of each file any length
// between its durable and its written bytes, of the directory changes since its
// last sync any subset, all independent of each other. (Cutting a single history
// at one point would miss exactly the faults that come from two files reaching
// the disk in another order than they were written.)
//
// Real syncs are skipped: what is durable is decided here. Serves one directory.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "fs/kv/leveldb/file_env.h"

namespace moorfs::kv {

// Names and contents of one directory.
using Image = std::map<std::string, std::string>;

class RecordingEnv final : public FileEnv {
 public:
  struct Faults {
    // A sync of a log that is not the newest is not carried out.
    bool skip_old_logs = false;
    // A directory sync is not carried out.
    bool skip_directory = false;
    // A manifest's sync also syncs the directory, as LevelDB's own Env has it.
    bool manifest_syncs_directory = false;
  };

  RecordingEnv() = default;
  explicit RecordingEnv(const Faults& faults) : faults_(faults) {}

  // Writes `image` to `dir`; all of it counts as durable.
  void Load(const std::string& dir, const Image& image);
  // Takes over what `dead` shows at this moment (as the page cache does when a
  // process is killed): all of it visible, durable only what was.
  void LoadAfterKill(const std::string& dir, RecordingEnv* dead);
  // Called after every change, on the thread that makes it.
  void OnEvent(std::function<void()> hook) {
    std::lock_guard lock(hook_mutex_);
    hook_ = std::move(hook);
  }
  // What a power cut now might leave.
  Image Cut(std::minstd_rand* random);

  leveldb::Status NewFile(const std::string& name, Start start, std::unique_ptr<EnvFile>* file) override;
  leveldb::Status SyncDir(const std::string& dir) override;
  leveldb::Status Truncate(const std::string& name, uint64_t size) override;
  leveldb::Status RenameFile(const std::string& from, const std::string& to) override;
  leveldb::Status RemoveFile(const std::string& name) override;

 private:
  friend class RecordingFile;
  struct Inode {
    std::string bytes;
    size_t durable = 0;
  };
  using InodePtr = std::shared_ptr<Inode>;
  // `inode` null: `name` is removed. `from` not empty: a rename.
  struct Change {
    std::string name;
    InodePtr inode;
    std::string from;
  };

  void Event();
  void Record(Change change);
  void Persist(const std::string& name, const InodePtr& inode);

  const Faults faults_;
  std::mutex hook_mutex_;  // taken before mutex_
  std::function<void()> hook_;
  std::mutex mutex_;
  std::map<std::string, InodePtr> visible_;
  std::map<std::string, InodePtr> durable_;
  std::vector<Change> changes_;
  std::string newest_log_;
};

}  // namespace moorfs::kv
