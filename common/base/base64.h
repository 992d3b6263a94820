// SPDX-License-Identifier: Apache-2.0
//
// Base64 (RFC 4648), for bytes inside JSON lines.

#pragma once

#include <string>
#include <string_view>

#include "common/base/status.h"

namespace moorfs {

std::string EncodeBase64(std::string_view bytes);
// EINVAL for anything that EncodeBase64 would not have written.
Result<std::string> DecodeBase64(std::string_view text);

}  // namespace moorfs
