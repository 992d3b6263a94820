// SPDX-License-Identifier: Apache-2.0
//
// Lines that carry descriptors: which line a descriptor belongs to, whatever
// the kernel glues together or splits, and peers that send too much of all.

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "common/control/line_socket.h"
#include "common/keeper/fd_line_socket.h"
#include "common/os/fd_passing.h"

using namespace moorfs;
using namespace moorfs::keeper;

namespace {

struct Pair {
  Pair() {
    auto pair = os::SocketPair();
    REQUIRE(pair);
    a.emplace(std::move(pair->first));
    b.emplace(std::move(pair->second));
  }
  std::optional<FdLineSocket> a, b;
};

UniqueFd Open(const char* path) { return UniqueFd(open(path, O_RDONLY | O_CLOEXEC)); }
std::vector<UniqueFd> Fds(size_t count) {
  std::vector<UniqueFd> out;
  while (out.size() < count) out.push_back(Open("/dev/null"));
  return out;
}
bool SameFile(int a, const char* path) {
  struct stat x, y;
  return fstat(a, &x) == 0 && stat(path, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}
int OpenFds() {
  int count = 0;
  DIR* dir = opendir("/proc/self/fd");
  while (readdir(dir) != nullptr) ++count;
  closedir(dir);
  return count;
}

}  // namespace

TEST_CASE("a descriptor arrives with its own line, though the kernel gives several lines at once") {
  Pair p;
  std::vector<UniqueFd> zero, null;
  zero.push_back(Open("/dev/zero"));
  null.push_back(Open("/dev/null"));
  REQUIRE(p.a->Queue("one").ok());
  REQUIRE(p.a->Queue("two", std::move(zero)).ok());
  REQUIRE(p.a->Queue("three").ok());
  REQUIRE(p.a->Queue("four", std::move(null)).ok());
  REQUIRE(p.a->Queue("five").ok());
  REQUIRE(p.a->Drain(10'000).ok());
  CHECK(p.b->Receive(10'000)->fds.empty());
  const auto two = p.b->Receive(10'000);
  REQUIRE(two);
  CHECK(two->text == "two");
  REQUIRE(two->fds.size() == 1);
  CHECK(SameFile(two->fds[0].get(), "/dev/zero"));
  CHECK((fcntl(two->fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(p.b->Receive(10'000)->fds.empty());
  const auto four = p.b->Receive(10'000);
  REQUIRE(four->fds.size() == 1);
  CHECK(SameFile(four->fds[0].get(), "/dev/null"));
  CHECK(p.b->Receive(10'000)->text == "five");
}

TEST_CASE("a descriptor stays with a line that comes in many pieces") {
  Pair p;
  const std::string lengthy(700'000, 'x');
  for (int round = 0; round < 3; ++round) {
    REQUIRE(p.a->Queue("before").ok());
    REQUIRE(p.a->Queue(lengthy, Fds(2)).ok());
    REQUIRE(p.a->Queue("after", Fds(1)).ok());
  }
  for (int round = 0; round < 3; ++round) {
    std::vector<FdLine> lines;
    while (lines.size() < 3) {
      REQUIRE(p.a->Flush().ok());
      if (auto line = p.b->Receive(50)) lines.push_back(std::move(*line));
    }
    CHECK(lines[0].fds.empty());
    CHECK(lines[1].text.size() == lengthy.size());
    CHECK(lines[1].fds.size() == 2);
    CHECK_FALSE(lines[1].fds_lost);
    CHECK(lines[2].fds.size() == 1);
  }
  CHECK_FALSE(p.a->pending());
}

TEST_CASE("descriptors beyond four are closed and said to be lost") {
  const int before = OpenFds();
  {
    Pair p;
    const auto fds = Fds(16);
    std::vector<int> raw;
    for (const UniqueFd& fd : fds) raw.push_back(fd.get());
    // In one message, and in pieces of one line.
    REQUIRE(os::SendFds(p.a->fd(), "all at once\n", raw).ok());
    raw.resize(2);
    for (const char* piece : {"piece", "by", "piece\n"}) REQUIRE(os::SendFds(p.a->fd(), piece, raw).ok());
    for (int i = 0; i < 2; ++i) {
      const auto line = p.b->Receive(10'000);
      REQUIRE(line);
      CHECK(line->fds.size() == kMaxLineFds);
      CHECK(line->fds_lost);
    }
    REQUIRE(p.a->Queue("next").ok());
    REQUIRE(p.a->Drain(10'000).ok());
    CHECK_FALSE(p.b->Receive(10'000)->fds_lost);
    CHECK(p.a->Queue("five", Fds(5)).err() == EMSGSIZE);
  }
  CHECK(OpenFds() == before);
}

TEST_CASE("an endless line, a silent peer and one that does not read are given up") {
  Pair p;
  CHECK(p.b->Receive(20).error().err() == ETIMEDOUT);
  std::string much(100'000, 'x');
  Status s;
  for (int i = 0; i < 1000 && s.err() != EMSGSIZE; ++i) {
    while (send(p.a->fd(), much.data(), much.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    s = p.b->Fill();
  }
  CHECK(s.err() == EMSGSIZE);

  Pair q;
  s = {};
  for (int i = 0; i < 1000 && s.ok(); ++i) {
    s = q.a->Queue(much);
    if (s.ok()) s = q.a->Flush();
  }
  CHECK(s.err() == ENOBUFS);
  CHECK(q.a->Drain(20).err() == ETIMEDOUT);
  q.b.reset();
  CHECK(q.a->Flush().err() == EPIPE);
  CHECK(q.a->Fill().err() == EPIPE);
  CHECK(q.a->Queue(std::string(control::kMaxLineBytes, 'x')).err() == EMSGSIZE);
}
