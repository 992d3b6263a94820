// SPDX-License-Identifier: Apache-2.0

#include "common/mount/launcher.h"

#include <nlohmann/json.hpp>

namespace moorfs::mount {

Status Launcher::PrepareRoot(const ClientRecord& record, const std::string& root, bool create,
                             std::optional<gid_t> group, Deadline deadline) {
  control::Json request = {{"cmd", "prepare-root"}, {"directory", root}, {"create", create}};
  if (group) request["gid"] = *group;
  control::CallOptions options;
  options.timeout_ms = options.total_ms = deadline.LeftMs();
  const auto answer = CallClient(record, request, options);
  return answer ? Status::Ok() : answer.error();
}

}  // namespace moorfs::mount
