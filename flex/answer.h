// SPDX-License-Identifier: Apache-2.0
//
// The one JSON value that a call ends with, and the exit code that belongs to
// it. A message becomes a pod's event: short, one line, without Secrets.

#pragma once

#include <map>
#include <string>

#include "common/base/status.h"

namespace moorfs::flex {

struct Answer {
  std::string json;  // with a newline
  int exit_code = 0;
};

Answer Success();
// Also carries the volume's new size.
Answer Resized(uint64_t bytes);
// The answer to init. attach: then only kubelet calls us. supportsMetrics: with
// it kubelet itself asks the target for its size, and would hang with a client
// that is stopped. fsGroup: kubelet would change the owner of each file of the
// volume at each mount. requiresFSResize: there is no device to grow.
Answer Capabilities();
// For the installer, which does not put an old door over a new one.
Answer Version();
// Kubelet does the call's work itself, or leaves it out.
Answer NotSupported();
// `secrets`: their values are struck out should a message hold one.
Answer Failure(const Status& status, const std::map<std::string, std::string>& secrets = {});

}  // namespace moorfs::flex
