// SPDX-License-Identifier: Apache-2.0

#include "common/mount/pods/lease_board.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <set>

#include "common/base/units.h"
#include "common/log/log.h"
#include "common/mount/pods/volume_leases.h"

namespace moorfs::mount {
namespace {

using kube::Json;

constexpr std::string_view kLeasePrefix = "moorfs-", kAskPrefix = "moorfs.io/ask-", kAnswerPrefix = "moorfs.io/answer-";
constexpr char kMetaKey[] = "moorfs.io/meta", kMountKeyLabel[] = "moorfs.io/mount-key";
constexpr int64_t kStaleS = 600;
constexpr auto kCleanEvery = std::chrono::seconds(60);
constexpr int kMostConflicts = 30;

// "2026-01-02T03:04:05.678901Z", as a Lease wants it.
std::string MicroTime() {
  const Timestamp now = Timestamp::Now();
  const time_t seconds = static_cast<time_t>(now.sec());
  tm parts;
  gmtime_r(&seconds, &parts);
  char text[32];
  const size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + n, sizeof text - n, ".%06uZ", now.nsec() / 1000 % 1'000'000);
  return text;
}

uint32_t Random() {
  uint32_t value = 0;
  // Never short for so few bytes; and then the time in the id still tells them apart.
  if (getrandom(&value, sizeof value, 0) != sizeof value) value = static_cast<uint32_t>(MonotonicNs());
  return value;
}

// It becomes part of a path and of a name.
Status CheckMountKey(const std::string& key) {
  const auto is_hex = [](unsigned char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (key.size() >= 8 && key.size() <= 63 && std::all_of(key.begin(), key.end(), is_hex)) return Status::Ok();
  return Status(EINVAL, "find a volume's lease: the mount key is no hexadecimal number");
}

std::string Text(const Json& object, const char* pointer) {
  const Json::json_pointer at(pointer);
  return object.contains(at) && object[at].is_string() ? object[at].get<std::string>() : std::string();
}

Json SpecOf(const std::optional<std::string>& holder) {
  if (holder->empty()) return {{"holderIdentity", nullptr}, {"acquireTime", nullptr}};
  return {{"holderIdentity", *holder}, {"acquireTime", MicroTime()}};
}

}  // namespace

std::string LeaseName(std::string_view mount_key) { return std::string(kLeasePrefix) + std::string(mount_key); }
std::string AskKey(std::string_view id) { return std::string(kAskPrefix) + std::string(id); }
std::string AnswerKey(std::string_view id) { return std::string(kAnswerPrefix) + std::string(id); }

std::string NewAskId() {
  char id[40];
  std::snprintf(id, sizeof id, "%lld-%08x", static_cast<long long>(Timestamp::Now().sec()), Random());
  return id;
}

bool IsStaleAsk(std::string_view id) {
  int64_t made = 0;
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), made);
  if (error != std::errc() || end == id.data() + id.size() || *end != '-' || made < 0) return true;
  const int64_t now = Timestamp::Now().sec();
  return made > now + kStaleS || made < now - kStaleS;
}

Result<VolumeLease> ParseVolumeLease(const Json& object) {
  VolumeLease lease;
  const std::string name = Text(object, "/metadata/name");
  if (!name.starts_with(kLeasePrefix)) return Error(ENOENT, "read a lease: it is no volume's");
  lease.mount_key = name.substr(kLeasePrefix.size());
  if (!CheckMountKey(lease.mount_key).ok()) return Error(ENOENT, "read a lease: it is no volume's");
  lease.resource_version = Text(object, "/metadata/resourceVersion");
  const char* end = lease.resource_version.data() + lease.resource_version.size();
  if (const auto read = std::from_chars(lease.resource_version.data(), end, lease.version);
      read.ec != std::errc() || read.ptr != end || lease.version == 0) {
    return Error(EPROTO, "read lease " + name + ": metadata.resourceVersion is no number");
  }
  lease.holder = Text(object, "/spec/holderIdentity");
  const Json::json_pointer at("/metadata/annotations");
  if (!object.contains(at) || !object[at].is_object()) return lease;
  for (const auto& [key, value] : object[at].items()) {
    if (!value.is_string()) return Error(EPROTO, "read lease " + name + ": annotation " + key + " is no text");
    if (key == kMetaKey) lease.meta = value;
    if (key.starts_with(kAskPrefix)) lease.asks[key.substr(kAskPrefix.size())] = value;
    if (key.starts_with(kAnswerPrefix)) lease.answers[key.substr(kAnswerPrefix.size())] = value;
  }
  return lease;
}

LeaseBoard::LeaseBoard(kube::Api& api, Config config) : api_(api), config_(std::move(config)) {
  cleaner_ = std::thread([this] { Clean(); });
  watch_ = api_.StartWatch(kube::LeasesOf(config_.ns), kVolumeLeaseLabel,
                           {.on_synced = [this](const std::vector<Json>& objects) { OnSynced(objects); },
                            .on_event = [this](const kube::Event& event) { OnEvent(event); }});
}

LeaseBoard::~LeaseBoard() {
  watch_.reset();
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  cleaner_.join();
}

std::string LeaseBoard::PathOf(const std::string& mount_key) const {
  return kube::LeasesOf(config_.ns) + "/" + LeaseName(mount_key);
}

// ---- what is known -------------------------------------------------------------

std::optional<VolumeLease> LeaseBoard::Note(const VolumeLease& lease) {
  std::lock_guard lock(mutex_);
  uint64_t& newest = newest_[lease.mount_key];
  // The same once more is no news: who waits for some would never wait.
  if (lease.version > newest) {
    ++news_;
    changed_.notify_all();
  }
  if (lease.version >= newest) {
    newest = lease.version;
    leases_[lease.mount_key] = lease;
  }
  const auto found = leases_.find(lease.mount_key);
  return found == leases_.end() ? std::nullopt : std::optional(found->second);
}

Result<VolumeLease> LeaseBoard::NoteObject(const Result<Json>& object) {
  if (!object) return Error(object.error());
  ASSIGN_OR_RETURN(VolumeLease lease, ParseVolumeLease(*object));
  Note(lease);
  return lease;
}

void LeaseBoard::OnSynced(const std::vector<Json>& objects) {
  std::set<std::string> present;
  std::vector<VolumeLease> changed;
  for (const Json& object : objects) {
    const auto lease = ParseVolumeLease(object);
    if (!lease) {
      if (lease.error().err() != ENOENT) LOG_WARNING("leases") << lease.error().message();
      continue;
    }
    present.insert(lease->mount_key);
    if (auto newest = Note(*lease)) changed.push_back(std::move(*newest));
  }
  std::vector<std::string> gone;
  {
    std::lock_guard lock(mutex_);
    for (auto it = leases_.begin(); it != leases_.end();) {
      if (present.contains(it->first)) {
        ++it;
        continue;
      }
      gone.push_back(it->first);
      it = leases_.erase(it);
    }
    ++news_;
    changed_.notify_all();
  }
  for (const std::string& key : gone) {
    if (config_.on_gone) config_.on_gone(key);
  }
  for (const VolumeLease& lease : changed) {
    if (config_.on_change) config_.on_change(lease);
  }
}

void LeaseBoard::OnEvent(const kube::Event& event) {
  const auto lease = ParseVolumeLease(event.object);
  if (!lease) {
    if (lease.error().err() != ENOENT) LOG_WARNING("leases") << lease.error().message();
    return;
  }
  if (event.type == kube::Event::Type::kSet) {
    const auto newest = Note(*lease);
    if (newest && config_.on_change) config_.on_change(*newest);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    uint64_t& newest = newest_[lease->mount_key];
    // Made again since.
    if (lease->version < newest) return;
    newest = lease->version;
    leases_.erase(lease->mount_key);
    ++news_;
    changed_.notify_all();
  }
  if (config_.on_gone) config_.on_gone(lease->mount_key);
}

std::optional<VolumeLease> LeaseBoard::Cached(const std::string& mount_key) {
  if (watch_->Broken()) return std::nullopt;
  std::lock_guard lock(mutex_);
  const auto found = leases_.find(mount_key);
  return found == leases_.end() ? std::nullopt : std::optional(found->second);
}

uint64_t LeaseBoard::News() {
  std::lock_guard lock(mutex_);
  return news_;
}

bool LeaseBoard::WaitForNews(uint64_t since, int timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return news_ != since; });
}

// ---- requests ------------------------------------------------------------------

Result<std::optional<VolumeLease>> LeaseBoard::Fetch(const std::string& mount_key) {
  TRY_VOID(CheckMountKey(mount_key));
  auto object = api_.Get(PathOf(mount_key));
  if (!object && object.error().err() == ENOENT) return std::optional<VolumeLease>();
  ASSIGN_OR_RETURN(VolumeLease lease, NoteObject(object));
  return std::optional(std::move(lease));
}

Result<VolumeLease> LeaseBoard::Create(const std::string& mount_key, const std::string& meta, const std::string& holder,
                                       const Json& annotations) {
  TRY_VOID(CheckMountKey(mount_key));
  Json all = annotations.is_object() ? annotations : Json::object();
  all[kMetaKey] = meta;
  const std::string label = kVolumeLeaseLabel;
  const size_t equals = label.find('=');
  const Json object = {{"apiVersion", "coordination.k8s.io/v1"},
                       {"kind", "Lease"},
                       {"metadata",
                        {{"name", LeaseName(mount_key)},
                         {"namespace", config_.ns},
                         {"labels", {{label.substr(0, equals), label.substr(equals + 1)}, {kMountKeyLabel, mount_key}}},
                         {"annotations", std::move(all)}}},
                       {"spec", SpecOf(holder)}};
  return NoteObject(api_.Create(kube::LeasesOf(config_.ns), object));
}

Result<VolumeLease> LeaseBoard::Change(const VolumeLease& lease, const std::optional<std::string>& holder,
                                       const Json& annotations) {
  Json patch = {{"metadata", {{"resourceVersion", lease.resource_version}}}};
  if (annotations.is_object()) patch["metadata"]["annotations"] = annotations;
  if (holder) patch["spec"] = SpecOf(holder);
  return NoteObject(api_.MergePatch(PathOf(lease.mount_key), patch));
}

Status LeaseBoard::Remove(const std::string& mount_key, const std::vector<std::string>& annotations) {
  RETURN_IF_ERROR(CheckMountKey(mount_key));
  Json nulls = Json::object();
  for (const std::string& name : annotations) nulls[name] = nullptr;
  auto lease = NoteObject(api_.MergePatch(PathOf(mount_key), {{"metadata", {{"annotations", std::move(nulls)}}}}));
  if (!lease && lease.error().err() != ENOENT) return lease.error();
  return Status::Ok();
}

bool LeaseBoard::PauseAfterConflict(int n) {
  if (n >= kMostConflicts) return false;
  usleep(1'000 * (1 + Random() % (2u << std::min(n, 5))));
  return true;
}

// ---- cleaning --------------------------------------------------------------------

// On a thread of its own: the watch's must not wait for an answer.
void LeaseBoard::Clean() {
  std::unique_lock lock(mutex_);
  uint64_t seen = 0;
  while (!stop_) {
    seen = news_;
    std::vector<std::pair<std::string, std::vector<std::string>>> stale;
    for (const auto& [key, lease] : leases_) {
      std::vector<std::string> names;
      for (const auto& [id, ask] : lease.asks) {
        if (IsStaleAsk(id)) names.push_back(AskKey(id));
      }
      for (const auto& [id, answer] : lease.answers) {
        if (IsStaleAsk(id)) names.push_back(AnswerKey(id));
      }
      if (!names.empty() && config_.cleans && config_.cleans(lease)) stale.emplace_back(key, std::move(names));
    }
    lock.unlock();
    bool failed = false;
    for (const auto& [key, names] : stale) {
      const Status removed = Remove(key, names);
      failed = failed || !removed.ok();
      LOG_INFO("leases") << "removed " << names.size() << " old asks and answers from lease " << LeaseName(key)
                         << (removed.ok() ? "" : ": failed, " + removed.message());
    }
    lock.lock();
    // News bring what is old already; what grows old does so without news.
    if (failed) {
      changed_.wait_for(lock, kCleanEvery, [&] { return stop_; });
    } else {
      changed_.wait_for(lock, kCleanEvery, [&] { return stop_ || news_ != seen; });
    }
  }
}

}  // namespace moorfs::mount
