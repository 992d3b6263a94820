// SPDX-License-Identifier: Apache-2.0
//
// The channel between keeper and client. Keeper to client: one line, the
// client's configuration with "keeper" added ({mountpoint, device, restarts,
// runtime_dir}). Client to keeper: any number of {"progress": TEXT}, then
// {"ready": {...}} or {"failed": {"errno": N, "message": TEXT}}.
//
// The channel's end does not end the client: with the keeper gone it serves
// on, only nobody would replace it.

#pragma once

#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/control/line_socket.h"

namespace moorfs::keeper {

class ClientChannel {
 public:
  // Of the client; owns kClientChannelFd.
  static ClientChannel Inherited();
  explicit ClientChannel(UniqueFd fd) : socket_(std::move(fd)) {}

  // The configuration, a JSON object.
  Result<std::string> ReceiveConfig();
  // Shown to the user who waits for the mount. Failures are of no interest.
  void Progress(std::string_view text);
  // `details_json` is an object that `status` shows.
  Status Ready(std::string_view details_json);
  Status Failed(const Status& why);

 private:
  control::LineSocket socket_;
};

}  // namespace moorfs::keeper
