// SPDX-License-Identifier: Apache-2.0
//
// FdCache: open descriptors by path, the least recently used closed first. A
// descriptor handed out stays open while it is held, even when it has left the
// cache meanwhile (evicted, or its object deleted).

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::object {

struct OpenFile {
  explicit OpenFile(int fd) : fd(fd) {}
  const UniqueFd fd;
};
using SharedFile = std::shared_ptr<OpenFile>;

// A directory and the state of its entries' way to disk.
class Folder {
 public:
  explicit Folder(int fd) : fd(fd) {}
  const UniqueFd fd;

  // fsync that covers every entry made before the call. Callers that arrive
  // while one runs share the next. The errno, or 0.
  int Sync();

  // Set once the entries that lead from the store's root to this directory are
  // known to be on disk.
  std::atomic<bool> ancestors_durable{false};

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  uint64_t started_ = 0, finished_ = 0;  // numbers of fsync runs
  uint64_t failed_run_ = 0;              // the last that failed, and how
  int failed_error_ = 0;
};
using SharedDir = std::shared_ptr<Folder>;

template <typename T>
class FdCache {
 public:
  explicit FdCache(size_t capacity) : capacity_(capacity) {}

  std::shared_ptr<T> Find(std::string_view path) {
    std::lock_guard lock(mutex_);
    auto it = index_.find(path);
    if (it == index_.end()) return nullptr;
    lru_.splice(lru_.begin(), lru_, it->second);
    return it->second->open;
  }

  // Replaces what the cache had under `path`.
  void Insert(std::string_view path, std::shared_ptr<T> open) {
    std::shared_ptr<T> closing;  // closed after the lock is released
    std::lock_guard lock(mutex_);
    if (auto it = index_.find(path); it != index_.end()) {
      closing = std::exchange(it->second->open, std::move(open));
      lru_.splice(lru_.begin(), lru_, it->second);
      return;
    }
    if (lru_.size() >= capacity_) {
      index_.erase(std::string_view(lru_.back().path));
      closing = std::move(lru_.back().open);
      lru_.pop_back();
    }
    lru_.push_front({std::string(path), std::move(open)});
    index_.emplace(lru_.front().path, lru_.begin());
  }

  void Erase(std::string_view path) {
    std::shared_ptr<T> closing;
    std::lock_guard lock(mutex_);
    auto it = index_.find(path);
    if (it == index_.end()) return;
    auto entry = it->second;
    index_.erase(it);
    closing = std::move(entry->open);
    lru_.erase(entry);
  }

  size_t size() const {
    std::lock_guard lock(mutex_);
    return lru_.size();
  }

 private:
  struct Entry {
    std::string path;
    std::shared_ptr<T> open;
  };
  const size_t capacity_;
  mutable std::mutex mutex_;
  std::list<Entry> lru_;  // most recent first
  // Keys point into lru_'s paths.
  std::unordered_map<std::string_view, typename std::list<Entry>::iterator> index_;
};

}  // namespace moorfs::object
