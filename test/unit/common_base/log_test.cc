// SPDX-License-Identifier: Apache-2.0
//
// Log lines, read back from a pipe that stands in for stderr.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "common/base/unique_fd.h"
#include "common/log/log.h"

namespace moorfs {
namespace {

// Stderr goes to a pipe until Text().
class CapturedStderr {
 public:
  CapturedStderr() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    read_.reset(ends[0]);
    UniqueFd write(ends[1]);
    saved_.reset(::dup(STDERR_FILENO));
    ::dup2(write.get(), STDERR_FILENO);
  }
  ~CapturedStderr() { Restore(); }
  std::string Text() {
    Restore();
    char buffer[8192];
    const ssize_t n = ::read(read_.get(), buffer, sizeof buffer);
    return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : std::string();
  }

 private:
  void Restore() {
    if (!saved_) return;
    ::dup2(saved_.get(), STDERR_FILENO);
    saved_.reset();
  }
  UniqueFd read_, saved_;
};

TEST_CASE("a log line has a time, a level, a role, and only one line", "[log]") {
  log::SetRole("tester");
  log::SetLevel(log::Level::kInfo);
  CapturedStderr captured;
  LOG_WARNING("part") << "a name with\na newline and \x1b[31m is " << 7;
  LOG_DEBUG("part") << "not wanted";
  const std::string text = captured.Text();
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find(" W tester part: a name with") != std::string::npos);
  CHECK(text.find(" is 7") != std::string::npos);
  CHECK(text.find("not wanted") == std::string::npos);
  CHECK(text.substr(10, 1) == "T");
}

TEST_CASE("a log statement may stand alone behind an if", "[log]") {
  log::SetLevel(log::Level::kInfo);
  CapturedStderr captured;
  bool other = false;
  if (captured.Text().empty())
    LOG_DEBUG("part") << "nothing";
  else
    other = true;
  CHECK_FALSE(other);
}

TEST_CASE("levels are read by name", "[log]") {
  log::Level level = log::Level::kInfo;
  CHECK(log::ParseLevel("error", &level));
  CHECK(level == log::Level::kError);
  CHECK_FALSE(log::ParseLevel("loud", &level));
  CHECK(level == log::Level::kError);
}

}  // namespace
}  // namespace moorfs
