// SPDX-License-Identifier: Apache-2.0
//
// `moorfs stats MOUNTPOINT`: what goes on, a line a second.

#include <unistd.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "common/control/client.h"
#include "fs/admin/command.h"
#include "fs/admin/locate.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr int kHeaderEvery = 20;

uint64_t At(const Json& j, const char* key) { return j.value(key, uint64_t{0}); }

// A new client counts from zero.
uint64_t Delta(const Json& now, const Json& before, const char* key) {
  return At(now, key) >= At(before, key) ? At(now, key) - At(before, key) : At(now, key);
}

class StatsCommand final : public Command {
 public:
  std::string Name() const override { return "stats"; }
  std::string Summary() const override { return "Show what a mount does, a line a second"; }
  std::string Example() const override { return "moorfs stats /mnt --count 10"; }
  void Declare(Arguments& a) override {
    a.Positional("MOUNTPOINT", &mountpoint_, "Where the volume is mounted");
    a.Option("--count", &count_, "N", "End after so many lines (default: never)");
    a.Flag("--json", &json_, "Print all counters as JSON, an object a line");
  }
  Status Run(Output& out) override;

 private:
  void PrintLine(const Json& now, const Json& before, Output& out) {
    const uint64_t ops = Delta(now, before, "requests");
    const uint64_t ns = Delta(now, before, "request_ns");
    char line[160];
    std::snprintf(line, sizeof line, "%8llu %8llu %10s %10s %10s %10s %8llu %6llu",
                  static_cast<unsigned long long>(ops), static_cast<unsigned long long>(ops ? ns / ops / 1000 : 0),
                  FormatBytes(Delta(now, before, "read_bytes")).c_str(),
                  FormatBytes(Delta(now, before, "written_bytes")).c_str(),
                  FormatBytes(Delta(now, before, "flushed_bytes")).c_str(), FormatBytes(At(now, "dirty_bytes")).c_str(),
                  static_cast<unsigned long long>(At(now, "open_files")),
                  static_cast<unsigned long long>(At(now, "flush_errors") + At(now, "read_errors")));
    out.Line(line);
  }
  std::string mountpoint_, count_;
  bool json_ = false;
};

Status StatsCommand::Run(Output& out) {
  int64_t count = INT64_MAX;
  if (!count_.empty()) {
    const auto [end, error] = std::from_chars(count_.data(), count_.data() + count_.size(), count);
    if (error != std::errc() || *end != '\0' || count < 1) {
      return Status(EINVAL, "use --count " + count_ + ": a number of lines is needed");
    }
  }
  ASSIGN_OR_RETURN_STATUS(const LiveMount mount, LocateMount(mountpoint_));
  const auto ask = [&] {
    auto answer = control::Call(mount.paths.ClientSocket(), {{"cmd", "stats"}}, {});
    // The client died over it; its successor answers.
    if (!answer && answer.error().err() == EPIPE) {
      answer = control::Call(mount.paths.ClientSocket(), {{"cmd", "stats"}}, {});
    }
    return answer;
  };
  ASSIGN_OR_RETURN_STATUS(Json before, ask());
  for (int64_t i = 0; i < count; ++i) {
    sleep(1);
    ASSIGN_OR_RETURN_STATUS(Json now, ask());
    if (json_) {
      out.Line(now.dump());
    } else {
      if (i % kHeaderEvery == 0) {
        out.Line("  req/s   µs/req     read/s    write/s    store/s    unsaved    open errors");
      }
      PrintLine(now, before, out);
    }
    before = std::move(now);
  }
  return Status::Ok();
}

}  // namespace

std::unique_ptr<Command> MakeStatsCommand() { return std::make_unique<StatsCommand>(); }

}  // namespace moorfs::admin
