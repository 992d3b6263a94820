// SPDX-License-Identifier: Apache-2.0
//
// fsbench: one workload on one directory, its rates as one JSON object on
// stdout. The system calls and nothing else happen between two looks at the
// clock: paths are made before, threads start at a barrier.
//
//   fsbench meta DIR THREADS FILES          mkdir create append open stat rename unlink rmdir
//   fsbench small-write|small-read DIR THREADS FILES    files of 128 KiB
//   fsbench seq-write|seq-read FILE MIB     1 MiB calls
//   fsbench rand-read|rand-write|rand-mixed FILE MIB SECONDS   4 KiB, O_DIRECT
//   fsbench fill DIR THREADS FILES          empty files in one directory
//   fsbench list DIR                        reads the directory
//
// Reads that shall be cold need a fresh mount. `meta` itself drops the kernel's
// pages before open (open, one 4 KiB read, close) and its dentries before stat,
// so that each read and each stat is a request. Names begin with "new": the
// empty server knows those as names that must be created first.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <barrier>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kSmallFile = 128 << 10;
constexpr size_t kPage = 4096;
constexpr size_t kMiB = 1 << 20;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

[[noreturn]] void Die(const char* what, const std::string& path) {
  fprintf(stderr, "fsbench: %s %s: %s\n", what, path.c_str(), strerror(errno));
  _exit(1);
}

void Need(bool good, const char* what, const std::string& path) {
  if (!good) Die(what, path);
}

void DropCaches(const char* what) {
  int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
  if (fd < 0) return;
  if (write(fd, what, 1) != 1) fprintf(stderr, "fsbench: drop_caches: %s\n", strerror(errno));
  close(fd);
}

class Output {
 public:
  void Add(const std::string& name, double value) {
    char text[160];
    snprintf(text, sizeof text, "%s\"%s\": %.2f", text_.empty() ? "" : ", ", name.c_str(), value);
    text_ += text;
  }
  void Print() const { printf("{%s}\n", text_.c_str()); }

 private:
  std::string text_;
};

// Runs `body(thread)` on all threads at once; seconds from the common start to
// the last one's end.
double Together(unsigned threads, const std::function<void(unsigned)>& body) {
  std::barrier start(static_cast<std::ptrdiff_t>(threads) + 1);
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      start.arrive_and_wait();
      body(t);
    });
  }
  start.arrive_and_wait();
  auto begin = Clock::now();
  for (auto& thread : all) thread.join();
  return Since(begin);
}

// ---- metadata ----------------------------------------------------------------

struct Paths {
  std::string dir;
  std::vector<std::string> dirs, files, renamed;
};

std::vector<Paths> MakePaths(const std::string& root, unsigned threads, unsigned count) {
  std::vector<Paths> all(threads);
  for (unsigned t = 0; t < threads; ++t) {
    all[t].dir = root + "/newt" + std::to_string(t);
    for (unsigned i = 0; i < count; ++i) {
      all[t].dirs.push_back(all[t].dir + "/newd" + std::to_string(i));
      all[t].files.push_back(all[t].dir + "/newf" + std::to_string(i));
      all[t].renamed.push_back(all[t].dir + "/newr" + std::to_string(i));
    }
  }
  return all;
}

int OpenOrDie(const std::string& path, int flags) {
  int fd = open(path.c_str(), flags, 0644);
  Need(fd >= 0, "open", path);
  return fd;
}

void Meta(const std::string& root, unsigned threads, unsigned count) {
  auto paths = MakePaths(root, threads, count);
  for (auto& path : paths) Need(mkdir(path.dir.c_str(), 0755) == 0, "mkdir", path.dir);
  Output output;
  char page[kPage];
  memset(page, 'm', sizeof page);
  auto phase = [&](const char* name, const std::function<void(const Paths&, unsigned)>& call) {
    double seconds = Together(threads, [&](unsigned t) {
      for (unsigned i = 0; i < count; ++i) call(paths[t], i);
    });
    output.Add(name, static_cast<double>(threads) * count / seconds);
  };
  phase("mkdir", [](const Paths& p, unsigned i) { Need(mkdir(p.dirs[i].c_str(), 0755) == 0, "mkdir", p.dirs[i]); });
  phase("create", [](const Paths& p, unsigned i) { close(OpenOrDie(p.files[i], O_CREAT | O_WRONLY)); });
  phase("append", [&page](const Paths& p, unsigned i) {
    int fd = OpenOrDie(p.files[i], O_WRONLY | O_APPEND);
    Need(write(fd, page, sizeof page) == static_cast<ssize_t>(sizeof page), "append", p.files[i]);
    close(fd);
  });
  DropCaches("1");
  phase("open", [](const Paths& p, unsigned i) {
    int fd = OpenOrDie(p.files[i], O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);  // no read-ahead: one page is asked for
    char bytes[kPage];
    Need(read(fd, bytes, sizeof bytes) == static_cast<ssize_t>(sizeof bytes), "read", p.files[i]);
    close(fd);
  });
  DropCaches("2");
  phase("stat", [](const Paths& p, unsigned i) {
    struct stat st;
    Need(stat(p.files[i].c_str(), &st) == 0, "stat", p.files[i]);
  });
  phase("rename", [](const Paths& p, unsigned i) {
    Need(rename(p.files[i].c_str(), p.renamed[i].c_str()) == 0, "rename", p.files[i]);
  });
  phase("unlink", [](const Paths& p, unsigned i) { Need(unlink(p.renamed[i].c_str()) == 0, "unlink", p.renamed[i]); });
  phase("rmdir", [](const Paths& p, unsigned i) { Need(rmdir(p.dirs[i].c_str()) == 0, "rmdir", p.dirs[i]); });
  for (auto& path : paths) rmdir(path.dir.c_str());
  output.Print();
}

// ---- small files ---------------------------------------------------------------

void Small(bool writing, const std::string& root, unsigned threads, unsigned count) {
  auto paths = MakePaths(root, threads, count);
  std::mt19937_64 random(1);
  std::string data(kSmallFile, '\0');
  for (size_t i = 0; i < data.size(); i += 8) {
    uint64_t word = random();
    memcpy(data.data() + i, &word, 8);
  }
  if (writing) {
    for (auto& path : paths) Need(mkdir(path.dir.c_str(), 0755) == 0, "mkdir", path.dir);
  }
  double seconds = Together(threads, [&](unsigned t) {
    auto buffer = std::make_unique<char[]>(kSmallFile);
    for (const std::string& path : paths[t].files) {
      int fd = OpenOrDie(path, writing ? O_CREAT | O_WRONLY : O_RDONLY);
      ssize_t n = writing ? write(fd, data.data(), kSmallFile) : read(fd, buffer.get(), kSmallFile);
      Need(n == static_cast<ssize_t>(kSmallFile), writing ? "write" : "read", path);
      if (!writing && memcmp(buffer.get(), data.data(), kSmallFile)) Die("wrong data in", path);
      Need(close(fd) == 0, "close", path);
    }
  });
  Output output;
  output.Add(writing ? "small_create" : "small_read", static_cast<double>(threads) * count / seconds);
  output.Print();
}

// ---- one big file ----------------------------------------------------------------

struct Buffer {
  explicit Buffer(size_t size) : data(static_cast<char*>(aligned_alloc(kPage, size))) {
    std::mt19937_64 random(7);
    for (size_t i = 0; i < size; i += 8) {
      uint64_t word = random();
      memcpy(data + i, &word, 8);
    }
  }
  ~Buffer() { free(data); }
  char* data;
};

void Sequential(bool writing, const std::string& path, size_t mib) {
  Buffer buffer(kMiB);
  int fd = OpenOrDie(path, writing ? O_CREAT | O_RDWR | O_TRUNC : O_RDONLY);
  auto start = Clock::now();
  for (size_t i = 0; i < mib; ++i) {
    ssize_t n = writing ? write(fd, buffer.data, kMiB) : read(fd, buffer.data, kMiB);
    Need(n == static_cast<ssize_t>(kMiB), writing ? "write" : "read", path);
  }
  Output output;
  if (!writing) {
    output.Add("seq_read", static_cast<double>(mib) / Since(start));
  } else {
    int again = dup(fd);
    Need(close(fd) == 0, "close", path);
    output.Add("seq_write", static_cast<double>(mib) / Since(start));
    Need(fsync(again) == 0, "fsync", path);
    output.Add("seq_write_fsync", static_cast<double>(mib) / Since(start));
    fd = again;
  }
  close(fd);
  output.Print();
}

void Random(const std::string& kind, const std::string& path, size_t mib, double seconds) {
  Buffer buffer(kPage);
  int fd = OpenOrDie(path, O_RDWR | O_DIRECT);
  std::mt19937_64 random(std::random_device{}());
  std::uniform_int_distribution<uint64_t> page(0, mib * kMiB / kPage - 1);
  uint64_t reads = 0, writes = 0, at_half = 0;
  double longest = 0, now = 0, before = 0;
  auto start = Clock::now();
  while (now < seconds) {
    bool writing = kind == "rand-write" || (kind == "rand-mixed" && (random() & 1));
    off_t offset = static_cast<off_t>(page(random) * kPage);
    ssize_t n = writing ? pwrite(fd, buffer.data, kPage, offset) : pread(fd, buffer.data, kPage, offset);
    Need(n == static_cast<ssize_t>(kPage), writing ? "pwrite" : "pread", path);
    ++(writing ? writes : reads);
    now = Since(start);
    longest = std::max(longest, now - before);
    before = now;
    if (now < seconds / 2) at_half = reads + writes;
  }
  close(fd);
  std::string name = kind == "rand-read" ? "rand_read" : kind == "rand-write" ? "rand_write" : "rand_mixed";
  Output output;
  output.Add(name, static_cast<double>(reads + writes) / now);
  output.Add(name + "_second_half", static_cast<double>(reads + writes - at_half) / (now - seconds / 2));
  output.Add(name + "_longest_ms", longest * 1e3);
  output.Print();
}

// ---- one big directory ----------------------------------------------------------

void Fill(const std::string& dir, unsigned threads, unsigned count) {
  double seconds = Together(threads, [&](unsigned t) {
    for (unsigned i = t; i < count; i += threads) {
      std::string path = dir + "/entry-" + std::to_string(i);
      Need(mknod(path.c_str(), S_IFREG | 0644, 0) == 0, "mknod", path);
    }
  });
  Output output;
  output.Add("fill", count / seconds);
  output.Print();
}

void List(const std::string& dir) {
  auto start = Clock::now();
  DIR* stream = opendir(dir.c_str());
  Need(stream, "opendir", dir);
  uint64_t count = 0;
  errno = 0;
  while (readdir(stream)) ++count;
  Need(errno == 0, "readdir", dir);
  closedir(stream);
  Output output;
  output.Add("list", static_cast<double>(count) / Since(start));
  output.Add("entries", static_cast<double>(count) - 2);
  output.Print();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: fsbench WORKLOAD PATH [NUMBERS], see the head of fsbench.cc\n");
    return 2;
  }
  std::string kind = argv[1], path = argv[2];
  auto number = [&](int i) -> unsigned {
    return argc > i ? static_cast<unsigned>(strtoul(argv[i], nullptr, 10)) : (fprintf(stderr, "fsbench: numbers missing\n"), exit(2), 0u);
  };
  if (kind == "meta") {
    Meta(path, number(3), number(4));
  } else if (kind == "small-write" || kind == "small-read") {
    Small(kind == "small-write", path, number(3), number(4));
  } else if (kind == "seq-write" || kind == "seq-read") {
    Sequential(kind == "seq-write", path, number(3));
  } else if (kind == "rand-read" || kind == "rand-write" || kind == "rand-mixed") {
    Random(kind, path, number(3), number(4));
  } else if (kind == "fill") {
    Fill(path, number(3), number(4));
  } else if (kind == "list") {
    List(path);
  } else {
    fprintf(stderr, "fsbench: unknown workload '%s'\n", kind.c_str());
    return 2;
  }
  return 0;
}
