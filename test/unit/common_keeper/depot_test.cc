// SPDX-License-Identifier: Apache-2.0
//
// The node's second holder: what it keeps, what it refuses. Needs root, whom
// alone it answers.

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "common/control/line_socket.h"
#include "common/keeper/depot.h"
#include "common/os/fd_passing.h"

using namespace moorfs;
using namespace moorfs::keeper;

namespace {

class Running {
 public:
  Running() {
    char name[] = "/tmp/moorfs-depot-XXXXXX";
    directory_ = mkdtemp(name);
    path = directory_ + "/new/keeper.sock";
    pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int null_fd = open("/dev/null", O_WRONLY);
      dup2(null_fd, STDERR_FILENO);
      _exit(RunDepot(path));
    }
    for (int i = 0; i < 10'000 && !client; ++i) {
      usleep(1000);
      if (auto c = DepotClient::Connect(path, 10'000)) client = std::move(*c);
    }
    REQUIRE(client);
  }
  ~Running() {
    Stop(SIGKILL);
    std::filesystem::remove_all(directory_);
  }
  int Stop(int signal) {
    if (pid == 0) return 0;
    kill(std::exchange(pid, 0), signal);
    int status = 0;
    wait(&status);
    return status;
  }
  std::string path;
  pid_t pid = 0;
  std::unique_ptr<DepotClient> client;

 private:
  std::string directory_;
};

UniqueFd Open(const char* path) { return UniqueFd(open(path, O_RDONLY | O_CLOEXEC)); }
ino_t Inode(int fd) {
  struct stat st {};
  fstat(fd, &st);
  return st.st_ino;
}

}  // namespace

TEST_CASE("a deposit comes back, for another caller too, until it is dropped") {
  Running depot;
  const UniqueFd zero = Open("/dev/zero"), null = Open("/dev/null");
  REQUIRE(depot.client->Put("a", "text \"of\" a\n", {zero.get(), null.get()}).ok());
  REQUIRE(depot.client->Put("b", "", {}).ok());
  CHECK(depot.client->List().value() == std::vector<std::string>{"a", "b"});
  depot.client = std::move(*DepotClient::Connect(depot.path, 10'000));
  auto a = depot.client->Get("a");
  REQUIRE(a);
  CHECK(a->text == "text \"of\" a\n");
  REQUIRE(a->fds.size() == 2);
  CHECK(Inode(a->fds[0].get()) == Inode(zero.get()));
  CHECK(Inode(a->fds[1].get()) == Inode(null.get()));
  CHECK(depot.client->Get("b")->fds.empty());

  REQUIRE(depot.client->Put("a", "other", {null.get()}).ok());
  CHECK(depot.client->Get("a")->text == "other");
  CHECK(depot.client->Get("a")->fds.size() == 1);
  REQUIRE(depot.client->Drop("a").ok());
  REQUIRE(depot.client->Drop("a").ok());
  CHECK(depot.client->Get("a").error().err() == ENOENT);

  CHECK(depot.Stop(SIGTERM) == 0);
  CHECK(depot.client->List().error().err() == EPIPE);
  CHECK(DepotClient::Connect(depot.path, 100).error().err() == ECONNREFUSED);
}

TEST_CASE("a depot keeps a thousand mounts, and says when it is full") {
  Running depot;
  const UniqueFd null = Open("/dev/null");
  const std::vector<int> four(4, null.get());
  const std::string text(64 << 10, 't');
  CHECK(depot.client->Put("x", text + "t", {}).err() == EDQUOT);
  CHECK(depot.client->Put("x", "", std::vector<int>(5, null.get())).err() == EMSGSIZE);
  CHECK(depot.client->Put("", "", {}).err() == EINVAL);
  CHECK(depot.client->Put("a b", "", {}).err() == EINVAL);
  CHECK(depot.client->Put(std::string(257, 'n'), "", {}).err() == EINVAL);
  CHECK(depot.client->Put("x", "\xff\xfe", {}).err() == EINVAL);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const bool room = files.rlim_max > 5 * 1024 + 100;
  const std::string prefix(250, 'n');
  for (int i = 0; i < 1024; ++i) {
    REQUIRE(depot.client->Put(prefix + std::to_string(i), i < 3 ? text : "t", room ? four : std::vector<int>()).ok());
  }
  CHECK(depot.client->Put("one-more", "", {}).err() == EDQUOT);
  CHECK(depot.client->List()->size() == 1024);
  CHECK(depot.client->Put(prefix + "7", "replaced", four).ok());
  CHECK(depot.client->Get(prefix + "7")->text == "replaced");
  CHECK(depot.client->Get(prefix + "2")->text == text);
  REQUIRE(depot.client->Drop(prefix + "7").ok());
  CHECK(depot.client->Put("one-more", "", {}).ok());
}

TEST_CASE("a depot outlives callers that send rubbish") {
  Running depot;
  const UniqueFd null = Open("/dev/null");
  auto c = control::ConnectUnix(depot.path, 10'000);
  REQUIRE(c);
  REQUIRE(c->Receive(10'000));
  for (const char* line : {"", "x", "[]", R"({"cmd":1})", R"({"cmd":"put"})", R"({"cmd":"put","name":1,"text":""})",
                           R"({"cmd":"put","name":"n","text":{}})", R"({"cmd":"get"})", R"({"cmd":"steal"})"}) {
    REQUIRE(c->Send(line, 1000).ok());
    CHECK(c->Receive(10'000).value().find("error") != std::string::npos);
  }
  REQUIRE(os::SendFds(c->fd(), "{\"cmd\":\"put\",\"name\":\"n\",\"text\":\"\"}\n", std::vector<int>(8, null.get())).ok());
  CHECK(c->Receive(10'000).value().find("more than 4 descriptors") != std::string::npos);
  CHECK(depot.client->List()->empty());
}
