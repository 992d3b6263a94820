// SPDX-License-Identifier: Apache-2.0
//
// See file_env.h.

#include "fs/kv/leveldb/file_env.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <utility>

#include "common/base/unique_fd.h"

namespace moorfs::kv {
namespace {

constexpr size_t kBufferBytes = 64 << 10;
// A log's bytes are handed to the disk in pieces of this size, unwaited, so
// that the fsync at its end finds little left to do.
constexpr uint64_t kWritebackBytes = 512 << 10;

leveldb::Status PosixError(const std::string& name, int err) {
  if (err == ENOENT) return leveldb::Status::NotFound(name, std::strerror(err));
  return leveldb::Status::IOError(name, std::strerror(err));
}

class PosixFile final : public EnvFile {
 public:
  PosixFile(std::string name, UniqueFd fd, uint64_t size, bool is_log)
      : name_(std::move(name)), fd_(std::move(fd)), is_log_(is_log), written_(size), handed_over_(size) {
    buffer_.reserve(kBufferBytes);
  }
  ~PosixFile() override {
    // The caller who cared has flushed; there is nobody left to tell.
    if (!buffer_.empty()) (void)Flush();
  }

  leveldb::Status Append(const leveldb::Slice& data) override {
    if (buffer_.size() + data.size() > kBufferBytes) {
      leveldb::Status status = Flush();
      if (!status.ok()) return status;
    }
    if (data.size() >= kBufferBytes) return Write(data.data(), data.size());
    buffer_.append(data.data(), data.size());
    return {};
  }

  leveldb::Status Flush() override {
    leveldb::Status status = Write(buffer_.data(), buffer_.size());
    buffer_.clear();
    return status;
  }

  leveldb::Status Sync() override {
    leveldb::Status status = Flush();
    return status.ok() ? Persist() : status;
  }

  leveldb::Status Close() override {
    leveldb::Status status = Flush();
    fd_.reset();
    return status;
  }

  leveldb::Status Persist() override {
    if (::fdatasync(fd_.get()) != 0) return PosixError(name_, errno);
    return {};
  }

 private:
  leveldb::Status Write(const char* data, size_t size) {
    while (size > 0) {
      const ssize_t done = ::write(fd_.get(), data, size);
      if (done < 0) {
        if (errno == EINTR) continue;
        return PosixError(name_, errno);
      }
      data += done;
      size -= static_cast<size_t>(done);
      written_ += static_cast<uint64_t>(done);
    }
    if (is_log_ && written_ - handed_over_ >= kWritebackBytes) {
      // Only a hint: its failure shows at the next fdatasync.
      (void)::sync_file_range(fd_.get(), static_cast<off_t>(handed_over_), static_cast<off_t>(written_ - handed_over_),
                              SYNC_FILE_RANGE_WRITE);
      handed_over_ = written_;
    }
    return {};
  }

  const std::string name_;
  UniqueFd fd_;
  const bool is_log_;
  std::string buffer_;
  uint64_t written_;
  uint64_t handed_over_;
};

class PreadFile final : public leveldb::RandomAccessFile {
 public:
  PreadFile(std::string name, UniqueFd fd) : name_(std::move(name)), fd_(std::move(fd)) {}

  leveldb::Status Read(uint64_t offset, size_t size, leveldb::Slice* result, char* scratch) const override {
    size_t got = 0;
    while (got < size) {
      const ssize_t n = ::pread(fd_.get(), scratch + got, size - got, static_cast<off_t>(offset + got));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return PosixError(name_, errno);
      if (n == 0) break;
      got += static_cast<size_t>(n);
    }
    *result = leveldb::Slice(scratch, got);
    return {};
  }

 private:
  const std::string name_;
  const UniqueFd fd_;
};

using FileId = std::pair<dev_t, ino_t>;

// Files locked by this process. A record lock belongs to the process and dies
// with the first descriptor of the file that is closed, so a file of ours must
// not even be opened a second time.
struct LockTable {
  std::mutex mutex;
  std::set<FileId> held;
};
LockTable& Locks() {
  static LockTable table;
  return table;
}

class HeldLock final : public leveldb::FileLock {
 public:
  HeldLock(UniqueFd fd, FileId id) : fd_(std::move(fd)), id_(id) {}
  ~HeldLock() override {
    std::lock_guard guard(Locks().mutex);
    Locks().held.erase(id_);
  }

 private:
  UniqueFd fd_;
  FileId id_;
};

}  // namespace

FileEnv::FileEnv() : leveldb::EnvWrapper(leveldb::Env::Default()) {}

FileEnv::~FileEnv() {
  {
    std::lock_guard lock(work_mutex_);
    stopping_ = true;
  }
  work_arrived_.notify_one();
  if (worker_.joinable()) worker_.join();
}

void FileEnv::Schedule(void (*function)(void* argument), void* argument) {
  std::lock_guard lock(work_mutex_);
  work_.push_back({function, argument});
  if (!worker_.joinable()) worker_ = std::thread(&FileEnv::RunWork, this);
  work_arrived_.notify_one();
}

void FileEnv::RunWork() {
  std::unique_lock lock(work_mutex_);
  for (;;) {
    work_arrived_.wait(lock, [this] { return stopping_ || !work_.empty(); });
    if (work_.empty()) return;
    const Work work = work_.front();
    work_.pop_front();
    lock.unlock();
    work.function(work.argument);
    lock.lock();
  }
}

leveldb::Status FileEnv::NewFile(const std::string& name, Start start, std::unique_ptr<EnvFile>* file) {
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (start == Start::kEmpty ? O_TRUNC : O_APPEND);
  UniqueFd fd(::open(name.c_str(), flags, 0600));
  struct stat st;
  if (!fd || ::fstat(fd.get(), &st) != 0) return PosixError(name, errno);
  *file = std::make_unique<PosixFile>(name, std::move(fd), static_cast<uint64_t>(st.st_size), name.ends_with(".log"));
  return {};
}

leveldb::Status FileEnv::SyncDir(const std::string& dir) {
  UniqueFd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return PosixError(dir, errno);
  if (::fsync(fd.get()) != 0) return PosixError(dir, errno);
  return {};
}

leveldb::Status FileEnv::Truncate(const std::string& name, uint64_t size) {
  if (::truncate(name.c_str(), static_cast<off_t>(size)) != 0) return PosixError(name, errno);
  return {};
}

leveldb::Status FileEnv::NewRandomAccessFile(const std::string& name, leveldb::RandomAccessFile** file) {
  *file = nullptr;
  UniqueFd fd(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return PosixError(name, errno);
  *file = new PreadFile(name, std::move(fd));
  return {};
}

leveldb::Status FileEnv::NewWritableFile(const std::string& name, leveldb::WritableFile** file) {
  std::unique_ptr<EnvFile> made;
  leveldb::Status status = NewFile(name, Start::kEmpty, &made);
  *file = made.release();
  return status;
}

leveldb::Status FileEnv::NewAppendableFile(const std::string& name, leveldb::WritableFile** file) {
  std::unique_ptr<EnvFile> made;
  leveldb::Status status = NewFile(name, Start::kAtEnd, &made);
  *file = made.release();
  return status;
}

leveldb::Status FileEnv::LockFile(const std::string& name, leveldb::FileLock** lock) {
  *lock = nullptr;
  LockTable& table = Locks();
  std::lock_guard guard(table.mutex);
  struct stat st;
  if (::stat(name.c_str(), &st) == 0 && table.held.count({st.st_dev, st.st_ino}) > 0) {
    return PosixError(name, EAGAIN);
  }
  UniqueFd fd(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd || ::fstat(fd.get(), &st) != 0) return PosixError(name, errno);
  struct flock whole_file = {};
  whole_file.l_type = F_WRLCK;
  whole_file.l_whence = SEEK_SET;
  if (::fcntl(fd.get(), F_SETLK, &whole_file) != 0) return PosixError(name, errno == EACCES ? EAGAIN : errno);
  const FileId id{st.st_dev, st.st_ino};
  table.held.insert(id);
  *lock = new HeldLock(std::move(fd), id);
  return {};
}

leveldb::Status FileEnv::UnlockFile(leveldb::FileLock* lock) {
  delete lock;
  return {};
}

int ErrnoOf(const leveldb::Status& status) {
  if (status.ok()) return 0;
  if (status.IsNotFound()) return ENOENT;
  if (status.IsCorruption()) return EIO;
  const std::string text = status.ToString();
  for (int err : {ENOSPC, EDQUOT, EACCES, EPERM, EROFS, EMFILE, ENFILE, EAGAIN, ENOENT, ENOTDIR, ENOMEM, EFBIG}) {
    if (text.ends_with(std::strerror(err))) return err;
  }
  return EIO;
}

std::string LockHolder(const std::string& lock_file) {
  struct stat st;
  if (::stat(lock_file.c_str(), &st) != 0) return {};
  std::ifstream locks("/proc/locks");
  std::string line;
  while (std::getline(locks, line)) {
    long pid = 0;
    unsigned major = 0;
    unsigned minor = 0;
    uint64_t inode = 0;
    // "1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"
    if (std::sscanf(line.c_str(), "%*s POSIX %*s %*s %ld %x:%x:%" SCNu64, &pid, &major, &minor, &inode) != 4) continue;
    if (inode != st.st_ino || major != ::major(st.st_dev) || minor != ::minor(st.st_dev) || pid <= 0) continue;
    std::string name;
    std::ifstream comm("/proc/" + std::to_string(pid) + "/comm");
    std::getline(comm, name);
    return "pid " + std::to_string(pid) + (name.empty() ? "" : " (" + name + ")");
  }
  return {};
}

}  // namespace moorfs::kv
