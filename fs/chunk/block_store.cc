// SPDX-License-Identifier: Apache-2.0
//
// BlockStore over an ObjectStore: names, encoding, caches, damage.
//
// A read looks for each of its frames in the memory cache, then in the disk
// cache; what is left is fetched in as few requests as its runs allow. A frame
// that the read covers whole is fetched straight into the caller's buffer and
// stays out of the memory cache: such reads come from large requests, which the
// kernel caches above us and, for a local store, below us as well. A frame that
// is covered in part is fetched into the cache, where the rest of it is likely
// to be asked for next.

#include "fs/chunk/block_store.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <unordered_set>

#include "common/log/log.h"
#include "fs/chunk/disk_cache.h"
#include "fs/chunk/frame_cache.h"
#include "fs/chunk/header_cache.h"
#include "fs/chunk/task_pool.h"
#include "fs/format/block.h"

namespace moorfs::chunk {
namespace {

constexpr uint32_t kSmallFrameBytes = 8u << 10;
constexpr uint32_t kHeaderFrame = UINT32_MAX;  // the header's key in the disk cache
constexpr uint32_t kMaxFetchBytes = 1u << 20;  // of one request
constexpr size_t kMaxQueuedPrefetches = 64;
constexpr size_t kMaxLoggedObjects = 1024;
constexpr size_t kIdleEncoders = 2;

enum class Wait { kYes, kNo };

// One frame of a read that was in no memory cache.
struct Job {
  uint32_t frame = 0;
  std::span<char> dest;       // room for the whole frame
  FrameCache::Ref slot;       // dest is this slot's memory, to be published
  std::vector<char> scratch;  // dest is this, when no slot was to be had
  uint32_t copy_from = 0;     // part of the frame that goes to copy_to, unless null
  std::span<char> copy_to;
};

class BlockStoreImpl final : public BlockStore {
 public:
  BlockStoreImpl(object::ObjectStore& store, BlockStoreOptions options, std::unique_ptr<DiskCache> disk)
      : store_(store),
        options_(std::move(options)),
        prefix_(FormatUuid(options_.volume) + "/"),
        headers_(options_.memory_bytes / 8),
        small_frames_(options_.memory_bytes / 8, kSmallFrameBytes),
        frames_(options_.memory_bytes / 4 * 3, block::kDefaultFrameBytes),
        disk_(std::move(disk)),
        pool_(options_.prefetch_threads, kMaxQueuedPrefetches) {}

  std::string NameOf(const ObjectId& object) const override;
  std::optional<ObjectId> IdOf(std::string_view name) const override;
  Status Put(const ObjectId& object, std::span<const iovec> raw) override;
  Status Barrier(std::span<const ObjectId> objects) override;
  Status Read(const ObjectId& object, uint32_t offset, std::span<char> out) override {
    return ReadRange(object, offset, out, Wait::kYes);
  }
  bool TryRead(const ObjectId& object, uint32_t offset, std::span<char> out) override {
    return ReadRange(object, offset, out, Wait::kNo).ok();
  }
  void Prefetch(const ObjectId& object, uint32_t offset, uint32_t len) override;
  Status Delete(const ObjectId& object) override;
  BlockStoreStats Stats() const override;
  object::ObjectStore& store() override { return store_; }

 private:
  // With Wait::kNo every failure, also a damaged block, just means "not now":
  // the waiting read that follows reports it.
  Status ReadRange(const ObjectId& object, uint32_t offset, std::span<char> out, Wait wait);
  Result<SharedHeader> LoadHeader(const ObjectId& object, Wait wait);
  Result<SharedHeader> FetchHeader(const ObjectId& object, const std::string& name, Wait wait);
  SharedHeader HeaderFromDisk(const ObjectId& object);
  Status RunJobs(const ObjectId& object, const block::Header& header, std::span<Job> jobs, Wait wait);
  // Consecutive frames in one request.
  Status Fetch(const ObjectId& object, const block::Header& header, std::span<Job> run, Wait wait);
  bool FromDisk(const ObjectId& object, const block::Header& header, Job& job);
  Result<size_t> Get(const std::string& name, uint64_t offset, std::span<const iovec> out, Wait wait);
  void PrefetchNow(const ObjectId& object, uint32_t offset, uint32_t len);
  FrameCache& CacheFor(uint32_t raw_bytes) { return raw_bytes <= kSmallFrameBytes ? small_frames_ : frames_; }
  // EIO with the object's name; logged once for an object.
  Status Damaged(const ObjectId& object, const std::string& name, const std::string& why);

  object::ObjectStore& store_;
  const BlockStoreOptions options_;
  const std::string prefix_;
  HeaderCache headers_;
  FrameCache small_frames_;
  FrameCache frames_;
  const std::unique_ptr<DiskCache> disk_;

  std::mutex encoders_mutex_;
  std::vector<std::unique_ptr<block::Encoder>> encoders_;  // idle ones
  std::mutex damaged_mutex_;
  std::unordered_set<ObjectId, ObjectIdHash> damaged_logged_;

  std::atomic<uint64_t> puts_{0}, put_bytes_{0}, gets_{0}, get_bytes_{0}, deletes_{0};
  std::atomic<uint64_t> memory_hits_{0}, disk_hits_{0}, misses_{0}, damaged_{0};
  TaskPool pool_;  // last: its tasks use all of the above
};

void Count(std::atomic<uint64_t>& counter, uint64_t by = 1) {
  counter.fetch_add(by, std::memory_order_relaxed);
}

std::string BlockStoreImpl::NameOf(const ObjectId& object) const {
  char rest[64];
  std::snprintf(rest, sizeof rest, "%016llx/%llx/%llx", static_cast<unsigned long long>(object.nonce),
                static_cast<unsigned long long>(object.id >> 10), static_cast<unsigned long long>(object.id));
  return prefix_ + rest;
}

std::optional<ObjectId> BlockStoreImpl::IdOf(std::string_view name) const {
  if (!name.starts_with(prefix_)) return std::nullopt;
  const std::string rest(name.substr(prefix_.size()));
  unsigned long long nonce = 0, group = 0, id = 0;
  if (std::sscanf(rest.c_str(), "%16llx/%llx/%llx", &nonce, &group, &id) != 3) return std::nullopt;
  const ObjectId object{nonce, id};
  // Whatever is spelled otherwise is not ours.
  if (NameOf(object) != name) return std::nullopt;
  return object;
}

Status BlockStoreImpl::Put(const ObjectId& object, std::span<const iovec> raw) {
  std::unique_ptr<block::Encoder> encoder;
  {
    std::lock_guard lock(encoders_mutex_);
    if (!encoders_.empty()) {
      encoder = std::move(encoders_.back());
      encoders_.pop_back();
    }
  }
  if (!encoder) encoder = std::make_unique<block::Encoder>();
  const block::EncodeOptions encode{options_.volume, options_.codec};
  RETURN_IF_ERROR(encoder->Encode(encode, object, raw));
  const std::string name = NameOf(object);
  Status status = store_.Put(name, encoder->pieces());
  if (status.ok()) {
    Count(puts_);
    Count(put_bytes_, encoder->object_bytes());
    // Read soon, more often than not; the kernel still has the bytes.
    const iovec& header = encoder->pieces()[0];
    auto parsed = block::Header::Parse({static_cast<const char*>(header.iov_base), header.iov_len},
                                       options_.volume, object);
    if (parsed) headers_.Insert(object, std::make_shared<const block::Header>(std::move(*parsed)));
  }
  {
    std::lock_guard lock(encoders_mutex_);
    if (encoders_.size() < kIdleEncoders) encoders_.push_back(std::move(encoder));
  }
  // A store that vanished is a broken disk to the application, not a missing file.
  return status.err() == ENOENT ? Status(EIO, status.message()) : status;
}

Status BlockStoreImpl::Barrier(std::span<const ObjectId> objects) {
  std::vector<std::string> names;
  names.reserve(objects.size());
  for (const ObjectId& object : objects) names.push_back(NameOf(object));
  Status status = store_.Barrier(names);
  return status.err() == ENOENT ? Status(EIO, status.message()) : status;
}

Result<size_t> BlockStoreImpl::Get(const std::string& name, uint64_t offset, std::span<const iovec> out,
                                   Wait wait) {
  auto got = wait == Wait::kYes ? store_.GetV(name, offset, out) : store_.TryGet(name, offset, out);
  if (got) {
    Count(gets_);
    Count(get_bytes_, *got);
  }
  return got;
}

Status BlockStoreImpl::Damaged(const ObjectId& object, const std::string& name, const std::string& why) {
  Count(damaged_);
  const Status status(EIO, "read block " + name + " in " + store_.Url() + ": " + why);
  std::lock_guard lock(damaged_mutex_);
  if (damaged_logged_.size() >= kMaxLoggedObjects) damaged_logged_.clear();
  if (damaged_logged_.insert(object).second) {
    LOG_ERROR("chunk") << status.ToString();
  }
  return status;
}

Result<SharedHeader> BlockStoreImpl::LoadHeader(const ObjectId& object, Wait wait) {
  if (SharedHeader known = headers_.Find(object)) return known;
  if (disk_ && wait == Wait::kYes) {
    if (SharedHeader header = HeaderFromDisk(object)) {
      headers_.Insert(object, header);
      return header;
    }
  }
  const std::string name = NameOf(object);
  auto header = FetchHeader(object, name, wait);
  if (header) {
    headers_.Insert(object, *header);
    return header;
  }
  if (wait == Wait::kNo) return header;
  switch (header.error().err()) {
    case EBADMSG:
    case EPROTONOSUPPORT:
      return Error(Damaged(object, name, header.error().message()));
    case ENOENT:
      return Error(Damaged(object, name, "the object is missing"));
    default:
      return Error(EIO, header.error().message());
  }
}

Result<SharedHeader> BlockStoreImpl::FetchHeader(const ObjectId& object, const std::string& name, Wait wait) {
  std::string bytes(block::kHeaderProbeBytes, '\0');
  const iovec probe{bytes.data(), bytes.size()};
  ASSIGN_OR_RETURN(size_t got, Get(name, 0, {&probe, 1}, wait));
  ASSIGN_OR_RETURN(const size_t length, block::Header::Length(std::string_view(bytes).substr(0, got)));
  if (length > bytes.size()) {
    bytes.resize(length);
    const iovec rest{bytes.data() + got, length - got};
    ASSIGN_OR_RETURN(const size_t more, Get(name, got, {&rest, 1}, wait));
    got += more;
  }
  const std::string_view head = std::string_view(bytes).substr(0, std::min(got, length));
  ASSIGN_OR_RETURN(block::Header header, block::Header::Parse(head, options_.volume, object));
  if (disk_) disk_->Insert({object, kHeaderFrame}, head);
  return std::make_shared<const block::Header>(std::move(header));
}

SharedHeader BlockStoreImpl::HeaderFromDisk(const ObjectId& object) {
  std::string bytes(64u << 10, '\0');
  const auto got = disk_->Read({object, kHeaderFrame}, bytes);
  if (!got) return nullptr;
  auto header = block::Header::Parse(std::string_view(bytes).substr(0, *got), options_.volume, object);
  return header ? std::make_shared<const block::Header>(std::move(*header)) : nullptr;
}

Status BlockStoreImpl::ReadRange(const ObjectId& object, uint32_t offset, std::span<char> out, Wait wait) {
  if (out.empty()) return {};
  ASSIGN_OR_RETURN_STATUS(const SharedHeader header, LoadHeader(object, wait));
  const uint64_t end = uint64_t{offset} + out.size();
  if (end > header->raw_bytes()) {
    if (wait == Wait::kNo) return Status(EWOULDBLOCK, "read a block: beyond its end");
    return Damaged(object, NameOf(object),
                   "holds " + std::to_string(header->raw_bytes()) + " bytes, bytes up to " +
                       std::to_string(end) + " were asked for");
  }
  const uint32_t frame_bytes = header->frame_bytes();
  std::vector<Job> jobs;
  uint64_t hits = 0;
  for (uint32_t frame = offset / frame_bytes; uint64_t{frame} * frame_bytes < end; frame++) {
    const uint64_t frame_start = uint64_t{frame} * frame_bytes;
    const uint32_t raw = header->FrameRawBytes(frame);
    const uint64_t from = std::max<uint64_t>(offset, frame_start);
    const uint64_t to = std::min(end, frame_start + raw);
    const std::span<char> part = out.subspan(from - offset, to - from);
    const bool whole = part.size() == raw;
    FrameCache::Ref ref;
    switch (CacheFor(raw).Acquire({object, frame}, raw, !whole, wait == Wait::kYes, &ref)) {
      case FrameCache::Outcome::kHit:
        std::memcpy(part.data(), ref.bytes().data() + (from - frame_start), part.size());
        hits++;
        continue;
      case FrameCache::Outcome::kBusy:
        return Status(EWOULDBLOCK, "read a block: being fetched");
      default:
        break;
    }
    Job& job = jobs.emplace_back();
    job.frame = frame;
    if (whole) {
      job.dest = part;
      continue;
    }
    if (ref) {
      job.slot = std::move(ref);
      job.dest = job.slot.bytes();
    } else {
      job.scratch.resize(raw);
      job.dest = job.scratch;
    }
    job.copy_from = static_cast<uint32_t>(from - frame_start);
    job.copy_to = part;
  }
  if (hits > 0) Count(memory_hits_, hits);
  return jobs.empty() ? Status() : RunJobs(object, *header, jobs, wait);
}

Status BlockStoreImpl::RunJobs(const ObjectId& object, const block::Header& header, std::span<Job> jobs,
                               Wait wait) {
  std::vector<bool> done(jobs.size());
  if (disk_ && wait == Wait::kYes) {
    for (size_t i = 0; i < jobs.size(); i++) done[i] = FromDisk(object, header, jobs[i]);
  }
  for (size_t first = 0; first < jobs.size();) {
    if (done[first]) {
      first++;
      continue;
    }
    size_t last = first + 1;
    uint64_t bytes = header.frame(jobs[first].frame).stored_bytes;
    while (last < jobs.size() && !done[last] && jobs[last].frame == jobs[last - 1].frame + 1) {
      bytes += header.frame(jobs[last].frame).stored_bytes;
      if (bytes > kMaxFetchBytes) break;
      last++;
    }
    RETURN_IF_ERROR(Fetch(object, header, jobs.subspan(first, last - first), wait));
    first = last;
  }
  for (Job& job : jobs) {
    if (!job.copy_to.empty())
      std::memcpy(job.copy_to.data(), job.dest.data() + job.copy_from, job.copy_to.size());
    if (job.slot) job.slot.Publish();
  }
  return {};
}

bool BlockStoreImpl::FromDisk(const ObjectId& object, const block::Header& header, Job& job) {
  const block::Frame& frame = header.frame(job.frame);
  std::vector<char> compressed;
  std::span<char> stored = job.dest;
  if (frame.compressed) {
    compressed.resize(frame.stored_bytes);
    stored = compressed;
  }
  const auto got = disk_->Read({object, job.frame}, stored);
  if (!got || !block::DecodeFrame(header, job.frame, {stored.data(), *got}, job.dest).ok()) return false;
  Count(disk_hits_);
  return true;
}

Status BlockStoreImpl::Fetch(const ObjectId& object, const block::Header& header, std::span<Job> run,
                             Wait wait) {
  const uint64_t offset = header.frame(run.front().frame).offset;
  const block::Frame& last = header.frame(run.back().frame);
  const uint64_t bytes = last.offset + last.stored_bytes - offset;

  // Frames that need no decoding go where they belong at once.
  bool compressed = false;
  for (const Job& job : run) compressed = compressed || header.frame(job.frame).compressed;
  std::unique_ptr<char[]> stored;
  std::vector<iovec> pieces;
  if (compressed) {
    stored = std::make_unique_for_overwrite<char[]>(bytes);
    pieces.push_back({stored.get(), bytes});
  } else {
    for (const Job& job : run) {
      if (!pieces.empty() &&
          static_cast<char*>(pieces.back().iov_base) + pieces.back().iov_len == job.dest.data()) {
        pieces.back().iov_len += job.dest.size();
      } else {
        pieces.push_back({job.dest.data(), job.dest.size()});
      }
    }
  }
  const std::string name = NameOf(object);
  auto got = Get(name, offset, pieces, wait);
  if (!got && wait == Wait::kNo) return got.error();
  if (!got && got.error().err() == ENOENT) return Damaged(object, name, "the object is missing");
  if (!got) return Status(EIO, got.error().message());
  if (*got < bytes) {
    if (wait == Wait::kNo) return Status(EWOULDBLOCK, "read a block: cut short");
    return Damaged(object, name, "the object is cut short at " + std::to_string(offset + *got) + " bytes");
  }
  Count(misses_, run.size());
  for (Job& job : run) {
    const block::Frame& frame = header.frame(job.frame);
    const std::string_view frame_bytes =
        compressed ? std::string_view(stored.get() + (frame.offset - offset), frame.stored_bytes)
                   : std::string_view(job.dest.data(), job.dest.size());
    if (Status status = block::DecodeFrame(header, job.frame, frame_bytes, job.dest); !status.ok()) {
      if (wait == Wait::kNo) return status;
      return Damaged(object, name, "frame " + std::to_string(job.frame) + ": " + status.message());
    }
    if (disk_) disk_->Insert({object, job.frame}, frame_bytes);
  }
  return {};
}

void BlockStoreImpl::Prefetch(const ObjectId& object, uint32_t offset, uint32_t len) {
  if (len == 0) return;
  pool_.Submit([=, this] { PrefetchNow(object, offset, len); });
}

void BlockStoreImpl::PrefetchNow(const ObjectId& object, uint32_t offset, uint32_t len) {
  const auto loaded = LoadHeader(object, Wait::kYes);
  if (!loaded) return;  // the read that follows reports it
  const block::Header& header = **loaded;
  if (offset >= header.raw_bytes()) return;
  const uint64_t end = std::min<uint64_t>(uint64_t{offset} + len, header.raw_bytes());
  const uint32_t first = offset / header.frame_bytes();
  const uint32_t last = static_cast<uint32_t>((end - 1) / header.frame_bytes());
  // Plain frames of a local store are one copy away once the kernel has them; a
  // second copy in our memory would only push others out.
  if (header.codec() == Codec::kNone && !disk_) {
    const uint64_t begin = header.frame(first).offset;
    if (store_.WillNeed(NameOf(object), begin,
                        header.frame(last).offset + header.frame(last).stored_bytes - begin)) {
      return;
    }
  }
  // A few frames at a time, so that readers of the first need not wait for the last.
  constexpr uint32_t kStep = 8;
  for (uint32_t step = first; step <= last; step += kStep) {
    std::vector<Job> jobs;
    bool full = false;
    for (uint32_t frame = step; frame <= last && frame < step + kStep && !full; frame++) {
      FrameCache::Ref ref;
      const uint32_t raw = header.FrameRawBytes(frame);
      const auto outcome = CacheFor(raw).Acquire({object, frame}, raw, true, false, &ref);
      full = outcome == FrameCache::Outcome::kFull;
      if (outcome != FrameCache::Outcome::kFill) continue;
      Job& job = jobs.emplace_back();
      job.frame = frame;
      job.slot = std::move(ref);
      job.dest = job.slot.bytes();
    }
    if (!jobs.empty() && !RunJobs(object, header, jobs, Wait::kYes).ok()) return;
    if (full) return;
  }
}

Status BlockStoreImpl::Delete(const ObjectId& object) {
  const SharedHeader header = headers_.Find(object);
  // Without its header a block's frames are out of reach; those of a block whose
  // header is not known leave the cache as others come.
  headers_.Erase(object);
  if (disk_) disk_->Erase({object, kHeaderFrame});
  for (uint32_t frame = 0; header && frame < header->frame_count(); frame++) {
    CacheFor(header->FrameRawBytes(frame)).Erase({object, frame});
    if (disk_) disk_->Erase({object, frame});
  }
  Count(deletes_);
  return store_.Delete(NameOf(object));
}

BlockStoreStats BlockStoreImpl::Stats() const {
  BlockStoreStats stats;
  stats.puts = puts_;
  stats.put_bytes = put_bytes_;
  stats.gets = gets_;
  stats.get_bytes = get_bytes_;
  stats.deletes = deletes_;
  stats.memory_hits = memory_hits_;
  stats.disk_hits = disk_hits_;
  stats.misses = misses_;
  stats.damaged = damaged_;
  stats.memory_used_bytes = headers_.used_bytes() + small_frames_.used_bytes() + frames_.used_bytes();
  stats.disk_used_bytes = disk_ ? disk_->used_bytes() : 0;
  return stats;
}

}  // namespace

Result<std::unique_ptr<BlockStore>> BlockStore::Create(object::ObjectStore& store,
                                                       BlockStoreOptions options) {
  std::unique_ptr<DiskCache> disk;
  if (!options.cache_dir.empty()) {
    auto opened = DiskCache::Open(options.cache_dir, options.cache_bytes);
    if (opened) {
      disk = std::move(*opened);
    } else {
      // A cache is a convenience; the volume must come up, after a crash above all.
      LOG_WARNING("chunk") << "no disk cache: " << opened.error().ToString() << "; reads go to the store";
    }
  }
  return std::make_unique<BlockStoreImpl>(store, std::move(options), std::move(disk));
}

}  // namespace moorfs::chunk
