// SPDX-License-Identifier: Apache-2.0
//
// DueObjects, ForgetObjects: the queue of objects to delete, in hour buckets.
// Which bucket is the oldest is remembered ("object_delete_hour" among the
// allocators), so that looking for work doesn't cost a scan for each hour the
// volume ever lived. Failing means keeping: nothing here deletes from the
// store, and an entry goes only after its object did.

#include <algorithm>

#include "common/base/coding.h"
#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

namespace {

constexpr std::string_view kFloorName = "object_delete_hour";
constexpr int64_t kNsPerHour = 3600 * Timestamp::kNsPerSec;
// The floor stays this far behind, for hosts whose clocks differ.
constexpr uint64_t kFloorSlackHours = 48;
// Empty buckets that one call passes at most (over a year); the next goes on.
constexpr uint64_t kMaxEmptyBuckets = 10000;
// Listed and never forgotten, because deleting them failed: they are listed again.
constexpr size_t kMaxListed = 100000;

uint64_t HourOf(Timestamp when) { return static_cast<uint64_t>(std::max<int64_t>(when.ns, 0) / kNsPerHour); }

struct Queued {
  kv::Key key;
  Timestamp when;
  ObjectId object;
};

Result<Queued> ParseQueued(const kv::Range& bucket, const kv::Entry& entry) {
  if (entry.suffix.size() != 24) return Error(EIO, "reading objects to delete: malformed key");
  Queued out;
  out.key = kv::Key(bucket.partition, entry.suffix);
  out.when.ns = static_cast<int64_t>(GetBe64(entry.suffix.data()));
  out.object = {GetBe64(entry.suffix.data() + 8), GetBe64(entry.suffix.data() + 16)};
  return out;
}

// Visits entries that are due, oldest first, until `visit` says false.
// `first_full` is the first hour that had an entry, or where the walk ended.
Status WalkDue(kv::Transaction& kv, uint64_t from_hour, Timestamp now, uint64_t* first_full,
               const std::function<Result<bool>(const Queued&)>& visit) {
  constexpr size_t kPage = 512;
  uint64_t empty_buckets = 0;
  *first_full = from_hour;
  for (uint64_t hour = from_hour; hour <= HourOf(now); ++hour) {
    kv::Range bucket = keys::ObjectDeletes(hour);
    // Later entries stay out of the conflict set: they are being added to all the time.
    if (hour == HourOf(now)) PutBe64(&bucket.end, static_cast<uint64_t>(now.ns) + 1);
    bool empty = true;
    while (true) {
      ASSIGN_OR_RETURN_STATUS(const auto entries, kv.Scan(bucket, kPage));
      for (const kv::Entry& entry : entries) {
        ASSIGN_OR_RETURN_STATUS(const Queued queued, ParseQueued(bucket, entry));
        ASSIGN_OR_RETURN_STATUS(const bool go_on, visit(queued));
        if (!go_on) return Status::Ok();
      }
      empty = empty && entries.empty();
      if (entries.size() < kPage) break;
      bucket.begin = entries.back().suffix + '\0';
    }
    if (!empty) continue;
    if (*first_full == hour) *first_full = hour + 1;
    if (++empty_buckets == kMaxEmptyBuckets) break;
  }
  return Status::Ok();
}

}  // namespace

Result<uint64_t> MetaImpl::FirstDeleteHour(kv::Transaction& kv, Timestamp now) {
  ASSIGN_OR_RETURN(const auto stored, kv.Get(keys::Allocator(kFloorName)));
  const uint64_t slack_before = HourOf(now) - std::min(HourOf(now), kFloorSlackHours);
  const uint64_t floor = stored ? DecodeLe64(*stored) : HourOf(format_.created);
  // A clock that was ahead for a while left the floor in the future.
  return std::min(floor, slack_before);
}

Result<std::vector<ObjectId>> MetaImpl::DueObjects(Timestamp now, size_t limit) {
  std::vector<ObjectId> due;
  std::map<ObjectId, kv::Key> entries;
  TRY_VOID(Mutate({}, {}, nullptr, [&](Txn& txn) -> Status {
    due.clear();
    entries.clear();
    ASSIGN_OR_RETURN_STATUS(const uint64_t from, FirstDeleteHour(txn.kv, now));
    uint64_t first_full = from;
    size_t revived = 0;
    RETURN_IF_ERROR(WalkDue(txn.kv, from, now, &first_full, [&](const Queued& queued) -> Result<bool> {
      if (due.size() == limit || revived == kRecordsPerStep) return false;
      ASSIGN_OR_RETURN(const auto refs, txn.kv.Get(keys::ObjectRefs(queued.object)));
      if (refs) {
        // Recorded again after it was queued (a commit repeated after a crash).
        txn.kv.Delete(queued.key);
        ++revived;
      } else if (entries.emplace(queued.object, queued.key).second) {
        due.push_back(queued.object);
      }
      return true;
    }));
    const uint64_t slack_before = HourOf(now) - std::min(HourOf(now), kFloorSlackHours);
    const uint64_t floor = std::min(first_full, slack_before);
    if (floor != from) txn.kv.Put(keys::Allocator(kFloorName), EncodeLe64(floor));
    return Status::Ok();
  }));
  // What let the objects go must not be undone by a power cut once they are deleted.
  if (!due.empty()) TRY_VOID(kv_.Sync());
  std::lock_guard lock(due_mutex_);
  if (due_entries_.size() > kMaxListed) due_entries_.clear();
  due_entries_.merge(entries);
  return due;
}

Status MetaImpl::ForgetObjects(const std::vector<ObjectId>& objects) {
  for (size_t begin = 0; begin < objects.size(); begin += kRecordsPerStep) {
    const size_t end = std::min(objects.size(), begin + kRecordsPerStep);
    std::vector<kv::Key> entries;
    {
      std::lock_guard lock(due_mutex_);
      for (size_t i = begin; i < end; ++i) {
        const auto found = due_entries_.find(objects[i]);
        if (found == due_entries_.end()) continue;  // not listed by us: listed again some time
        entries.push_back(std::move(found->second));
        due_entries_.erase(found);
      }
    }
    RETURN_IF_ERROR(Mutate({}, {}, nullptr, [&](Txn& txn) {
      for (const kv::Key& entry : entries) txn.kv.Delete(entry);
      return Status::Ok();
    }));
  }
  return Status::Ok();
}

}  // namespace moorfs::meta
