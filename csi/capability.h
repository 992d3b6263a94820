// SPDX-License-Identifier: Apache-2.0
//
// What both services check of a VolumeCapability, and how protobuf's maps
// become ours. For the service files only: it includes the generated code.

#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "csi/proto/csi.pb.h"
#include "common/base/status.h"

namespace moorfs::csi {

// The longest string that means anything in a request; a path is at most this.
inline constexpr size_t kMaxTextBytes = 4096;

inline std::map<std::string, std::string> ToMap(const google::protobuf::Map<std::string, std::string>& map) {
  return {map.begin(), map.end()};
}

inline std::vector<std::string> MountFlagsOf(const ::csi::v1::VolumeCapability& capability) {
  const auto& flags = capability.mount().mount_flags();
  return {flags.begin(), flags.end()};
}

// A field that must be there, and be a text that others can hold: no NUL, no
// newline, no other control character.
inline Status CheckText(const char* field, std::string_view value) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (value.empty()) return Status(EINVAL, std::string("read the request: ") + field + " is missing");
  if (value.size() > kMaxTextBytes) return Status(EINVAL, std::string("read the request: ") + field + " is too long");
  if (std::any_of(value.begin(), value.end(), is_control)) {
    return Status(EINVAL, std::string("read the request: ") + field + " holds a control character");
  }
  return Status::Ok();
}

inline Status CheckCapability(const ::csi::v1::VolumeCapability& capability) {
  using Mode = ::csi::v1::VolumeCapability::AccessMode;
  if (capability.has_block()) {
    return Status(EINVAL, "read the volume's capability: a MoorFS volume is a directory, it cannot be a block device");
  }
  if (!capability.has_mount()) return Status(EINVAL, "read the volume's capability: it has no access type");
  if (!capability.has_access_mode() || capability.access_mode().mode() == Mode::UNKNOWN ||
      !Mode::Mode_IsValid(capability.access_mode().mode())) {
    return Status(EINVAL, "read the volume's capability: it has no access mode that is known");
  }
  return Status::Ok();
}

}  // namespace moorfs::csi
