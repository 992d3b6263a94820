// SPDX-License-Identifier: Apache-2.0

#include "common/mount/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "common/base/text.h"
#include "common/mount/cgroups.h"

namespace moorfs::mount {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxOutput = 16 << 20;
constexpr size_t kMaxWords = 2'000;

Result<std::pair<UniqueFd, UniqueFd>> Pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return Error(Status::FromErrno("make a pipe"));
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

std::string LastLine(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  const size_t newline = text.rfind('\n');
  return std::string(newline == std::string_view::npos ? text : text.substr(newline + 1));
}

}  // namespace

Result<Command> Command::Start(const Options& options) {
  Command c;
  c.name_ = "moorfs " + (options.arguments.empty() ? std::string() : options.arguments[0]);
  ASSIGN_OR_RETURN(auto out, Pipe());
  ASSIGN_OR_RETURN(auto err, Pipe());
  std::vector<UniqueFd> cgroups;
  os::SpawnRequest spawn;
  spawn.executable = options.executable;
  spawn.argv = {"moorfs"};
  spawn.argv.insert(spawn.argv.end(), options.arguments.begin(), options.arguments.end());
  spawn.stdout_fd = out.second.get();
  spawn.stderr_fd = err.second.get();
  spawn.new_session = true;
  spawn.directory = "/";
  if (options.own_cgroup) {
    cgroups = OpenClientCgroups();
    for (const UniqueFd& fd : cgroups) spawn.cgroups.push_back(fd.get());
  }
  if (options.ends_with_caller) spawn.parent_death_signal = SIGKILL;
  ASSIGN_OR_RETURN(c.child_, os::Spawn(spawn));
  c.out_ = std::move(out.first);
  c.err_ = std::move(err.first);
  return c;
}

void Command::ReadSome(int timeout_ms) {
  std::array<pollfd, 3> p{{{child_.pidfd.get(), POLLIN, 0}, {out_.get(), POLLIN, 0}, {err_.get(), POLLIN, 0}}};
  if (poll(p.data(), p.size(), timeout_ms) <= 0) return;
  const auto take = [](UniqueFd& fd, std::string& text) {
    char buffer[8192];
    for (;;) {
      const ssize_t n = fd ? read(fd.get(), buffer, sizeof buffer) : -1;
      if (n == 0) fd.reset();
      if (n <= 0) return;
      if (text.size() < kMaxOutput) text.append(buffer, static_cast<size_t>(n));
    }
  };
  take(out_, out_text_);
  take(err_, err_text_);
}

Result<Json> Command::Wait(Deadline deadline) {
  for (;;) {
    const int left = deadline.LeftMs();
    ReadSome(left);
    ASSIGN_OR_RETURN(const auto ended, os::WaitChild(child_, 0));
    if (ended) {
      ReadSome(0);  // its last words
      return Answer(*ended);
    }
    if (left == 0) return Error(ETIMEDOUT, name_ + ": it takes longer than it may");
  }
}

bool Command::Running() { return !os::WaitPidfd(child_.pidfd.get(), 0); }

void Command::Kill() {
  if (Status s = os::SignalPidfd(child_.pidfd.get(), SIGKILL); !s.ok() && s.err() != ESRCH) return;
  [[maybe_unused]] const auto ended = os::WaitChild(child_, 10'000);
}

Result<Json> Command::Answer(const os::ExitStatus& ended) const {
  const Json answer = Json::parse(LastLine(out_text_), nullptr, false);
  if (!ended.signaled && ended.code == 0) return answer;
  if (answer.is_object() && answer.contains("error") && answer["error"].is_object()) {
    const Json& error = answer["error"];
    const int err = error.value("errno", EIO);
    return tl::unexpected(Status(err > 0 ? err : EIO, error.value("message", "unknown error")));
  }
  std::string words = LastLine(err_text_);
  if (words.starts_with(name_ + ": ")) words.erase(0, name_.size() + 2);
  if (words.empty()) words = name_ + " " + ended.Describe();
  words.resize(std::min(words.size(), kMaxWords));
  return tl::unexpected(Status(EIO, Printable(words)));
}

}  // namespace moorfs::mount
