// SPDX-License-Identifier: Apache-2.0
//
// One line per event on stderr (or a file the process was given as stderr):
//   2026-01-02T03:04:05.678Z W client chunk: block abc/17 is damaged errno=EIO
// An error is logged once, where it is answered. Never a secret, never file
// contents. Safe from every thread; a line is one write(2).

#pragma once

#include <sstream>
#include <string>
#include <string_view>

namespace moorfs::log {

enum class Level { kDebug, kInfo, kWarning, kError };

// Role that leads each line ("keeper", "client", "cli"). Call before threads.
void SetRole(std::string_view role);
void SetLevel(Level level);
Level GetLevel();
// Level from "debug", "info", "warning", "error"; false for anything else.
bool ParseLevel(std::string_view text, Level* level);

// Newlines and control characters in `message` are escaped.
void Write(Level level, std::string_view component, std::string_view message);

// A line under construction: `LOG_WARNING("chunk") << "block " << name;`
class Line {
 public:
  Line(Level level, std::string_view component) : level_(level), component_(component) {}
  ~Line() { Write(level_, component_, stream_.str()); }
  Line(const Line&) = delete;
  template <typename T>
  Line& operator<<(const T& v) {
    stream_ << v;
    return *this;
  }

 private:
  Level level_;
  std::string_view component_;
  std::ostringstream stream_;
};

// Binds weaker than <<: turns a finished line into nothing.
struct Swallow {
  void operator&(const Line&) const {}
};

}  // namespace moorfs::log

// An expression, so that it may stand alone behind an `if`.
#define MOORFS_LOG(level, component)                                                \
  ::moorfs::log::GetLevel() > ::moorfs::log::Level::level                           \
      ? (void)0                                                                     \
      : ::moorfs::log::Swallow() & ::moorfs::log::Line(::moorfs::log::Level::level, component)
#define LOG_DEBUG(component) MOORFS_LOG(kDebug, component)
#define LOG_INFO(component) MOORFS_LOG(kInfo, component)
#define LOG_WARNING(component) MOORFS_LOG(kWarning, component)
#define LOG_ERROR(component) MOORFS_LOG(kError, component)
