// SPDX-License-Identifier: Apache-2.0
//
// What a command says: results on stdout, everything else on stderr. Progress
// overwrites itself on a terminal and is a plain line otherwise.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/base/text.h"

namespace moorfs::admin {

class Output {
 public:
  Output();
  ~Output();
  // A line of the result.
  void Line(std::string_view text);
  // How far the work is. Repeats of one text are dropped.
  void Progress(std::string_view text);
  // A sentence that does not belong to the result.
  void Note(std::string_view text);
  void Error(std::string_view command, const Status& status);

 private:
  void EndProgress();
  bool terminal_;
  bool in_progress_ = false;
  std::string last_progress_;
  int64_t last_progress_ns_ = 0;
};


}  // namespace moorfs::admin
