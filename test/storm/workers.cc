// SPDX-License-Identifier: Apache-2.0
//
// See workers.h.

#include "test/storm/workers.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <thread>

namespace moorfs::storm {

void Report::Error(const std::string& worker, const std::string& what) {
  std::lock_guard lock(mutex_);
  ++errors_[worker + ": " + what];
}

void Report::Took(const std::string& call, double seconds) {
  if (seconds <= longest_.load(std::memory_order_relaxed)) return;
  std::lock_guard lock(mutex_);
  if (seconds <= longest_.load()) return;
  longest_ = seconds;
  longest_call_ = call;
}

uint64_t Report::errors() {
  std::lock_guard lock(mutex_);
  uint64_t sum = 0;
  for (const auto& [what, count] : errors_) sum += count;
  return sum;
}

std::map<std::string, uint64_t> Report::ErrorCounts() {
  std::lock_guard lock(mutex_);
  return errors_;
}

double Report::longest() { return longest_.load(); }

std::string Report::longest_call() {
  std::lock_guard lock(mutex_);
  return longest_call_;
}

void Report::ResetLongest() { longest_ = 0; }

template <typename Call>
int64_t Worker::Do(const char* what, Call call, int expected) {
  auto start = Clock::now();
  errno = 0;
  int64_t result = call();
  int error = result < 0 ? errno : 0;
  double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  shared_.report->CountCall();
  if (strcmp(what, "fsync")) shared_.report->Took(name_ + " " + what, seconds);
  if (error != expected) {
    Broken(std::string(what) + ": " + (error ? strerror(error) : "succeeded") +
           (expected ? std::string(", expected ") + strerror(expected) : ""));
  }
  return error == expected && !error ? result : -1;
}

namespace {

struct Aligned {
  Aligned() : data(static_cast<char*>(aligned_alloc(kBlock, kBlock))) {}
  ~Aligned() { free(data); }
  char* data;
};

// Random 4 KiB writes with a stamp in each block, read back and compared.
class BlockWriter : public Worker {
 public:
  BlockWriter(const Shared& shared, uint32_t number, bool direct)
      : Worker(direct ? "direct writer" : "writer", shared, number), direct_(direct) {}

  void Setup() override {
    generations_.assign(kBlocks, 0);
    fd_ = static_cast<int>(Do("open", [&] {
      return open(Path(File()).c_str(), O_RDWR | O_CREAT | (direct_ ? O_DIRECT : 0), 0644);
    }));
  }
  ~BlockWriter() override {
    if (fd_ >= 0) close(fd_);
  }

  void Step() override {
    uint32_t block = static_cast<uint32_t>(Below(kBlocks));
    off_t at = static_cast<off_t>(block) * static_cast<off_t>(kBlock);
    if (Below(3)) {
      FillBlock(buffer_.data, number_, block, generations_[block] + 1);
      if (Do("pwrite", [&] { return pwrite(fd_, buffer_.data, kBlock, at); }) < 0) return;
      ++generations_[block];
      if (block >= end_) end_ = block + 1;
      unsynced_.insert(block);
    } else if (block < end_) {
      CheckOne(fd_, block);
    }
    if (unsynced_.size() >= 64) Sync();
  }

  void Verify() override {
    int fd = static_cast<int>(Do("open", [&] { return open(Path(File()).c_str(), O_RDONLY); }));
    if (fd < 0) return;
    for (uint32_t block = 0; block < end_; ++block) CheckOne(fd, block);
    close(fd);
  }

 private:
  static constexpr uint32_t kBlocks = 4096;
  std::string File() const { return "blocks-" + std::to_string(number_); }

  void CheckOne(int fd, uint32_t block) {
    off_t at = static_cast<off_t>(block) * static_cast<off_t>(kBlock);
    int64_t n = Do("pread", [&] { return pread(fd, buffer_.data, kBlock, at); });
    if (n < 0) return;
    if (n != static_cast<int64_t>(kBlock)) return Broken("short read inside the file");
    int64_t found = CheckBlock(buffer_.data, number_, block);
    if (found == generations_[block]) return;
    Broken(found < 0 ? "wrong data in a block" : found < generations_[block] ? "a write was lost" : "a block from the future");
  }

  void Sync() {
    if (Do("fsync", [&] { return Below(2) ? fsync(fd_) : fdatasync(fd_); }) < 0) return;
    std::string lines;
    for (uint32_t block : unsynced_) {
      lines += "b " + File() + " " + std::to_string(block) + " " + std::to_string(generations_[block]) + "\n";
    }
    shared_.ledger->Promise(lines);
    unsynced_.clear();
  }

  bool direct_;
  int fd_ = -1;
  uint32_t end_ = 0;
  std::vector<uint32_t> generations_;
  std::set<uint32_t> unsynced_;
  Aligned buffer_;
};

// Appends records; the size must be exactly what was acknowledged.
class Appender : public Worker {
 public:
  Appender(const Shared& shared, uint32_t number) : Worker("appender", shared, number) {}

  void Setup() override { Open(); }
  ~Appender() override {
    if (fd_ >= 0) close(fd_);
  }

  void Step() override {
    if (fd_ < 0) return;
    if (bytes_ > kEnough) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return;
    }
    std::string record = AppendRecord(number_, records_);
    int64_t n = Do("append", [&] { return write(fd_, record.data(), record.size()); });
    if (n != static_cast<int64_t>(record.size())) {
      Broken("short append");
      close(fd_);
      fd_ = -1;
      return;
    }
    ++records_;
    bytes_ += record.size();
    struct stat st;
    if (Do("fstat", [&] { return fstat(fd_, &st); }) == 0 && st.st_size != static_cast<off_t>(bytes_)) {
      Broken(st.st_size > static_cast<off_t>(bytes_) ? "an append was applied twice" : "an append was lost");
    }
    if (records_ % 40 == 0 && Do("fsync", [&] { return fsync(fd_); }) == 0) {
      shared_.ledger->Promise("a " + File() + " " + std::to_string(records_) + " " + std::to_string(bytes_) + "\n");
    }
    if (records_ % 97 == 0) {
      close(fd_);
      Open();
    }
  }

  void Verify() override {
    int fd = static_cast<int>(Do("open", [&] { return open(Path(File()).c_str(), O_RDONLY); }));
    if (fd < 0) return;
    for (uint64_t sequence = 0; sequence < records_; ++sequence) {
      std::string record = AppendRecord(number_, sequence), found(record.size(), '\0');
      if (Do("read", [&] { return read(fd, found.data(), found.size()); }) < 0) break;
      if (found != record) {
        Broken("an appended record is wrong");
        break;
      }
    }
    close(fd);
  }

 private:
  static constexpr uint64_t kEnough = 256 << 20;
  std::string File() const { return "append-" + std::to_string(number_); }
  void Open() {
    fd_ = static_cast<int>(Do("open", [&] { return open(Path(File()).c_str(), O_RDWR | O_APPEND | O_CREAT, 0644); }));
  }
  int fd_ = -1;
  uint64_t records_ = 0, bytes_ = 0;
};

// Names, against a model of its directory. A call that was executed twice
// shows as EEXIST or ENOENT.
class Namer : public Worker {
 public:
  Namer(const Shared& shared, uint32_t number) : Worker("namer", shared, number) {}

  void Setup() override {
    Do("mkdir", [&] { return mkdir(Path(Dir()).c_str(), 0755); });
  }

  void Step() override {
    std::string name = "n" + std::to_string(Below(40)), other = "n" + std::to_string(Below(40));
    std::string path = Path(Dir() + "/" + name), to = Path(Dir() + "/" + other);
    bool here = files_.count(name), there = files_.count(other);
    bool dir = dirs_.count(name), other_dir = dirs_.count(other);
    switch (Below(7)) {
      case 0:
      case 1: {
        if (dir) return;
        int fd = static_cast<int>(
            Do("create", [&] { return open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644); }, here ? EEXIST : 0));
        if (fd < 0) return;
        close(fd);
        files_[name] = next_group_++;
        break;
      }
      case 2:
        if (dir) return;
        if (Do("unlink", [&] { return unlink(path.c_str()); }, here ? 0 : ENOENT) == 0) files_.erase(name);
        break;
      case 3:
        if (dir || other_dir || name == other) return;
        if (Do("rename", [&] { return rename(path.c_str(), to.c_str()); }, here ? 0 : ENOENT) == 0) {
          // Two links of one file: POSIX says that nothing happens.
          if (there && files_[name] == files_[other]) return;
          files_[other] = files_[name];
          files_.erase(name);
        }
        break;
      case 4:
        if (dir || name == other) return;
        if (Do("link", [&] { return link(path.c_str(), to.c_str()); },
               !here ? ENOENT : there || other_dir ? EEXIST : 0) == 0) {
          files_[other] = files_[name];
        }
        break;
      case 5:
        if (Do("mkdir", [&] { return mkdir(path.c_str(), 0755); }, here || dir ? EEXIST : 0) == 0) dirs_.insert(name);
        break;
      default:
        if (here) return;
        if (Do("rmdir", [&] { return rmdir(path.c_str()); }, dir ? 0 : ENOENT) == 0) dirs_.erase(name);
    }
    if (Below(100) == 0) Verify();
  }

  void Verify() override {
    std::set<std::string> found;
    DIR* stream = opendir(Path(Dir()).c_str());
    if (!stream) return Broken(std::string("opendir: ") + strerror(errno));
    errno = 0;
    while (dirent* entry = readdir(stream)) {
      std::string name = entry->d_name;
      if (name != "." && name != ".." && !found.insert(name).second) Broken("a name is listed twice");
    }
    if (errno) Broken(std::string("readdir: ") + strerror(errno));
    closedir(stream);
    std::map<uint64_t, nlink_t> links;
    for (const auto& [name, group] : files_) ++links[group];
    for (const auto& [name, group] : files_) {
      struct stat st;
      if (Do("stat", [&] { return lstat(Path(Dir() + "/" + name).c_str(), &st); }) == 0 && st.st_nlink != links[group]) {
        Broken("wrong link count");
      }
    }
    std::set<std::string> expected = dirs_;
    for (const auto& [name, group] : files_) expected.insert(name);
    if (found != expected) Broken("the listing differs from the acknowledged operations");
  }

 private:
  std::string Dir() const { return "names-" + std::to_string(number_); }
  std::map<std::string, uint64_t> files_;  // name -> which file
  std::set<std::string> dirs_;
  uint64_t next_group_ = 1;
};

// The way careful programs save: write beside, fsync, rename over, fsync the
// directory. And files that are written once and kept.
class Saver : public Worker {
 public:
  Saver(const Shared& shared, uint32_t number) : Worker("saver", shared, number) {}

  void Setup() override {
    Do("mkdir", [&] { return mkdir(Path(Dir()).c_str(), 0755); });
    dir_ = static_cast<int>(Do("open", [&] { return open(Path(Dir()).c_str(), O_RDONLY | O_DIRECTORY); }));
  }
  ~Saver() override {
    if (dir_ >= 0) close(dir_);
  }

  void Step() override {
    uint64_t next = version_ + 1;
    std::string temporary = Dir() + "/temporary", final = Dir() + "/current";
    if (!Write(temporary, std::to_string(next) + "\n" + Content(next, 1000 + next % 20000))) return;
    if (Do("rename", [&] { return rename(Path(temporary).c_str(), Path(final).c_str()); }) < 0) return;
    version_ = next;
    if (Do("fsync", [&] { return fsync(dir_); }) == 0) {
      shared_.ledger->Promise("v " + final + " " + std::to_string(next) + "\n");
    }
    if (next % 10) return;
    size_t size = Below(200'000);
    uint64_t seed = number_ * 1'000'003 + next;
    std::string kept = Dir() + "/kept" + std::to_string(next);
    if (!Write(kept, Content(seed, size)) || Do("fsync", [&] { return fsync(dir_); }) < 0) return;
    shared_.ledger->Promise("k " + kept + " " + std::to_string(size) + " " + std::to_string(seed) + "\n");
  }

  void Verify() override {}  // the ledger has it all

 private:
  std::string Dir() const { return "saved-" + std::to_string(number_); }

  bool Write(const std::string& file, const std::string& data) {
    int fd = static_cast<int>(
        Do("create", [&] { return open(Path(file).c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644); }));
    if (fd < 0) {
      unlink(Path(file).c_str());
      return false;
    }
    int64_t n = Do("write", [&] { return write(fd, data.data(), data.size()); });
    bool good = n == static_cast<int64_t>(data.size()) && Do("fsync", [&] { return fsync(fd); }) == 0;
    if (Do("close", [&] { return close(fd); }) < 0) good = false;
    return good;
  }

  int dir_ = -1;
  uint64_t version_ = 0;
};

// Reads what nobody changes, through old handles and new ones.
class Reader : public Worker {
 public:
  Reader(const Shared& shared, uint32_t number) : Worker("reader", shared, number) {}

  void Setup() override {
    int fd = static_cast<int>(Do("open", [&] { return open(Path(File()).c_str(), O_RDWR | O_CREAT, 0644); }));
    if (fd < 0) return;
    for (uint32_t block = 0; block < kBlocks; ++block) {
      FillBlock(buffer_.data, number_, block, 1);
      Do("pwrite", [&] { return pwrite(fd, buffer_.data, kBlock, static_cast<off_t>(block * kBlock)); });
    }
    if (Do("fsync", [&] { return fsync(fd); }) == 0) {
      std::string lines;
      for (uint32_t block = 0; block < kBlocks; ++block) {
        lines += "b " + File() + " " + std::to_string(block) + " 1\n";
      }
      shared_.ledger->Promise(lines);
    }
    old_ = fd;
  }
  ~Reader() override {
    if (old_ >= 0) close(old_);
  }

  void Step() override {
    bool fresh = Below(4) == 0, direct = fresh && Below(2);
    int fd = old_;
    if (fresh) {
      fd = static_cast<int>(
          Do("open", [&] { return open(Path(File()).c_str(), O_RDONLY | (direct ? O_DIRECT : 0)); }));
    }
    if (fd < 0) return;
    for (int i = 0; i < 8; ++i) {
      uint32_t block = static_cast<uint32_t>(Below(kBlocks));
      int64_t n = Do("pread", [&] { return pread(fd, buffer_.data, kBlock, static_cast<off_t>(block * kBlock)); });
      if (n >= 0 && (n != static_cast<int64_t>(kBlock) || CheckBlock(buffer_.data, number_, block) != 1)) {
        Broken("wrong data read");
      }
    }
    if (fresh) Do("close", [&] { return close(fd); });
  }

  void Verify() override {
    for (int i = 0; i < 500; ++i) Step();
  }

 private:
  static constexpr uint32_t kBlocks = 2048;
  std::string File() const { return "read-" + std::to_string(number_); }
  int old_ = -1;
  Aligned buffer_;
};

}  // namespace

std::vector<std::unique_ptr<Worker>> MakeWorkers(const Shared& shared) {
  std::vector<std::unique_ptr<Worker>> workers;
  workers.push_back(std::make_unique<BlockWriter>(shared, 1, shared.direct));
  workers.push_back(std::make_unique<BlockWriter>(shared, 2, false));
  workers.push_back(std::make_unique<Appender>(shared, 3));
  workers.push_back(std::make_unique<Namer>(shared, 4));
  workers.push_back(std::make_unique<Namer>(shared, 5));
  workers.push_back(std::make_unique<Saver>(shared, 6));
  workers.push_back(std::make_unique<Reader>(shared, 7));
  return workers;
}

}  // namespace moorfs::storm
