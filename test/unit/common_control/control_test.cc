// SPDX-License-Identifier: Apache-2.0
//
// Control sockets against each other and against callers that misbehave.

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/control/client.h"
#include "common/control/json_line.h"
#include "common/control/line_socket.h"
#include "common/control/server.h"

using namespace moorfs;
using namespace moorfs::control;

namespace {

struct Fixture {
  Fixture() {
    char name[] = "/tmp/moorfs-control-XXXXXX";
    dir = mkdtemp(name);
    path = dir + "/s.sock";
  }
  ~Fixture() {
    server.reset();
    std::filesystem::remove_all(dir);
  }
  void Start(Handler handler, int max_connections = 16) {
    auto listener = ListenUnix(path);
    REQUIRE(listener);
    auto started = Server::Start(std::move(*listener), std::move(handler), max_connections);
    REQUIRE(started);
    server = std::move(*started);
  }
  std::string dir, path;
  std::unique_ptr<Server> server;
};

Result<Json> Echo(const Json& request, const Peer& peer, Reply& reply) {
  if (request["cmd"] == "fail") return Error(ENOSPC, "store it: no room");
  if (request["cmd"] == "typed") return Json(request.at("n").get<int>());
  TRY_VOID(reply.Progress("half way"));
  TRY_VOID(reply.Line("one"));
  TRY_VOID(reply.Line("two"));
  return Json{{"pid", peer.pid}, {"echo", request["text"]}};
}

}  // namespace

TEST_CASE("a caller gets progress, lines and the result in order") {
  Fixture f;
  f.Start(Echo);
  std::string seen;
  CallOptions options;
  options.on_progress = [&](std::string_view t) { seen += "p:" + std::string(t) + ";"; };
  options.on_line = [&](std::string_view t) { seen += "l:" + std::string(t) + ";"; };
  auto result = Call(f.path, {{"cmd", "echo"}, {"text", "a\nb"}}, options);
  REQUIRE(result);
  CHECK((*result)["echo"] == "a\nb");
  CHECK((*result)["pid"] == getpid());
  CHECK(seen == "p:half way;l:one;l:two;");
}

TEST_CASE("an error crosses the socket with its errno and its words") {
  Fixture f;
  f.Start(Echo);
  auto result = Call(f.path, {{"cmd", "fail"}}, {});
  REQUIRE_FALSE(result);
  CHECK(result.error().err() == ENOSPC);
  CHECK(result.error().message() == "store it: no room");
}

TEST_CASE("bytes that are no UTF-8 do not break the connection") {
  Fixture f;
  f.Start(Echo);
  auto result = Call(f.path, {{"cmd", "echo"}, {"text", "a\xff" "b"}}, {});
  REQUIRE(result);
  CHECK((*result)["echo"] == "a\xEF\xBF\xBD" "b");
}

TEST_CASE("a socket nobody serves says so at once") {
  Fixture f;
  CHECK(Call(f.path, {{"cmd", "x"}}, {}).error().err() == ENOENT);
  f.Start(Echo);
  f.server.reset();
  CHECK(Call(f.path, {{"cmd", "x"}}, {}).error().err() == ECONNREFUSED);
}

TEST_CASE("rubbish, wrong types and endless lines are answered, and the server lives on") {
  Fixture f;
  f.Start(Echo);
  auto socket = ConnectUnix(f.path, 1000);
  REQUIRE(socket);
  REQUIRE(socket->Send("this is no json", 1000).ok());
  CHECK(socket->Receive(1000).value().find("\"errno\":71") != std::string::npos);
  REQUIRE(socket->Send(R"([1,2])", 1000).ok());
  CHECK(socket->Receive(1000).value().find("\"error\"") != std::string::npos);
  CHECK(Call(f.path, {{"cmd", "typed"}, {"n", "text"}}, {}).error().err() == EPROTO);
  const std::string big(kMaxLineBytes + 10, 'x');
  CHECK(socket->Send(big, 1000).err() == EMSGSIZE);
  // A caller that ignores the limit is hung up on.
  auto rude = ConnectUnix(f.path, 1000);
  REQUIRE(rude);
  size_t sent = 0;
  while (sent < big.size()) {
    const ssize_t n = send(rude->fd(), big.data() + sent, big.size() - sent, MSG_NOSIGNAL);
    if (n > 0) sent += static_cast<size_t>(n);
    else if (errno != EAGAIN) break;
  }
  CHECK(rude->Receive(5000).error().err() == EPIPE);
  CHECK(Call(f.path, {{"cmd", "echo"}, {"text", "still here"}}, {}));
}

TEST_CASE("callers beyond the limit are told to come again, and threads stay bounded") {
  Fixture f;
  std::atomic<int> inside{0};
  std::atomic<bool> go{false};
  f.Start(
      [&](const Json&, const Peer&, Reply&) -> Result<Json> {
        ++inside;
        while (!go) usleep(1000);
        return Json(1);
      },
      2);
  // Catch2 checks in one thread only.
  std::atomic<int> served{0};
  const auto call = [&] { served += Call(f.path, {{"cmd", "x"}}, {}) ? 1 : 0; };
  std::thread a(call);
  std::thread b(call);
  while (inside < 2) usleep(1000);
  auto refused = Call(f.path, {{"cmd", "x"}}, {});
  REQUIRE_FALSE(refused);
  CHECK((refused.error().err() == EAGAIN || refused.error().err() == EPIPE));
  go = true;
  a.join();
  b.join();
  CHECK(served == 2);
}

TEST_CASE("a caller that hung up is noticed by long work, and a silent server by its caller") {
  Fixture f;
  std::atomic<bool> noticed{false};
  f.Start([&](const Json&, const Peer&, Reply& reply) -> Result<Json> {
    for (int i = 0; i < 5000 && !noticed; ++i) {
      if (reply.Cancelled()) noticed = true;
      usleep(1000);
    }
    return Json(1);
  });
  CallOptions options;
  options.timeout_ms = 50;
  CHECK(Call(f.path, {{"cmd", "x"}}, options).error().err() == ETIMEDOUT);
  for (int i = 0; i < 2000 && !noticed; ++i) usleep(1000);
  CHECK(noticed);
}

TEST_CASE("a line that is nothing but brackets is no JSON, and brackets in a text do not count") {
  const auto nested = [](size_t n) { return "{\"a\":" + std::string(n, '[') + std::string(n, ']') + "}"; };
  CHECK(ParseLine(nested(63)).is_object());
  CHECK_FALSE(ParseLine(nested(64)).is_object());
  // A copy of this one would take more stack than there is.
  CHECK_FALSE(ParseLine(nested(200'000)).is_object());
  const std::string text = "\"" + std::string(1000, '[');
  CHECK(ParseLine(Json{{"a", text}}.dump()) == Json{{"a", text}});
}

TEST_CASE("a socket path longer than the kernel's 108 bytes works") {
  Fixture f;
  f.path = f.dir + "/" + std::string(100, 'd');
  std::filesystem::create_directory(f.path);
  f.path += "/s.sock";
  f.Start(Echo);
  CHECK(Call(f.path, {{"cmd", "echo"}, {"text", ""}}, {}));
}

TEST_CASE("a server that only ever says how far it is does not hold a caller beyond its whole time") {
  Fixture f;
  f.Start([](const Json&, const Peer&, Reply& reply) -> Result<Json> {
    while (reply.Progress("still at it").ok() && !reply.Cancelled()) usleep(1'000);
    return Error(ECANCELED, "the caller left");
  });
  CallOptions options;
  options.timeout_ms = 10'000;
  options.total_ms = 200;
  const auto begun = std::chrono::steady_clock::now();
  const auto answer = Call(f.path, {{"cmd", "x"}}, options);
  REQUIRE_FALSE(answer);
  CHECK(answer.error().err() == ETIMEDOUT);
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(5));
}
