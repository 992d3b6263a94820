// SPDX-License-Identifier: Apache-2.0
//
// See operations.h. Where Linux file systems are free to differ (granularity
// of holes, times of some calls) the operation says what it tolerates.

#include "test/model/operations.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "test/model/tree_compare.h"

namespace moorfs::model {
namespace {

constexpr size_t kMaxHandles = 16;
constexpr size_t kMaxIo = 192 << 10;
constexpr size_t kAlign = 4096;
constexpr uint64_t kSmallFile = 1 << 20;
constexpr uint64_t kChunk = 64 << 20;
constexpr size_t kHistoryShown = 120;

// Errors that POSIX lets an implementation choose between.
int Canonical(int error) { return error == EEXIST ? ENOTEMPTY : error; }

std::string Text(int64_t value) { return std::to_string(value); }

std::string Octal(unsigned value) {
  char text[16];
  snprintf(text, sizeof text, "0%o", value);
  return text;
}

std::string OpenFlags(int flags) {
  std::string text = (flags & O_ACCMODE) == O_RDONLY ? "RDONLY" : (flags & O_ACCMODE) == O_WRONLY ? "WRONLY" : "RDWR";
  const std::pair<int, const char*> names[] = {{O_CREAT, "CREAT"},     {O_EXCL, "EXCL"},     {O_TRUNC, "TRUNC"},
                                               {O_APPEND, "APPEND"},   {O_NOFOLLOW, "NOFOLLOW"}};
  for (auto [bit, name] : names) {
    if (flags & bit) text += std::string("|") + name;
  }
  if ((flags & O_DIRECT) == O_DIRECT) text += "|DIRECT";
  if ((flags & O_DIRECTORY) == O_DIRECTORY) text += "|DIRECTORY";
  return text;
}

// The file system ids of one step; root again when it ends.
class ActAs {
 public:
  explicit ActAs(uid_t uid) : uid_(uid) {
    if (!uid_) return;
    setfsgid(uid_);
    setfsuid(uid_);
  }
  ~ActAs() {
    if (!uid_) return;
    setfsuid(0);
    setfsgid(0);
  }

 private:
  uid_t uid_;
};

bool AllZero(const char* data, size_t length) {
  return std::all_of(data, data + length, [](char c) { return c == 0; });
}

void PutAclEntry(std::string* value, uint16_t tag, uint16_t perm, uint32_t id) {
  value->append(reinterpret_cast<const char*>(&tag), 2);
  value->append(reinterpret_cast<const char*>(&perm), 2);
  value->append(reinterpret_cast<const char*>(&id), 4);
}

}  // namespace

std::string Printable(const std::string& raw) {
  std::string out;
  for (char c : raw) {
    char hex[8];
    snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
    out += c >= 32 && c < 127 ? std::string(1, c) : hex;
  }
  return out.size() > 90 ? out.substr(0, 40) + "..." + out.substr(out.size() - 30) : out;
}

Model::Model(uint64_t seed, bool direct, std::string tested, std::string reference)
    : random_(seed), direct_(direct), roots_{std::move(tested), std::move(reference)} {
  for (char*& buffer : aligned_) {
    buffer = static_cast<char*>(aligned_alloc(kAlign, kMaxIo + kAlign));
    if (!buffer) abort();
  }
}

Model::~Model() {
  CloseHandles();
  for (char* buffer : aligned_) free(buffer);
}

void Model::Step() {
  struct Choice {
    unsigned weight;
    void (Model::*run)();
  };
  static constexpr Choice kChoices[] = {
      {90, &Model::Open},        {30, &Model::MakeDir},    {6, &Model::RemoveDir},    {30, &Model::Unlink},
      {40, &Model::Rename},      {20, &Model::Link},       {12, &Model::Symlink},     {5, &Model::MakeNode},
      {25, &Model::Chmod},       {20, &Model::Chown},      {25, &Model::Times},       {25, &Model::SetXattr},
      {8, &Model::RemoveXattr},  {8, &Model::SetAcl},      {15, &Model::TruncatePath}, {40, &Model::StatPath},
      {15, &Model::Access},      {5, &Model::ReadLink},    {3, &Model::ListWhileDeleting}, {1, &Model::RemoveTree},
      {120, &Model::Write},      {40, &Model::Append},     {120, &Model::Read},       {25, &Model::Truncate},
      {30, &Model::Allocate},    {25, &Model::CopyRange},  {20, &Model::SeekData},    {25, &Model::MapWrite},
      {20, &Model::MapRead},     {8, &Model::Fsync},       {20, &Model::HandleMode},  {40, &Model::Close}};
  unsigned total = 0;
  for (const Choice& choice : kChoices) total += choice.weight;
  uint64_t pick = Below(total);
  const Choice* choice = kChoices;
  while (pick >= choice->weight) pick -= choice++->weight;
  as_ = Chance(85) ? 0 : Chance(50) ? 1000 : 1001;
  ++step_;
  (this->*choice->run)();
}

void Model::CloseHandles() {
  for (Handle& handle : handles_) {
    close(handle.fd[0]);
    close(handle.fd[1]);
  }
  handles_.clear();
}

void Model::CompareTrees() {
  for (Handle& handle : handles_) SameStat(&handle);
  TreeCompare compare(roots_[0], roots_[1]);
  auto found = compare.Run(5);
  compared_files_ += compare.files();
  compared_bytes_ += compare.bytes();
  if (found.empty()) return;
  std::string text = "trees differ:";
  for (const Difference& diff : found) text += "\n    " + Printable(diff.path) + ": " + diff.what;
  Mismatch(found[0].path, ReferenceIno(found[0].path), text);
}

// ---- random material -------------------------------------------------------

std::string Model::RandomName() {
  static const std::string kStrange[] = {std::string(255, 'n'), "a b", "new\nline", "\xff\xfe", "\xc3\xa4\xc3\xb6", ".hidden"};
  if (Chance(4)) return std::string(256, 'm');  // ENAMETOOLONG
  if (Chance(12)) return kStrange[Below(std::size(kStrange))];
  if (Chance(3)) return "big" + Text(static_cast<int64_t>(Below(2)));
  return "f" + Text(static_cast<int64_t>(Below(10)));
}

std::string Model::RandomDir() {
  std::string dir;
  for (uint64_t depth = Below(4); depth > 0; --depth) dir += "/d" + Text(static_cast<int64_t>(Below(3)));
  return dir;
}

std::string Model::RandomPath() {
  std::string dir = RandomDir();
  if (Chance(12) && !dir.empty()) return dir;
  return dir + "/" + RandomName();
}

std::string Model::RandomBytes(size_t length) {
  std::string bytes(length, '\0');
  if (Chance(5)) return bytes;  // zeros that were written
  for (size_t i = 0; i < length; i += 8) {
    uint64_t word = random_();
    memcpy(bytes.data() + i, &word, std::min<size_t>(8, length - i));
  }
  return bytes;
}

uint64_t Model::RandomOffset(const std::string& path) {
  if (path.find("/big") != std::string::npos && Chance(30)) return kChunk - kMaxIo / 2 + Below(kMaxIo);
  if (Chance(30)) return Below(8192);
  return Below(kSmallFile);
}

timespec Model::OldTime() {
  return {static_cast<time_t>(Below(900'000'000)), static_cast<long>(Below(1'000'000'000))};
}

Handle* Model::RandomHandle() {
  if (handles_.empty()) {
    Open();
    if (handles_.empty()) return nullptr;
  }
  return &handles_[Below(handles_.size())];
}

// ---- both sides ------------------------------------------------------------

ino_t Model::ReferenceIno(const std::string& path) const {
  struct stat st;
  return lstat((roots_[1] + path).c_str(), &st) ? 0 : st.st_ino;
}

bool Model::ReferenceIs(const std::string& path, mode_t type) const {
  struct stat st;
  return stat((roots_[1] + path).c_str(), &st) == 0 && (st.st_mode & S_IFMT) == type;
}

void Model::Note(const std::string& text, const std::string& path, ino_t ino, Outcome outcome) {
  if (!outcome.error) ++successes_;
  std::string line = "#" + std::to_string(step_) + " " + text + " = " +
                     (outcome.error ? strerror(outcome.error) : Text(outcome.value));
  if (as_) line += "  (uid " + std::to_string(as_) + ")";
  history_.push_back({std::move(line), path, ino});
}

Outcome Model::OnPath(const std::string& what, const std::string& path, const PathCall& call) {
  Outcome results[2];
  ino_t before = ReferenceIno(path);
  {
    ActAs as(as_);
    for (int side : {0, 1}) {
      errno = 0;
      int64_t value = call(roots_[static_cast<size_t>(side)] + path);
      results[side] = {value, value < 0 ? errno : 0};
    }
  }
  ino_t ino = before ? before : ReferenceIno(path);
  Note(what + " " + Printable(path), path, ino, results[1]);
  if (Canonical(results[0].error) != Canonical(results[1].error) ||
      (!results[1].error && results[0].value != results[1].value)) {
    Mismatch(path, ino,
             what + ": " + (results[0].error ? strerror(results[0].error) : Text(results[0].value)) + ", reference " +
                 (results[1].error ? strerror(results[1].error) : Text(results[1].value)));
  }
  return results[1];
}

Outcome Model::OnHandle(const std::string& what, Handle* handle, const FdCall& call) {
  Outcome results[2];
  {
    ActAs as(as_);
    for (int side : {0, 1}) {
      errno = 0;
      int64_t value = call(side, handle->fd[static_cast<size_t>(side)]);
      results[side] = {value, value < 0 ? errno : 0};
    }
  }
  Note(what + " on handle " + Text(handle - handles_.data()) + " of " + Printable(handle->path), handle->path,
       handle->ino, results[1]);
  if (results[0].error != results[1].error || (!results[1].error && results[0].value != results[1].value)) {
    Mismatch(handle->path, handle->ino,
             what + ": " + (results[0].error ? strerror(results[0].error) : Text(results[0].value)) + ", reference " +
                 (results[1].error ? strerror(results[1].error) : Text(results[1].value)));
  }
  return results[1];
}

void Model::SameStat(const std::string& path) {
  struct stat st[2];
  int error[2];
  for (int side : {0, 1}) error[side] = lstat((roots_[static_cast<size_t>(side)] + path).c_str(), &st[side]) ? errno : 0;
  if (error[0] != error[1]) {
    Mismatch(path, ReferenceIno(path),
             std::string("lstat after the operation: ") + strerror(error[0]) + ", reference " + strerror(error[1]));
  }
  if (error[0]) return;
  std::string diff = CompareStat(st[0], st[1]);
  if (!diff.empty()) Mismatch(path, st[1].st_ino, "after the operation: " + diff);
}

void Model::SameStat(Handle* handle) {
  struct stat st[2];
  for (size_t side : {0u, 1u}) {
    if (fstat(handle->fd[side], &st[side])) {
      Mismatch(handle->path, handle->ino, std::string("fstat: ") + strerror(errno));
    }
  }
  std::string diff = CompareStat(st[0], st[1]);
  if (!diff.empty()) Mismatch(handle->path, handle->ino, "fstat after the operation: " + diff);
}

// For calls after which file systems disagree on whether mtime moves.
void Model::ResetTimes(Handle* handle) {
  timespec times[2] = {OldTime(), OldTime()};
  uid_t as = std::exchange(as_, 0);
  OnHandle("futimens", handle, [&](int, int fd) { return futimens(fd, times); });
  as_ = as;
}

void Model::Mismatch(const std::string& path, ino_t ino, const std::string& what) {
  static std::mutex one;
  one.lock();
  fprintf(stderr, "\nMISMATCH at step %llu, %s%s\n  %s\n  operations on it (reference inode %llu):\n",
          static_cast<unsigned long long>(step_), roots_[0].c_str(), Printable(path).c_str(), what.c_str(),
          static_cast<unsigned long long>(ino));
  std::vector<const Record*> shown;
  for (const Record& record : history_) {
    if ((ino && record.ino == ino) || record.path == path) shown.push_back(&record);
  }
  size_t skip = shown.size() > kHistoryShown ? shown.size() - kHistoryShown : 0;
  if (skip) fprintf(stderr, "    (%zu earlier ones)\n", skip);
  for (size_t i = skip; i < shown.size(); ++i) fprintf(stderr, "    %s\n", shown[i]->text.c_str());
  fprintf(stderr, "  last operations on anything:\n");
  for (size_t i = history_.size() > 12 ? history_.size() - 12 : 0; i < history_.size(); ++i) {
    fprintf(stderr, "    %s\n", history_[i].text.c_str());
  }
  fflush(nullptr);
  _exit(1);
}

// ---- operations on paths ---------------------------------------------------

void Model::Open() {
  if (handles_.size() >= kMaxHandles) Close();
  std::string path = RandomPath();
  // Devices open differently on a mount with nodev; nothing of ours serves them.
  if (ReferenceIs(path, S_IFCHR)) return;
  int flags = Chance(60) ? O_RDWR : Chance(50) ? O_RDONLY : O_WRONLY;
  if (Chance(70)) flags |= O_CREAT;
  if (Chance(10)) flags |= O_EXCL * ((flags & O_CREAT) != 0);
  if (Chance(10)) flags |= O_TRUNC;
  if (Chance(20)) flags |= O_APPEND;
  if (Chance(20) && direct_) flags |= O_DIRECT;
  if (Chance(5)) flags |= O_NOFOLLOW;
  if (Chance(3)) flags = O_RDONLY | O_DIRECTORY;
  if (ReferenceIs(path, S_IFIFO)) flags &= ~(O_DIRECT | O_TRUNC);
  if (ReferenceIs(path, S_IFDIR)) flags &= ~O_DIRECT;  // a local file system's choice
  mode_t mode = Chance(70) ? 0644 : static_cast<mode_t>(Below(010000));
  Handle handle{.flags = flags, .path = path};
  size_t side = 0;
  Outcome outcome = OnPath("open " + OpenFlags(flags) + " " + Octal(mode), path, [&](const std::string& full) {
    // The descriptor's number is no result. The reference is never direct:
    // local file systems refuse unaligned copies there, FUSE does not.
    int ours = side == 0 ? flags : flags & ~O_DIRECT;
    handle.fd[side] = open(full.c_str(), ours | O_NONBLOCK | O_CLOEXEC, mode);
    return handle.fd[side++] < 0 ? -1 : 0;
  });
  if (outcome.error) return;
  struct stat st;
  fstat(handle.fd[1], &st);
  handle.ino = st.st_ino;
  history_.back().ino = st.st_ino;
  handles_.push_back(handle);
  SameStat(&handles_.back());
  if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) return;
  // A fifo: opening it was the test.
  close(handle.fd[0]);
  close(handle.fd[1]);
  handles_.pop_back();
}

void Model::MakeDir() {
  std::string path = RandomDir();
  if (path.empty()) path = "/d" + Text(static_cast<int64_t>(Below(3)));
  mode_t mode = Chance(80) ? 0777 : static_cast<mode_t>(Below(010000));
  OnPath("mkdir " + Octal(mode), path, [&](const std::string& full) { return mkdir(full.c_str(), mode); });
  SameStat(path);
}

void Model::RemoveDir() {
  std::string path = Chance(70) ? RandomDir() : RandomPath();
  if (path.empty()) return;
  OnPath("rmdir", path, [](const std::string& full) { return rmdir(full.c_str()); });
}

void Model::Unlink() {
  std::string path = RandomPath();
  OnPath("unlink", path, [](const std::string& full) { return unlink(full.c_str()); });
}

void Model::Rename() {
  bool dirs = Chance(15);
  std::string from = dirs ? RandomDir() : RandomPath(), to = dirs ? RandomDir() : RandomPath();
  if (from.empty() || to.empty()) return;
  unsigned flags = Chance(60) ? 0 : Chance(45) ? RENAME_NOREPLACE : Chance(90) ? RENAME_EXCHANGE : 3;
  ino_t target = ReferenceIno(to);
  size_t side = 0;
  Outcome outcome = OnPath("rename flags " + Text(flags) + " to " + Printable(to) + " from", from,
                           [&](const std::string& full) {
                             const std::string& root = roots_[side++];
                             return renameat2(AT_FDCWD, full.c_str(), AT_FDCWD, (root + to).c_str(), flags);
                           });
  Note("rename flags " + Text(flags) + " from " + Printable(from) + " to " + Printable(to), to, target, outcome);
  SameStat(from);
  SameStat(to);
}

void Model::Link() {
  std::string from = RandomPath(), to = RandomPath();
  size_t side = 0;
  OnPath("link as " + Printable(to), from, [&](const std::string& full) {
    return link(full.c_str(), (roots_[side++] + to).c_str());
  });
  SameStat(from);
  SameStat(to);
}

void Model::Symlink() {
  std::string path = RandomPath();
  std::string target = Chance(80) ? RandomName() : "d" + Text(static_cast<int64_t>(Below(3))) + "/" + RandomName();
  OnPath("symlink to " + Printable(target), path,
         [&](const std::string& full) { return symlink(target.c_str(), full.c_str()); });
  SameStat(path);
}

void Model::MakeNode() {
  std::string path = RandomPath();
  static constexpr mode_t kTypes[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFREG};
  mode_t mode = kTypes[Below(4)] | static_cast<mode_t>(Below(01000));
  dev_t dev = S_ISCHR(mode) ? makedev(Below(200), Below(100000)) : 0;
  OnPath("mknod " + Octal(mode), path, [&](const std::string& full) { return mknod(full.c_str(), mode, dev); });
  SameStat(path);
}

void Model::Chmod() {
  std::string path = RandomPath();
  mode_t mode = static_cast<mode_t>(Below(010000));
  if (!ReferenceIs(path, S_IFREG)) mode |= 0711;  // directories stay passable for uid 1000 most of the time
  OnPath("chmod " + Octal(mode), path, [&](const std::string& full) { return chmod(full.c_str(), mode); });
  SameStat(path);
}

void Model::Chown() {
  std::string path = RandomPath();
  auto id = [&] { return Chance(25) ? static_cast<uid_t>(-1) : Chance(40) ? 0u : 1000u + static_cast<uid_t>(Below(2)); };
  uid_t uid = id();
  gid_t gid = id();
  if (uid == gid && gid == static_cast<gid_t>(-1)) return;  // clears set-id bits locally; FUSE sends nothing
  OnPath("lchown " + std::to_string(uid) + ":" + std::to_string(gid), path,
         [&](const std::string& full) { return lchown(full.c_str(), uid, gid); });
  SameStat(path);
}

void Model::Times() {
  std::string path = RandomPath();
  timespec times[2] = {OldTime(), OldTime()};
  if (Chance(10)) times[0].tv_nsec = UTIME_OMIT;
  if (Chance(5)) times[1].tv_nsec = UTIME_NOW;
  Outcome outcome = OnPath("utimens " + Text(times[1].tv_sec), path, [&](const std::string& full) {
    return utimensat(AT_FDCWD, full.c_str(), times, AT_SYMLINK_NOFOLLOW);
  });
  SameStat(path);
  if (outcome.error || times[0].tv_nsec == UTIME_OMIT) return;
  struct stat st;
  if (lstat((roots_[0] + path).c_str(), &st) == 0 &&
      (st.st_atim.tv_sec != times[0].tv_sec || st.st_atim.tv_nsec != times[0].tv_nsec)) {
    Mismatch(path, ReferenceIno(path), "atime is not the one just set");
  }
}

void Model::SetXattr() {
  std::string path = RandomPath();
  std::string name = std::string(Chance(85) ? "user." : "trusted.") + static_cast<char>('a' + Below(4));
  std::string value = RandomBytes(Below(250));
  int flags = Chance(70) ? 0 : Chance(50) ? XATTR_CREATE : XATTR_REPLACE;
  OnPath("lsetxattr " + name + " " + Text(static_cast<int64_t>(value.size())) + " bytes, flags " + Text(flags), path,
         [&](const std::string& full) {
           return lsetxattr(full.c_str(), name.c_str(), value.data(), value.size(), flags);
         });
  char back[2][512];
  size_t side = 0, room = Chance(80) ? sizeof back[0] : Below(200);  // 0 asks for the length, small ones ERANGE
  Outcome outcome = OnPath("lgetxattr " + name, path, [&](const std::string& full) {
    return lgetxattr(full.c_str(), name.c_str(), back[side++], room);
  });
  if (!outcome.error && room && memcmp(back[0], back[1], static_cast<size_t>(outcome.value))) {
    Mismatch(path, ReferenceIno(path), name + " has another value");
  }
}

void Model::RemoveXattr() {
  std::string path = RandomPath();
  std::string name = std::string("user.") + static_cast<char>('a' + Below(4));
  OnPath("lremovexattr " + name, path,
         [&](const std::string& full) { return lremovexattr(full.c_str(), name.c_str()); });
}

void Model::SetAcl() {
  std::string path = RandomPath();
  const char* name = Chance(50) ? "system.posix_acl_access" : "system.posix_acl_default";
  std::string value;
  uint32_t version = 2, none = static_cast<uint32_t>(-1);
  value.append(reinterpret_cast<const char*>(&version), 4);
  auto perm = [&] { return static_cast<uint16_t>(Below(8)); };
  PutAclEntry(&value, 0x01, static_cast<uint16_t>(perm() | 6), none);  // owner
  PutAclEntry(&value, 0x02, perm(), 1000);                              // user 1000
  PutAclEntry(&value, 0x04, perm(), none);                              // group
  PutAclEntry(&value, 0x10, perm(), none);                              // mask
  PutAclEntry(&value, 0x20, perm(), none);                              // other
  bool remove = Chance(30);
  OnPath(std::string(remove ? "remove " : "set ") + name, path, [&](const std::string& full) {
    return remove ? removexattr(full.c_str(), name)
                  : setxattr(full.c_str(), name, value.data(), value.size(), 0);
  });
  SameStat(path);
}

void Model::TruncatePath() {
  std::string path = RandomPath();
  uint64_t size = RandomOffset(path);
  struct stat st;
  // Whether truncating to the same size moves mtime is the file system's choice.
  if (stat((roots_[1] + path).c_str(), &st) == 0 && st.st_size == static_cast<off_t>(size)) return;
  if (ReferenceIs(path, S_IFIFO) || ReferenceIs(path, S_IFCHR)) return;
  OnPath("truncate " + std::to_string(size), path,
         [&](const std::string& full) { return truncate(full.c_str(), static_cast<off_t>(size)); });
  SameStat(path);
}

void Model::StatPath() {
  std::string path = RandomPath();
  struct stat st;
  OnPath("stat", path, [&](const std::string& full) { return stat(full.c_str(), &st); });
  SameStat(path);
}

void Model::Access() {
  std::string path = RandomPath();
  int mode = static_cast<int>(Below(8));
  OnPath("access " + Text(mode), path, [&](const std::string& full) {
    return faccessat(AT_FDCWD, full.c_str(), mode, AT_EACCESS);
  });
}

void Model::ReadLink() {
  std::string path = RandomPath();
  char target[2][512];
  size_t side = 0;
  Outcome outcome = OnPath("readlink", path, [&](const std::string& full) {
    return readlink(full.c_str(), target[side++], sizeof target[0]);
  });
  if (!outcome.error && memcmp(target[0], target[1], static_cast<size_t>(outcome.value))) {
    Mismatch(path, ReferenceIno(path), "symlink target differs");
  }
}

// Names that exist during the whole listing appear exactly once, whatever is
// deleted meanwhile.
void Model::ListWhileDeleting() {
  as_ = 0;
  std::string dir = RandomDir() + "/list";
  OnPath("mkdir", dir, [](const std::string& full) { return mkdir(full.c_str(), 0755); });
  if (!ReferenceIs(dir, S_IFDIR)) return;
  size_t count = 20 + Below(Chance(10) ? 3000 : 200);
  for (int side : {0, 1}) {
    for (size_t i = 0; i < count; ++i) {
      int fd = open((roots_[static_cast<size_t>(side)] + dir + "/n" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600);
      if (fd < 0) Mismatch(dir, ReferenceIno(dir), std::string("create in listed directory: ") + strerror(errno));
      close(fd);
    }
  }
  std::set<std::string> seen, deleted;
  // The order of the listing is the file system's: its dice are its own.
  std::mt19937_64 dice(random_());
  DIR* stream = opendir((roots_[0] + dir).c_str());
  if (!stream) Mismatch(dir, ReferenceIno(dir), std::string("opendir: ") + strerror(errno));
  while (dirent* entry = readdir(stream)) {
    std::string name = entry->d_name;
    if (name[0] == '.') continue;
    if (!seen.insert(name).second) Mismatch(dir, ReferenceIno(dir), "listing shows " + name + " twice");
    if (dice() & 1) {
      std::string victim = dice() & 1 ? name : "n" + std::to_string(dice() % count);
      if (unlink((roots_[0] + dir + "/" + victim).c_str()) == 0) deleted.insert(victim);
    }
  }
  closedir(stream);
  for (size_t i = 0; i < count; ++i) {
    std::string name = "n" + std::to_string(i);
    if (deleted.count(name)) {
      unlink((roots_[1] + dir + "/" + name).c_str());
    } else if (!seen.count(name)) {
      Mismatch(dir, ReferenceIno(dir), "listing misses " + name + ", which nobody deleted");
    }
  }
  Note("list " + std::to_string(count) + " names, delete " + std::to_string(deleted.size()), dir, ReferenceIno(dir), {});
  for (size_t i = 0; i < count; ++i) {
    for (const std::string& root : roots_) unlink((root + dir + "/n" + std::to_string(i)).c_str());
  }
  OnPath("rmdir", dir, [](const std::string& full) { return rmdir(full.c_str()); });
}

void Model::RemoveTree() {
  as_ = 0;
  std::string dir = "/d" + Text(static_cast<int64_t>(Below(3)));
  OnPath("remove tree", dir, [](const std::string& full) {
    std::function<int(const std::string&)> remove = [&](const std::string& path) -> int {
      DIR* stream = opendir(path.c_str());
      if (!stream) return errno == ENOTDIR ? unlink(path.c_str()) : -1;
      int result = 0;
      while (dirent* entry = readdir(stream)) {
        std::string name = entry->d_name;
        if (name == "." || name == "..") continue;
        std::string child = path + "/" + name;
        struct stat st;
        if (lstat(child.c_str(), &st)) result = -1;
        if ((S_ISDIR(st.st_mode) ? remove(child) : unlink(child.c_str())) != 0) result = -1;
      }
      int error = errno;
      closedir(stream);
      errno = error;
      return result ? result : rmdir(path.c_str());
    };
    struct stat st;
    if (lstat(full.c_str(), &st)) return -1;
    return S_ISDIR(st.st_mode) ? remove(full) : unlink(full.c_str());
  });
}

// ---- operations on handles -------------------------------------------------

void Model::Write() {
  Handle* handle = RandomHandle();
  if (!handle) return;
  bool direct = handle->flags & O_DIRECT;
  uint64_t offset = RandomOffset(handle->path);
  size_t length = Chance(50) ? 1 + Below(4096) : 1 + Below(kMaxIo);
  if (direct) {
    offset &= ~(kAlign - 1);
    length = (length + kAlign - 1) & ~(kAlign - 1);
    // An O_APPEND write goes to the end, which may not be aligned.
    if (handle->flags & O_APPEND) return;
  }
  std::string bytes = RandomBytes(length);
  memcpy(aligned_[0], bytes.data(), length);
  OnHandle("pwrite " + Text(static_cast<int64_t>(length)) + " at " + std::to_string(offset), handle,
           [&](int, int fd) { return pwrite(fd, aligned_[0], length, static_cast<off_t>(offset)); });
  SameStat(handle);
}

void Model::Append() {
  Handle* handle = RandomHandle();
  struct stat st;
  if (!handle || (handle->flags & O_DIRECT) || fstat(handle->fd[1], &st) || !S_ISREG(st.st_mode)) return;
  std::string bytes = RandomBytes(1 + Below(5000));
  if (!(handle->flags & O_APPEND) && lseek(handle->fd[0], 0, SEEK_END) != lseek(handle->fd[1], 0, SEEK_END)) {
    Mismatch(handle->path, handle->ino, "SEEK_END differs");
  }
  OnHandle("write " + Text(static_cast<int64_t>(bytes.size())) + " at the end", handle,
           [&](int, int fd) { return write(fd, bytes.data(), bytes.size()); });
  SameStat(handle);
}

void Model::Read() {
  Handle* handle = RandomHandle();
  if (!handle) return;
  uint64_t offset = RandomOffset(handle->path);
  size_t length = Chance(50) ? 1 + Below(4096) : 1 + Below(kMaxIo);
  if (handle->flags & O_DIRECT) {
    offset &= ~(kAlign - 1);
    length = (length + kAlign - 1) & ~(kAlign - 1);
  }
  Outcome outcome = OnHandle("pread " + Text(static_cast<int64_t>(length)) + " at " + std::to_string(offset), handle,
                             [&](int side, int fd) {
                               return pread(fd, aligned_[side], length, static_cast<off_t>(offset));
                             });
  if (outcome.error || !memcmp(aligned_[0], aligned_[1], static_cast<size_t>(outcome.value))) return;
  auto [a, b] = std::mismatch(aligned_[0], aligned_[0] + outcome.value, aligned_[1]);
  Mismatch(handle->path, handle->ino, "data read differs from offset " +
                                          std::to_string(offset + static_cast<uint64_t>(a - aligned_[0])) + ": byte " +
                                          Text(static_cast<unsigned char>(*a)) + ", reference " +
                                          Text(static_cast<unsigned char>(*b)));
}

void Model::Truncate() {
  Handle* handle = RandomHandle();
  if (!handle) return;
  uint64_t size = Chance(20) ? 0 : RandomOffset(handle->path);
  Outcome outcome = OnHandle("ftruncate " + std::to_string(size), handle,
                             [&](int, int fd) { return ftruncate(fd, static_cast<off_t>(size)); });
  if (!outcome.error) ResetTimes(handle);
  SameStat(handle);
}

// Whether fallocate and copy_file_range by root keep set-id bits is the file
// system's choice; here they never do.
void DropSetId(Handle* handle) {
  for (int fd : handle->fd) {
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 06000)) fchmod(fd, st.st_mode & 01777);
  }
}

void Model::Allocate() {
  Handle* handle = RandomHandle();
  if (!handle) return;
  static constexpr int kModes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                   FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
  int mode = kModes[Below(std::size(kModes))];
  uint64_t offset = RandomOffset(handle->path), length = 1 + Below(kMaxIo);
  Outcome outcome = OnHandle("fallocate mode " + Text(mode) + " " + std::to_string(length) + " at " + std::to_string(offset),
                             handle, [&](int, int fd) {
                               return fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
                             });
  if (!outcome.error) DropSetId(handle);
  if (!outcome.error) ResetTimes(handle);
  SameStat(handle);
}

void Model::CopyRange() {
  if (handles_.size() < 2) return;
  Handle* from = RandomHandle();
  Handle* to = RandomHandle();
  uint64_t source = RandomOffset(from->path), target = RandomOffset(to->path), length = 1 + Below(kMaxIo);
  if (Chance(50)) {  // whole blocks at equal places: what a server can share
    source &= ~(kAlign - 1);
    target &= ~(kAlign - 1);
  }
  struct stat st;
  // What a call that fails or ends half way through has copied is not defined.
  if (fstat(from->fd[1], &st) || !S_ISREG(st.st_mode)) return;
  Outcome outcome = OnHandle("copy_file_range " + std::to_string(length) + " from " + Printable(from->path) + " at " +
                                 std::to_string(source) + " to " + std::to_string(target),
                             to, [&](int side, int fd) -> int64_t {
                               uint64_t done = 0;
                               while (done < length) {
                                 off_t in = static_cast<off_t>(source + done), out = static_cast<off_t>(target + done);
                                 ssize_t n = copy_file_range(from->fd[static_cast<size_t>(side)], &in, fd, &out, length - done, 0);
                                 if (n < 0) return -1;
                                 if (n == 0) break;
                                 done += static_cast<uint64_t>(n);
                               }
                               return static_cast<int64_t>(done);
                             });
  if (!outcome.error) DropSetId(to);
  if (!outcome.error) ResetTimes(to);
  SameStat(to);
}

// What is reported as a hole must be zeros in the reference; what is reported
// as data may be anything, as file systems choose their granularity.
void Model::SeekData() {
  Handle* handle = RandomHandle();
  if (!handle || (handle->flags & O_ACCMODE) == O_WRONLY || (handle->flags & O_DIRECTORY) == O_DIRECTORY) return;
  struct stat st;
  if (fstat(handle->fd[1], &st) || !S_ISREG(st.st_mode)) return;
  off_t offset = static_cast<off_t>(RandomOffset(handle->path));
  off_t data = lseek(handle->fd[0], offset, SEEK_DATA);
  int error = data < 0 ? errno : 0;
  Note("SEEK_DATA " + Text(offset) + " on handle", handle->path, handle->ino, {data, error});
  if (error && error != ENXIO) Mismatch(handle->path, handle->ino, std::string("SEEK_DATA: ") + strerror(error));
  if (!error && (data < offset || data >= st.st_size)) Mismatch(handle->path, handle->ino, "SEEK_DATA out of range");
  off_t end = error ? st.st_size : data;
  for (off_t at = offset & ~static_cast<off_t>(kAlign - 1); at < std::min<off_t>(end, offset + (4 << 20));) {
    ssize_t n = pread(handle->fd[1], aligned_[1], kMaxIo, at);
    if (n <= 0) break;
    off_t first = std::max(offset - at, off_t{0}), last = std::min<off_t>(n, end - at);
    if (last > first && !AllZero(aligned_[1] + first, static_cast<size_t>(last - first))) {
      Mismatch(handle->path, handle->ino, "SEEK_DATA from " + Text(offset) + " says " + Text(data) + ", but there is data near " + Text(at));
    }
    at += n;
  }
  off_t hole = lseek(handle->fd[0], offset, SEEK_HOLE);
  error = hole < 0 ? errno : 0;
  Note("SEEK_HOLE " + Text(offset) + " on handle", handle->path, handle->ino, {hole, error});
  if (offset >= st.st_size ? error != ENXIO : (error || hole < offset || hole > st.st_size)) {
    Mismatch(handle->path, handle->ino, "SEEK_HOLE from " + Text(offset) + " says " + Text(hole) + ", size " + Text(st.st_size));
  }
}

void Model::MapWrite() {
  Handle* handle = RandomHandle();
  struct stat st;
  if (!handle || (handle->flags & O_ACCMODE) != O_RDWR || fstat(handle->fd[1], &st) || st.st_size == 0) return;
  if (!S_ISREG(st.st_mode)) return;
  uint64_t size = static_cast<uint64_t>(st.st_size);
  uint64_t page = Below(size) & ~(kAlign - 1);
  size_t window = std::min<size_t>(size - page, 3 * kAlign);
  size_t at = Below(window), length = 1 + Below(window - at);
  std::string bytes = RandomBytes(length);
  OnHandle("mmap write " + Text(static_cast<int64_t>(length)) + " at " + std::to_string(page + at), handle,
           [&](int, int fd) -> int64_t {
             void* map = mmap(nullptr, window, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(page));
             if (map == MAP_FAILED) return -1;
             memcpy(static_cast<char*>(map) + at, bytes.data(), length);
             int result = msync(map, window, MS_SYNC);
             int error = errno;
             munmap(map, window);
             errno = error;
             return result;
           });
  SameStat(handle);
}

void Model::MapRead() {
  Handle* handle = RandomHandle();
  struct stat st;
  if (!handle || (handle->flags & O_ACCMODE) == O_WRONLY || fstat(handle->fd[1], &st) || st.st_size == 0) return;
  if (!S_ISREG(st.st_mode)) return;
  uint64_t page = Below(static_cast<uint64_t>(st.st_size)) & ~(kAlign - 1);
  OnHandle("mmap read a page at " + std::to_string(page), handle, [&](int side, int fd) -> int64_t {
    void* map = mmap(nullptr, kAlign, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(page));
    if (map == MAP_FAILED) return -1;
    memcpy(aligned_[side], map, kAlign);
    munmap(map, kAlign);
    return 0;
  });
  // Bytes behind the end of the file are zeros in a fresh mapping.
  size_t valid = std::min<size_t>(kAlign, static_cast<size_t>(st.st_size) - page);
  if (memcmp(aligned_[0], aligned_[1], valid)) Mismatch(handle->path, handle->ino, "mapped page differs");
}

void Model::Fsync() {
  Handle* handle = RandomHandle();
  if (!handle) return;
  bool data_only = Chance(50);
  // The reference's disk is not what is tested.
  int result = data_only ? fdatasync(handle->fd[0]) : fsync(handle->fd[0]);
  Note(data_only ? "fdatasync" : "fsync", handle->path, handle->ino, {result, result ? errno : 0});
  if (result) Mismatch(handle->path, handle->ino, std::string("fsync: ") + strerror(errno));
}

void Model::HandleMode() {
  Handle* handle = RandomHandle();
  if (!handle) return;
  if (Chance(50)) {
    mode_t mode = static_cast<mode_t>(Below(010000)) | 0600;
    OnHandle("fchmod " + Octal(mode), handle, [&](int, int fd) { return fchmod(fd, mode); });
  } else {
    uid_t uid = Chance(50) ? 0 : 1000;
    OnHandle("fchown " + std::to_string(uid), handle, [&](int, int fd) { return fchown(fd, uid, uid); });
  }
  SameStat(handle);
}

void Model::Close() {
  if (handles_.empty()) return;
  as_ = 0;
  Handle* handle = &handles_[Below(handles_.size())];
  OnHandle("close", handle, [](int, int fd) { return close(fd); });
  *handle = handles_.back();
  handles_.pop_back();
}

}  // namespace moorfs::model
