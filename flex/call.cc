// SPDX-License-Identifier: Apache-2.0

#include "flex/call.h"

#include <charconv>

#include "common/base/text.h"

namespace moorfs::flex {
namespace {

constexpr char kUsage[] =
    "usage: moorfs flex [--standalone] [--trust-volume] [--fs NAME=META] [--timeout SECONDS] "
    "init | mount DIR JSON | unmount DIR | explain JSON";

Status ParseSeconds(const std::string& text, int* timeout_ms) {
  int seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || seconds < 1 || seconds > 3600) {
    return Status(EINVAL, "--timeout wants seconds between 1 and 3600");
  }
  *timeout_ms = seconds * 1000;
  return Status::Ok();
}

}  // namespace

Result<Call> ParseCall(const std::vector<std::string>& words) {
  Call call;
  size_t i = 0;
  for (; i < words.size() && words[i].starts_with("--"); ++i) {
    const std::string& word = words[i];
    if (word == "--standalone") {
      call.standalone = true;
    } else if (word == "--trust-volume") {
      call.trusted = true;
    } else if (word == "--fs" && i + 1 < words.size()) {
      TRY_VOID(config::AddFsName(words[++i], &call.fs_names));
    } else if (word == "--timeout" && i + 1 < words.size()) {
      TRY_VOID(ParseSeconds(words[++i], &call.timeout_ms));
    } else {
      return Error(EINVAL, kUsage);
    }
  }
  if (i == words.size()) return Error(EINVAL, kUsage);
  call.verb = words[i++];
  call.arguments.assign(words.begin() + static_cast<long>(i), words.end());
  return call;
}

}  // namespace moorfs::flex
