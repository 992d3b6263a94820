// SPDX-License-Identifier: Apache-2.0

#include "flex/answer.h"

#include <nlohmann/json.hpp>

#include "common/base/text.h"

namespace moorfs::flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxMessage = 500;
// A shorter one would be found in any sentence.
constexpr size_t kMinSecret = 4;

Answer Make(const Json& json, int exit_code) {
  return {json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n", exit_code};
}

std::string StrikeOut(std::string text, const std::map<std::string, std::string>& secrets) {
  for (const auto& [name, value] : secrets) {
    if (value.size() < kMinSecret) continue;
    for (size_t at; (at = text.find(value)) != std::string::npos;) text.replace(at, value.size(), "***");
  }
  return text;
}

std::string Shortened(std::string text) {
  if (text.size() <= kMaxMessage) return text;
  size_t cut = kMaxMessage;
  // Not inside a character.
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;
  return text.substr(0, cut) + "…";
}

}  // namespace

Answer Success() { return Make({{"status", "Success"}}, 0); }

Answer Resized(uint64_t bytes) { return Make({{"status", "Success"}, {"volumeNewSize", bytes}}, 0); }

Answer Capabilities() {
  return Make({{"status", "Success"},
               {"capabilities",
                {{"attach", false},
                 {"selinuxRelabel", false},
                 {"supportsMetrics", false},
                 {"fsGroup", false},
                 {"requiresFSResize", false}}}},
              0);
}

Answer Version() { return Make({{"status", "Success"}, {"version", MOORFS_VERSION}}, 0); }

Answer NotSupported() { return Make({{"status", "Not supported"}}, 0); }

Answer Failure(const Status& status, const std::map<std::string, std::string>& secrets) {
  const std::string message = Shortened(Printable(StrikeOut(status.message(), secrets)));
  return Make({{"status", "Failure"}, {"message", message}}, 1);
}

}  // namespace moorfs::flex
