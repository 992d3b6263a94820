// SPDX-License-Identifier: Apache-2.0

#include "common/config/quantity.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>

#include "common/config/shown.h"

namespace moorfs::config {
namespace {

constexpr size_t kMaxLabel = 63, kMaxSubdomain = 253;

bool IsLower(unsigned char c) { return c >= 'a' && c <= 'z'; }
bool IsDigit(unsigned char c) { return c >= '0' && c <= '9'; }
bool IsAlnum(unsigned char c) { return IsLower(c) || IsDigit(c) || (c >= 'A' && c <= 'Z'); }

struct Suffix {
  std::string_view text;
  double factor;
};
constexpr Suffix kSuffixes[] = {
    {"", 1},       {"n", 1e-9},   {"u", 1e-6},        {"m", 1e-3},
    {"k", 1e3},    {"M", 1e6},    {"G", 1e9},         {"T", 1e12},
    {"P", 1e15},   {"E", 1e18},   {"Ki", 1024.0},     {"Mi", 1048576.0},
    {"Gi", 1073741824.0},         {"Ti", 1099511627776.0},
    {"Pi", 1125899906842624.0},   {"Ei", 1152921504606846976.0},
};

std::optional<double> FactorOf(std::string_view suffix) {
  for (const Suffix& each : kSuffixes) {
    if (each.text == suffix) return each.factor;
  }
  // "e3", "E-3"
  if (suffix.size() < 2 || (suffix[0] != 'e' && suffix[0] != 'E')) return std::nullopt;
  suffix.remove_prefix(suffix[1] == '+' ? 2 : 1);
  int exponent = 0;
  const auto [end, error] = std::from_chars(suffix.data(), suffix.data() + suffix.size(), exponent);
  if (error != std::errc() || end != suffix.data() + suffix.size() || std::abs(exponent) > 18) return std::nullopt;
  return std::pow(10.0, exponent);
}

}  // namespace

Result<double> ParseQuantity(std::string_view text) {
  const auto wrong = [&] {
    return Error(EINVAL, "\"" + Shown(text) + "\" is no quantity; write it like 128Mi, 2Gi, 500m or 1.5");
  };
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view number = text.substr(0, digits);
  // Sixteen digits are more than anybody has of anything.
  if (number.empty() || number == "." || number.size() > 16 || std::count(number.begin(), number.end(), '.') > 1) {
    return wrong();
  }
  const auto factor = FactorOf(text.substr(digits));
  if (!factor) return wrong();
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != number.data() + number.size()) return wrong();
  return value * *factor;
}

bool IsDnsLabel(std::string_view text) {
  const auto fits = [](unsigned char c) { return IsLower(c) || IsDigit(c) || c == '-'; };
  return !text.empty() && text.size() <= kMaxLabel && std::all_of(text.begin(), text.end(), fits) &&
         text.front() != '-' && text.back() != '-';
}

bool IsDnsSubdomain(std::string_view text) {
  if (text.size() > kMaxSubdomain) return false;
  for (;;) {
    const size_t dot = text.find('.');
    const std::string_view label = text.substr(0, dot);
    // Labels of a subdomain may be longer than one that stands alone.
    const auto fits = [](unsigned char c) { return IsLower(c) || IsDigit(c) || c == '-'; };
    if (label.empty() || !std::all_of(label.begin(), label.end(), fits) || label.front() == '-' || label.back() == '-') {
      return false;
    }
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

bool IsLabelValue(std::string_view text) {
  const auto fits = [](unsigned char c) { return IsAlnum(c) || c == '-' || c == '_' || c == '.'; };
  return text.empty() ||
         (text.size() <= kMaxLabel && std::all_of(text.begin(), text.end(), fits) &&
          IsAlnum(static_cast<unsigned char>(text.front())) && IsAlnum(static_cast<unsigned char>(text.back())));
}

bool IsLabelKey(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash != std::string_view::npos) {
    if (!IsDnsSubdomain(text.substr(0, slash))) return false;
    text.remove_prefix(slash + 1);
  }
  return !text.empty() && IsLabelValue(text);
}

}  // namespace moorfs::config
