// SPDX-License-Identifier: Apache-2.0
//
// The volumes' Leases as one process sees them: watched, remembered, changed
// under their version, and freed of asks and answers that nobody waits for any
// more. What both sides of volume_leases.h stand on.
//
// What is remembered never goes back: a write's own result is newer than the
// watch's events that are still on their way, and "this node holds it" must not
// come back after it was released.
//
// Thread-safe.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "common/kube/api.h"
#include "common/mount/name_locks.h"

namespace moorfs::mount {

struct VolumeLease {
  std::string mount_key;
  std::string meta;
  std::string holder;  // empty: nobody
  std::string resource_version;
  uint64_t version = 0;
  std::map<std::string, std::string> asks, answers;  // by id, JSON
};

// EPROTO names the member; a Lease that is none of ours is ENOENT.
Result<VolumeLease> ParseVolumeLease(const kube::Json& object);
std::string LeaseName(std::string_view mount_key);
std::string AskKey(std::string_view id);
std::string AnswerKey(std::string_view id);

// An id holds the time at which it was made, so that whoever finds it knows
// whether somebody may still wait.
std::string NewAskId();
// Of another form, or made more than ten minutes ago (or ahead).
bool IsStaleAsk(std::string_view id);

class LeaseBoard {
 public:
  struct Config {
    std::string ns;
    // On the watch's thread, with the newest that is known; must not block.
    std::function<void(const VolumeLease&)> on_change;
    std::function<void(const std::string& mount_key)> on_gone;
    // Whose stale asks and answers this process removes.
    std::function<bool(const VolumeLease&)> cleans;
  };
  LeaseBoard(kube::Api& api, Config config);
  ~LeaseBoard();

  // As the watch shows it; nullopt when absent, or when the watch is broken.
  std::optional<VolumeLease> Cached(const std::string& mount_key);
  // One request. nullopt: absent.
  Result<std::optional<VolumeLease>> Fetch(const std::string& mount_key);
  // EEXIST.
  Result<VolumeLease> Create(const std::string& mount_key, const std::string& meta, const std::string& holder,
                             const kube::Json& annotations);
  // Under the lease's version: kErrnoConflict. `holder`: nullopt leaves it, "" clears it.
  Result<VolumeLease> Change(const VolumeLease& lease, const std::optional<std::string>& holder,
                             const kube::Json& annotations);
  // Under no version: nobody else writes these. OK when absent.
  Status Remove(const std::string& mount_key, const std::vector<std::string>& annotations);

  // Waits for news of the lease, at most so long; true: there may be some since
  // the number was taken.
  uint64_t News();
  bool WaitForNews(uint64_t since, int timeout_ms);

  // Somebody else was faster: look again. (A deletion is ENOENT.)
  static bool IsLostRace(int err) { return err == kErrnoConflict || err == EEXIST || err == ENOENT; }
  // A short pause after the n-th conflict. False: enough of them.
  static bool PauseAfterConflict(int n);

 private:
  void OnSynced(const std::vector<kube::Json>& objects);
  void OnEvent(const kube::Event& event);
  // The newest, or nullopt when what is known is newer and gone.
  std::optional<VolumeLease> Note(const VolumeLease& lease);
  Result<VolumeLease> NoteObject(const Result<kube::Json>& object);
  void Clean();
  std::string PathOf(const std::string& mount_key) const;

  kube::Api& api_;
  const Config config_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, VolumeLease> leases_;  // by mount key
  std::map<std::string, uint64_t> newest_;     // stays when the lease is gone
  uint64_t news_ = 0;
  bool stop_ = false;

  std::thread cleaner_;
  std::unique_ptr<kube::Api::Watch> watch_;  // its callbacks use all of the above
};

}  // namespace moorfs::mount
