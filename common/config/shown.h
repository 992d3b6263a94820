// SPDX-License-Identifier: Apache-2.0
//
// Inside this library: foreign text in messages, and the checks of what names
// a volume.

#pragma once

#include <string>
#include <string_view>

#include "common/base/status.h"

namespace moorfs::config {

// Short, without control characters: fit for a pod's event.
std::string Shown(std::string_view text);

// A META URL: "scheme:…"; the embedded engine's directory absolute and in its
// plain form, so that two spellings are one volume. Never quotes it: other
// engines have passwords there.
Status MetaInto(std::string_view value, std::string* out);
inline constexpr std::string_view kLevelDb = "leveldb:";

}  // namespace moorfs::config
