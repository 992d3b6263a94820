// SPDX-License-Identifier: Apache-2.0
//
// See recording_env.h.

#include "test/unit/fs_kv/recording_env.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

namespace moorfs::kv {
namespace {

std::string BaseName(const std::string& path) { return std::filesystem::path(path).filename().string(); }

bool IsTable(const std::string& name) { return name.ends_with(".ldb"); }
bool IsLog(const std::string& name) { return name.ends_with(".log"); }

}  // namespace

class RecordingFile final : public EnvFile {
 public:
  RecordingFile(RecordingEnv* env, std::string name, std::unique_ptr<EnvFile> real, RecordingEnv::InodePtr inode)
      : env_(env), name_(std::move(name)), real_(std::move(real)), inode_(std::move(inode)) {}

  leveldb::Status Append(const leveldb::Slice& data) override {
    buffer_.append(data.data(), data.size());
    return {};
  }
  leveldb::Status Flush() override {
    if (buffer_.empty()) return {};
    leveldb::Status status = real_->Append(buffer_);
    if (status.ok()) status = real_->Flush();
    {
      std::lock_guard lock(env_->mutex_);
      inode_->bytes += buffer_;
    }
    buffer_.clear();
    env_->Event();
    return status;
  }
  leveldb::Status Sync() override {
    leveldb::Status status = Flush();
    return status.ok() ? Persist() : status;
  }
  leveldb::Status Persist() override {
    env_->Persist(name_, inode_);
    return {};
  }
  leveldb::Status Close() override {
    leveldb::Status status = Flush();
    return status.ok() ? real_->Close() : status;
  }

 private:
  RecordingEnv* const env_;
  const std::string name_;
  const std::unique_ptr<EnvFile> real_;
  const RecordingEnv::InodePtr inode_;
  std::string buffer_;
};

void RecordingEnv::Load(const std::string& dir, const Image& image) {
  std::filesystem::create_directories(dir);
  for (const auto& [name, bytes] : image) {
    std::ofstream(dir + "/" + name, std::ios::binary) << bytes;
    auto inode = std::make_shared<Inode>(Inode{bytes, bytes.size()});
    visible_[name] = durable_[name] = inode;
  }
}

void RecordingEnv::LoadAfterKill(const std::string& dir, RecordingEnv* dead) {
  std::lock_guard lock(dead->mutex_);
  // One copy per inode, however many names it has.
  std::map<InodePtr, InodePtr> copies;
  const auto copy = [&](const InodePtr& inode) {
    InodePtr& made = copies[inode];
    if (inode && !made) made = std::make_shared<Inode>(*inode);
    return made;
  };
  std::filesystem::create_directories(dir);
  for (const auto& [name, inode] : dead->visible_) {
    std::ofstream(dir + "/" + name, std::ios::binary) << inode->bytes;
    visible_[name] = copy(inode);
  }
  for (const auto& [name, inode] : dead->durable_) durable_[name] = copy(inode);
  for (const Change& change : dead->changes_) changes_.push_back({change.name, copy(change.inode), change.from});
}

Image RecordingEnv::Cut(std::minstd_rand* random) {
  std::lock_guard lock(mutex_);
  std::map<std::string, InodePtr> entries = durable_;
  for (const Change& change : changes_) {
    if ((*random)() % 2 == 0) continue;
    if (!change.from.empty()) entries.erase(change.from);
    if (change.inode) {
      entries[change.name] = change.inode;
    } else {
      entries.erase(change.name);
    }
  }
  Image image;
  for (const auto& [name, inode] : entries) {
    const size_t unsynced = inode->bytes.size() - inode->durable;
    size_t kept = 0;
    // The extremes find most; anything between finds the torn records.
    const auto choice = (*random)() % 3;
    if (choice == 1) kept = unsynced;
    if (choice == 2) kept = (*random)() % (unsynced + 1);
    image[name] = inode->bytes.substr(0, inode->durable + kept);
  }
  return image;
}

leveldb::Status RecordingEnv::NewFile(const std::string& name, Start start, std::unique_ptr<EnvFile>* file) {
  std::unique_ptr<EnvFile> real;
  leveldb::Status status = FileEnv::NewFile(name, start, &real);
  if (!status.ok()) return status;
  InodePtr inode;
  {
    std::lock_guard lock(mutex_);
    if (IsLog(name)) newest_log_ = name;
    if (start == Start::kAtEnd && visible_.count(BaseName(name)) > 0) inode = visible_.at(BaseName(name));
  }
  if (!inode) {
    inode = std::make_shared<Inode>();
    Record({BaseName(name), inode, {}});
  }
  *file = std::make_unique<RecordingFile>(this, name, std::move(real), inode);
  return {};
}

leveldb::Status RecordingEnv::SyncDir(const std::string&) {
  {
    std::lock_guard lock(mutex_);
    if (faults_.skip_directory) return {};
    durable_ = visible_;
    changes_.clear();
  }
  Event();
  return {};
}

leveldb::Status RecordingEnv::Truncate(const std::string& name, uint64_t size) {
  std::error_code failure;
  std::filesystem::resize_file(name, size, failure);
  if (failure) return leveldb::Status::IOError(name, failure.message());
  {
    std::lock_guard lock(mutex_);
    const InodePtr& inode = visible_.at(BaseName(name));
    inode->bytes.resize(size);
    inode->durable = std::min<size_t>(inode->durable, size);
  }
  Event();
  return {};
}

leveldb::Status RecordingEnv::RenameFile(const std::string& from, const std::string& to) {
  leveldb::Status status = FileEnv::RenameFile(from, to);
  if (!status.ok()) return status;
  InodePtr inode;
  {
    std::lock_guard lock(mutex_);
    inode = visible_.at(BaseName(from));
    visible_.erase(BaseName(from));
  }
  Record({BaseName(to), inode, BaseName(from)});
  return {};
}

leveldb::Status RecordingEnv::RemoveFile(const std::string& name) {
  leveldb::Status status = FileEnv::RemoveFile(name);
  if (status.ok()) Record({BaseName(name), nullptr, {}});
  return status;
}

void RecordingEnv::Record(Change change) {
  {
    std::lock_guard lock(mutex_);
    if (change.inode) {
      visible_[change.name] = change.inode;
    } else {
      visible_.erase(change.name);
    }
    changes_.push_back(std::move(change));
  }
  Event();
}

void RecordingEnv::Persist(const std::string& name, const InodePtr& inode) {
  size_t written = 0;
  {
    std::lock_guard lock(mutex_);
    if (faults_.skip_old_logs && IsLog(name) && name != newest_log_) return;
    written = inode->bytes.size();
  }
  // A table takes its time, so that commits and syncs happen meanwhile.
  if (IsTable(name)) std::this_thread::sleep_for(std::chrono::milliseconds(3));
  if (faults_.manifest_syncs_directory && name.find("MANIFEST-") != std::string::npos) (void)SyncDir({});
  {
    std::lock_guard lock(mutex_);
    inode->durable = std::max(inode->durable, written);
  }
  Event();
}

void RecordingEnv::Event() {
  std::lock_guard lock(hook_mutex_);
  if (hook_) hook_();
}

}  // namespace moorfs::kv
