// SPDX-License-Identifier: Apache-2.0
//
// The supervisor with clients that are shell scripts, and the agent's end with
// supervisors that mean harm. test/node/supervisor.sh runs whole mounts.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <thread>

#include "common/base/units.h"
#include "common/control/line_socket.h"
#include "common/keeper/supervisor.h"
#include "common/keeper/supervisor_link.h"
#include "common/os/fd_passing.h"
#include "common/os/file.h"

using namespace moorfs;
using namespace moorfs::keeper;
using Phase = SupervisorState::Phase;

namespace {

struct TempDir {
  TempDir() {
    char name[] = "/tmp/moorfs-supervisor-XXXXXX";
    path = mkdtemp(name);
    fd = UniqueFd(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
  UniqueFd fd;
};

int64_t ElapsedMs(int64_t since_ns) { return (MonotonicNs() - since_ns) / 1'000'000; }

// A supervisor in a process of its own. Its client is a script that reads the
// configuration from descriptor 5 and does what `body` says. While the file
// "busy" exists, the volume is held by another process.
class Running {
 public:
  explicit Running(const std::string& body) {
    REQUIRE(os::ReplaceFile(dir.path + "/client", "#!/bin/bash\nread -r config <&5\n" + body + "\n", 0755).ok());
    pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int null_fd = open("/dev/null", O_WRONLY);
      dup2(null_fd, STDERR_FILENO);
      SupervisorConfig config;
      config.directory = dir.path;
      config.executable = dir.path + "/client";
      config.plan = [this](ClientRequest request) -> Result<ClientPlan> {
        if (access((dir.path + "/busy").c_str(), F_OK) == 0) return Error(EBUSY, "somebody else has it");
        if (request.words == "repair") chmod((dir.path + "/client").c_str(), 0755);
        if (request.words == "bad") return Error(EINVAL, "bad words");
        ClientPlan plan;
        plan.client_json = R"({"from":"plan"})";
        plan.arena = request.arena ? std::move(request.arena) : UniqueFd(open("/dev/zero", O_RDWR | O_CLOEXEC));
        return plan;
      };
      _exit(RunSupervisor(config));
    }
    for (int i = 0; i < 10'000 && !Connect(); ++i) usleep(1000);
    REQUIRE(link);
  }
  ~Running() {
    if (pid > 0) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  bool Connect() {
    auto made = SupervisorLink::Connect(dir.fd.get(), geteuid(), 10'000);
    if (made) link = std::move(*made);
    return made.has_value();
  }
  Status Serve(bool with_arena = false, const std::string& words = "") {
    SupervisorLink::Serve s;
    s.mount = "m";
    s.meta = "meta";
    s.words = words;
    s.device = "0:1";
    s.start_timeout_s = 2;
    s.abort_after_s = 1;
    const UniqueFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC)), arena(open("/dev/zero", O_RDWR | O_CLOEXEC));
    s.fuse = fuse.get();
    if (with_arena) s.arena = arena.get();
    return link->StartServing(s, 10'000);
  }
  bool Until(const std::function<bool(const SupervisorState&)>& wanted, int timeout_ms = 20'000) {
    for (const int64_t began = MonotonicNs(); ElapsedMs(began) < timeout_ms; usleep(1000)) {
      if (!link->Update()) return false;
      if (wanted(link->state())) return true;
    }
    return false;
  }
  bool Until(Phase phase) {
    return Until([&](const SupervisorState& s) { return s.phase == phase; });
  }
  // -1: it still runs.
  int ExitCode(int timeout_ms = 10'000) {
    for (const int64_t began = MonotonicNs(); ElapsedMs(began) < timeout_ms; usleep(1000)) {
      int status = 0;
      if (waitpid(pid, &status, WNOHANG) == pid) {
        pid = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
      }
    }
    return -1;
  }

  TempDir dir;
  pid_t pid = 0;
  std::unique_ptr<SupervisorLink> link;
};

constexpr char kReady[] = R"(echo '{"progress":"half"}' >&5; echo '{"ready":{"uuid":"u-1"}}' >&5; )";

// What an agent finds when a hostile pod made supervisor.sock.
class Hostile {
 public:
  explicit Hostile(std::function<void(int)> play) {
    auto listener = control::ListenUnix(dir.path + "/supervisor.sock");
    REQUIRE(listener);
    listener_ = std::move(*listener);
    fcntl(listener_.get(), F_SETFL, 0);
    thread_ = std::thread([this, play = std::move(play)] {
      UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (fd) play(fd.get());
    });
  }
  ~Hostile() {
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  auto Connect(int timeout_ms = 10'000) { return SupervisorLink::Connect(dir.fd.get(), geteuid(), timeout_ms); }
  TempDir dir;

 private:
  UniqueFd listener_;
  std::thread thread_;
};

void Say(int fd, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = send(fd, text.data() + done, text.size() - done, MSG_NOSIGNAL);
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}
const std::string kState =
    R"("phase":"idle","mount":"","client_pid":0,"restarts":0,"last_exit":"","last_error":"")";
const std::string kHello = R"({"protocol":1,"version":"x","pid":1,)" + kState + "}\n";
void WaitForEnd(int fd) {
  char c[4096];
  while (recv(fd, c, sizeof c, 0) > 0) {
  }
}

}  // namespace

TEST_CASE("a supervisor serves, tells how it goes, and hands over what it has") {
  Running s(R"(echo "$config" >>${0%/*}/configs; )" + std::string(kReady) + "exec sleep 60");
  CHECK(s.link->state().phase == Phase::kIdle);
  CHECK(s.link->Fetch(10'000).error().err() == ENOENT);
  REQUIRE(s.Serve().ok());
  REQUIRE(s.Until(Phase::kServing));
  CHECK(s.link->state().uuid == "u-1");
  CHECK(s.link->state().mount == "m");
  CHECK(s.Serve().err() == EALREADY);
  const auto fetched = s.link->Fetch(10'000);
  REQUIRE(fetched);
  CHECK(fetched->device == "0:1");
  CHECK(fetched->uuid == "u-1");
  CHECK(fetched->fuse);
  CHECK(fetched->arena);

  // Who connects later learns it from the first line.
  REQUIRE(s.Connect());
  CHECK(s.link->state().phase == Phase::kServing);
  const pid_t first = s.link->state().client_pid;
  REQUIRE(kill(first, SIGKILL) == 0);
  REQUIRE(s.Until([&](const SupervisorState& st) { return st.phase == Phase::kServing && st.restarts == 1; }));
  CHECK(s.link->state().last_exit == "client " + std::to_string(first) + " killed by signal 9 (Killed)");
  // The successor is told which volume the first one served.
  const std::string configs = os::ReadFile(s.dir.path + "/configs", 1 << 16).value();
  const std::string second = configs.substr(configs.find('\n') + 1);
  CHECK(configs.find("u-1") > configs.find('\n'));
  CHECK(second.find(R"("uuid":"u-1")") != std::string::npos);
  CHECK(second.find(R"("restarts":1)") != std::string::npos);
  CHECK(second.find(R"("from":"plan")") != std::string::npos);
}

TEST_CASE("step-aside ends a client that does not listen within 200 ms, and then the supervisor") {
  Running s(std::string("trap '' TERM; ") + kReady + "while :; do sleep 0.01; done");
  REQUIRE(s.Serve().ok());
  REQUIRE(s.Until(Phase::kServing));
  const pid_t client = s.link->state().client_pid;
  const int64_t began = MonotonicNs();
  REQUIRE(s.link->StepAside(10'000).ok());
  CHECK(ElapsedMs(began) >= 150);
  CHECK(ElapsedMs(began) < 1800);  // the machine may be busy
  CHECK(kill(client, 0) != 0);
  CHECK(s.ExitCode() == 0);

  Running idle("exit 0");
  CHECK(idle.link->StepAside(10'000).ok());
  CHECK(idle.ExitCode() == 0);
}

TEST_CASE("a new mount whose client fails is failed and can be tried again; SIGTERM ends it") {
  Running s(R"([ -e ${0%/*}/good ] || { echo '{"failed":{"errno":2,"message":"no store"}}' >&5; exit 11; }
)" + std::string(kReady) + "exec sleep 60");
  CHECK(s.Serve(false, "bad").err() == EINVAL);
  REQUIRE(s.Serve().ok());
  REQUIRE(s.Until(Phase::kFailed));
  CHECK(s.link->state().last_error == "no store");
  CHECK(s.link->Fetch(10'000).error().err() == ENOENT);
  REQUIRE(os::ReplaceFile(s.dir.path + "/good", "", 0644).ok());
  REQUIRE(s.Serve().ok());
  REQUIRE(s.Until(Phase::kServing));
  // While applications hang on it, it stays.
  REQUIRE(kill(s.pid, SIGTERM) == 0);
  REQUIRE(s.Until([](const SupervisorState& st) { return st.sigterm; }));
  CHECK(s.ExitCode(300) == -1);
  CHECK(s.link->state().phase == Phase::kServing);

  Running failed("exit 3");
  REQUIRE(failed.Serve().ok());
  REQUIRE(failed.Until(Phase::kFailed));
  CHECK(failed.link->state().last_error.find("exited with 3") != std::string::npos);
  REQUIRE(kill(failed.pid, SIGTERM) == 0);
  CHECK(failed.ExitCode() == 0);
}

TEST_CASE("an order that is there already when a new mount fails is served") {
  Running r(std::string(kReady) + "exec sleep 60");
  REQUIRE(chmod((r.dir.path + "/client").c_str(), 0644) == 0);  // no client can be started
  auto socket = control::ConnectUnix(r.dir.path + "/supervisor.sock", 10'000);
  REQUIRE(socket);
  REQUIRE(kill(r.pid, SIGSTOP) == 0);
  const UniqueFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  for (const char* words : {"", "repair"}) {
    const std::string order = R"({"cmd":"serve","mount":"m","meta":"","device":"0:1","host":"","start_timeout_s":5,)"
                              R"("abort_after_s":5,"words":")" + std::string(words) + "\"}\n";
    REQUIRE(os::SendFds(socket->fd(), order, {fuse.get()}).ok());
  }
  REQUIRE(kill(r.pid, SIGCONT) == 0);
  CHECK(r.Until(Phase::kServing));
}

TEST_CASE("a first client that never gets ready is given up, one of a mount taken over is tried on and on") {
  Running hangs("exec sleep 60");
  REQUIRE(hangs.Serve().ok());
  CHECK(hangs.Until(Phase::kFailed));
  CHECK(hangs.link->state().last_error.find("not ready within 2 s") != std::string::npos);

  Running s(R"([ -e ${0%/*}/good ] || exit 12
)" + std::string(kReady) + "exec sleep 60");
  REQUIRE(s.Serve(true).ok());
  REQUIRE(s.Until([](const SupervisorState& st) { return st.last_error.starts_with("no client serves m"); }));
  CHECK(s.link->state().phase == Phase::kRestarting);
  CHECK(s.link->Fetch(10'000));
  REQUIRE(os::ReplaceFile(s.dir.path + "/good", "", 0644).ok());
  // An incompatible client is not tried often.
  REQUIRE(s.Until([](const SupervisorState& st) { return st.phase == Phase::kServing; }));
  CHECK(s.link->state().last_error.empty());
}

TEST_CASE("a client that found its mount gone makes the supervisor finished, and SIGTERM that came before ends it") {
  Running s(std::string(kReady) + "while [ ! -e ${0%/*}/gone ]; do sleep 0.01; done; exit 10");
  REQUIRE(s.Serve().ok());
  REQUIRE(s.Until(Phase::kServing));
  REQUIRE(kill(s.pid, SIGTERM) == 0);
  REQUIRE(s.Until([](const SupervisorState& st) { return st.sigterm; }));
  REQUIRE(os::ReplaceFile(s.dir.path + "/gone", "", 0644).ok());
  CHECK(s.Until(Phase::kFinished));
  CHECK(s.ExitCode() == 0);
}

TEST_CASE("a volume that a predecessor still holds is waited for") {
  Running s(std::string(kReady) + "exec sleep 60");
  REQUIRE(os::ReplaceFile(s.dir.path + "/busy", "", 0644).ok());
  REQUIRE(s.Serve(true).ok());
  CHECK(s.Until([](const SupervisorState& st) { return st.last_error == "somebody else has it"; }));
  CHECK(s.link->state().phase == Phase::kStarting);
  CHECK(s.Serve().err() == EALREADY);
  REQUIRE(unlink((s.dir.path + "/busy").c_str()) == 0);
  CHECK(s.Until(Phase::kServing));
  CHECK(s.link->StepAside(10'000).ok());
}

TEST_CASE("a supervisor outlives callers that send rubbish, too much, or nothing") {
  Running s(std::string(kReady) + "exec sleep 60");
  const std::string path = s.dir.path + "/supervisor.sock";
  const UniqueFd null_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  std::vector<control::LineSocket> callers;
  for (int i = 0; i < 60; ++i) {
    if (auto c = control::ConnectUnix(path, 1000)) callers.push_back(std::move(*c));
  }
  callers.clear();
  auto c = control::ConnectUnix(path, 1000);
  REQUIRE(c);
  REQUIRE(c->Receive(10'000));
  for (const char* line : {"", "[]", "{", "[[[[[[", R"({"cmd":5})", R"({"cmd":"serve"})", R"({"cmd":"serve","mount":3})",
                           R"({"cmd":"format-the-disk"})"}) {
    REQUIRE(c->Send(line, 1000).ok());
    CHECK(c->Receive(10'000).value().find("error") != std::string::npos);
  }
  const std::string serve =
      R"({"cmd":"serve","mount":"m","meta":"","words":"","device":"","host":"","start_timeout_s":1,"abort_after_s":1})";
  REQUIRE(os::SendFds(c->fd(), serve + "\n", {null_fd.get()}).ok());
  CHECK(c->Receive(10'000).value().find("not one of /dev/fuse") != std::string::npos);
  REQUIRE(os::SendFds(c->fd(), serve + "\n", std::vector<int>(9, null_fd.get())).ok());
  CHECK(c->Receive(10'000).value().find("did not all arrive") != std::string::npos);
  // An endless line is hung up on.
  const std::string much(1 << 20, 'x');
  fcntl(c->fd(), F_SETFL, 0);
  for (int i = 0; i < 3; ++i) Say(c->fd(), much);
  CHECK(c->Receive(10'000).error().err() == EPIPE);
  CHECK(s.Connect());
  CHECK(s.Serve().ok());
  CHECK(s.Until(Phase::kServing));
}

TEST_CASE("the agent follows no link and talks to no stranger") {
  Running real(std::string(kReady) + "exec sleep 60");
  CHECK(SupervisorLink::Connect(real.dir.fd.get(), geteuid() + 1, 500).error().err() == EPERM);
  CHECK(SupervisorLink::OpenClientSocket(real.dir.fd.get()));

  TempDir d;
  CHECK(SupervisorLink::Connect(d.fd.get(), 0, 500).error().err() == ENOENT);
  REQUIRE(symlink((real.dir.path + "/supervisor.sock").c_str(), (d.path + "/supervisor.sock").c_str()) == 0);
  REQUIRE(symlink((real.dir.path + "/client.sock").c_str(), (d.path + "/client.sock").c_str()) == 0);
  CHECK(SupervisorLink::Connect(d.fd.get(), geteuid(), 500).error().err() == ENOTSOCK);
  CHECK(SupervisorLink::OpenClientSocket(d.fd.get()).error().err() == ENOTSOCK);
  unlink((d.path + "/supervisor.sock").c_str());
  // Opening a fifo or a device may hang or do harm; it is not opened.
  REQUIRE(mkfifo((d.path + "/supervisor.sock").c_str(), 0666) == 0);
  CHECK(SupervisorLink::Connect(d.fd.get(), geteuid(), 500).error().err() == ENOTSOCK);
  unlink((d.path + "/supervisor.sock").c_str());
  { const auto dead = control::ListenUnix(d.path + "/supervisor.sock"); }
  CHECK(SupervisorLink::Connect(d.fd.get(), geteuid(), 500).error().err() == ECONNREFUSED);
}

TEST_CASE("a supervisor that greets wrongly is refused in time") {
  const std::string huge(3 << 20, 'x');
  for (const std::string& hello : {std::string("rubbish\n"), std::string("[]\n"), R"({"protocol":2})" + std::string("\n"),
                                   R"({"protocol":1,"pid":1})" + std::string("\n"),
                                   R"({"protocol":1,"pid":"x",)" + kState + "}\n",
                                   R"({"protocol":1,"pid":1,"phase":"odd"})" + std::string("\n"),
                                   std::string(500'000, '[') + "\n"}) {
    Hostile h([&](int fd) { Say(fd, hello), WaitForEnd(fd); });
    CHECK(h.Connect().error().err() == EPROTO);
  }
  Hostile endless([&](int fd) { Say(fd, huge); });
  CHECK(endless.Connect().error().err() == EMSGSIZE);
  Hostile silent([](int fd) { WaitForEnd(fd); });
  const int64_t began = MonotonicNs();
  CHECK(silent.Connect(200).error().err() == ETIMEDOUT);
  Hostile dribbles([](int fd) {
    for (int i = 0; i < 100 && send(fd, "x", 1, MSG_NOSIGNAL) == 1; ++i) usleep(10'000);
  });
  CHECK(dribbles.Connect(200).error().err() == ETIMEDOUT);
  CHECK(ElapsedMs(began) < 5000);
}

TEST_CASE("an event that came together with an answer is announced to whoever polls") {
  Hostile h([](int fd) {
    Say(fd, kHello);
    char c[4096];
    if (recv(fd, c, sizeof c, 0) <= 0) return;
    std::string event = "{\"event\":{" + kState + "}}\n";
    event.replace(event.find("idle"), 4, "serving");
    Say(fd, "{\"ok\":{}}\n" + event);
    WaitForEnd(fd);
  });
  auto link = h.Connect();
  REQUIRE(link);
  REQUIRE((*link)->Update());
  REQUIRE((*link)->StepAside(10'000).ok());
  for (int i = 0; i < 10 && (*link)->state().phase != Phase::kServing; ++i) {
    pollfd p{(*link)->fd(), POLLIN, 0};
    REQUIRE(poll(&p, 1, 10'000) == 1);
    REQUIRE((*link)->Update());
  }
  CHECK((*link)->state().phase == Phase::kServing);
  // And then it is quiet.
  pollfd p{(*link)->fd(), POLLIN, 0};
  CHECK(poll(&p, 1, 0) == 0);
}

TEST_CASE("a supervisor that lies, floods or stalls later does not hold or harm the agent") {
  const UniqueFd null_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  SECTION("it never answers") {
    Hostile h([](int fd) { Say(fd, kHello), WaitForEnd(fd); });
    auto link = h.Connect();
    REQUIRE(link);
    const int64_t began = MonotonicNs();
    CHECK((*link)->Fetch(200).error().err() == ETIMEDOUT);
    CHECK(ElapsedMs(began) < 5000);
    // Its answer could be taken for another's.
    CHECK((*link)->StepAside(200).err() == EPIPE);
    CHECK((*link)->Update().error().err() == EPIPE);
  }
  SECTION("it sends events for ever instead of an answer") {
    Hostile h([](int fd) {
      Say(fd, kHello);
      const std::string event = "{\"event\":{" + kState + "}}\n";
      while (send(fd, event.data(), event.size(), MSG_NOSIGNAL) > 0) {
      }
    });
    auto link = h.Connect();
    REQUIRE(link);
    const int64_t began = MonotonicNs();
    CHECK((*link)->Update());
    CHECK((*link)->StepAside(200).err() == ETIMEDOUT);
    CHECK(ElapsedMs(began) < 10'000);
  }
  SECTION("it answers what nobody asked") {
    Hostile h([](int fd) { Say(fd, kHello + "{\"ok\":{}}\n"), WaitForEnd(fd); });
    auto link = h.Connect();
    REQUIRE(link);
    // It may have come with the greeting; whoever polls must hear of it.
    auto updated = (*link)->Update();
    for (int i = 0; i < 10 && updated; ++i) {
      pollfd p{(*link)->fd(), POLLIN, 0};
      REQUIRE(poll(&p, 1, 10'000) == 1);
      updated = (*link)->Update();
    }
    CHECK(updated.error().err() == EPROTO);
    CHECK((*link)->Update().error().err() == EPIPE);
  }
  SECTION("it sends the wrong number of descriptors") {
    for (const size_t count : {0, 1, 3, 16}) {
      Hostile h([&](int fd) {
        Say(fd, kHello);
        const std::vector<int> fds(count, null_fd.get());
        const std::string answer = R"({"ok":{"mount":"m","device":"0:1"}})" + std::string("\n");
        if (count > 0) {
          CHECK(os::SendFds(fd, answer, fds).ok());
        } else {
          Say(fd, answer);
        }
        WaitForEnd(fd);
      });
      auto link = h.Connect();
      REQUIRE(link);
      CHECK((*link)->Fetch(10'000).error().err() == EPROTO);
    }
  }
  SECTION("its answer is nothing but brackets") {
    Hostile h([](int fd) {
      Say(fd, kHello + "{\"ok\":" + std::string(300'000, '[') + std::string(300'000, ']') + "}\n");
      WaitForEnd(fd);
    });
    auto link = h.Connect();
    REQUIRE(link);
    CHECK((*link)->Fetch(10'000).error().err() == EPROTO);
  }
  SECTION("its texts are long") {
    Hostile h([](int fd) {
      Say(fd, kHello + R"({"event":{"phase":"failed","mount":"","client_pid":0,"restarts":0,"last_exit":"","last_error":")" +
                  std::string(300'000, 'a') + "ü\"}}\n");
      WaitForEnd(fd);
    });
    auto link = h.Connect();
    REQUIRE(link);
    for (int i = 0; i < 10'000 && (*link)->state().phase != Phase::kFailed; ++i) {
      REQUIRE((*link)->Update());
      usleep(1000);
    }
    CHECK((*link)->state().last_error.size() == 4096);
  }
  SECTION("it goes away") {
    Hostile h([](int fd) { Say(fd, kHello); });
    auto link = h.Connect();
    REQUIRE(link);
    usleep(20'000);
    CHECK((*link)->StepAside(10'000).err() == EPIPE);
  }
}
