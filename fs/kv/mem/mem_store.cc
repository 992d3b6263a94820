// SPDX-License-Identifier: Apache-2.0
//
// See mem_store.h. A snapshot is a copy of the map, shared until the next
// commit: fit for tests, not for large data.

#include "fs/kv/mem/mem_store.h"

#include <map>
#include <shared_mutex>

#include "fs/kv/optimistic.h"

namespace moorfs::kv {
namespace {

using Map = std::map<std::string, std::string, std::less<>>;

std::optional<std::string> Find(const Map& map, std::string_view key) {
  const auto it = map.find(key);
  if (it == map.end()) return std::nullopt;
  return it->second;
}

void ForEach(const Map& map, const KeyInterval& interval,
             const std::function<bool(std::string_view, std::string_view)>& visit) {
  for (auto it = map.lower_bound(interval.begin); it != map.end(); ++it) {
    if (!interval.end.empty() && it->first >= interval.end) return;
    if (!visit(it->first, it->second)) return;
  }
}

class MemSnapshot final : public Snapshot {
 public:
  explicit MemSnapshot(std::shared_ptr<const Map> map) : map_(std::move(map)) {}

  Result<std::optional<std::string>> Get(const Key& key) override { return Find(*map_, key.bytes()); }

  Result<std::vector<Entry>> Scan(const Range& range, size_t limit) override {
    std::vector<Entry> entries;
    if (limit == 0) return entries;
    ForEach(*map_, IntervalOf(range), [&](std::string_view key, std::string_view value) {
      entries.push_back({std::string(key.substr(range.partition.size())), std::string(value)});
      return entries.size() < limit;
    });
    return entries;
  }

  Status Walk(std::string_view after,
              const std::function<bool(std::string_view key, std::string_view value)>& visit) override {
    KeyInterval interval;
    if (!after.empty()) interval.begin = std::string(after) + '\0';
    ForEach(*map_, interval, visit);
    return {};
  }

 private:
  std::shared_ptr<const Map> map_;
};

class MemStore final : public OptimisticStore {
 public:
  explicit MemStore(const Options& options) : OptimisticStore(options.read_only) {}

  Status Sync() override { return {}; }

  Result<std::unique_ptr<Snapshot>> NewSnapshot() override {
    std::lock_guard lock(mutex_);
    if (!frozen_) frozen_ = std::make_shared<const Map>(map_);
    return std::make_unique<MemSnapshot>(frozen_);
  }

  bool exclusive() const override { return true; }
  std::string_view engine() const override { return "mem"; }

 private:
  Result<std::optional<std::string>> ReadLatest(std::string_view key) override {
    std::shared_lock lock(mutex_);
    return Find(map_, key);
  }

  Status ScanLatest(const KeyInterval& interval, const Visitor& visit) override {
    std::shared_lock lock(mutex_);
    ForEach(map_, interval, visit);
    return {};
  }

  Status Apply(const WriteSet& writes) override {
    std::lock_guard lock(mutex_);
    frozen_.reset();
    for (const auto& [key, write] : writes) {
      if (write.kind == PendingWrite::Kind::kPut) {
        map_.insert_or_assign(std::string(key), std::string(write.value));
      } else {
        map_.erase(std::string(key));
      }
    }
    return {};
  }

  std::shared_mutex mutex_;
  Map map_;
  std::shared_ptr<const Map> frozen_;  // copy of map_ as it is now, or null
};

}  // namespace

std::unique_ptr<KvStore> NewMemStore(const Options& options) { return std::make_unique<MemStore>(options); }

}  // namespace moorfs::kv
