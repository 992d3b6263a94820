// SPDX-License-Identifier: Apache-2.0
//
// The numbers of a volume, from its client's control socket. A client that
// hangs costs one connection, whoever asks and however often: the question
// stays open, and the next caller waits for the same answer. In between,
// callers get the last numbers and the word that they are old.

#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "common/base/status.h"
#include "common/mount/launcher.h"
#include "common/mount/mount_manager.h"
#include "common/mount/name_locks.h"

namespace moorfs::mount {

class StatsProber {
 public:
  explicit StatsProber(Launcher& launcher) : launcher_(launcher) {}
  // `root`: the directory whose quota counts. Never later than the deadline.
  Result<VolumeStats> Ask(const ClientRecord& record, const std::string& root, Deadline deadline);
  // Forgets the clients that ended.
  void Keep(const std::set<std::string>& mount_keys);

 private:
  struct Client;
  std::shared_ptr<Client> ClientOf(const std::string& mount_key);

  Launcher& launcher_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Client>> clients_;
};

}  // namespace moorfs::mount
