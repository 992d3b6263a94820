// SPDX-License-Identifier: Apache-2.0
//
// What the API server's answers mean. Pure.

#pragma once

#include <string>
#include <string_view>

#include "common/http/client.h"
#include "common/kube/api.h"

namespace moorfs::kube {

// Nobody has decided anything for good: the same request may succeed later.
bool IsPassing(int http_status);

// The Status of an answer that is no success. `what` is "get /api/v1/…". Its
// message is the server's, on one line, cut when long.
Status StatusOf(const http::Response& response, std::string_view what);

// A server's text as part of a message: printable, at most 1000 bytes.
std::string Quoted(std::string_view text);

// "a=b,c" -> "a%3Db%2Cc"
std::string QueryEscape(std::string_view text);

// A member of an object, or null; never throws.
const Json& Member(const Json& object, const char* name);
std::string StringMember(const Json& object, const char* name);

}  // namespace moorfs::kube
