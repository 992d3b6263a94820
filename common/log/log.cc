// SPDX-License-Identifier: Apache-2.0

#include "common/log/log.h"

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "common/base/text.h"

namespace moorfs::log {
namespace {

std::atomic<Level> g_level{Level::kInfo};
std::string g_role = "moorfs";

}  // namespace

void SetRole(std::string_view role) { g_role = role; }
void SetLevel(Level level) { g_level = level; }
Level GetLevel() { return g_level.load(std::memory_order_relaxed); }

bool ParseLevel(std::string_view text, Level* level) {
  if (text == "debug") *level = Level::kDebug;
  else if (text == "info") *level = Level::kInfo;
  else if (text == "warning") *level = Level::kWarning;
  else if (text == "error") *level = Level::kError;
  else return false;
  return true;
}

void Write(Level level, std::string_view component, std::string_view message) {
  timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  tm utc;
  gmtime_r(&ts.tv_sec, &utc);
  char head[64];
  const size_t n = strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(head + n, sizeof head - n, ".%03ldZ %c ", ts.tv_nsec / 1'000'000,
                "DIWE"[static_cast<int>(level)]);
  std::string line = head;
  line.append(g_role).append(" ").append(component).append(": ");
  AppendPrintable(message, &line);
  line += '\n';
  // A log that cannot be written must not take the file system down with it.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace moorfs::log
