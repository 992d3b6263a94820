// SPDX-License-Identifier: Apache-2.0
//
// Kubelet's JSON: a flat object of texts. Kubelet's own keys start with
// "kubernetes.io/", the user's options do not.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/agent/protocol.h"
#include "common/base/status.h"

namespace moorfs::flex {

struct FlexOptions {
  agent::FlexPublish publish;
  std::vector<std::string> ignored;  // keys of kubelet that mean nothing to us
};

// EINVAL says what is wrong with which key; never shows a value. Options are
// not looked at: the agent, who knows the node's trust, reads them.
Result<FlexOptions> ParseOptions(std::string_view json);
// An absolute path without "..", control characters or an end beyond PATH_MAX.
Status CheckTarget(std::string_view target);

}  // namespace moorfs::flex
