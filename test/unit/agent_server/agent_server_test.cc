// SPDX-License-Identifier: Apache-2.0
//
// The agent's side of the socket, with a manager that only remembers what it
// was asked: trust, names, what is taken back, and the protocol.

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "common/control/client.h"
#include "common/mount/agent_server.h"
#include "test/support/temp_dir.h"

using namespace moorfs;
using namespace moorfs::mount;
using Json = nlohmann::json;

namespace {

class FakeManager final : public MountManager {
 public:
  Result<Published> Publish(const PublishRequest& request) override {
    published.push_back(request);
    if (!answer.ok()) return Error(answer);
    return Published{"key", "0:57", false};
  }
  Status Unpublish(const UnpublishRequest& request) override {
    unpublished.push_back(request.target);
    return unpublish_answer;
  }
  std::optional<TargetInfo> FindTarget(std::string_view target) override {
    return target == there ? std::optional(TargetInfo{.target = there}) : std::nullopt;
  }
  std::vector<ClientInfo> List() override {
    ClientInfo c;
    c.mount_key = "key";
    c.targets.push_back({.target = "/k/t", .volume_id = "v", .subdir = "a", .read_only = true, .mounted = true});
    return {c};
  }
  Result<VolumeStats> Stats(std::string_view, int) override { return VolumeStats{}; }
  Result<control::Json> AskVolume(const std::string&, const control::Json&, int) override {
    return Error(ENOSYS, "nobody asks volumes here");
  }
  std::vector<std::string> Reconcile() override { return {}; }
  Counters GetCounters() override { return {}; }

  std::vector<PublishRequest> published;
  std::vector<std::string> unpublished;
  Status answer, unpublish_answer;
  std::string there = "/nowhere";
};

AgentConfig ConfigWith(config::Trust trust) {
  AgentConfig config;
  config.flex_trust = trust;
  REQUIRE(config::AddFsName("main=leveldb:/srv/main", &config.fs_names).ok());
  REQUIRE(config::AddFsName("closed=leveldb:/srv/closed", &config.fs_names).ok());
  config.pod_fs.insert("main");
  return config;
}

agent::FlexPublish Words(std::map<std::string, std::string> options) {
  agent::FlexPublish words;
  words.target = "/k/t";
  words.options = std::move(options);
  return words;
}

}  // namespace

TEST_CASE("a pod names a file system, and the node resolves it") {
  auto words = Words({{"fs", "main"}, {"subdir", "/a/b"}, {"nosuid", ""}});
  words.fs_group = 7;
  words.read_only = true;
  words.volume_id = "v";
  const auto r = ReadPublish(words, ConfigWith(config::Trust::kPod));
  REQUIRE(r);
  CHECK(r->target == "/k/t");
  CHECK(r->volume_id == "v");
  CHECK(r->options.meta == "leveldb:/srv/main");
  CHECK(r->options.subdir == "a/b");
  CHECK(r->options.read_only);
  CHECK(r->group == 7U);
  // An option's "ro" is not undone by kubelet's "rw".
  CHECK(ReadPublish(Words({{"fs", "main"}, {"ro", "true"}}), ConfigWith(config::Trust::kPod))->options.read_only);
}

TEST_CASE("META is believed where the node trusts flexVolumes, or where root says so") {
  const auto words = Words({{"meta", "leveldb:/other"}});
  CHECK(ReadPublish(words, ConfigWith(config::Trust::kPod)).error().message().find("may not be set by a pod") != std::string::npos);
  CHECK(ReadPublish(words, ConfigWith(config::Trust::kVolume))->options.meta == "leveldb:/other");
  auto by_root = words;
  by_root.from_pod = false;
  CHECK(ReadPublish(by_root, ConfigWith(config::Trust::kPod))->options.meta == "leveldb:/other");
  // What only the administrator's own command line may say, nobody says here.
  by_root.options["log-file"] = "/etc/x";
  CHECK(ReadPublish(by_root, ConfigWith(config::Trust::kVolume)).error().message().find("administrator") != std::string::npos);
}

TEST_CASE("a Secret's values are options with the same trust, and are never shown") {
  auto words = Words({});
  words.secrets = {{"meta", "redis://u:hunter2@h/0"}};
  CHECK(ReadPublish(words, ConfigWith(config::Trust::kVolume))->options.meta == "redis://u:hunter2@h/0");
  CHECK(ReadPublish(words, ConfigWith(config::Trust::kPod)).error().message().find("hunter2") == std::string::npos);
  words.options = {{"meta", "leveldb:/x"}};
  const Status twice = ReadPublish(words, ConfigWith(config::Trust::kVolume)).error();
  CHECK(twice.message().find("in the Secret") != std::string::npos);
  CHECK(twice.message().find("hunter2") == std::string::npos);
  words.secrets = {{"token", "hunter2"}};
  const Status unknown = ReadPublish(words, ConfigWith(config::Trust::kVolume)).error();
  CHECK(unknown.message().find("\"token\" is unknown") != std::string::npos);
  CHECK(unknown.message().find("hunter2") == std::string::npos);
}

TEST_CASE("what did not end in time is taken back, unless it was there before") {
  FakeManager manager;
  const AgentConfig config = ConfigWith(config::Trust::kPod);
  const Json request = agent::EncodePublish(Words({{"fs", "main"}}));
  manager.answer = Status(ETIMEDOUT, "late");
  CHECK(AnswerAgent(manager, config, request).error().err() == ETIMEDOUT);
  CHECK(manager.unpublished == std::vector<std::string>{"/k/t"});

  manager.there = "/k/t";
  CHECK(AnswerAgent(manager, config, request).error().err() == ETIMEDOUT);
  CHECK(manager.unpublished.size() == 1);

  // Others either left nothing, or belong to another call.
  manager.there.clear();
  for (int err : {EAGAIN, EBUSY, EEXIST, EIO, ENOENT}) {
    manager.answer = Status(err, "no");
    CHECK(AnswerAgent(manager, config, request).error().err() == err);
  }
  CHECK(manager.unpublished.size() == 1);
  // That taking back failed does not hide why.
  manager.answer = Status(ETIMEDOUT, "late");
  manager.unpublish_answer = Status(EBUSY, "busy");
  CHECK(AnswerAgent(manager, config, request).error().message() == "late");
}

TEST_CASE("a refused request never reaches the manager") {
  FakeManager manager;
  const AgentConfig config = ConfigWith(config::Trust::kPod);
  for (const Json& bad : {agent::EncodePublish(Words({{"fs", "nobody"}})), agent::EncodePublish(Words({})),
                          Json{{"cmd", "publish"}, {"protocol", 1}}, Json{{"cmd", "unpublish"}, {"protocol", 1}},
                          Json{{"cmd", "unpublish"}, {"protocol", 1}, {"target", 7}}}) {
    CHECK(AnswerAgent(manager, config, bad).error().err() == EINVAL);
  }
  CHECK(AnswerAgent(manager, config, agent::EncodePublish(Words({{"fs", "closed"}}))).error().err() == EPERM);
  CHECK(AnswerAgent(manager, config, {{"cmd", "reboot"}, {"protocol", 1}}).error().err() == EOPNOTSUPP);
  for (const Json& protocol : {Json(0), Json(2), Json("1"), Json(nullptr)}) {
    const Status s = AnswerAgent(manager, config, {{"cmd", "unpublish"}, {"protocol", protocol}, {"target", "/k/t"}}).error();
    CHECK(s.err() == EPROTONOSUPPORT);
    CHECK(s.message().find("speaks protocol 1") != std::string::npos);
  }
  CHECK(manager.published.empty());
  CHECK(manager.unpublished.empty());
}

TEST_CASE("the socket is root's, replaces a dead one, and answers all four commands") {
  const test::TempDir dir;
  FakeManager manager;
  AgentConfig config = ConfigWith(config::Trust::kPod);
  config.socket_path = dir.path() + "/run/agent.sock";
  for (int round = 0; round < 2; ++round) {
    auto server = AgentServer::Start(manager, config);
    REQUIRE(server);
    struct stat st;
    REQUIRE(stat(config.socket_path.c_str(), &st) == 0);
    CHECK((st.st_mode & 0777) == 0600);
    const auto ping = control::Call(config.socket_path, {{"cmd", "ping"}, {"protocol", 1}}, {});
    REQUIRE(ping);
    CHECK(ping->at("fs") == Json({"closed", "main"}));
    CHECK(ping->at("flex_trust") == "pod");
    CHECK(control::Call(config.socket_path, agent::EncodePublish(Words({{"fs", "main"}})), {})->at("device") == "0:57");
    CHECK(control::Call(config.socket_path, agent::EncodeUnpublish("/k/t"), {}));
    const auto list = control::Call(config.socket_path, {{"cmd", "list"}, {"protocol", 1}}, {});
    CHECK(list->at("clients").at(0).at("targets").at(0).at("subdir") == "a");
  }
  CHECK(manager.published.size() == 2);
}
