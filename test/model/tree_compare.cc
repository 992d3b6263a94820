// SPDX-License-Identifier: Apache-2.0
//
// See tree_compare.h. Contents of big sparse files are compared where the
// reference has data, and sampled at the edges of its holes.

#include "test/model/tree_compare.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

namespace moorfs::model {
namespace {

constexpr time_t kOldest = 1'000'000'000;  // September 2001
constexpr uint64_t kStep = 1 << 20;
constexpr uint64_t kReadWhole = 8 << 20;
constexpr uint64_t kHoleSample = 64 << 10;

// Set-group-id without group execute marked mandatory locks once. Whether a
// foreign write clears it depends on the writer's groups, which no FUSE server
// is told: either is right.
mode_t Known(mode_t mode) { return S_ISREG(mode) && !(mode & S_IXGRP) ? mode & ~static_cast<mode_t>(S_ISGID) : mode; }

bool Old(const timespec& time) { return time.tv_sec < kOldest; }

std::set<std::string> Names(const std::string& path, int* error) {
  std::set<std::string> names;
  DIR* dir = opendir(path.c_str());
  *error = dir ? 0 : errno;
  if (!dir) return names;
  for (errno = 0; dirent* entry = readdir(dir); errno = 0) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (!names.insert(name).second) *error = EEXIST;  // listed twice
  }
  if (errno) *error = errno;
  closedir(dir);
  return names;
}

std::string ListXattrs(const std::string& path) {
  char names[4096];
  ssize_t n = llistxattr(path.c_str(), names, sizeof names);
  if (n < 0) return std::string("llistxattr: ") + strerror(errno);
  std::set<std::string> sorted;
  for (ssize_t i = 0; i < n; i += static_cast<ssize_t>(strlen(names + i)) + 1) sorted.insert(names + i);
  std::string all;
  for (const std::string& name : sorted) {
    char value[4096];
    ssize_t length = lgetxattr(path.c_str(), name.c_str(), value, sizeof value);
    all += name + "=";
    all += length < 0 ? strerror(errno) : std::string(value, static_cast<size_t>(length));
    all += ";";
  }
  return all;
}

std::string Printable(const std::string& raw) {
  std::string out;
  for (char c : raw) {
    if (c >= 32 && c < 127) {
      out += c;
    } else {
      char hex[8];
      snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
      out += hex;
    }
  }
  return out;
}

}  // namespace

std::string CompareStat(const struct stat& t, const struct stat& r) {
  std::string diff;
  auto check = [&](const char* field, auto a, auto b) {
    if (a != b) diff += std::string(field) + " " + std::to_string(a) + ", reference " + std::to_string(b) + "; ";
  };
  if (Known(t.st_mode) != Known(r.st_mode)) {
    char text[64];
    snprintf(text, sizeof text, "mode %o, reference %o; ", t.st_mode, r.st_mode);
    diff += text;
  }
  check("uid", t.st_uid, r.st_uid);
  check("gid", t.st_gid, r.st_gid);
  check("nlink", t.st_nlink, r.st_nlink);
  if (S_ISCHR(r.st_mode) || S_ISBLK(r.st_mode)) check("rdev", t.st_rdev, r.st_rdev);
  if (!S_ISDIR(r.st_mode)) check("size", t.st_size, r.st_size);
  if (Old(t.st_mtim) || Old(r.st_mtim)) {
    check("mtime", t.st_mtim.tv_sec, r.st_mtim.tv_sec);
    check("mtime ns", t.st_mtim.tv_nsec, r.st_mtim.tv_nsec);
  }
  return diff;
}

TreeCompare::TreeCompare(std::string tested, std::string reference)
    : tested_(std::move(tested)), reference_(std::move(reference)) {
  for (auto& buffer : buffer_) buffer.resize(kStep);
}

std::vector<Difference> TreeCompare::Run(size_t limit) {
  limit_ = limit;
  Directory("");
  return std::move(found_);
}

void TreeCompare::Add(const std::string& path, const std::string& what) {
  if (found_.size() < limit_) found_.push_back({path, what});
}

void TreeCompare::Directory(const std::string& path) {
  int tested_error = 0, reference_error = 0;
  auto tested = Names(tested_ + path, &tested_error);
  auto reference = Names(reference_ + path, &reference_error);
  if (tested_error != reference_error) {
    Add(path, "listing: " + std::string(strerror(tested_error)) + ", reference " + strerror(reference_error));
  }
  for (const auto& name : tested) {
    if (!reference.count(name)) Add(path + "/" + name, "listed, but not in the reference");
  }
  for (const auto& name : reference) {
    if (found_.size() >= limit_) return;
    if (!tested.count(name)) {
      Add(path + "/" + name, "not listed, but in the reference");
    } else {
      Node(path + "/" + name);
    }
  }
}

void TreeCompare::Node(const std::string& path) {
  ++files_;
  struct stat t, r;
  if (lstat((reference_ + path).c_str(), &r)) return Add(path, std::string("reference: ") + strerror(errno));
  if (lstat((tested_ + path).c_str(), &t)) return Add(path, std::string("listed, but lstat: ") + strerror(errno));
  std::string diff = CompareStat(t, r);
  if (!diff.empty()) Add(path, diff);
  auto [known, fresh] = identity_.emplace(r.st_ino, t.st_ino);
  if (!fresh && known->second != t.st_ino) Add(path, "hard links of one file have different inode numbers");
  Xattrs(path);
  if (S_ISDIR(r.st_mode)) {
    Directory(path);
  } else if (S_ISLNK(r.st_mode)) {
    char a[4096], b[4096];
    ssize_t n = readlink((tested_ + path).c_str(), a, sizeof a);
    ssize_t m = readlink((reference_ + path).c_str(), b, sizeof b);
    if (n != m || memcmp(a, b, static_cast<size_t>(std::max<ssize_t>(m, 0)))) Add(path, "symlink target differs");
  } else if (S_ISREG(r.st_mode) && t.st_size == r.st_size && fresh) {
    Content(path, static_cast<uint64_t>(r.st_size));
  }
}

void TreeCompare::Xattrs(const std::string& path) {
  std::string tested = ListXattrs(tested_ + path), reference = ListXattrs(reference_ + path);
  if (tested != reference) {
    Add(path, "xattrs " + Printable(tested) + "\n      reference " + Printable(reference));
  }
}

bool TreeCompare::Range(int tested, int reference, uint64_t offset, uint64_t length, const std::string& path) {
  for (uint64_t at = offset; at < offset + length; at += kStep) {
    size_t want = std::min<uint64_t>(kStep, offset + length - at);
    ssize_t n = pread(tested, buffer_[0].data(), want, static_cast<off_t>(at));
    int error = errno;
    ssize_t m = pread(reference, buffer_[1].data(), want, static_cast<off_t>(at));
    if (n < 0 || n != m) {
      Add(path, "read at " + std::to_string(at) + " gives " + std::to_string(n) +
                    (n < 0 ? std::string(" ") + strerror(error) : "") + ", reference " + std::to_string(m));
      return false;
    }
    bytes_ += want;
    if (!memcmp(buffer_[0].data(), buffer_[1].data(), static_cast<size_t>(n))) continue;
    auto [a, b] = std::mismatch(buffer_[0].begin(), buffer_[0].begin() + n, buffer_[1].begin());
    Add(path, "contents differ from offset " + std::to_string(at + static_cast<uint64_t>(a - buffer_[0].begin())) +
                  ": byte " + std::to_string(static_cast<unsigned char>(*a)) + ", reference " +
                  std::to_string(static_cast<unsigned char>(*b)));
    return false;
  }
  return true;
}

void TreeCompare::Content(const std::string& path, uint64_t size) {
  int tested = open((tested_ + path).c_str(), O_RDONLY | O_NOFOLLOW);
  if (tested < 0) return Add(path, std::string("open: ") + strerror(errno));
  int reference = open((reference_ + path).c_str(), O_RDONLY | O_NOFOLLOW);
  if (size <= kReadWhole) {
    Range(tested, reference, 0, size, path);
  } else {
    for (uint64_t at = 0; at < size;) {
      off_t found = lseek(reference, static_cast<off_t>(at), SEEK_DATA);
      uint64_t data = found < 0 ? size : static_cast<uint64_t>(found);
      if (data > at) {
        uint64_t sample = std::min(kHoleSample, data - at);
        if (!Range(tested, reference, at, sample, path)) break;
        if (!Range(tested, reference, data - sample, sample, path)) break;
      }
      if (data >= size) break;
      uint64_t hole = static_cast<uint64_t>(lseek(reference, static_cast<off_t>(data), SEEK_HOLE));
      if (!Range(tested, reference, data, hole - data, path)) break;
      at = hole;
    }
  }
  close(tested);
  close(reference);
}

}  // namespace moorfs::model
