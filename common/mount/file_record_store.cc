// SPDX-License-Identifier: Apache-2.0

#include "common/mount/file_record_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "common/base/unique_fd.h"
#include "common/base/units.h"
#include "common/log/log.h"
#include "common/os/file.h"

namespace moorfs::mount {
namespace {

constexpr size_t kMaxRecordBytes = 64 << 20;
constexpr std::string_view kSuffix = ".json";

std::string NewVersion() {
  uint64_t random = 0;
  if (getrandom(&random, sizeof random, 0) != sizeof random) random = static_cast<uint64_t>(MonotonicNs());
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(random));
  return text;
}

class FileRecordStore final : public RecordStore {
 public:
  FileRecordStore(std::string directory, UniqueFd lock) : directory_(std::move(directory)), lock_(std::move(lock)) {}

  Result<std::optional<ClientRecord>> Get(const std::string& key) override {
    ASSIGN_OR_RETURN(const Locked locked, Lock());
    return Read(key);
  }

  Result<ClientRecord> Create(const ClientRecord& record) override {
    ASSIGN_OR_RETURN(const Locked locked, Lock());
    ASSIGN_OR_RETURN(const auto now, Read(record.mount_key));
    if (now) return Error(kErrnoConflict, "make the record of client " + record.mount_key + ": there is one");
    return Write(record);
  }

  Result<ClientRecord> Update(const ClientRecord& record) override {
    ASSIGN_OR_RETURN(const Locked locked, Lock());
    TRY_VOID(Compare(record.mount_key, record.version));
    return Write(record);
  }

  Status Delete(const std::string& key, const std::string& version) override {
    ASSIGN_OR_RETURN_STATUS(const Locked locked, Lock());
    RETURN_IF_ERROR(Compare(key, version));
    cache_.erase(key);
    if (unlink(PathOf(key).c_str()) != 0) return Status::FromErrno("delete " + PathOf(key));
    return os::SyncDirectory(directory_);
  }

  Result<std::vector<ClientRecord>> List() override {
    ASSIGN_OR_RETURN(const Locked locked, Lock());
    std::vector<std::string> keys;
    DIR* dir = opendir(directory_.c_str());
    if (dir == nullptr) return Error(Status::FromErrno("list " + directory_));
    while (const dirent* entry = readdir(dir)) {
      const std::string_view name = entry->d_name;
      if (name[0] != '.' && name.ends_with(kSuffix)) keys.emplace_back(name.substr(0, name.size() - kSuffix.size()));
    }
    closedir(dir);
    std::sort(keys.begin(), keys.end());
    std::vector<ClientRecord> out;
    for (const std::string& key : keys) {
      ASSIGN_OR_RETURN(auto record, Read(key));
      if (record) out.push_back(std::move(*record));
    }
    return out;
  }

 private:
  // Threads by the mutex, processes by the file.
  struct Locked {
    std::unique_lock<std::mutex> threads;
    int fd;
    Locked(std::unique_lock<std::mutex> t, int f) : threads(std::move(t)), fd(f) {}
    Locked(Locked&& o) noexcept : threads(std::move(o.threads)), fd(std::exchange(o.fd, -1)) {}
    ~Locked() {
      if (fd >= 0) flock(fd, LOCK_UN);
    }
  };
  Result<Locked> Lock() {
    std::unique_lock threads(mutex_);
    while (flock(lock_.get(), LOCK_EX) != 0) {
      if (errno != EINTR) return Error(Status::FromErrno("lock " + directory_));
    }
    return Locked(std::move(threads), lock_.get());
  }

  std::string PathOf(const std::string& key) const { return directory_ + "/" + key + std::string(kSuffix); }

  Status Compare(const std::string& key, const std::string& version) {
    ASSIGN_OR_RETURN_STATUS(const auto now, Read(key));
    if (now && now->version == version) return Status::Ok();
    return Status(kErrnoConflict, "change the record of client " + key + ": somebody else changed it");
  }

  Result<ClientRecord> Write(ClientRecord record) {
    record.version = NewVersion();
    cache_.erase(record.mount_key);
    TRY_VOID(os::ReplaceFileDurably(PathOf(record.mount_key), EncodeRecord(record), 0600));
    struct stat st;
    if (stat(PathOf(record.mount_key).c_str(), &st) == 0) cache_[record.mount_key] = {Signature(st), record};
    return record;
  }

  Result<std::optional<ClientRecord>> Read(const std::string& key) {
    const std::string path = PathOf(key);
    struct stat st;
    if (stat(path.c_str(), &st) != 0) {
      if (errno == ENOENT) return std::nullopt;
      return Error(Status::FromErrno("look at " + path));
    }
    if (const auto it = cache_.find(key); it != cache_.end() && it->second.signature == Signature(st)) {
      return it->second.record;
    }
    ASSIGN_OR_RETURN(const std::string text, os::ReadFile(path, kMaxRecordBytes));
    auto record = DecodeRecord(text);
    if (record && record->mount_key != key) record = Error(EPROTO, "it is the record of another client");
    if (!record) {
      LOG_ERROR("mount") << path << ": " << record.error().message() << "; it is put aside";
      if (rename(path.c_str(), (path + ".damaged").c_str()) != 0) {
        return Error(Status::FromErrno("put " + path + " aside"));
      }
      return std::nullopt;
    }
    cache_[key] = {Signature(st), *record};
    return std::move(*record);
  }

  // A replaced file is another inode with another time; parsing a thousand
  // references for every one of them would be quadratic.
  using FileSignature = std::tuple<ino_t, off_t, int64_t, int64_t>;
  static FileSignature Signature(const struct stat& st) {
    return {st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
  }
  struct Cached {
    FileSignature signature;
    ClientRecord record;
  };

  const std::string directory_;
  const UniqueFd lock_;
  std::mutex mutex_;
  std::map<std::string, Cached> cache_;
};

}  // namespace

Result<std::unique_ptr<RecordStore>> OpenFileRecordStore(const std::string& directory) {
  TRY_VOID(os::MakeDirs(directory, 0700));
  const std::string path = directory + "/.lock";
  UniqueFd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) return Error(Status::FromErrno("open " + path));
  return std::make_unique<FileRecordStore>(directory, std::move(lock));
}

}  // namespace moorfs::mount
