// SPDX-License-Identifier: Apache-2.0
//
// See leveldb_store.h. Locks, in this order: commit mutex (OptimisticStore),
// gate_ (shared by every use of db_ and env_, exclusive to reopen), the small
// mutexes. While the engine is broken db_ stays open for reads until there is
// reason to believe that a reopen succeeds.

#include "fs/kv/leveldb/leveldb_store.h"

#include <fcntl.h>
#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>

#include "common/base/unique_fd.h"
#include "common/base/units.h"
#include "common/log/log.h"
#include "fs/kv/leveldb/durable_env.h"
#include "fs/kv/leveldb/file_env.h"
#include "fs/kv/leveldb/log_check.h"
#include "fs/kv/optimistic.h"

namespace moorfs::kv {
namespace {

constexpr int kBloomBitsPerKey = 10;
constexpr size_t kTableBytes = 4 << 20;
// A walk holds the engine for this many entries or bytes at a time.
constexpr size_t kWalkEntries = 256;
constexpr size_t kWalkBytes = 256 << 10;
// After a failed commit: how long until the next look whether it would work.
constexpr int64_t kFullDiskPauseNs = 20'000'000;
constexpr int64_t kOtherErrorPauseNs = 1'000'000'000;
constexpr char kRemedy[] = "; keep a copy of the directory, then restore it from a backup or load the last dump, "
                           "and run fsck";

// Exists while a failed sync is not healed: the log's pages may be marked clean
// and yet not be on disk, so whoever opens next must not go on with that log.
constexpr char kDistrustLog[] = "/DISTRUST-LOG";

leveldb::Slice ToSlice(std::string_view s) { return {s.data(), s.size()}; }
std::string_view ToView(const leveldb::Slice& s) { return {s.data(), s.size()}; }

bool IsFull(int err) { return err == ENOSPC || err == EDQUOT; }

// LevelDB's own chatter, for debugging only.
class DebugLogger final : public leveldb::Logger {
 public:
  void Logv(const char* format, std::va_list args) override {
    if (log::GetLevel() > log::Level::kDebug) return;
    char line[512];
    std::vsnprintf(line, sizeof line, format, args);
    log::Write(log::Level::kDebug, "leveldb", line);
  }
};

// mkdir -p whose result survives a power cut.
Status CreateDirs(FileEnv* env, const std::string& dir) {
  const std::filesystem::path parent = std::filesystem::path(dir).parent_path();
  if (::mkdir(dir.c_str(), 0700) != 0) {
    if (errno == EEXIST) return {};
    if (errno != ENOENT || parent.empty()) return Status::FromErrno("create " + dir);
    RETURN_IF_ERROR(CreateDirs(env, parent.string()));
    if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) return Status::FromErrno("create " + dir);
  }
  const leveldb::Status synced = env->SyncDir(parent.empty() ? "." : parent.string());
  if (!synced.ok()) return Status(ErrnoOf(synced), "create " + dir + ": " + synced.ToString());
  return {};
}

// False when the disk certainly has no `bytes` left.
bool HasRoom(const std::string& dir, size_t bytes) {
  // A name that LevelDB removes by itself should this process die here.
  const std::string probe = dir + "/000000.dbtmp";
  UniqueFd fd(::open(probe.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return !IsFull(errno);
  const bool full = ::fallocate(fd.get(), 0, 0, static_cast<off_t>(bytes)) != 0 && IsFull(errno);
  ::unlink(probe.c_str());
  return !full;
}

class LevelDbStoreImpl;

class LevelDbSnapshot final : public Snapshot {
 public:
  LevelDbSnapshot(LevelDbStoreImpl* store, const leveldb::Snapshot* handle) : store_(store), handle_(handle) {}
  ~LevelDbSnapshot() override;
  Result<std::optional<std::string>> Get(const Key& key) override;
  Result<std::vector<Entry>> Scan(const Range& range, size_t limit) override;
  Status Walk(std::string_view after,
              const std::function<bool(std::string_view key, std::string_view value)>& visit) override;

 private:
  friend class LevelDbStoreImpl;
  LevelDbStoreImpl* store_;
  // Null after the engine was reopened. Written with the gate held alone.
  const leveldb::Snapshot* handle_;
};

class LevelDbStoreImpl final : public OptimisticStore {
 public:
  LevelDbStoreImpl(std::string dir, const Options& options, const LevelDbOptions& leveldb_options)
      : OptimisticStore(options.read_only),
        dir_(std::move(dir)),
        options_(options),
        leveldb_options_(leveldb_options),
        base_(leveldb_options.env != nullptr ? leveldb_options.env : &own_env_),
        cache_(leveldb::NewLRUCache(leveldb_options.block_cache_bytes)),
        filter_(leveldb::NewBloomFilterPolicy(kBloomBitsPerKey)) {}

  ~LevelDbStoreImpl() override {
    if (db_ != nullptr && !options_.read_only) {
      const Status synced = Sync();
      if (!synced.ok()) {
        LOG_ERROR("leveldb") << "close " << dir_ << ": " << synced.ToString();
      }
    }
    db_.reset();
    if (lock_ != nullptr) base_->UnlockFile(lock_);
  }

  Status Open();

  Status Sync() override;
  Result<std::unique_ptr<Snapshot>> NewSnapshot() override;
  bool exclusive() const override { return true; }
  std::string_view engine() const override { return "leveldb"; }
  std::optional<uint64_t> ApproximateBytes() override;
  std::string Stats() override;

 private:
  friend class LevelDbSnapshot;

  Result<std::optional<std::string>> ReadLatest(std::string_view key) override { return Read(nullptr, key); }
  Status ScanLatest(const KeyInterval& interval, const Visitor& visit) override {
    const auto gate = EnterGate();
    return Iterate(nullptr, true, interval, visit);
  }
  Status Apply(const WriteSet& writes) override;

  std::shared_lock<std::shared_mutex> EnterGate();
  Result<std::optional<std::string>> Read(const LevelDbSnapshot* snapshot, std::string_view key);
  // Gate held. Null snapshot: the latest state.
  Status Iterate(const leveldb::Snapshot* snapshot, bool fill_cache, const KeyInterval& interval,
                 const Visitor& visit);
  Status ToStatus(const leveldb::Status& status, const char* doing) const;

  Status LockDir();
  // `keep_log`: go on with the newest log as it is instead of turning it into
  // a table, which spares the open after a crash every wait for the disk.
  Status OpenDb(bool keep_log);
  void MarkBroken(const Status& cause);
  // Null db_ or a failure that LevelDB would repeat for ever.
  Status Broken();
  // Commit mutex held. OK when the engine works again.
  Status Heal();
  Status Reopen();
  Status FlushLogs();

  const std::string dir_;
  const Options options_;
  const LevelDbOptions leveldb_options_;
  FileEnv own_env_;
  FileEnv* const base_;
  DebugLogger logger_;
  const std::unique_ptr<leveldb::Cache> cache_;
  const std::unique_ptr<const leveldb::FilterPolicy> filter_;
  leveldb::FileLock* lock_ = nullptr;

  std::shared_mutex gate_;
  std::atomic<bool> reopening_{false};
  std::mutex reopen_mutex_;
  std::unique_ptr<DurableEnv> env_;  // outlives db_
  std::unique_ptr<leveldb::DB> db_;
  leveldb::WriteBatch batch_;  // commit mutex

  std::atomic<bool> is_broken_{false};
  std::mutex broken_mutex_;
  Status broken_;
  int64_t next_heal_ns_ = 0;  // commit mutex

  std::mutex snapshots_mutex_;
  std::set<LevelDbSnapshot*> snapshots_;

  // Group flush: a caller needs a flush that starts after its call.
  std::mutex sync_mutex_;
  std::condition_variable sync_done_;
  uint64_t flushes_started_ = 0;
  uint64_t flushes_finished_ = 0;
  bool flushing_ = false;
  Status last_flush_;
  // Not a sequence at first: commits of an earlier process wait for a sync too.
  std::atomic<uint64_t> synced_sequence_{~uint64_t{0}};
};

Status LevelDbStoreImpl::Open() {
  ASSIGN_OR_RETURN_STATUS(DirContent content, LookAtDir(base_, dir_));
  if (content != DirContent::kStore && !options_.create_if_missing) {
    return Status(ENOENT, "open leveldb:" + dir_ + ": no volume there; check the path or create one with format");
  }
  if (content == DirContent::kMissing) RETURN_IF_ERROR(CreateDirs(base_, dir_));
  RETURN_IF_ERROR(LockDir());
  return OpenDb(true);
}

Status LevelDbStoreImpl::LockDir() {
  const std::string name = dir_ + "/LOCK";
  const leveldb::Status locked = base_->LockFile(name, &lock_);
  if (locked.ok()) return {};
  if (ErrnoOf(locked) != EAGAIN) return Status(ErrnoOf(locked), "lock " + name + ": " + locked.ToString());
  const std::string holder = LockHolder(name);
  return Status(EBUSY, "open leveldb:" + dir_ + ": in use by " + (holder.empty() ? "another process" : holder) +
                           "; an embedded volume has one user at a time: unmount it there or stop that process");
}

Status LevelDbStoreImpl::OpenDb(bool keep_log) {
  // Again, now that nobody else can change it.
  ASSIGN_OR_RETURN_STATUS(const DirContent content, LookAtDir(base_, dir_));
  if (content == DirContent::kStore) RETURN_IF_ERROR(CheckLogs(base_, dir_));
  env_ = std::make_unique<DurableEnv>(base_, dir_);
  leveldb::Options options;
  options.create_if_missing = options_.create_if_missing;
  options.paranoid_checks = true;
  const std::string distrust = dir_ + kDistrustLog;
  options.reuse_logs = keep_log && !base_->FileExists(distrust);
  options.env = env_.get();
  options.info_log = &logger_;
  options.write_buffer_size = leveldb_options_.write_buffer_bytes;
  options.max_open_files = leveldb_options_.max_open_tables;
  options.block_cache = cache_.get();
  options.max_file_size = kTableBytes;
  options.filter_policy = filter_.get();
  options.compression = leveldb_options_.compress ? leveldb::kSnappyCompression : leveldb::kNoCompression;
  leveldb::DB* db = nullptr;
  const leveldb::Status opened = leveldb::DB::Open(options, dir_, &db);
  if (!opened.ok()) {
    Status status = ToStatus(opened, "open");
    if (opened.IsCorruption()) status = Status(status.err(), status.message() + kRemedy);
    return status;
  }
  db_.reset(db);
  if (base_->FileExists(distrust)) ::unlink(distrust.c_str());
  return {};
}

Status LevelDbStoreImpl::ToStatus(const leveldb::Status& status, const char* doing) const {
  if (status.ok()) return {};
  return Status(ErrnoOf(status), std::string(doing) + " leveldb:" + dir_ + ": " + status.ToString());
}

std::shared_lock<std::shared_mutex> LevelDbStoreImpl::EnterGate() {
  // A shared_mutex lets readers overtake a waiting writer for ever; this does not.
  if (reopening_.load(std::memory_order_acquire)) std::lock_guard wait(reopen_mutex_);
  return std::shared_lock(gate_);
}

Result<std::optional<std::string>> LevelDbStoreImpl::Read(const LevelDbSnapshot* snapshot, std::string_view key) {
  const auto gate = EnterGate();
  if (db_ == nullptr) return Error(Broken());
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  if (snapshot != nullptr) {
    options.snapshot = snapshot->handle_;
    if (options.snapshot == nullptr) return Error(ESTALE, "read a snapshot of " + dir_ + ": the engine was reopened");
  }
  std::optional<std::string> value(std::in_place);
  const leveldb::Status status = db_->Get(options, ToSlice(key), &*value);
  if (status.ok()) return value;
  if (status.IsNotFound()) return std::nullopt;
  return Error(ToStatus(status, "read"));
}

Status LevelDbStoreImpl::Iterate(const leveldb::Snapshot* snapshot, bool fill_cache, const KeyInterval& interval,
                                 const Visitor& visit) {
  if (db_ == nullptr) return Broken();
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = fill_cache;
  options.snapshot = snapshot;
  const std::unique_ptr<leveldb::Iterator> it(db_->NewIterator(options));
  for (it->Seek(interval.begin); it->Valid(); it->Next()) {
    const std::string_view key = ToView(it->key());
    if (!interval.end.empty() && key >= interval.end) break;
    if (!visit(key, ToView(it->value()))) break;
  }
  return ToStatus(it->status(), "scan");
}

Status LevelDbStoreImpl::Apply(const WriteSet& writes) {
  if (is_broken_.load(std::memory_order_acquire)) RETURN_IF_ERROR(Heal());
  batch_.Clear();
  for (const auto& [key, write] : writes) {
    if (write.kind == PendingWrite::Kind::kPut) {
      batch_.Put(ToSlice(key), ToSlice(write.value));
    } else {
      batch_.Delete(ToSlice(key));
    }
  }
  const auto gate = EnterGate();
  const leveldb::Status written = db_->Write(leveldb::WriteOptions(), &batch_);
  if (written.ok()) return {};
  const Status status = ToStatus(written, "commit to");
  MarkBroken(status);
  return status;
}

void LevelDbStoreImpl::MarkBroken(const Status& cause) {
  std::lock_guard lock(broken_mutex_);
  if (broken_.ok()) {
    // Best effort: on a full disk there is no room for it, nor a failed sync.
    UniqueFd distrust(::open((dir_ + kDistrustLog).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    LOG_ERROR("leveldb") << cause.ToString() << "; commits fail until this passes";
  }
  broken_ = cause;
  is_broken_.store(true, std::memory_order_release);
}

Status LevelDbStoreImpl::Broken() {
  std::lock_guard lock(broken_mutex_);
  return broken_;
}

Status LevelDbStoreImpl::Heal() {
  const Status cause = Broken();
  if (cause.ok()) return {};
  const bool full = IsFull(cause.err());
  if (MonotonicNs() < next_heal_ns_) return cause;
  next_heal_ns_ = MonotonicNs() + (full ? kFullDiskPauseNs : kOtherErrorPauseNs);
  // Replaying rewrites the logs (at most two write buffers) as tables and
  // starts new files.
  if (full && !HasRoom(dir_, 3 * leveldb_options_.write_buffer_bytes + (1 << 20))) return cause;
  const Status status = Reopen();
  if (!status.ok()) {
    MarkBroken(status);
    return status;
  }
  LOG_WARNING("leveldb") << "commits to " << dir_ << " work again";
  return {};
}

Status LevelDbStoreImpl::Reopen() {
  std::lock_guard readers_wait(reopen_mutex_);
  reopening_.store(true, std::memory_order_release);
  std::unique_lock gate(gate_);
  {
    std::lock_guard lock(snapshots_mutex_);
    for (LevelDbSnapshot* snapshot : snapshots_) {
      if (db_ != nullptr && snapshot->handle_ != nullptr) db_->ReleaseSnapshot(snapshot->handle_);
      snapshot->handle_ = nullptr;
    }
  }
  db_.reset();
  Status status = OpenDb(false);
  if (status.ok()) {
    std::lock_guard lock(broken_mutex_);
    broken_ = {};
    is_broken_.store(false, std::memory_order_release);
  }
  reopening_.store(false, std::memory_order_release);
  return status;
}

Status LevelDbStoreImpl::FlushLogs() {
  if (is_broken_.load(std::memory_order_acquire)) {
    std::lock_guard commits_wait(commit_mutex());
    RETURN_IF_ERROR(Heal());
  }
  const auto gate = EnterGate();
  const uint64_t sequence = CommitSequence();
  const leveldb::Status flushed = env_->SyncLogs();
  if (flushed.ok()) {
    synced_sequence_.store(sequence, std::memory_order_release);
    return {};
  }
  // Pages of a failed fsync count as clean: a second one would lie. Reopening
  // writes all of it anew.
  const Status status = ToStatus(flushed, "sync");
  MarkBroken(status);
  return status;
}

Status LevelDbStoreImpl::Sync() {
  if (!is_broken_.load(std::memory_order_acquire) &&
      synced_sequence_.load(std::memory_order_acquire) == CommitSequence()) {
    return {};
  }
  std::unique_lock lock(sync_mutex_);
  const uint64_t needed = flushes_started_ + 1;
  while (flushes_finished_ < needed) {
    if (flushing_) {
      sync_done_.wait(lock);
      continue;
    }
    flushing_ = true;
    ++flushes_started_;
    lock.unlock();
    Status status = FlushLogs();
    lock.lock();
    flushing_ = false;
    flushes_finished_ = flushes_started_;
    last_flush_ = std::move(status);
    sync_done_.notify_all();
  }
  return last_flush_;
}

Result<std::unique_ptr<Snapshot>> LevelDbStoreImpl::NewSnapshot() {
  const auto gate = EnterGate();
  if (db_ == nullptr) return Error(Broken());
  auto snapshot = std::make_unique<LevelDbSnapshot>(this, db_->GetSnapshot());
  std::lock_guard lock(snapshots_mutex_);
  snapshots_.insert(snapshot.get());
  return snapshot;
}

std::optional<uint64_t> LevelDbStoreImpl::ApproximateBytes() {
  std::vector<std::string> files;
  if (!base_->GetChildren(dir_, &files).ok()) return std::nullopt;
  uint64_t total = 0;
  for (const std::string& file : files) {
    uint64_t size = 0;
    // A file may be removed meanwhile; it then counts as nothing.
    if (base_->GetFileSize(dir_ + "/" + file, &size).ok()) total += size;
  }
  return total;
}

std::string LevelDbStoreImpl::Stats() {
  const auto gate = EnterGate();
  if (db_ == nullptr) return "leveldb: closed: " + Broken().ToString();
  std::string out = "leveldb: tables by level";
  std::string value;
  for (int level = 0; db_->GetProperty("leveldb.num-files-at-level" + std::to_string(level), &value); ++level) {
    out += " " + value;
  }
  if (db_->GetProperty("leveldb.approximate-memory-usage", &value)) {
    out += ", memory " + FormatBytes(std::stoull(value));
  }
  const Status broken = Broken();
  return out + (broken.ok() ? ", healthy" : ", commits fail: " + broken.ToString());
}

LevelDbSnapshot::~LevelDbSnapshot() {
  const auto gate = store_->EnterGate();
  {
    std::lock_guard lock(store_->snapshots_mutex_);
    store_->snapshots_.erase(this);
  }
  if (handle_ != nullptr) store_->db_->ReleaseSnapshot(handle_);
}

Result<std::optional<std::string>> LevelDbSnapshot::Get(const Key& key) { return store_->Read(this, key.bytes()); }

Result<std::vector<Entry>> LevelDbSnapshot::Scan(const Range& range, size_t limit) {
  std::vector<Entry> entries;
  if (limit == 0) return entries;
  const auto gate = store_->EnterGate();
  if (handle_ == nullptr) return Error(ESTALE, "scan a snapshot of " + store_->dir_ + ": the engine was reopened");
  TRY_VOID(store_->Iterate(handle_, true, IntervalOf(range), [&](std::string_view key, std::string_view value) {
    entries.push_back({std::string(key.substr(range.partition.size())), std::string(value)});
    return entries.size() < limit;
  }));
  return entries;
}

Status LevelDbSnapshot::Walk(std::string_view after,
                             const std::function<bool(std::string_view key, std::string_view value)>& visit) {
  KeyInterval rest;
  if (!after.empty()) rest.begin = std::string(after) + '\0';
  std::vector<std::pair<std::string, std::string>> piece;
  do {
    piece.clear();
    size_t bytes = 0;
    {
      const auto gate = store_->EnterGate();
      if (handle_ == nullptr) return Status(ESTALE, "walk a snapshot of " + store_->dir_ + ": the engine was reopened");
      RETURN_IF_ERROR(store_->Iterate(handle_, false, rest, [&](std::string_view key, std::string_view value) {
        piece.emplace_back(key, value);
        bytes += key.size() + value.size();
        return piece.size() < kWalkEntries && bytes < kWalkBytes;
      }));
    }
    for (const auto& [key, value] : piece) {
      if (!visit(key, value)) return {};
    }
    if (!piece.empty()) rest.begin = piece.back().first + '\0';
  } while (!piece.empty());
  return {};
}

}  // namespace

Result<std::unique_ptr<KvStore>> LevelDbStore::Open(const std::string& dir, const Options& options,
                                                    const LevelDbOptions& leveldb_options) {
  std::string path = dir;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  auto store = std::make_unique<LevelDbStoreImpl>(path, options, leveldb_options);
  TRY_VOID(store->Open());
  return store;
}

}  // namespace moorfs::kv
