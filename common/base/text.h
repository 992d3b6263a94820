// SPDX-License-Identifier: Apache-2.0
//
// Foreign text (file names, error texts of others) made fit for a terminal or
// a log: control characters become \xNN, so that they cannot move the cursor
// or fake a line.

#pragma once

#include <string>
#include <string_view>

namespace moorfs {

void AppendPrintable(std::string_view text, std::string* out);
std::string Printable(std::string_view text);
// A URL as it may be shown: "redis://user:secret@host" loses the secret.
std::string RedactUrl(std::string_view url);

}  // namespace moorfs
