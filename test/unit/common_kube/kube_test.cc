// SPDX-License-Identifier: Apache-2.0
//
// The parts of common/kube that need no server. The rest is tested by test/kube.

#include <catch2/catch.hpp>

#include <cstdlib>
#include <set>

#include "common/kube/answers.h"
#include "common/kube/api.h"
#include "common/kube/backoff.h"
#include "common/kube/pod.h"
#include "common/os/file.h"
#include "test/support/temp_dir.h"

namespace moorfs::kube {
namespace {

Json YoungPod() {
  return Json::parse(R"({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "moorfs-a-1", "namespace": "moorfs-mounts", "uid": "u", "resourceVersion": "7",
                 "labels": {"moorfs.io/node": "n"}, "annotations": {"moorfs.io/ref-1": "pods/x"}},
    "spec": {"containers": [{"name": "main", "image": "moorfs.io/moorfs:1"}]},
    "status": {"phase": "Pending"}})");
}
Json WithContainer(const char* status) {
  Json pod = YoungPod();
  pod["spec"]["nodeName"] = "n";
  pod["status"]["containerStatuses"] = Json::array({Json::parse(status)});
  return pod;
}
Pod Parsed(const Json& object) {
  auto pod = ParsePod(object);
  REQUIRE(pod);
  return *pod;
}

http::Response Answer(int status, const char* reason, const char* message) {
  http::Response response;
  response.status = status;
  response.body = Json{{"kind", "Status"}, {"reason", reason}, {"message", message}}.dump();
  return response;
}

}  // namespace

TEST_CASE("A pod is read with what the API has set so far") {
  const Pod young = Parsed(YoungPod());
  CHECK(young.name == "moorfs-a-1");
  CHECK(young.ns == "moorfs-mounts");
  CHECK(young.uid == "u");
  CHECK(young.resource_version == "7");
  CHECK(young.labels.at("moorfs.io/node") == "n");
  CHECK(young.annotations.at("moorfs.io/ref-1") == "pods/x");
  CHECK(young.node.empty());
  CHECK(young.image == "moorfs.io/moorfs:1");
  CHECK_FALSE(young.deleting);
  CHECK_FALSE(young.Ended());
  CHECK(Trouble(young).ok());

  Json going = WithContainer(R"({"restartCount": 2, "state": {"running": {"startedAt": "x"}},
    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}})");
  going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  going["status"]["phase"] = "Running";
  const Pod running = Parsed(going);
  CHECK(running.deleting);
  CHECK(running.container_running);
  CHECK(running.restarts == 2);
  CHECK(running.terminated_reason == "OOMKilled");
  CHECK(running.exit_code == 137);
  CHECK(running.node == "n");
  CHECK(Trouble(running).ok());
}

TEST_CASE("A pod that is not the API's is refused with the member's name") {
  CHECK(ParsePod(Json::array()).error().err() == EPROTO);
  for (const char* member : {"name", "namespace", "uid", "resourceVersion"}) {
    Json pod = YoungPod();
    pod["metadata"].erase(member);
    const auto parsed = ParsePod(pod);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().err() == EPROTO);
    CHECK_THAT(parsed.error().message(), Catch::Contains(std::string("metadata.") + member));
  }
  Json pod = YoungPod();
  pod["metadata"]["annotations"]["moorfs.io/ref-1"] = 7;
  CHECK_THAT(ParsePod(pod).error().message(), Catch::Contains("metadata.annotations"));
  pod = YoungPod();
  pod["spec"]["containers"] = "none";
  CHECK_THAT(ParsePod(pod).error().message(), Catch::Contains("spec.containers"));
  pod = YoungPod();
  pod["status"] = 1;
  CHECK_THAT(ParsePod(pod).error().message(), Catch::Contains("status"));
}

TEST_CASE("Null and empty members of a pod are as good as missing ones") {
  Json pod = YoungPod();
  pod["metadata"]["annotations"] = nullptr;
  pod["metadata"]["labels"] = Json::object();
  pod["status"] = Json::object();
  pod["spec"]["containers"] = Json::array();
  const Pod parsed = Parsed(pod);
  CHECK(parsed.annotations.empty());
  CHECK(parsed.phase == "Pending");
  CHECK(parsed.image.empty());
}

TEST_CASE("Trouble of a pod that is not scheduled tells room from other causes") {
  const auto unscheduled = [](const char* message) {
    Json pod = YoungPod();
    pod["status"]["conditions"] = Json::array(
        {{{"type", "PodScheduled"}, {"status", "False"}, {"reason", "Unschedulable"}, {"message", message}}});
    return Trouble(Parsed(pod));
  };
  const Status room = unscheduled("0/1 nodes are available: 1 Insufficient memory.");
  CHECK(room.err() == ENOSPC);
  CHECK_THAT(room.message(), Catch::Contains("Insufficient memory") && Catch::Contains("requests"));
  CHECK(unscheduled("0/2 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint {x: }").err() == ENOSPC);
  CHECK(unscheduled("").err() == ENOSPC);
  const Status claim = unscheduled("persistentvolumeclaim \"data\" not found");
  CHECK(claim.err() == EIO);
  CHECK_THAT(claim.message(), Catch::Contains("PersistentVolumeClaims"));
  CHECK(unscheduled("0/1 nodes are available: 1 node(s) had volume node affinity conflict.").err() == EIO);
  CHECK_THAT(unscheduled("0/1 nodes are available: 1 node(s) were unschedulable.").message(),
             Catch::Contains("uncordon"));
}

TEST_CASE("Trouble of a pod that has failed names the cause and the remedy") {
  const auto failed = [](const char* reason, const char* message) {
    Json pod = YoungPod();
    pod["spec"]["nodeName"] = "n";
    pod["status"] = {{"phase", "Failed"}, {"reason", reason}, {"message", message}};
    return Trouble(Parsed(pod));
  };
  CHECK(failed("Evicted", "The node was low on resource: memory.").err() == ENOSPC);
  CHECK(failed("OutOfcpu", "Node didn't have enough resource: cpu").err() == ENOSPC);
  CHECK(failed("NodeAffinity", "x").err() == EIO);
  CHECK_THAT(failed("NodeShutdown", "the node goes").message(), Catch::Contains("NodeShutdown"));

  Json preempted = YoungPod();
  preempted["status"] = {{"phase", "Failed"}};
  preempted["status"]["conditions"] = Json::array({{{"type", "DisruptionTarget"},
                                                    {"status", "True"},
                                                    {"reason", "PreemptionByScheduler"},
                                                    {"message", "a pod of higher priority"}}});
  CHECK_THAT(Trouble(Parsed(preempted)).message(), Catch::Contains("PreemptionByScheduler"));

  Json killed = WithContainer(R"({"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}})");
  killed["status"]["phase"] = "Failed";
  CHECK(Trouble(Parsed(killed)).err() == ENOSPC);
  CHECK_THAT(Trouble(Parsed(killed)).message(), Catch::Contains("memory limit"));
  killed["status"]["containerStatuses"][0]["state"]["terminated"] = {{"reason", "Error"}, {"exitCode", 3}};
  CHECK(Trouble(Parsed(killed)).err() == EIO);
  CHECK_THAT(Trouble(Parsed(killed)).message(), Catch::Contains("exit code 3") && Catch::Contains("kubectl logs"));
  killed["status"]["phase"] = "Succeeded";
  CHECK(Trouble(Parsed(killed)).err() == EIO);
}

TEST_CASE("Trouble of a container that does not start") {
  const auto waiting = [](const char* reason, const char* message) {
    Json pod = WithContainer(R"({"state": {"waiting": {}}})");
    pod["status"]["containerStatuses"][0]["state"]["waiting"] = {{"reason", reason}, {"message", message}};
    return Trouble(Parsed(pod));
  };
  CHECK(waiting("ContainerCreating", "").ok());
  CHECK(waiting("PodInitializing", "").ok());
  const Status image = waiting("ImagePullBackOff", "Back-off pulling image\nsecond line");
  CHECK(image.err() == EIO);
  CHECK_THAT(image.message(), Catch::Contains("moorfs.io/moorfs:1"));
  CHECK(image.message().find('\n') == std::string::npos);
  CHECK(waiting("CreateContainerConfigError", "no secret").err() == EIO);
  CHECK_THAT(waiting("CreateContainerConfigError", "no secret").message(), Catch::Contains("no secret"));
  CHECK(waiting("CrashLoopBackOff", "").err() == EIO);
  Json memory = WithContainer(R"({"state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}})");
  CHECK(Trouble(Parsed(memory)).err() == ENOSPC);
}

TEST_CASE("Only a DNS subdomain becomes part of a path") {
  CHECK(*ObjectPath(PodsOf("ns"), "moorfs-0a.b-1") == "/api/v1/namespaces/ns/pods/moorfs-0a.b-1");
  CHECK(ObjectPath("/x", std::string(253, 'a')));
  for (const std::string bad : {"", ".", "..", "a/b", "a?b", "a%2f", "A", "a_b", "-a", "a-", "a..b", "a.", ".a", "a-.b",
                                "a.-b", "a b", "a\n", "ä"}) {
    INFO(bad);
    REQUIRE_FALSE(ObjectPath("/x", bad));
    CHECK(ObjectPath("/x", bad).error().err() == EINVAL);
  }
  CHECK_FALSE(ObjectPath("/x", std::string(254, 'a')));
  CHECK_FALSE(ObjectPath("/x", std::string_view("a\0b", 3)));
}

TEST_CASE("Answers become the errno values that callers act on") {
  const auto err = [](int status, const char* reason, const char* message = "m") {
    return StatusOf(Answer(status, reason, message), "patch /x").err();
  };
  CHECK(err(404, "NotFound") == ENOENT);
  CHECK(err(409, "AlreadyExists") == EEXIST);
  CHECK(err(409, "Conflict") == kErrnoConflict);
  CHECK(err(410, "Expired") == ESTALE);
  CHECK(err(400, "BadRequest") == EINVAL);
  CHECK(err(422, "Invalid") == EINVAL);
  CHECK(err(401, "Unauthorized") == EKEYREJECTED);
  CHECK(err(403, "Forbidden") == EPERM);
  CHECK(err(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1") == EDQUOT);
  for (const int passing : {429, 500, 502, 503, 504}) {
    CHECK(err(passing, "x") == EHOSTUNREACH);
    CHECK(IsPassing(passing));
  }
  CHECK_FALSE(IsPassing(409));
  CHECK(err(302, "x") == EPROTO);
}

TEST_CASE("A server's words are one line of bounded length in a message") {
  http::Response page;
  page.status = 502;
  page.body = "<html>\n" + std::string(5000, 'x');
  const Status status = StatusOf(page, "get /x");
  CHECK(status.message().size() < 1200);
  CHECK(status.message().find('\n') == std::string::npos);
  CHECK_THAT(status.message(), Catch::StartsWith("get /x: the API server answered 502"));
  CHECK_THAT(StatusOf(Answer(422, "Invalid", "spec.x: Required value"), "create in /x").message(),
             Catch::EndsWith("spec.x: Required value"));
  // Cut between characters, not inside one.
  std::string umlauts;
  for (int i = 0; i < 600; ++i) umlauts += "ä";
  CHECK(Quoted("x" + umlauts).size() <= 1003);
  CHECK(Quoted("x" + umlauts).find("\\x") == std::string::npos);
}

TEST_CASE("Selectors are escaped for a query") {
  CHECK(QueryEscape("moorfs.io/node=a,b!=c d&e") == "moorfs.io%2Fnode%3Da%2Cb%21%3Dc%20d%26e");
}

TEST_CASE("Pauses double to a limit, shortened at random, and begin again") {
  Backoff backoff(200, 10'000, 1);
  int full = 200;
  std::set<int> seen;
  for (int i = 0; i < 50; ++i) {
    const int pause = backoff.NextMs();
    CHECK(pause <= full);
    CHECK(pause >= full - full / 2);
    seen.insert(pause);
    full = std::min(10'000, full * 2);
  }
  CHECK(seen.size() > 20);
  backoff.Reset();
  CHECK(backoff.NextMs() <= 200);
}

TEST_CASE("The configuration of a pod comes from its environment, and says so where there is none") {
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  const auto none = InClusterConfig();
  REQUIRE_FALSE(none);
  CHECK(none.error().err() == ENOENT);
  CHECK_THAT(none.error().message(), Catch::Contains("--kube-server"));
  ::setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1", 1);
  ::setenv("KUBERNETES_SERVICE_PORT", "6443", 1);
  CHECK(InClusterConfig()->server == "https://10.96.0.1:6443");
  ::setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
  CHECK(InClusterConfig()->server == "https://[fd00::1]:6443");
  ::unsetenv("KUBERNETES_SERVICE_HOST");
}

TEST_CASE("A client of the API wants https and a token") {
  test::TempDir dir;
  ApiConfig config{"http://127.0.0.1:1", "", dir / "token"};
  REQUIRE(os::ReplaceFile(dir / "token", "secret-token\n", 0600).ok());
  CHECK(Api::Create(config).error().err() == EINVAL);
  config.server = "https://127.0.0.1:1";
  config.timeout_ms = 300;
  auto api = Api::Create(config);
  REQUIRE(api);
  const auto got = (*api)->Get("/api/v1/nodes");
  REQUIRE_FALSE(got);
  CHECK(got.error().err() == EHOSTUNREACH);
  CHECK(got.error().message().find("secret") == std::string::npos);
  CHECK((*api)->GetCounters().failures == 1);
  CHECK((*api)->GetCounters().retries > 0);
  CHECK((*api)->Get("api/v1").error().err() == EINVAL);
  CHECK((*api)->Get("/api v1").error().err() == EINVAL);
  REQUIRE(os::ReplaceFile(dir / "token", "bad token\n", 0600).ok());
  CHECK(Api::Create(config).error().err() == EINVAL);
  config.token_file = dir / "none";
  CHECK(Api::Create(config).error().err() == ENOENT);
}

}  // namespace moorfs::kube
