// SPDX-License-Identifier: Apache-2.0
//
// The watch of api.h on a Connection, which must outlive it.

#pragma once

#include <memory>
#include <string>

#include "common/kube/api.h"
#include "common/kube/connection.h"

namespace moorfs::kube {

std::unique_ptr<Api::Watch> StartWatch(Connection& connection, std::string collection, std::string label_selector,
                                       Api::WatchCallbacks callbacks);

}  // namespace moorfs::kube
