// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/output.h"

#include <unistd.h>

#include <cstdio>

#include "common/base/units.h"

namespace moorfs::admin {
namespace {

// Plain progress lines of one kind come no faster than this.
constexpr int64_t kPlainIntervalNs = 2'000'000'000;

// "storing 12.0 MiB" and "storing 8.0 MiB" are of one kind.
std::string_view KindOf(std::string_view text) { return text.substr(0, text.find_first_of("0123456789")); }

}  // namespace

Output::Output() : terminal_(isatty(STDERR_FILENO) == 1) {}

Output::~Output() { EndProgress(); }

void Output::EndProgress() {
  if (in_progress_) std::fputc('\n', stderr);
  in_progress_ = false;
}

void Output::Line(std::string_view text) {
  EndProgress();
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

void Output::Progress(std::string_view text) {
  if (text == last_progress_) return;
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%.*s", static_cast<int>(text.size()), text.data());
    std::fflush(stderr);
    in_progress_ = true;
  } else {
    const int64_t now = MonotonicNs();
    if (KindOf(text) == KindOf(last_progress_) && now - last_progress_ns_ < kPlainIntervalNs) return;
    last_progress_ns_ = now;
    std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
  }
  last_progress_ = text;
}

void Output::Note(std::string_view text) {
  EndProgress();
  std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

void Output::Error(std::string_view command, const Status& status) {
  EndProgress();
  std::fprintf(stderr, "moorfs %.*s: %s\n", static_cast<int>(command.size()), command.data(),
               Printable(status.message()).c_str());
}

}  // namespace moorfs::admin
