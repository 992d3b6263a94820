// SPDX-License-Identifier: Apache-2.0

#include "common/os/mountinfo.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>

#include "common/os/file.h"

namespace moorfs::os {
namespace {

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

// The kernel writes space, tab, newline, backslash and '#' as \ooo.
std::string Unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && IsOctal(text[i + 1]) && IsOctal(text[i + 2]) &&
        IsOctal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

template <typename T>
bool ParseNumber(std::string_view text, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// Fields are separated by exactly one space; an empty field is an empty one.
std::vector<std::string_view> Split(std::string_view line) {
  std::vector<std::string_view> fields;
  for (;;) {
    const size_t space = line.find(' ');
    fields.push_back(line.substr(0, space));
    if (space == std::string_view::npos) return fields;
    line.remove_prefix(space + 1);
  }
}

bool ParseLine(std::string_view line, MountEntry* out) {
  const std::vector<std::string_view> f = Split(line);
  if (f.size() < 10) return false;
  if (!ParseNumber(f[0], &out->id) || !ParseNumber(f[1], &out->parent)) return false;
  const size_t colon = f[2].find(':');
  if (colon == std::string_view::npos || !ParseNumber(f[2].substr(0, colon), &out->major) ||
      !ParseNumber(f[2].substr(colon + 1), &out->minor)) {
    return false;
  }
  out->root = Unescape(f[3]);
  out->mountpoint = Unescape(f[4]);
  out->options = f[5];
  size_t i = 6;
  for (; i < f.size() && f[i] != "-"; ++i) {
    if (f[i].starts_with("shared:")) out->shared = true;
  }
  if (f.size() - i < 4) return false;
  out->fstype = Unescape(f[i + 1]);
  out->source = Unescape(f[i + 2]);
  out->super_options = f[i + 3];
  return true;
}

}  // namespace

Result<std::vector<MountEntry>> ParseMountInfo(std::string_view text) {
  std::vector<MountEntry> mounts;
  for (int number = 1; !text.empty(); ++number) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
    MountEntry entry;
    if (!ParseLine(line, &entry)) {
      return Error(EPROTO, "read the mount table: line " + std::to_string(number) + " has an unknown shape");
    }
    mounts.push_back(std::move(entry));
  }
  return mounts;
}

Result<std::vector<MountEntry>> ReadMountInfo() {
  ASSIGN_OR_RETURN(const std::string text, ReadFile("/proc/self/mountinfo", 64 << 20));
  return ParseMountInfo(text);
}

std::optional<MountEntry> FindMountAt(const std::vector<MountEntry>& mounts, std::string_view path) {
  // Later lines lie on top of earlier ones at the same path.
  for (auto it = mounts.rbegin(); it != mounts.rend(); ++it) {
    if (it->mountpoint == path) return *it;
  }
  return std::nullopt;
}

std::optional<MountEntry> FindDevice(const std::vector<MountEntry>& mounts, uint32_t major, uint32_t minor) {
  for (const MountEntry& m : mounts) {
    if (m.major == major && m.minor == minor) return m;
  }
  return std::nullopt;
}

Result<std::string> CanonicalPath(std::string_view path) {
  std::string text(path);
  if (text.empty()) return Error(EINVAL, "resolve an empty path: a path is needed");
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  const size_t slash = text.rfind('/');
  const std::string name = slash == std::string::npos ? text : text.substr(slash + 1);
  std::string parent = slash == std::string::npos ? "." : (slash == 0 ? "/" : text.substr(0, slash));
  const bool special = name.empty() || name == "." || name == "..";
  char buffer[PATH_MAX];
  if (realpath((special ? text : parent).c_str(), buffer) == nullptr) {
    return Error(Status::FromErrno("resolve " + text));
  }
  if (special) return std::string(buffer);
  std::string out = buffer;
  if (out.back() != '/') out += '/';
  out += name;
  // A symlink as last component cannot be a mount point; follow it. readlink
  // asks only the parent's file system about a symlink, and answers EINVAL or
  // ENOTCONN for anything else.
  char link[PATH_MAX];
  if (readlink(out.c_str(), link, sizeof link) > 0) {
    if (realpath(out.c_str(), buffer) == nullptr) return Error(Status::FromErrno("resolve " + text));
    return std::string(buffer);
  }
  return out;
}

}  // namespace moorfs::os
