// SPDX-License-Identifier: Apache-2.0
//
// Everything a keeper is told, as one JSON line over its channel. It knows
// mounts and processes; what a volume is only passes through it as text.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace moorfs::keeper {

struct KeeperConfig {
  std::string mountpoint;  // canonical
  std::string source;      // as `findmnt` shows it
  std::string fstype;      // "fuse.moorfs"
  unsigned long mount_flags = 0;
  uint32_t read_ahead_kib = 4096;
  std::string runtime_root;
  std::string log_file;    // empty: stderr stays as it is
  bool foreground = false; // stay in the terminal's session
  // The client's program; it is started as `<executable> client`.
  std::string executable;
  struct User {
    uid_t uid = 0;
    gid_t gid = 0;
  };
  std::optional<User> user;
  // A mount that nobody serves for this long is aborted, so that applications
  // get an error instead of waiting.
  int abort_after_s = 300;
  // The first client has to be ready within this.
  int start_timeout_s = 60;
  std::string lock_path;    // for messages; empty: no lock
  std::string client_json;  // the client's configuration, an object
  std::string info_json;    // an object whose members go into info.json and `status`
};

std::string EncodeKeeperConfig(const KeeperConfig& config);
Result<KeeperConfig> DecodeKeeperConfig(std::string_view json);

}  // namespace moorfs::keeper
