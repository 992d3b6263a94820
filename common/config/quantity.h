// SPDX-License-Identifier: Apache-2.0
//
// Quantities and names as Kubernetes writes them: "128Mi", "50m", "1e3"; DNS
// labels; keys and values of labels. What passes here the API server takes.

#pragma once

#include <string_view>

#include "common/base/status.h"

namespace moorfs::config {

// In units: 134217728 for "128Mi", 0.05 for "50m". EINVAL quotes the text.
Result<double> ParseQuantity(std::string_view text);

// At most 63 of a-z, 0-9 and '-', a letter or digit at both ends.
bool IsDnsLabel(std::string_view text);
// Labels joined by dots, at most 253 characters.
bool IsDnsSubdomain(std::string_view text);
// "name" or "prefix.example.com/name".
bool IsLabelKey(std::string_view text);
bool IsLabelValue(std::string_view text);

}  // namespace moorfs::config
