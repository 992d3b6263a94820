// SPDX-License-Identifier: Apache-2.0
//
// The HTTP client against a real server in a process of its own (server.py).

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <thread>

#include "common/http/client.h"
#include "common/os/process.h"

namespace moorfs::http {
namespace {

using Clock = std::chrono::steady_clock;

class Server {
 public:
  Server() {
    int in[2], out[2];
    REQUIRE(::pipe2(in, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    UniqueFd child_in(in[0]), child_out(out[1]), answer(out[0]);
    hold_ = UniqueFd(in[1]);
    os::SpawnRequest request;
    request.executable = "/usr/bin/python3";
    request.argv = {"python3", SERVER_SCRIPT};
    request.stdin_fd = child_in.get();
    request.stdout_fd = child_out.get();
    auto child = os::Spawn(request);
    REQUIRE(child);
    child_ = std::move(*child);
    child_out.reset();
    std::string port;
    for (char c; ::read(answer.get(), &c, 1) == 1 && c != '\n';) port += c;
    REQUIRE_FALSE(port.empty());
    url_ = "http://127.0.0.1:" + port;
  }
  ~Server() {
    hold_.reset();  // it ends with its input
    (void)os::WaitChild(child_, 5000);
  }
  std::string Url(const std::string& path) const { return url_ + path; }

 private:
  UniqueFd hold_;
  os::Child child_;
  std::string url_;
};

const Server& TheServer() {
  static const Server server;
  return server;
}

Request To(const std::string& path, const std::string& method = "GET") {
  Request request;
  request.method = method;
  request.url = TheServer().Url(path);
  return request;
}

std::unique_ptr<Client> NewClient(ClientConfig config = {}) {
  auto client = Client::Create(std::move(config));
  REQUIRE(client);
  return std::move(*client);
}

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct TcpSockets {
  int all = 0, inherited = 0;
};
TcpSockets OpenTcpSockets() {
  TcpSockets found;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::atoi(each.path().filename().c_str());
    int domain = 0;
    socklen_t size = sizeof domain;
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain != AF_INET) continue;
    ++found.all;
    if ((::fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) ++found.inherited;
  }
  return found;
}

}  // namespace

TEST_CASE("A request carries its method, headers and body") {
  auto client = NewClient();
  for (const std::string method : {"POST", "PATCH", "DELETE", "PUT"}) {
    Request request = To("/echo", method);
    request.headers = {"Content-Type: application/json", "X-Test: 1"};
    request.body = std::string("{\"a\":\0}", 7);
    const auto response = client->Do(request);
    REQUIRE(response);
    CHECK(response->status == 200);
    CHECK(response->body == method + " application/json 1 " + request.body);
  }
  const auto get = client->Do(To("/echo"));
  REQUIRE(get);
  CHECK(get->body == "GET None None ");
}

TEST_CASE("Any status is an answer, with its Retry-After; redirects are not followed") {
  auto client = NewClient();
  CHECK(client->Do(To("/none"))->status == 404);
  CHECK(client->Do(To("/none"))->body == "not here");
  CHECK(client->Do(To("/none"))->retry_after_s == -1);
  const auto busy = client->Do(To("/busy"));
  CHECK(busy->status == 429);
  CHECK(busy->retry_after_s == 7);
  CHECK(client->Do(To("/moved"))->status == 302);
}

TEST_CASE("A connection is used again, also after an error status") {
  auto client = NewClient();
  std::set<std::string> ports;
  for (int i = 0; i < 10; ++i) {
    ports.insert(client->Do(To("/port"))->body);
    (void)client->Do(To("/none"));
  }
  CHECK(ports.size() == 1);
}

TEST_CASE("Threads share a client") {
  auto client = NewClient();
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 50; ++n) {
        const auto response = client->Do(To("/echo"));
        if (response && response->status == 200) ++good;
      }
    });
  }
  for (auto& each : threads) each.join();
  CHECK(good == 400);
}

TEST_CASE("Failures have the errno of their kind") {
  auto client = NewClient();
  CHECK(client->Do(To("/half")).error().err() == EPIPE);
  CHECK(client->Do(To("/nothing")).error().err() == EPIPE);
  Request nobody;
  nobody.url = "http://127.0.0.1:1/";
  CHECK(client->Do(nobody).error().err() == EHOSTUNREACH);
  nobody.url = "http://no-such-name.invalid/";
  CHECK(client->Do(nobody).error().err() == EHOSTUNREACH);
  nobody.url = "https" + TheServer().Url("/").substr(4);  // no TLS there
  CHECK(client->Do(nobody).error().err() == EHOSTUNREACH);
  nobody.url = "file:///etc/passwd";
  CHECK(client->Do(nobody).error().err() == EINVAL);
  Request split = To("/echo");
  split.headers = {"X-Test: 1\r\nX-Other: 2"};
  CHECK(client->Do(split).error().err() == EINVAL);
}

TEST_CASE("A request ends with its deadline, and the client is as good as before") {
  auto client = NewClient();
  Request slow = To("/slow");
  slow.timeout_ms = 300;
  const auto start = Clock::now();
  CHECK(client->Do(slow).error().err() == ETIMEDOUT);
  CHECK(SecondsSince(start) < 1);
  CHECK(client->Do(To("/echo"))->status == 200);
}

TEST_CASE("An answer that is too long is refused") {
  ClientConfig config;
  config.max_body_bytes = 100'000;
  auto client = NewClient(config);
  CHECK(client->Do(To("/large")).error().err() == EMSGSIZE);
  CHECK(NewClient()->Do(To("/large"))->body.size() == 200'000);
}

TEST_CASE("Errors name the path and neither query nor headers") {
  Request request;
  request.url = "http://127.0.0.1:1/path?secret=1";
  request.headers = {"Authorization: Bearer hidden"};
  const std::string message = NewClient()->Do(request).error().message();
  CHECK_THAT(message, Catch::Contains("/path"));
  CHECK(message.find("secret") == std::string::npos);
  CHECK(message.find("hidden") == std::string::npos);
}

TEST_CASE("The environment's proxy is not used; a configured one is") {
  ::setenv("http_proxy", "http://127.0.0.1:1", 1);
  ::setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
  CHECK(NewClient()->Do(To("/echo"))->status == 200);
  ::unsetenv("http_proxy");
  ::unsetenv("ALL_PROXY");
  ClientConfig config;
  config.proxy = "http://127.0.0.1:1";
  CHECK(NewClient(config)->Do(To("/echo")).error().err() == EHOSTUNREACH);
}

TEST_CASE("A stream is given in pieces as they come, and its beginning is told") {
  auto client = NewClient();
  std::vector<std::string> pieces;
  const auto response = client->Stream(To("/pieces"), -1, [&](std::string_view piece) {
    pieces.emplace_back(piece);
    return true;
  });
  REQUIRE(response);
  CHECK(response->status == 200);
  CHECK(response->body.empty());
  CHECK(pieces == std::vector<std::string>{"", "one", "two", "three"});
}

TEST_CASE("A stream that breaks off is an error, another status an answer") {
  auto client = NewClient();
  std::string got;
  const auto keep = [&](std::string_view piece) {
    got += piece;
    return true;
  };
  CHECK(client->Stream(To("/cut"), -1, keep).error().err() == EPIPE);
  CHECK(got == "one");
  got.clear();
  const auto none = client->Stream(To("/none"), -1, keep);
  REQUIRE(none);
  CHECK(none->status == 404);
  CHECK(none->body == "not here");
  CHECK(got.empty());
}

TEST_CASE("A stream ends when its user has enough, when it is stopped, and when it is silent") {
  auto client = NewClient();
  std::string got;
  const auto enough = client->Stream(To("/pieces"), -1, [&](std::string_view piece) {
    got += piece;
    return got.empty();
  });
  REQUIRE(enough);
  CHECK(enough->status == 200);
  CHECK(got == "one");

  const auto go_on = [](std::string_view) { return true; };
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  ssize_t written = 0;
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const uint64_t one = 1;
    written = ::write(stop.get(), &one, sizeof one);
  });
  auto start = Clock::now();
  CHECK(client->Stream(To("/silent"), stop.get(), go_on)->status == 200);
  stopper.join();
  CHECK(written == sizeof(uint64_t));
  CHECK(SecondsSince(start) < 1);

  Request silent = To("/silent");
  silent.timeout_ms = 300;
  start = Clock::now();
  CHECK(client->Stream(silent, -1, go_on).error().err() == ETIMEDOUT);
  CHECK(SecondsSince(start) < 1);
  Request late = To("/slow");
  late.begin_timeout_ms = 300;
  start = Clock::now();
  CHECK(client->Stream(late, -1, go_on).error().err() == ETIMEDOUT);
  CHECK(SecondsSince(start) < 1);
}

TEST_CASE("Connections are not inherited by child processes") {
  auto client = NewClient();
  REQUIRE(client->Do(To("/echo")));
  (void)client->Stream(To("/pieces"), -1, [&](std::string_view) {
    CHECK(OpenTcpSockets().all == 2);
    CHECK(OpenTcpSockets().inherited == 0);
    return false;
  });
}

}  // namespace moorfs::http
