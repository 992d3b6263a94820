// SPDX-License-Identifier: Apache-2.0
//
// See disk_cache.h. On disk an entry is an EntryHeader and the bytes, at a
// multiple of 512, never across two segment files.

#include "fs/chunk/disk_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <filesystem>

#include "common/log/log.h"
#include "fs/format/block.h"

namespace moorfs::chunk {
namespace {

constexpr uint64_t kUnit = 512;
constexpr uint32_t kWays = 8;
constexpr uint32_t kSegments = 8;
constexpr uint64_t kMinSegmentBytes = uint64_t{1} << 20;
constexpr uint64_t kBytesPerIndexEntry = 16u << 10;
constexpr uint64_t kMaxQueuedBytes = 8u << 20;
constexpr uint32_t kErrorsToGiveUp = 8;

struct EntryHeader {
  uint64_t nonce, id;
  uint32_t frame, bytes;
  uint64_t hash;  // of the bytes
};

uint64_t IndexHash(const FrameKey& key) {
  return HashOf(key) | 1;
}

// A file of `bytes` in `dir` that no name leads to.
Result<UniqueFd> MakeSegment(const std::string& dir, uint64_t bytes) {
  const std::string what = "make a cache file of " + FormatBytes(bytes) + " in " + dir;
  UniqueFd fd(::open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd) {
    const std::string path = dir + "/moorfs-cache-" + std::to_string(RandomU64());
    fd.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd) return Error(Status::FromErrno(what));
    ::unlink(path.c_str());
  }
  if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(bytes)) == 0) return fd;
  if (errno == EOPNOTSUPP && ::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0) return fd;
  return Error(Status::FromErrno(what));
}

}  // namespace

Result<std::unique_ptr<DiskCache>> DiskCache::Open(const std::string& dir, uint64_t bytes) {
  std::error_code ec;
  std::filesystem::create_directories(dir, ec);
  if (ec) return Error(ec.value(), "make cache directory " + dir + ": " + ec.message());
  const uint64_t segment_bytes = bytes / kSegments / kUnit * kUnit;
  if (segment_bytes < kMinSegmentBytes) {
    return Error(EINVAL, "open disk cache in " + dir + ": " + FormatBytes(bytes) +
                             " is too small; give it 8 MiB or more");
  }
  std::vector<UniqueFd> segments;
  for (uint32_t i = 0; i < kSegments; i++) {
    ASSIGN_OR_RETURN(UniqueFd fd, MakeSegment(dir, segment_bytes));
    segments.push_back(std::move(fd));
  }
  return std::unique_ptr<DiskCache>(new DiskCache(dir, segment_bytes, std::move(segments)));
}

DiskCache::DiskCache(std::string dir, uint64_t segment_bytes, std::vector<UniqueFd> segments)
    : dir_(std::move(dir)), segment_units_(segment_bytes / kUnit), segments_(std::move(segments)) {
  const uint64_t wanted = segment_bytes * kSegments / kBytesPerIndexEntry;
  index_.resize(std::bit_ceil(std::max<uint64_t>(wanted, kWays)));
  writer_ = std::thread([this] { WriteLoop(); });
}

DiskCache::~DiskCache() {
  {
    std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  queue_changed_.notify_all();
  writer_.join();
}

void DiskCache::Insert(const FrameKey& key, std::string_view bytes) {
  if (bytes.size() + sizeof(EntryHeader) > segment_units_ * kUnit || bytes.size() > block::kMaxFrameBytes)
    return;
  if (failed()) return;
  {
    std::lock_guard lock(queue_mutex_);
    if (queued_bytes_ + bytes.size() > kMaxQueuedBytes) return;
    queued_bytes_ += bytes.size();
    queue_.push_back({key, std::string(bytes)});
  }
  queue_changed_.notify_all();
}

void DiskCache::WriteLoop() {
  std::unique_lock lock(queue_mutex_);
  for (;;) {
    queue_changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    const Pending entry = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= entry.bytes.size();
    writing_ = true;
    lock.unlock();
    WriteEntry(entry);
    lock.lock();
    writing_ = false;
    if (queue_.empty()) queue_changed_.notify_all();
  }
}

void DiskCache::Drain() {
  std::unique_lock lock(queue_mutex_);
  queue_changed_.wait(lock, [this] { return queue_.empty() && !writing_; });
}

void DiskCache::WriteEntry(const Pending& entry) {
  const uint64_t units = (sizeof(EntryHeader) + entry.bytes.size() + kUnit - 1) / kUnit;
  const uint64_t unit = Reserve(units);
  EntryHeader header{entry.key.object.nonce, entry.key.object.id, entry.key.frame,
                     static_cast<uint32_t>(entry.bytes.size()), block::Hash(entry.bytes)};
  const iovec pieces[2] = {{&header, sizeof header},
                           {const_cast<char*>(entry.bytes.data()), entry.bytes.size()}};
  const uint64_t at = unit % (segment_units_ * kSegments);
  const ssize_t wrote = ::pwritev(segments_[at / segment_units_].get(), pieces, 2,
                                  static_cast<off_t>(at % segment_units_ * kUnit));
  if (wrote != static_cast<ssize_t>(sizeof header + entry.bytes.size())) {
    return Failed("write", wrote < 0 ? errno : ENOSPC);
  }
  Link(entry.key, unit, units);
}

uint64_t DiskCache::Reserve(uint64_t units) {
  std::lock_guard lock(mutex_);
  const uint64_t in_segment = head_ % segment_units_;
  if (in_segment + units > segment_units_) head_ += segment_units_ - in_segment;
  const uint64_t unit = head_;
  head_ += units;  // what lay here a lap ago is no longer Alive
  return unit;
}

bool DiskCache::Alive(const Entry& entry) const {
  return entry.hash != 0 && (entry.place >> 16) + segment_units_ * kSegments >= head_;
}

void DiskCache::Link(const FrameKey& key, uint64_t unit, uint64_t units) {
  const uint64_t hash = IndexHash(key);
  std::lock_guard lock(mutex_);
  Entry* set = &index_[(hash >> 1) % (index_.size() / kWays) * kWays];
  Entry* victim = set;
  for (uint32_t i = 0; i < kWays; i++) {
    if (set[i].hash == hash || !Alive(set[i])) {
      victim = &set[i];
      break;
    }
    if (set[i].place < victim->place) victim = &set[i];
  }
  // The key may sit behind a dead way: two entries of one key must not be.
  for (uint32_t i = 0; i < kWays; i++) {
    if (set[i].hash == hash) set[i] = {};
  }
  *victim = {hash, unit << 16 | units};
}

std::optional<size_t> DiskCache::Read(const FrameKey& key, std::span<char> out) {
  const uint64_t hash = IndexHash(key);
  uint64_t place = 0;
  {
    std::lock_guard lock(mutex_);
    if (failed_) return std::nullopt;
    const Entry* set = &index_[(hash >> 1) % (index_.size() / kWays) * kWays];
    for (uint32_t i = 0; i < kWays; i++) {
      if (set[i].hash == hash && Alive(set[i])) place = set[i].place;
    }
  }
  if (place == 0) return std::nullopt;
  const uint64_t at = (place >> 16) % (segment_units_ * kSegments);
  EntryHeader header;
  const iovec pieces[2] = {{&header, sizeof header},
                           {out.data(), std::min(out.size(), (place & 0xffff) * kUnit - sizeof header)}};
  const ssize_t got = ::preadv(segments_[at / segment_units_].get(), pieces, 2,
                               static_cast<off_t>(at % segment_units_ * kUnit));
  if (got < 0) {
    Failed("read", errno);
    return std::nullopt;
  }
  // Overwritten meanwhile, another key of the same hash, or damaged: a miss.
  if (got < static_cast<ssize_t>(sizeof header) || header.nonce != key.object.nonce ||
      header.id != key.object.id || header.frame != key.frame ||
      header.bytes > static_cast<size_t>(got) - sizeof header ||
      header.hash != block::Hash({out.data(), header.bytes})) {
    return std::nullopt;
  }
  return header.bytes;
}

void DiskCache::Erase(const FrameKey& key) {
  const uint64_t hash = IndexHash(key);
  std::lock_guard lock(mutex_);
  Entry* set = &index_[(hash >> 1) % (index_.size() / kWays) * kWays];
  for (uint32_t i = 0; i < kWays; i++) {
    if (set[i].hash == hash) set[i] = {};
  }
}

void DiskCache::Failed(std::string_view what, int err) {
  std::lock_guard lock(mutex_);
  if (failed_ || ++errors_ < kErrorsToGiveUp) return;
  failed_ = true;
  LOG_WARNING("chunk") << "disk cache in " << dir_ << " is off: cannot " << what
                       << " it errno=" << ErrnoName(err)
                       << "; reads go to the store; check that disk and mount again";
}

bool DiskCache::failed() const {
  std::lock_guard lock(mutex_);
  return failed_;
}

uint64_t DiskCache::used_bytes() const {
  std::lock_guard lock(mutex_);
  return std::min(head_, segment_units_ * kSegments) * kUnit;
}

}  // namespace moorfs::chunk
