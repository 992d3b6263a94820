// SPDX-License-Identifier: Apache-2.0
//
// An application that notices everything: writes blocks that carry their file, index,
// version and checksum, reads them back and compares every byte, overwrites, appends,
// truncates, renames, makes and removes files and directories, fsyncs now and then.
//   writer --dir DIR [--seconds N] [--files N] [--pause-us N] [--seed N]
// SIGUSR1 prints a line about the time since the last one and begins a new interval;
// SIGTERM (or the end of --seconds) verifies everything once more and prints one about
// the whole run, {"operations", "errors", "longest_stall_ms", "bytes", …}. The exit
// status is 1 when any call failed or any byte was wrong. A failed call is counted, the
// files are opened anew and it goes on, so that the length of an outage is seen.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <vector>

namespace {

volatile sig_atomic_t stop_asked = 0;
volatile sig_atomic_t mark_asked = 0;

double Now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

struct Interval {
  double began = Now();
  uint64_t operations = 0, errors = 0, wrong_bytes = 0, bytes = 0;
  double longest_stall = 0, first_error = 0, last_error = 0;
  std::string stalled_in;
  std::map<std::string, uint64_t> causes;  // "write ENOTCONN"

  void Print(const char* kind) const {
    std::string text;
    for (const auto& [cause, count] : causes) {
      text += (text.empty() ? "\"" : ", \"") + cause + "\": " + std::to_string(count);
    }
    // How long the application saw errors: from the first to the last.
    double outage = errors == 0 ? 0 : last_error - first_error;
    printf("{\"kind\": \"%s\", \"operations\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"wrong_bytes\": %" PRIu64
           ", \"longest_stall_ms\": %.1f, \"stalled_in\": \"%s\", \"outage_ms\": %.0f, \"bytes\": %" PRIu64
           ", \"seconds\": %.1f, \"causes\": {%s}}\n",
           kind, operations, errors, wrong_bytes, longest_stall, stalled_in.c_str(), outage, bytes,
           (Now() - began) / 1e3, text.c_str());
    fflush(stdout);
  }
};

const char* ErrnoName(int error) {
  const char* name = strerrorname_np(error);
  return name == nullptr ? "E?" : name;
}

// Counts into two intervals at once: the whole run, and since the last mark.
struct Account {
  Interval whole, recent;

  void Done(const char* call, double took, uint64_t bytes) {
    for (Interval* each : {&whole, &recent}) {
      ++each->operations;
      each->bytes += bytes;
      if (took > each->longest_stall) {
        each->longest_stall = took;
        each->stalled_in = call;
      }
    }
  }
  void Failed(const std::string& cause, bool wrong) {
    double now = Now();
    for (Interval* each : {&whole, &recent}) {
      if (each->errors++ == 0) each->first_error = now;
      each->last_error = now;
      each->wrong_bytes += wrong ? 1 : 0;
      ++each->causes[cause];
    }
  }
  void Mark() {
    recent.Print("mark");
    recent = Interval();
  }
};

Account account;

// One call, timed and counted; false: it failed.
template <typename Call>
bool Timed(const char* name, uint64_t bytes, Call call) {
  double began = Now();
  auto result = call();
  int error = errno;
  account.Done(name, Now() - began, result >= 0 ? bytes : 0);
  if (result >= 0 && (bytes == 0 || static_cast<uint64_t>(result) == bytes)) return true;
  account.Failed(std::string(name) + (result < 0 ? std::string(" ") + ErrnoName(error) : " short"), false);
  return false;
}

constexpr size_t kBlock = 8192;
constexpr uint64_t kMagic = 0x4d6f6f7246533031;
constexpr int kMaxBlocks = 96;

struct Header {
  uint64_t magic, file, index, version, checksum;
};

void FillBlock(uint8_t* out, uint64_t file, uint64_t index, uint64_t version) {
  uint64_t x = (file * 1'000'003 + index) * 1'000'003 + version + 1, sum = 0;
  for (size_t i = sizeof(Header); i < kBlock; i += 8) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    memcpy(out + i, &x, 8);
    sum = sum * 31 + x;
  }
  Header header{kMagic, file, index, version, sum};
  memcpy(out, &header, sizeof header);
}

class File {
 public:
  File(std::string dir, uint64_t id) : dir_(std::move(dir)), id_(id) {}

  bool Open() {
    Close();
    return Timed("open", 0, [&] { return fd_ = open(Path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644); });
  }
  // Waits for the file system like every other call: it flushes.
  void Close() {
    if (fd_ >= 0) Timed("close", 0, [&] { return close(fd_); });
    fd_ = -1;
  }
  bool Start() {
    for (auto& each : blocks_) each.possible = ~0ULL;  // if this fails, nobody knows
    if (!Open() || !Timed("ftruncate", 0, [&] { return ftruncate(fd_, 0); })) return false;
    blocks_.clear();
    return true;
  }
  bool Write(uint64_t index, uint64_t version) {
    if (fd_ < 0 && !Open()) return false;
    FillBlock(buffer_, id_, index, version);
    if (index >= blocks_.size()) blocks_.resize(index + 1);
    blocks_[index].possible = version;  // until it is known, either is right
    bool ok = Timed("write", kBlock, [&] { return pwrite(fd_, buffer_, kBlock, static_cast<off_t>(index * kBlock)); });
    if (ok) blocks_[index].certain = version;
    return ok;
  }
  bool Read(uint64_t index) {
    if (fd_ < 0 && !Open()) return false;
    Block& block = blocks_[index];
    bool unsure = block.certain != block.possible;
    double began = Now();
    ssize_t got = pread(fd_, buffer_, kBlock, static_cast<off_t>(index * kBlock));
    int error = errno;
    account.Done("read", Now() - began, got > 0 ? static_cast<uint64_t>(got) : 0);
    if (got < 0) {
      account.Failed(std::string("read ") + ErrnoName(error), false);
      return false;
    }
    if (unsure) return true;  // a write of it failed: whatever is there is allowed
    FillBlock(expected_, id_, index, block.certain);
    if (got == static_cast<ssize_t>(kBlock) && memcmp(buffer_, expected_, kBlock) == 0) return true;
    account.Failed(got == static_cast<ssize_t>(kBlock) ? "wrong bytes" : "file too short", true);
    fprintf(stderr, "file %" PRIu64 " block %" PRIu64 ": %zd bytes, wanted version %" PRIu64 "\n", id_, index, got,
            block.certain);
    return false;
  }
  bool Sync() { return fd_ >= 0 && Timed("fsync", 0, [&] { return fsync(fd_); }); }
  bool Rename() {
    std::string from = Path();
    renamed_ = !renamed_;
    if (Timed("rename", 0, [&] { return rename(from.c_str(), Path().c_str()); })) return true;
    bool there = false;
    Timed("access", 0, [&] { return (there = access(Path().c_str(), F_OK) == 0) || errno == ENOENT ? 0 : -1; });
    if (!there) renamed_ = !renamed_;
    return false;
  }
  bool VerifyAll() {
    if (!Open()) return false;
    for (uint64_t i = 0; i < blocks_.size(); ++i) {
      if (!Read(i)) return false;
    }
    return true;
  }
  uint64_t size() const { return blocks_.size(); }

 private:
  struct Block {
    uint64_t certain = 0, possible = 0;
  };
  std::string Path() const { return dir_ + "/file." + std::to_string(id_) + (renamed_ ? ".renamed" : ""); }

  std::string dir_;
  uint64_t id_;
  int fd_ = -1;
  bool renamed_ = false;
  std::vector<Block> blocks_;
  alignas(8) uint8_t buffer_[kBlock], expected_[kBlock];
};

// A file made, closed, looked at and removed again; now and then a directory.
bool MakeAndRemove(const std::string& dir, uint64_t number) {
  std::string name = dir + "/new." + std::to_string(number);
  if (number % 4 == 0) {
    return Timed("mkdir", 0, [&] { return mkdir(name.c_str(), 0755); }) &&
           Timed("rmdir", 0, [&] { return rmdir(name.c_str()); });
  }
  int fd = -1;
  if (!Timed("create", 0, [&] { return fd = open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600); })) return false;
  bool ok = Timed("write", 6, [&] { return write(fd, "moorfs", 6); });
  ok = Timed("close", 0, [&] { return close(fd); }) && ok;
  struct stat info {};
  ok = Timed("stat", 0, [&] { return stat(name.c_str(), &info); }) && ok;
  if (ok && info.st_size != 6) account.Failed("wrong size", true);
  return Timed("unlink", 0, [&] { return unlink(name.c_str()); }) && ok;
}

struct Options {
  std::string dir;
  double seconds = 0;
  uint64_t files = 4, pause_us = 2000, seed = 1;
};

bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    std::string name = argv[i];
    if (name == "--dir") options->dir = argv[i + 1];
    else if (name == "--seconds") options->seconds = atof(argv[i + 1]);
    else if (name == "--files") options->files = strtoull(argv[i + 1], nullptr, 10);
    else if (name == "--pause-us") options->pause_us = strtoull(argv[i + 1], nullptr, 10);
    else if (name == "--seed") options->seed = strtoull(argv[i + 1], nullptr, 10);
    else return false;
  }
  return argc % 2 == 1 && !options->dir.empty() && options->files > 0;
}

class Worker {
 public:
  explicit Worker(const Options& options) : options_(options), random_(options.seed * 2'654'435'761 + 1) {
    for (uint64_t i = 0; i < options.files; ++i) files_.emplace_back(options.dir, i);
  }
  void Start() {
    for (auto& each : files_) each.Start();
  }
  void Step() {
    File& file = files_[Random(files_.size())];
    uint64_t what = Random(100);
    bool ok = true;
    if (what < 40 && file.size() < kMaxBlocks) ok = file.Write(file.size(), ++version_);
    else if (what < 55 && file.size() > 0) ok = file.Write(Random(file.size()), ++version_);
    else if (what < 85 && file.size() > 0) ok = file.Read(Random(file.size()));
    else if (what < 90) ok = file.Sync() || file.Open();
    else if (what < 93) ok = file.Rename();
    else if (what < 98) ok = MakeAndRemove(options_.dir, ++number_);
    else if (file.size() >= kMaxBlocks) ok = file.VerifyAll() && file.Start();
    else ok = file.Open();
    // Its descriptors may be of a mount that is gone; a descriptor opened now is not.
    if (!ok) {
      for (auto& each : files_) each.Close();
      usleep(10'000);
    }
  }
  void End() {
    for (auto& each : files_) {
      if (each.size() > 0) each.VerifyAll();
    }
  }

 private:
  uint64_t Random(uint64_t below) {
    random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
    return random_ % below;
  }
  Options options_;
  uint64_t random_, version_ = 0, number_ = 0;
  std::vector<File> files_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) {
    fprintf(stderr, "writer --dir DIR [--seconds N] [--files N] [--pause-us N] [--seed N]\n");
    return 2;
  }
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = [](int) { stop_asked = 1; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = [](int) { mark_asked = 1; };
  sigaction(SIGUSR1, &action, nullptr);
  Worker worker(options);
  double end = options.seconds > 0 ? Now() + options.seconds * 1e3 : 0;
  worker.Start();
  printf("{\"kind\": \"started\"}\n");
  fflush(stdout);
  while (!stop_asked && (end == 0 || Now() < end)) {
    worker.Step();
    if (mark_asked) {
      mark_asked = 0;
      account.Mark();
    }
    if (options.pause_us > 0) usleep(static_cast<useconds_t>(options.pause_us));
  }
  worker.End();
  account.whole.Print("total");
  return account.whole.errors == 0 ? 0 : 1;
}
