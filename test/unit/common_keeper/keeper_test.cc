// SPDX-License-Identifier: Apache-2.0
//
// The keeper's parts that need no mount: when a client is replaced, the words
// of its channels, the runtime directory. test/node runs whole mounts.

#include <stdlib.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/control/line_socket.h"
#include "common/keeper/client_channel.h"
#include "common/keeper/client_process.h"
#include "common/keeper/keeper_config.h"
#include "common/keeper/restart_policy.h"
#include "common/keeper/runtime_dir.h"
#include "common/os/fd_passing.h"
#include "common/os/file.h"

using namespace moorfs;
using namespace moorfs::keeper;

namespace {

constexpr int64_t kMs = 1'000'000;

struct TempDir {
  TempDir() {
    char name[] = "/tmp/moorfs-keeper-XXXXXX";
    path = mkdtemp(name);
  }
  ~TempDir() { std::filesystem::remove_all(path); }
  std::string path;
};

// A client that is a shell script: it reads the configuration's line from
// descriptor 5 and does what it is told.
Result<std::unique_ptr<ClientProcess>> StartScript(const TempDir& dir, const std::string& body) {
  const std::string path = dir.path + "/client";
  REQUIRE(os::ReplaceFile(path, "#!/bin/bash\nread -r config <&5\n" + body + "\n", 0755).ok());
  ClientProgram program;
  program.executable = path;
  return ClientProcess::Start(program, {0, 0, 0, 0}, R"({"hello":"world"})");
}

ClientProcess::Message WaitMessage(ClientProcess& client) {
  for (int i = 0; i < 5000; ++i) {
    if (auto m = client.TakeMessage()) return *m;
    usleep(1000);
  }
  FAIL("no message");
  return {};
}

}  // namespace

TEST_CASE("a client that served is replaced at once, however often it dies") {
  RestartPolicy p;
  for (int64_t now = 0; now < 100 * kMs; now += kMs) {
    p.Started(now);
    p.Ready();
    CHECK(p.AfterEnd(now, false) == 0);
  }
}

TEST_CASE("a client that dies before it serves is retried more and more slowly, and at once after a success") {
  RestartPolicy p;
  int last = 0;
  for (int i = 0; i < 12; ++i) {
    p.Started(i * kMs);
    const int delay = p.AfterEnd(i * kMs, false);
    CHECK(delay >= last);
    CHECK(delay <= RestartPolicy::kMaxDelayMs);
    last = delay;
  }
  CHECK(last == RestartPolicy::kMaxDelayMs);
  p.Started(0);
  p.Ready();
  CHECK(p.AfterEnd(0, false) == 0);
  p.Started(0);
  CHECK(p.AfterEnd(0, false) == RestartPolicy::kFirstDelayMs);
}

TEST_CASE("a start that failed slowly is no quick failure, an incompatible client is never retried quickly") {
  RestartPolicy p;
  for (int i = 0; i < 5; ++i) {
    p.Started(0);
    CHECK(p.AfterEnd(2 * RestartPolicy::kQuickNs, false) == RestartPolicy::kFirstDelayMs);
  }
  p.Started(0);
  p.Ready();
  CHECK(p.AfterEnd(0, true) == RestartPolicy::kMaxDelayMs);
}

TEST_CASE("a keeper's configuration survives its encoding, and rubbish is refused") {
  KeeperConfig c;
  c.mountpoint = "/mnt/with \"quotes\" and \n";
  c.source = "moorfs:v";
  c.mount_flags = 7;
  c.user = KeeperConfig::User{65534, 65533};
  c.abort_after_s = 9;
  c.client_json = R"({"a":[1,2]})";
  auto d = DecodeKeeperConfig(EncodeKeeperConfig(c));
  REQUIRE(d);
  CHECK(d->mountpoint == c.mountpoint);
  CHECK(d->mount_flags == 7);
  CHECK(d->user->gid == 65533);
  CHECK(d->abort_after_s == 9);
  CHECK(d->client_json == c.client_json);
  CHECK(DecodeKeeperConfig("{}").error().err() == EPROTO);
  CHECK(DecodeKeeperConfig("[").error().err() == EPROTO);
  CHECK(DecodeKeeperConfig(R"({"mountpoint":5})").error().err() == EPROTO);
}

TEST_CASE("what a client says over its channel reaches the keeper") {
  auto pair = os::SocketPair();
  REQUIRE(pair);
  ClientChannel channel(std::move(pair->first));
  control::LineSocket keeper(std::move(pair->second));
  REQUIRE(keeper.Send("{\"x\":1}", 1000).ok());
  CHECK(channel.ReceiveConfig().value() == "{\"x\":1}");
  channel.Progress("opening");
  REQUIRE(channel.Ready("{\"pid\":3}").ok());
  REQUIRE(channel.Failed(Status(ENOSPC, "no room")).ok());
  CHECK(keeper.Receive(1000).value() == "{\"progress\":\"opening\"}");
  CHECK(keeper.Receive(1000).value() == "{\"ready\":{\"pid\":3}}");
  CHECK(nlohmann::json::parse(keeper.Receive(1000).value())["failed"]["errno"] == ENOSPC);
}

TEST_CASE("a client process is started, listened to and reaped") {
  TempDir dir;
  auto client = StartScript(dir, R"(
[ "$config" = '{"hello":"world"}' ] || exit 1
echo '{"progress":"half"}' >&5
echo 'no json' >&5
echo '{"ready":{"v":1}}' >&5
exit 7)");
  REQUIRE(client);
  using Kind = ClientProcess::Message::Kind;
  CHECK(WaitMessage(**client).text == "half");
  const auto ready = WaitMessage(**client);
  CHECK(ready.kind == Kind::kReady);
  CHECK(ready.text == "{\"v\":1}");
  REQUIRE(os::WaitPidfd((*client)->pidfd(), 5000));
  CHECK((*client)->Reap().value().code == 7);
  while ((*client)->TakeMessage()) {
  }
  CHECK((*client)->channel_fd() == -1);
}

TEST_CASE("a client's reason for not serving arrives with its errno") {
  TempDir dir;
  auto client = StartScript(dir, R"(echo '{"failed":{"errno":2,"message":"no store"}}' >&5; exec sleep 60)");
  REQUIRE(client);
  const auto m = WaitMessage(**client);
  CHECK(m.kind == ClientProcess::Message::Kind::kFailed);
  CHECK(m.failure.err() == ENOENT);
  CHECK(m.failure.message() == "no store");
  const pid_t pid = (*client)->pid();
  client->reset();  // still runs: must not be left behind
  CHECK(access(("/proc/" + std::to_string(pid)).c_str(), F_OK) != 0);
}

TEST_CASE("a runtime directory of the dead is replaced, one of a living keeper is moved aside") {
  TempDir dir;
  const std::string root = dir.path + "/run";
  auto first = RuntimeDir::Claim(root, 0, 55);
  REQUIRE(first);
  REQUIRE(first->WriteInfo("{}").ok());
  const std::string path = PathsOf(root, 0, 55).directory;
  CHECK(first->paths().directory == path);
  CHECK(ListRuntimeDirs(root).size() == 1);

  // Nobody listens in the first one: it is replaced.
  auto second = RuntimeDir::Claim(root, 0, 55);
  REQUIRE(second);
  CHECK(access((path + "/info.json").c_str(), F_OK) != 0);

  // Somebody listens: both live on, and each removes its own.
  auto listener = control::ListenUnix(second->paths().KeeperSocket());
  REQUIRE(listener);
  auto third = RuntimeDir::Claim(root, 0, 55);
  REQUIRE(third);
  CHECK(third->paths().directory == path);
  const std::string aside = second->paths().directory;
  CHECK(aside != path);
  CHECK(control::ConnectUnix(aside + "/keeper.sock", 1000));
  REQUIRE(second->Remove().ok());
  CHECK(access(aside.c_str(), F_OK) != 0);
  CHECK(access(path.c_str(), F_OK) == 0);
  REQUIRE(third->Remove().ok());
  CHECK(access(path.c_str(), F_OK) != 0);
}
