// SPDX-License-Identifier: Apache-2.0

#include "installer/programs.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "common/base/text.h"
#include "common/base/units.h"
#include "common/os/process.h"

namespace moorfs::installer {
namespace {

using Json = nlohmann::json;

constexpr int kDeadlineMs = 10'000;
constexpr size_t kMaxOutput = 1 << 20;
constexpr size_t kShown = 300;

// Until the end of the stream or the deadline.
Status ReadOutput(int fd, int64_t deadline_ns, std::string* out) {
  for (;;) {
    const int64_t left_ms = (deadline_ns - MonotonicNs()) / 1'000'000;
    pollfd p{fd, POLLIN, 0};
    const int ready = left_ms > 0 ? poll(&p, 1, static_cast<int>(left_ms)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Status(ETIMEDOUT, "it does not end");
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::FromErrno("read its output");
    if (n == 0) return Status::Ok();
    if (out->size() < kMaxOutput) out->append(buffer, static_cast<size_t>(n));
  }
}

// A door's answer as an object; anything else is an error that shows it.
Result<Json> AskDoor(const std::string& path, const std::string& verb) {
  ASSIGN_OR_RETURN(const std::string output, RunProgram({path, verb}));
  const Json answer = Json::parse(output, nullptr, /*allow_exceptions=*/false);
  if (answer.is_object() && answer.contains("status") && answer["status"].is_string()) return answer;
  return Error(EPROTO, "run " + path + " " + verb + ": the answer is not a door's: " +
                           Printable(output.substr(0, kShown)));
}

// Splits at the first '-': the numbers, and what comes before a release.
std::pair<std::string_view, std::string_view> Split(std::string_view version) {
  version = version.substr(0, version.find('+'));
  const size_t dash = version.find('-');
  if (dash == std::string_view::npos) return {version, {}};
  return {version.substr(0, dash), version.substr(dash + 1)};
}

// The part before the first '.', which goes.
std::string_view TakePart(std::string_view* text) {
  const size_t dot = text->find('.');
  const std::string_view part = text->substr(0, dot);
  text->remove_prefix(dot == std::string_view::npos ? text->size() : dot + 1);
  return part;
}

int CompareParts(std::string_view a, std::string_view b) {
  uint64_t x = 0, y = 0;
  const auto [end_a, error_a] = std::from_chars(a.data(), a.data() + a.size(), x);
  const auto [end_b, error_b] = std::from_chars(b.data(), b.data() + b.size(), y);
  const bool numbers = (a.empty() || (error_a == std::errc() && end_a == a.data() + a.size())) &&
                       (b.empty() || (error_b == std::errc() && end_b == b.data() + b.size()));
  if (numbers) return x < y ? -1 : x > y ? 1 : 0;
  return a.compare(b);
}

int CompareDotted(std::string_view a, std::string_view b) {
  while (!a.empty() || !b.empty()) {
    if (const int order = CompareParts(TakePart(&a), TakePart(&b)); order != 0) return order;
  }
  return 0;
}

}  // namespace

Result<std::string> RunProgram(const std::vector<std::string>& argv) {
  const std::string what = "run " + argv[0] + (argv.size() > 1 ? " " + argv.back() : "");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Error(Status::FromErrno(what + ": make a pipe"));
  UniqueFd ours(ends[0]), theirs(ends[1]);
  auto child = os::Spawn({.executable = argv[0], .argv = argv, .stdout_fd = theirs.get(), .stderr_fd = theirs.get(),
                          .parent_death_signal = SIGKILL});
  if (!child) return Error(child.error().Annotate(what));
  theirs.reset();
  std::string output;
  const int64_t deadline = MonotonicNs() + int64_t{kDeadlineMs} * 1'000'000;
  const Status read = ReadOutput(ours.get(), deadline, &output);
  if (!read.ok()) {
    os::SignalPidfd(child->pidfd.get(), SIGKILL).ok();  // ESRCH: it is gone already
  }
  const auto ended = os::WaitChild(*child, kDeadlineMs);
  if (!read.ok()) return Error(read.Annotate(what));
  if (!ended) return Error(ended.error().Annotate(what));
  if (!*ended) return Error(ETIMEDOUT, what + ": it does not end");
  if ((*ended)->signaled || (*ended)->code != 0) {
    return Error(ENOEXEC, what + ": it " + (*ended)->Describe() + ": " + Printable(output.substr(0, kShown)));
  }
  return output;
}

Status CheckDoor(const std::string& path) {
  ASSIGN_OR_RETURN_STATUS(const Json answer, AskDoor(path, "init"));
  if (answer["status"] != "Success" || !answer.contains("capabilities")) {
    return Status(EPROTO, "run " + path + " init: kubelet would not take the answer " + answer.dump());
  }
  return Status::Ok();
}

Result<std::string> DoorVersion(const std::string& path) {
  ASSIGN_OR_RETURN(const Json answer, AskDoor(path, "version"));
  return answer.contains("version") && answer["version"].is_string() ? answer["version"].get<std::string>() : "";
}

int CompareVersions(std::string_view a, std::string_view b) {
  const auto [numbers_a, before_a] = Split(a);
  const auto [numbers_b, before_b] = Split(b);
  if (a.empty() || b.empty()) return a.empty() ? (b.empty() ? 0 : -1) : 1;
  if (const int order = CompareDotted(numbers_a, numbers_b); order != 0) return order;
  if (before_a.empty() || before_b.empty()) return before_a.empty() ? (before_b.empty() ? 0 : 1) : -1;
  return CompareDotted(before_a, before_b);
}

}  // namespace moorfs::installer
