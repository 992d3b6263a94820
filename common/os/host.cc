// SPDX-License-Identifier: Apache-2.0

#include "common/os/host.h"

#include <unistd.h>

namespace moorfs::os {

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

}  // namespace moorfs::os
