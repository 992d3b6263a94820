// SPDX-License-Identifier: Apache-2.0
//
// `moorfs flex explain JSON`: what a mount with these options would do, without
// doing it.

#pragma once

#include <string>

#include "flex/answer.h"
#include "flex/call.h"

namespace moorfs::flex {

// Options one by one with what each is and whether its author may set it, then
// what they come to together. Failure when a mount would be refused.
Answer Explain(const Call& call, const std::string& json);

}  // namespace moorfs::flex
