// SPDX-License-Identifier: Apache-2.0
//
// The node's second holder: `moorfs keeper --socket PATH` keeps duplicates of
// the descriptors of every mount of the node, with a text each, for an agent
// that was restarted. It does nothing else, so there is no reason to upgrade it.
// What it is given stays in memory: it is gone with it, and whoever still has
// the descriptors deposits them again.
//
// Words, JSON lines with descriptors on the line they belong to; only root is
// answered. Version 1, the server says {"protocol": 1, "version", "pid"} first:
//   {"cmd": "put", "name": TEXT, "text": TEXT} + descriptors -> {"ok": {}}; replaces
//   {"cmd": "list"} -> {"ok": {"names": [...]}}
//   {"cmd": "get", "name": TEXT} -> {"ok": {"text"}} + descriptors; ENOENT
//   {"cmd": "drop", "name": TEXT} -> {"ok": {}}; OK when absent
// The text is sealed in a memory file, which is what a dump of the process's
// heap does not show. At most 1024 entries, 64 KiB of text, 4 descriptors each;
// EDQUOT beyond.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::keeper {

// Until SIGTERM. Serves in one thread. Returns the exit code.
int RunDepot(const std::string& socket_path);

struct Deposit {
  std::string name;
  std::string text;
  std::vector<UniqueFd> fds;
};

// The agent's end. Not thread-safe. Every call: EPIPE when the depot is gone.
class DepotClient {
 public:
  static Result<std::unique_ptr<DepotClient>> Connect(const std::string& socket_path, int timeout_ms);
  int fd() const;  // readable without a call under way: the depot went away
  Status Put(const std::string& name, const std::string& text, const std::vector<int>& fds);
  Result<std::vector<std::string>> List();
  Result<Deposit> Get(const std::string& name);
  Status Drop(const std::string& name);
  ~DepotClient();

 private:
  struct Impl;
  explicit DepotClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moorfs::keeper
