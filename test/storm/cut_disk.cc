// SPDX-License-Identifier: Apache-2.0
//
// cut_disk: a disk whose power can be cut. It serves one file, `disk`, over
// FUSE; a loop device on that file is the disk. Writes go to a cache; a flush
// makes everything written before it durable. A file name written to `cut`
// puts there what a power cut at this moment would leave: the durable image
// plus a random half of the sectors that were written but not yet flushed.
// The disk itself goes on, so one run gives many cuts.
//
//   cut_disk MOUNTPOINT IMAGE_DIR SIZE_MIB [SEED [HONEST_FLUSHES]]
//
// Runs in the foreground, in one thread: every request is atomic. After
// HONEST_FLUSHES it lies, as bad disks do: flushes answer and do nothing. The
// power-cut test uses that to prove that it would notice.

#include <fcntl.h>
#include <fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace {

constexpr off_t kSector = 4096;

struct Disk {
  int cached = -1;   // what reads see
  int durable = -1;  // what a power cut cannot take
  off_t size = 0;
  std::set<off_t> unflushed;  // sector numbers
  std::mt19937_64 random;
  uint64_t flushes = 0, honest = UINT64_MAX, cuts = 0;
};
Disk disk;

bool CopySector(int from, int to, off_t sector) {
  char data[kSector];
  return pread(from, data, kSector, sector * kSector) == kSector &&
         pwrite(to, data, kSector, sector * kSector) == kSector;
}

int Flush() {
  if (disk.flushes >= disk.honest) return 0;
  for (off_t sector : disk.unflushed) {
    if (!CopySector(disk.cached, disk.durable, sector)) return -EIO;
  }
  disk.unflushed.clear();
  ++disk.flushes;
  return 0;
}

// Holes stay holes: the image is mostly empty.
bool CopySparse(int from, int to, off_t size) {
  if (ftruncate(to, size)) return false;
  std::vector<char> buffer(1 << 20);
  for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0;) {
    off_t end = lseek(from, at, SEEK_HOLE);
    for (; at < end;) {
      ssize_t n = pread(from, buffer.data(), std::min<size_t>(buffer.size(), static_cast<size_t>(end - at)), at);
      if (n <= 0 || pwrite(to, buffer.data(), static_cast<size_t>(n), at) != n) return false;
      at += n;
    }
  }
  return errno == ENXIO;
}

int Cut(const std::string& path) {
  int image = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (image < 0) return -errno;
  bool good = CopySparse(disk.durable, image, disk.size);
  size_t kept = 0;
  for (off_t sector : disk.unflushed) {
    if (disk.random() & 1) continue;
    good = CopySector(disk.cached, image, sector) && good;
    ++kept;
  }
  close(image);
  ++disk.cuts;
  printf("cut_disk: cut %llu after %llu flushes, %zu of %zu unflushed sectors kept\n",
         static_cast<unsigned long long>(disk.cuts), static_cast<unsigned long long>(disk.flushes), kept,
         disk.unflushed.size());
  fflush(stdout);
  return good ? 0 : -EIO;
}

bool IsDisk(const char* path) { return !strcmp(path, "/disk"); }
bool IsCut(const char* path) { return !strcmp(path, "/cut"); }

int GetAttr(const char* path, struct stat* st, fuse_file_info*) {
  memset(st, 0, sizeof *st);
  st->st_nlink = 1;
  st->st_mode = IsDisk(path) ? S_IFREG | 0600 : IsCut(path) ? S_IFREG | 0200 : S_IFDIR | 0700;
  st->st_size = IsDisk(path) ? disk.size : 0;
  return IsDisk(path) || IsCut(path) || !strcmp(path, "/") ? 0 : -ENOENT;
}

int Open(const char* path, fuse_file_info* info) {
  if (!IsDisk(path) && !IsCut(path)) return -ENOENT;
  info->direct_io = IsCut(path);
  return 0;
}

int Read(const char* path, char* out, size_t size, off_t offset, fuse_file_info*) {
  if (!IsDisk(path)) return -EINVAL;
  ssize_t n = pread(disk.cached, out, size, offset);
  return n < 0 ? -errno : static_cast<int>(n);
}

int Write(const char* path, const char* data, size_t size, off_t offset, fuse_file_info*) {
  if (IsCut(path)) {
    std::string target(data, size);
    while (!target.empty() && target.back() == '\n') target.pop_back();
    int error = Cut(target);
    return error ? error : static_cast<int>(size);
  }
  ssize_t n = pwrite(disk.cached, data, size, offset);
  if (n < 0) return -errno;
  for (off_t sector = offset / kSector; sector <= (offset + n - 1) / kSector; ++sector) disk.unflushed.insert(sector);
  return static_cast<int>(n);
}

int Fsync(const char*, int, fuse_file_info*) { return Flush(); }
int Truncate(const char* path, off_t, fuse_file_info*) { return IsCut(path) ? 0 : -EPERM; }

int Image(const std::string& path) {
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, disk.size)) {
    fprintf(stderr, "cut_disk: %s: %s\n", path.c_str(), strerror(errno));
    exit(1);
  }
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: cut_disk MOUNTPOINT IMAGE_DIR SIZE_MIB [SEED [HONEST_FLUSHES]]\n");
    return 2;
  }
  disk.size = static_cast<off_t>(strtoull(argv[3], nullptr, 10)) << 20;
  uint64_t seed = argc > 4 ? strtoull(argv[4], nullptr, 10) : static_cast<uint64_t>(time(nullptr));
  disk.random.seed(seed);
  if (argc > 5) disk.honest = strtoull(argv[5], nullptr, 10);
  disk.cached = Image(std::string(argv[2]) + "/cached");
  disk.durable = Image(std::string(argv[2]) + "/durable");
  printf("cut_disk: seed %llu\n", static_cast<unsigned long long>(seed));
  fflush(stdout);

  fuse_operations operations{};
  operations.getattr = GetAttr;
  operations.open = Open;
  operations.read = Read;
  operations.write = Write;
  operations.fsync = Fsync;
  operations.truncate = Truncate;
  char foreground[] = "-f", single[] = "-s";
  char* arguments[] = {argv[0], foreground, single, argv[1], nullptr};
  return fuse_main(4, arguments, &operations, nullptr);
}
