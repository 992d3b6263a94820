// SPDX-License-Identifier: Apache-2.0
//
// What is around the services: the socket, the table of codes, registration,
// HTTP pages and numbers, command lines.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "csi/arguments.h"
#include "csi/codes.h"
#include "csi/http.h"
#include "csi/registration.h"
#include "csi/proto/pluginregistration.grpc.pb.h"
#include "test/unit/csi/fakes.h"

namespace moorfs::csi::test {
namespace {

namespace fs = std::filesystem;
namespace reg = ::pluginregistration;
using grpc::StatusCode;
using std::chrono::milliseconds;

bool SocketAt(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode);
}

template <typename F>
bool Eventually(F condition, int ms = 10'000) {
  for (int i = 0; i < ms / 10; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

grpc::Status AskInfo(const std::string& path, const std::string& authority, int timeout_ms = 20'000) {
  const auto stub = pb::Node::NewStub(Dial(path, authority));
  pb::NodeGetInfoResponse response;
  return Call(&pb::Node::Stub::NodeGetInfo, *stub, pb::NodeGetInfoRequest(), &response, timeout_ms);
}

int Connect(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX};
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

// NodeGetInfo in HTTP/2 frames written by hand, with an authority that gRPC's
// own client would not send. What the server answers, raw. (gRPC for Go, which
// is kubelet's, always sends one, be it empty; without any, gRPC's server says
// "Missing :authority".)
std::string AskInRawFrames(const std::string& path, const std::string& authority) {
  const auto frame = [](char type, char flags, char stream, const std::string& payload) {
    std::string out = {0, static_cast<char>(payload.size() >> 8), static_cast<char>(payload.size()), type, flags, 0, 0, 0, stream};
    return out + payload;
  };
  const auto field = [](const std::string& name, const std::string& value) {  // literal, not indexed, no Huffman
    return std::string(1, '\0') + static_cast<char>(name.size()) + name + static_cast<char>(value.size()) + value;
  };
  std::string headers = field(":method", "POST") + field(":scheme", "http") + field(":path", "/csi.v1.Node/NodeGetInfo");
  headers += field(":authority", authority) + field("content-type", "application/grpc") + field("te", "trailers");
  const std::string request = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, "") + frame(1, 4, 1, headers) +
                              frame(0, 1, 1, std::string(5, '\0'));
  const int fd = Connect(path);
  REQUIRE(write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size()));
  const timeval patience{.tv_sec = 5};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  std::string answer;
  char buffer[4096];
  for (ssize_t n; answer.find("grpc-status") == std::string::npos && (n = read(fd, buffer, sizeof buffer)) > 0;) {
    answer.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return answer;
}

int CountThreads() {
  int n = 0;
  for (const auto& each : fs::directory_iterator("/proc/self/task")) n += each.path().empty() ? 0 : 1;
  return n;
}

}  // namespace

TEST_CASE("every errno has one row, and maybe-done is never final") {
  std::set<int> seen;
  for (const CodeRow& row : CodeTable()) {
    CHECK(seen.insert(row.err).second);
    CHECK(CodeOf(row.err) == row.code);
    CHECK(row.code != StatusCode::OK);
    CHECK(row.code != StatusCode::UNKNOWN);
  }
  for (const int maybe : {EAGAIN, ETIMEDOUT, EINTR, kErrnoConflict, kErrnoUnknown}) CHECK_FALSE(IsFinal(CodeOf(maybe)));
  for (const int undone : {EINVAL, EEXIST, ENOENT, EBUSY, EPERM, EIO, EPROTO}) CHECK(IsFinal(CodeOf(undone)));
  CHECK(CodeOf(EUCLEAN) == StatusCode::INTERNAL);
  CHECK(ToGrpc(Status::Ok()).ok());
}

TEST_CASE("a failure's message is never empty, never endless, and holds no control characters") {
  CHECK_FALSE(ToGrpc(Status(EIO, "")).error_message().empty());
  const std::string cut = ToGrpc(Status(EIO, std::string(899, 'a') + "\xC3\xA9 and more")).error_message();
  CHECK(cut == std::string(899, 'a') + "…");
  CHECK(ToGrpc(Status(EIO, "a\nb")).error_message() == "a\\x0ab");
}

TEST_CASE("an endpoint may be written in three ways") {
  for (const char* text : {"unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"}) {
    CHECK(SocketPathOf(text).value() == "/run/x.sock");
  }
  for (const char* text : {"", "run/x.sock", "unix://run/x.sock", "tcp://127.0.0.1:1", "unix:///run/"}) {
    CHECK(SocketPathOf(text).error().err() == EINVAL);
  }
}

TEST_CASE("any authority is answered") {
  Served s;
  for (const std::string authority :
       {"localhost", "/var/lib/kubelet/plugins/csi.moorfs.io/csi.sock", "%2Fvar%2Flib%2Fkubelet%2Fcsi.sock", "unix",
        "a b", "127.0.0.1:80", "."}) {
    const grpc::Status status = AskInfo(s.path, authority);
    INFO(authority << ": " << status.error_message());
    CHECK(status.ok());
  }
}

TEST_CASE("an empty authority, a path and rubbish are answered, as older kubelets send them") {
  Served s;
  for (const std::string authority : {"", "/var/lib/kubelet/plugins/csi.moorfs.io/csi.sock",
                                "%2Fvar%2Flib%2Fkubelet", "unix:///csi/csi.sock", "[::", "a b"}) {
    INFO(authority);
    CHECK_THAT(AskInRawFrames(s.path, authority), Catch::Contains("node-7"));
  }
}

TEST_CASE("a thousand short connections leave neither threads nor descriptors") {
  Served s;
  REQUIRE(AskInfo(s.path, "localhost").ok());
  const auto descriptors = [] { return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()); };
  const auto fds = descriptors();
  const int threads = CountThreads();
  for (int i = 0; i < 1'000; ++i) {
    const grpc::Status status = AskInfo(s.path, "localhost");
    INFO(i << ": " << status.error_message());
    REQUIRE(status.ok());
  }
  CHECK(Eventually([&] { return descriptors() <= fds + 8; }));
  CHECK(Eventually([&] { return CountThreads() <= threads + 4; }));
}

TEST_CASE("a connection that says rubbish or nothing holds up nobody") {
  Served s;
  std::vector<int> open;
  for (int i = 0; i < 50; ++i) {
    const int fd = Connect(s.path);
    if (i % 2 == 0) REQUIRE(write(fd, "GET / HTTP/1.1\r\n\r\n", 18) == 18);
    open.push_back(fd);
  }
  CHECK(AskInfo(s.path, "localhost").ok());
  for (const int fd : open) close(fd);
}

TEST_CASE("calls beyond the threads are turned away as uncertain, and threads stay bounded") {
  Served s(/*max_threads=*/8);
  const int threads = CountThreads();
  s.manager.hold_publishes = true;
  std::vector<std::thread> callers;
  std::atomic<int> fine = 0, turned_away = 0, others = 0;
  for (int i = 0; i < 40; ++i) {
    callers.emplace_back([&, i] {
      pb::NodePublishVolumeRequest request;
      request.set_volume_id("main#v");
      request.set_target_path("/k/" + std::to_string(i));
      *request.mutable_volume_capability() = MountCapability();
      pb::NodePublishVolumeResponse response;
      const auto stub = pb::Node::NewStub(Dial(s.path));
      const auto code = Call(&pb::Node::Stub::NodePublishVolume, *stub, request, &response).error_code();
      ++(code == StatusCode::OK ? fine : IsFinal(code) ? others : turned_away);
    });
  }
  CHECK(Eventually([&] { return turned_away > 0; }));
  // Clients of this process have threads too: the callers, and gRPC's own few.
  CHECK(CountThreads() <= threads + 40 + 8 + 8);
  s.manager.Release();
  for (auto& each : callers) each.join();
  CHECK(fine > 0);
  CHECK(others == 0);
  CHECK(fine + turned_away == 40);
}

TEST_CASE("a socket replaces a stale one, is for its owner only, and goes at the end") {
  moorfs::test::TempDir dir;
  const std::string path = dir / "plugins/x/csi.sock";
  NobodyWatches observer;
  const auto identity = MakeIdentityService(observer);
  fs::create_directories(dir / "plugins/x");
  const int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX};
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(bind(stale, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  close(stale);
  // What one that was killed on the way left.
  fs::create_directories(dir / "plugins/x/.csi.sock-abcdef");
  {
    auto server = UnixServer::Start({.path = path}, {identity.get()});
    REQUIRE(server);
    struct stat st;
    REQUIRE(lstat(path.c_str(), &st) == 0);
    CHECK((st.st_mode & 0777) == 0600);
    CHECK((*server)->NameIsOurs());
    // Nothing else stays beside it.
    CHECK(std::distance(fs::directory_iterator(dir / "plugins/x"), fs::directory_iterator()) == 1);
    // Another's socket under the name is not taken away.
    auto second = UnixServer::Start({.path = path}, {identity.get()});
    REQUIRE(second);
    CHECK_FALSE((*server)->NameIsOurs());
    server->reset();
    CHECK((*second)->NameIsOurs());
  }
  CHECK_FALSE(fs::exists(path));
  std::ofstream(path) << "a file";
  auto refused = UnixServer::Start({.path = path}, {identity.get()});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().err() == EEXIST);
  CHECK(fs::is_regular_file(path));
  auto too_long = UnixServer::Start({.path = dir / (std::string(100, 'p') + "/csi.sock")}, {identity.get()});
  REQUIRE_FALSE(too_long);
  CHECK(too_long.error().err() == ENAMETOOLONG);
}

TEST_CASE("a server that ends finishes the calls in flight") {
  auto s = std::make_unique<Served>();
  s->manager.hold_publishes = true;
  std::atomic<bool> ok = false;
  std::thread caller([&] {
    pb::NodePublishVolumeRequest request;
    request.set_volume_id("main#v");
    request.set_target_path("/k/t");
    *request.mutable_volume_capability() = MountCapability();
    pb::NodePublishVolumeResponse response;
    ok = Call(&pb::Node::Stub::NodePublishVolume, *s->NodeStub(), request, &response).ok();
  });
  REQUIRE(Eventually([&] { return s->manager.publishes == 1; }));
  std::thread ender([&] { s->server.reset(); });
  CHECK(Eventually([&] { return !fs::exists(s->path); }));
  s->manager.Release();
  caller.join();
  ender.join();
  CHECK(ok);
}

TEST_CASE("the driver is offered to kubelet only once it answers, and again after a refusal or a loss") {
  moorfs::test::TempDir dir;
  const std::string socket_path = dir / "csi.sock";
  const std::string reg_path = dir / "plugins_registry/csi.moorfs.io-reg.sock";
  auto registration = Registration::Start({.directory = dir / "plugins_registry",
                                           .csi_socket = socket_path,
                                           .endpoint = "/host/csi.sock",
                                           .retry_delay = milliseconds(300),
                                           .check_interval = milliseconds(50)});
  std::this_thread::sleep_for(milliseconds(700));
  CHECK_FALSE(SocketAt(reg_path));
  CHECK_FALSE(registration->State().ok());

  Served s;
  auto server = UnixServer::Start({.path = socket_path}, {s.node.get()});
  REQUIRE(server);
  REQUIRE(Eventually([&] { return SocketAt(reg_path); }));
  CHECK_FALSE(registration->State().ok());

  const auto notify = [&](bool registered, const std::string& error) {
    const auto stub = reg::Registration::NewStub(Dial(reg_path));
    reg::RegistrationStatus request;
    request.set_plugin_registered(registered);
    request.set_error(error);
    reg::RegistrationStatusResponse response;
    return Call(&reg::Registration::Stub::NotifyRegistrationStatus, *stub, request, &response).ok();
  };
  reg::PluginInfo info;
  REQUIRE(Call(&reg::Registration::Stub::GetInfo, *reg::Registration::NewStub(Dial(reg_path)), reg::InfoRequest(), &info).ok());
  CHECK(info.type() == "CSIPlugin");
  CHECK(info.name() == "csi.moorfs.io");
  CHECK(info.endpoint() == "/host/csi.sock");
  REQUIRE(info.supported_versions_size() == 1);
  CHECK(info.supported_versions(0) == "1.0.0");

  REQUIRE(notify(false, "no\nthanks"));
  REQUIRE(Eventually([&] { return !SocketAt(reg_path); }));
  CHECK_THAT(registration->State().message(), Catch::Contains("no\\x0athanks"));
  REQUIRE(Eventually([&] { return SocketAt(reg_path); }));
  REQUIRE(notify(true, ""));
  CHECK(registration->State().ok());

  REQUIRE(unlink(reg_path.c_str()) == 0);
  REQUIRE(Eventually([&] { return SocketAt(reg_path); }));
  CHECK_FALSE(registration->State().ok());
  REQUIRE(notify(true, ""));
  registration.reset();
  CHECK_FALSE(fs::exists(reg_path));
  CHECK(std::distance(fs::directory_iterator(dir / "plugins_registry"), fs::directory_iterator()) == 0);
}

TEST_CASE("pages answer probes and scrapes, and nothing else") {
  Status health, ready(EAGAIN, "kubelet has not registered the driver yet");
  Metrics metrics("node", [] { return std::vector<Gauge>{{"moorfs_node_targets", "Targets", false, 3}}; });
  metrics.Observe("NodePublishVolume", "OK", 0.03);
  metrics.Observe("NodePublishVolume", "ABORTED", 0.0001);
  auto server = HttpServer::Start("127.0.0.1:0", {.health = [&] { return health; },
                                                  .ready = [&] { return ready; },
                                                  .metrics = [&] { return metrics.Text(); }});
  REQUIRE(server);
  const auto get = [&](const std::string& path) {
    FILE* curl = popen(("curl -s -i --max-time 10 http://127.0.0.1:" + std::to_string((*server)->port()) + path).c_str(), "r");
    REQUIRE(curl != nullptr);
    std::string out;
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, curl)) > 0;) out.append(buffer, n);
    pclose(curl);
    return out;
  };
  CHECK_THAT(get("/healthz"), Catch::StartsWith("HTTP/1.1 200") && Catch::EndsWith("ok\n"));
  CHECK_THAT(get("/readyz"), Catch::StartsWith("HTTP/1.1 503") && Catch::Contains("kubelet has not registered"));
  ready = Status::Ok();
  health = Status(ENOENT, "somebody removed it");
  CHECK_THAT(get("/readyz?verbose"), Catch::StartsWith("HTTP/1.1 200"));
  CHECK_THAT(get("/healthz"), Catch::StartsWith("HTTP/1.1 503"));
  CHECK_THAT(get("/"), Catch::StartsWith("HTTP/1.1 404"));
  const std::string text = get("/metrics");
  CHECK_THAT(text, Catch::Contains("text/plain; version=0.0.4"));
  CHECK_THAT(text, Catch::Contains("# TYPE moorfs_csi_call_seconds histogram"));
  CHECK_THAT(text, Catch::Contains("moorfs_csi_call_seconds_bucket{code=\"OK\",method=\"NodePublishVolume\",le=\"0.05\"} 1"));
  CHECK_THAT(text, Catch::Contains("moorfs_csi_call_seconds_count{code=\"ABORTED\",method=\"NodePublishVolume\"} 1"));
  CHECK_THAT(text, Catch::Contains("moorfs_node_targets 3"));
  CHECK_THAT(text, Catch::Contains("moorfs_build_info{role=\"node\""));

  CHECK(HttpServer::Start("9808", {}).error().err() == EINVAL);
  CHECK_FALSE(HttpServer::Start("127.0.0.1:" + std::to_string((*server)->port()), {}).has_value());
}

TEST_CASE("the command line of the node has the places that kubelet expects") {
  setenv("NODE_ID", "from-env", 1);
  const auto parse = [](std::vector<std::string> words, int* code) {
    std::vector<char*> argv;
    words.insert(words.begin(), {"moorfs", "node"});
    for (auto& word : words) argv.push_back(word.data());
    return ParseNodeArguments(static_cast<int>(argv.size()), argv.data(), code);
  };
  int code = 0;
  auto plain = parse({}, &code);
  REQUIRE(plain);
  CHECK(plain->node_id == "from-env");
  CHECK(plain->csi_socket == "/var/lib/kubelet/plugins/csi.moorfs.io/csi.sock");
  CHECK(plain->kubelet_endpoint == plain->csi_socket);
  CHECK(plain->registration_dir == "/var/lib/kubelet/plugins_registry");
  CHECK(plain->agent_socket == "/run/moorfs/agent.sock");
  CHECK(plain->flex_trust == config::Trust::kPod);
  setenv("CSI_ENDPOINT", "unix:///csi/env.sock", 1);
  auto full = parse({"--kubelet-root", "/data/kubelet", "--fs", "a=leveldb:/1", "--fs", "b=leveldb:/2", "--max-volumes",
                     "7", "--node-id", "n", "--registration-dir", "none", "--agent-socket", "none", "--flex-trust",
                     "volume", "--kubelet-endpoint", "unix:///data/csi.sock"}, &code);
  unsetenv("CSI_ENDPOINT");
  unsetenv("NODE_ID");
  REQUIRE(full);
  CHECK(full->csi_socket == "/csi/env.sock");
  CHECK(full->kubelet_endpoint == "/data/csi.sock");
  CHECK(full->file_systems.all().size() == 2);
  CHECK(full->max_volumes == 7);
  CHECK(full->registration_dir.empty());
  CHECK(full->agent_socket.empty());
  CHECK(full->flex_trust == config::Trust::kVolume);
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"--fs", "nometa"}, {"--fs", "a=x:/1", "--fs", "a=x:/2"}, {"--max-volumes", "-1"},
        {"--flex-trust", "root"}, {"--endpoint", "tcp://1.2.3.4"}, {"--log-level", "loud"}, {"--nonsense"},
        {"--state-root", "relative"}}) {
    CHECK_FALSE(parse(wrong, &code));
    CHECK(code == 2);
  }
  CHECK_FALSE(parse({"--help"}, &code));
  CHECK(code == 0);
}

TEST_CASE("a cluster's configuration file takes the place of --fs, and mount pods need it") {
  moorfs::test::TempDir dir;
  const std::string file = dir / "config.json", empty = dir / "empty.json", broken = dir / "broken.json";
  std::ofstream(file) << R"({"fileSystems": {"main": {"meta": "leveldb:/volumes/main/meta", "openToPods": true},
                                             "other": {"meta": "leveldb:/volumes/other/meta"}},
                             "defaultFileSystem": "other",
                             "mountPods": {"image": "i", "namespace": "mounts"}})";
  std::ofstream(empty) << R"({"mountPods": {"image": "i"}})";
  std::ofstream(broken) << R"({"mountPods": {"image": "i"}, "fileSystem": {}})";
  const auto words_of = [](const char* role, std::vector<std::string>& words) {
    words.insert(words.begin(), {"moorfs", role});
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    return argv;
  };
  int code = 0;
  const auto node = [&](std::vector<std::string> words) {
    auto argv = words_of("node", words);
    return ParseNodeArguments(static_cast<int>(argv.size()), argv.data(), &code);
  };
  const auto controller = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"--endpoint", "/c.sock"});
    auto argv = words_of("controller", words);
    return ParseControllerArguments(static_cast<int>(argv.size()), argv.data(), &code);
  };

  const auto pods = node({"--mounts", "pods", "--config", file, "--kube-server", "https://k:1", "--kube-ca", "/ca",
                          "--kube-token", "/token"});
  REQUIRE(pods);
  CHECK(pods->mounts == kMountsInPods);
  CHECK(pods->config->mount_pods.ns == "mounts");
  CHECK(pods->keeper_socket == "/run/moorfs/keeper.sock");
  CHECK(pods->kube.server == "https://k:1");
  CHECK(pods->kube.ca_file == "/ca");
  CHECK(pods->kube.token_file == "/token");
  CHECK(pods->file_systems.all().size() == 2);
  CHECK(pods->file_systems.default_name() == "other");
  CHECK(pods->file_systems.open_to_pods() == config::PodFsNames{"main"});
  CHECK_THAT(pods->file_systems.MetaOf("third").error().message(), Catch::Contains("configuration file"));
  CHECK(node({"--mounts", "pods", "--config", empty, "--keeper-socket", "none"})->keeper_socket.empty());
  const auto plain = node({"--fs", "a=leveldb:/1"});
  REQUIRE(plain);
  CHECK(plain->mounts == kMountsInProcesses);
  CHECK_FALSE(plain->config);

  const auto agents = controller({"--volumes", "agents", "--config", file, "--node-id", "n1"});
  REQUIRE(agents);
  CHECK(agents->volumes == kVolumesByAgents);
  CHECK(agents->node_id == "n1");
  CHECK(agents->file_systems.default_name() == "other");
  CHECK(controller({"--config", file})->volumes == kVolumesByCommands);

  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--mounts", "pods"},
                                                {"--mounts", "elsewhere"},
                                                {"--config", dir / "absent"},
                                                {"--config", broken},
                                                {"--config", file, "--fs", "a=leveldb:/1"},
                                                {"--config", file, "--pod-fs", "main"},
                                                {"--kube-server", "https://k:1"},
                                                {"--mounts", "pods", "--config", file, "--kube-server", "k:1"},
                                                {"--mounts", "pods", "--config", file, "--kube-ca", "/ca"}}) {
    CHECK_FALSE(node(wrong));
    CHECK(code == 2);
  }
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--config", empty},
                                                {"--volumes", "agents", "--fs", "a=leveldb:/1"},
                                                {"--volumes", "agents"},
                                                {"--volumes", "somebody", "--config", file},
                                                {"--config", file, "--default-fs", "main"},
                                                {"--config", file, "--node-id", "n1"},
                                                {"--config", file, "--kube-token", "/t"}}) {
    CHECK_FALSE(controller(wrong));
    CHECK(code == 2);
  }
}

TEST_CASE("a controller knows its file systems and which is meant by none") {
  const auto parse = [](std::vector<std::string> words, int* code) {
    std::vector<char*> argv;
    words.insert(words.begin(), {"moorfs", "controller"});
    for (auto& word : words) argv.push_back(word.data());
    return ParseControllerArguments(static_cast<int>(argv.size()), argv.data(), code);
  };
  int code = 0;
  auto one = parse({"--endpoint", "/c.sock", "--fs", "a=leveldb:/1"}, &code);
  REQUIRE(one);
  CHECK(one->file_systems.default_name() == "a");
  auto two = parse({"--endpoint", "/c.sock", "--fs", "a=leveldb:/1", "--fs", "b=leveldb:/2", "--default-fs", "b"}, &code);
  REQUIRE(two);
  CHECK(two->file_systems.default_name() == "b");
  CHECK_FALSE(parse({"--endpoint", "/c.sock"}, &code));
  CHECK_FALSE(parse({"--fs", "a=leveldb:/1"}, &code));
  CHECK_FALSE(parse({"--endpoint", "/c.sock", "--fs", "a=leveldb:/1", "--default-fs", "z"}, &code));
}

}  // namespace moorfs::csi::test
