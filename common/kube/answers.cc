// SPDX-License-Identifier: Apache-2.0

#include "common/kube/answers.h"

#include <algorithm>

#include "common/base/text.h"

namespace moorfs::kube {
namespace {

bool IsLowerAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool IsSubdomain(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  bool inside = false;  // a label has begun
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool edge = i + 1 == name.size() || name[i + 1] == '.';
    if (c == '.') {
      if (!inside) return false;
      inside = false;
    } else if (IsLowerAlnum(c) || (c == '-' && inside && !edge)) {
      inside = true;
    } else {
      return false;
    }
  }
  return inside;
}

int ErrnoOf(int http_status, std::string_view reason, std::string_view message) {
  switch (http_status) {
    case 400:
    case 405:
    case 413:
    case 415:
    case 422:
      return EINVAL;
    case 401:
      return EKEYREJECTED;
    case 403:
      return message.find("exceeded quota") != std::string_view::npos ? EDQUOT : EPERM;
    case 404:
      return ENOENT;
    case 409:
      return reason == "AlreadyExists" ? EEXIST : kErrnoConflict;
    case 410:
      return ESTALE;
    default:
      return IsPassing(http_status) ? EHOSTUNREACH : EPROTO;
  }
}

}  // namespace

bool IsPassing(int http_status) {
  return http_status == 408 || http_status == 429 || http_status >= 500;
}

Status StatusOf(const http::Response& response, std::string_view what) {
  const Json body = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  std::string message = StringMember(body, "message");
  const std::string reason = StringMember(body, "reason");
  const int err = ErrnoOf(response.status, reason, message);
  if (message.empty() && !body.is_object()) message = response.body;  // a proxy's words, as far as there are any
  if (message.empty()) message = reason;
  std::string text(what);
  text += ": the API server answered " + std::to_string(response.status);
  if (!message.empty()) text += ": " + Quoted(message);
  if (err == EPERM) text += "; the service account lacks the right (see the Role in MoorFS's manifests)";
  if (err == EKEYREJECTED) text += "; the service account's token is not accepted";
  return Status(err, std::move(text));
}

std::string Quoted(std::string_view text) {
  constexpr size_t kMost = 1000;
  if (text.size() <= kMost) return Printable(text);
  size_t end = kMost;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return Printable(text.substr(0, end)) + "…";
}

std::string QueryEscape(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'A' && c <= 'Z') || IsLowerAlnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

const Json& Member(const Json& object, const char* name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

std::string StringMember(const Json& object, const char* name) {
  const Json& value = Member(object, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

Result<std::string> ObjectPath(std::string_view collection, std::string_view name) {
  if (!IsSubdomain(name)) {
    return Error(EINVAL, "name an object in " + std::string(collection) + ": \"" + Quoted(name) +
                             "\" is no DNS subdomain (a-z, 0-9, '-' and '.', at most 253)");
  }
  return std::string(collection) + "/" + std::string(name);
}

}  // namespace moorfs::kube
