// SPDX-License-Identifier: Apache-2.0
//
// See ledger.h.

#include "test/storm/ledger.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

namespace moorfs::storm {
namespace {

uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// The whole file, or an error text.
std::string ReadFile(const std::string& path, std::string* error) {
  int fd = open(path.c_str(), O_RDONLY);
  if (fd < 0) {
    *error = std::string("open: ") + strerror(errno);
    return {};
  }
  std::string data;
  char buffer[65536];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) data.append(buffer, static_cast<size_t>(n));
  if (n < 0) *error = std::string("read at ") + std::to_string(data.size()) + ": " + strerror(errno);
  close(fd);
  return data;
}

struct Promises {
  std::map<std::string, std::map<uint32_t, uint32_t>> blocks;
  std::map<std::string, std::pair<uint64_t, uint64_t>> appended;
  std::map<std::string, std::pair<uint64_t, uint64_t>> kept;
  std::map<std::string, uint64_t> versions;
  uint64_t count = 0;
};

Promises Load(const std::string& path, uint64_t limit) {
  Promises all;
  std::ifstream in(path);
  std::string line, kind, file;
  uint64_t at = 0;
  while (std::getline(in, line)) {
    at += line.size() + 1;
    if (limit && at > limit) break;
    std::istringstream fields(line);
    uint64_t first = 0, second = 0;
    fields >> kind >> file >> first >> second;
    ++all.count;
    if (kind == "b") {
      uint32_t& generation = all.blocks[file][static_cast<uint32_t>(first)];
      generation = std::max(generation, static_cast<uint32_t>(second));
    } else if (kind == "a") {
      all.appended[file] = std::max(all.appended[file], std::pair(first, second));
    } else if (kind == "k") {
      all.kept[file] = {first, second};
    } else if (kind == "v") {
      all.versions[file] = std::max(all.versions[file], first);
    }
  }
  return all;
}

// Files end in their number, which is part of their content.
uint32_t NumberOf(const std::string& file) {
  return static_cast<uint32_t>(strtoul(file.c_str() + file.find_last_of('-') + 1, nullptr, 10));
}

}  // namespace

Ledger::Ledger(const std::string& path) {
  if (!path.empty()) fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

Ledger::~Ledger() {
  if (fd_ >= 0) close(fd_);
}

void Ledger::Promise(const std::string& lines) {
  if (fd_ < 0 || lines.empty()) return;
  std::lock_guard lock(mutex_);
  if (write(fd_, lines.data(), lines.size()) != static_cast<ssize_t>(lines.size())) {
    perror("storm: writing the ledger");
    _exit(2);
  }
}

void FillBlock(char* out, uint32_t file, uint32_t block, uint32_t generation) {
  uint64_t key = Mix((uint64_t{file} << 32) ^ block);
  for (size_t at = 0; at < kBlock; at += 16) {
    uint64_t words[2] = {generation, Mix(key ^ (uint64_t{generation} << 16) ^ at)};
    memcpy(out + at, words, 16);
  }
}

int64_t CheckBlock(const char* data, uint32_t file, uint32_t block) {
  if (std::all_of(data, data + kBlock, [](char c) { return c == 0; })) return 0;
  uint64_t generation;
  memcpy(&generation, data, 8);
  char expected[kBlock];
  FillBlock(expected, file, block, static_cast<uint32_t>(generation));
  return generation && memcmp(data, expected, kBlock) == 0 ? static_cast<int64_t>(generation) : -1;
}

std::string AppendRecord(uint32_t file, uint64_t sequence) {
  uint64_t random = Mix((uint64_t{file} << 40) ^ sequence);
  return std::to_string(file) + ":" + std::to_string(sequence) + ":" + Content(random, 20 + random % 3000) + "\n";
}

std::string Content(uint64_t seed, size_t size) {
  std::string data(size, '\0');
  for (size_t at = 0; at < size; at += 8) {
    uint64_t word = Mix(seed + at);
    memcpy(data.data() + at, &word, std::min<size_t>(8, size - at));
  }
  return data;
}

std::vector<std::string> VerifyLedger(const std::string& ledger, uint64_t limit, const std::string& root,
                                      uint64_t* promises) {
  Promises all = Load(ledger, limit);
  *promises = all.count;
  std::vector<std::string> broken;
  auto check = [&](const std::string& file, auto&& compare) {
    std::string error, data = ReadFile(root + "/" + file, &error);
    if (error.empty()) error = compare(data);
    if (!error.empty()) broken.push_back(file + ": " + error);
  };
  for (const auto& [file, blocks] : all.blocks) {
    check(file, [&, &name = file, &wanted = blocks](const std::string& data) -> std::string {
      for (auto [block, generation] : wanted) {
        std::string where = "block " + std::to_string(block) + ", generation " + std::to_string(generation) + " fsynced: ";
        if (data.size() < (block + size_t{1}) * kBlock) return where + "behind the end of the file";
        int64_t found = CheckBlock(data.data() + block * kBlock, NumberOf(name), block);
        if (found < generation) return where + (found < 0 ? "wrong data" : "found " + std::to_string(found));
      }
      return {};
    });
  }
  for (const auto& [file, size] : all.appended) {
    check(file, [&, &name = file, &wanted = size](const std::string& data) -> std::string {
      if (data.size() < wanted.second) {
        return std::to_string(wanted.second) + " bytes fsynced, " + std::to_string(data.size()) + " there";
      }
      size_t at = 0;
      for (uint64_t sequence = 0; sequence < wanted.first; ++sequence) {
        std::string record = AppendRecord(NumberOf(name), sequence);
        if (data.compare(at, record.size(), record)) {
          return "record " + std::to_string(sequence) + " of " + std::to_string(wanted.first) + " is wrong";
        }
        at += record.size();
      }
      return {};
    });
  }
  for (const auto& [file, what] : all.kept) {
    check(file, [&wanted = what](const std::string& data) -> std::string {
      if (data.size() != wanted.first) return "size " + std::to_string(data.size()) + ", fsynced " + std::to_string(wanted.first);
      return data == Content(wanted.second, wanted.first) ? "" : "content differs from what was fsynced";
    });
  }
  for (const auto& [file, version] : all.versions) {
    check(file, [&wanted = version](const std::string& data) -> std::string {
      uint64_t found = strtoull(data.c_str(), nullptr, 10);
      if (found < wanted) return "version " + std::to_string(found) + ", fsynced " + std::to_string(wanted);
      std::string head = std::to_string(found) + "\n";
      return data == head + Content(found, 1000 + found % 20000) ? "" : "torn replacement, version " + std::to_string(found);
    });
  }
  return broken;
}

}  // namespace moorfs::storm
