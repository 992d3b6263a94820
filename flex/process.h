// SPDX-License-Identifier: Apache-2.0
//
// What a child of kubelet does before anything else: hide the Secrets in its
// argv, keep no descriptor but its own three, and make sure that nothing but
// the answer is ever written to them.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs::flex {

// Copies argv and overwrites the JSON in it, which `ps` shows to everybody.
std::vector<std::string> TakeArguments(int argc, char** argv);
// 0 and 2 become /dev/null (kubelet reads stdout and stderr as one text, and a
// library's warning in it is a failed call), 1 stays, all others are closed.
// No core file: it would hold Secrets.
void CleanProcess();
// The one value, in as few write(2) as the pipe takes.
void WriteStdout(std::string_view text);

// Replaces this process by `program ROLE` with `input` on its stdin: Secrets
// never go through argv. Returns only when that failed.
Status BecomeProgram(const std::string& program, const char* role, std::string_view input);
// An installed full moorfs; ENOENT names the places.
Result<std::string> FindFullProgram();

}  // namespace moorfs::flex
