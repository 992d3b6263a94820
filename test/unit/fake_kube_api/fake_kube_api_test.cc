// SPDX-License-Identifier: Apache-2.0
//
// The API server in memory is as strict as the real one where callers rely on it.

#include "test/support/fake_kube_api.h"

#include <catch2/catch.hpp>

namespace moorfs::test {
namespace {

using kube::Json;

const std::string kPods = kube::PodsOf("mounts");
const std::string kPod = kPods + "/p";

Json Pod(const Json& labels = Json::object()) {
  return {{"metadata", {{"name", "p"}, {"labels", labels}}}, {"spec", {{"containers", {{{"name", "c"}}}}}}};
}

// What a watch reported, in order: "sync:a,b", "set:a", "gone:a".
class Heard {
 public:
  kube::Api::WatchCallbacks Callbacks() {
    return {[this](const std::vector<Json>& all) {
              std::string line = "sync:";
              for (const Json& object : all) line += object["metadata"]["name"].get<std::string>() + ",";
              Add(line);
            },
            [this](const kube::Event& event) {
              Add((event.type == kube::Event::Type::kSet ? "set:" : "gone:") +
                  event.object["metadata"]["name"].get<std::string>());
            }};
  }
  std::vector<std::string> Take() {
    std::lock_guard lock(mutex_);
    return std::exchange(lines_, {});
  }

 private:
  void Add(std::string line) {
    std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
  }
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("a created object has a uid, a version and its namespace, and exists once") {
  FakeKubeApi api;
  const auto made = api.Create(kPods, Pod());
  REQUIRE(made);
  CHECK((*made)["metadata"]["namespace"] == "mounts");
  CHECK((*made)["metadata"]["uid"].is_string());
  CHECK((*made)["status"]["phase"] == "Pending");
  CHECK(api.Create(kPods, Pod()).error().err() == EEXIST);
  CHECK(*api.Get(kPod) == *made);
  CHECK(api.Get(kPods + "/q").error().err() == ENOENT);
  CHECK(api.Create(kPods, {{"metadata", {{"name", "Upper"}}}}).error().err() == EINVAL);
}

TEST_CASE("a merge patch honours preconditions, removes with null, and a change of nothing is no version") {
  FakeKubeApi api;
  const Json made = *api.Create(kPods, Pod());
  const std::string version = made["metadata"]["resourceVersion"];
  const auto patched = api.MergePatch(kPod, {{"metadata", {{"resourceVersion", version}, {"annotations", {{"a", "1"}}}}}});
  REQUIRE(patched);
  CHECK((*patched)["metadata"]["annotations"]["a"] == "1");
  CHECK((*patched)["metadata"]["resourceVersion"] != version);
  CHECK(api.MergePatch(kPod, {{"metadata", {{"resourceVersion", version}}}}).error().err() == kErrnoConflict);
  CHECK(api.MergePatch(kPod, {{"metadata", {{"uid", "another"}}}}).error().err() == kErrnoConflict);
  CHECK(*api.MergePatch(kPod, {{"metadata", {{"annotations", {{"a", "1"}}}}}}) == *patched);
  const auto removed = api.MergePatch(kPod, {{"metadata", {{"annotations", {{"a", nullptr}}}}}});
  REQUIRE(removed);
  CHECK_FALSE((*removed)["metadata"]["annotations"].contains("a"));
}

TEST_CASE("a pod's status changes through its subresource only, its spec never") {
  FakeKubeApi api;
  REQUIRE(api.Create(kPods, Pod()));
  REQUIRE(api.MergePatch(kPod, {{"status", {{"phase", "Running"}}}}));
  CHECK(api.Peek(kPod)["status"]["phase"] == "Pending");
  REQUIRE(api.MergePatch(kPod + "/status", {{"status", {{"phase", "Running"}}}, {"spec", {{"x", 1}}}}));
  CHECK(api.Peek(kPod)["status"]["phase"] == "Running");
  CHECK(api.MergePatch(kPod, {{"spec", {{"nodeName", "n"}}}}).error().err() == EINVAL);
}

TEST_CASE("annotations beyond 256 KiB and labels that are none are refused") {
  FakeKubeApi api;
  REQUIRE(api.Create(kPods, Pod()));
  CHECK(api.MergePatch(kPod, {{"metadata", {{"annotations", {{"a", std::string(256 << 10, 'x')}}}}}}).error().err() ==
        EINVAL);
  CHECK(api.MergePatch(kPod, {{"metadata", {{"labels", {{"a", std::string(64, 'x')}}}}}}).error().err() == EINVAL);
}

TEST_CASE("deletion in two steps for pods on a node, at once without") {
  FakeKubeApi api;
  api.SetGracefulPods(true);
  const std::string uid = (*api.Create(kPods, Pod()))["metadata"]["uid"];
  CHECK(api.Delete(kPod, {.uid = "another"}).ok());
  CHECK_FALSE(api.Peek(kPod).is_null());
  CHECK(api.Delete(kPod, {.resource_version = "1"}).err() == kErrnoConflict);
  api.PlacePod(kPod, "n1");
  api.RunPod(kPod);
  CHECK(api.Delete(kPod, {.uid = uid, .grace_s = 7}).ok());
  CHECK(api.Peek(kPod)["metadata"]["deletionGracePeriodSeconds"] == 7);
  api.EndPod(kPod);
  CHECK(api.Peek(kPod).is_null());
  CHECK(api.Delete(kPod, {}).ok());
  REQUIRE(api.Create(kPods, Pod()));
  CHECK(api.Delete(kPod, {}).ok());
  CHECK(api.Peek(kPod).is_null());
}

TEST_CASE("a watch lists, then follows what its labels select") {
  FakeKubeApi api;
  REQUIRE(api.Create(kPods, Pod({{"app", "x"}})));
  Heard heard;
  const auto watch = api.StartWatch(kPods, "app=x,!hidden", heard.Callbacks());
  REQUIRE(api.Settle());
  CHECK(heard.Take() == Lines{"sync:p,"});
  REQUIRE(api.MergePatch(kPod, {{"metadata", {{"annotations", {{"a", "1"}}}}}}));
  REQUIRE(api.MergePatch(kPod, {{"metadata", {{"labels", {{"app", "y"}}}}}}));
  REQUIRE(api.MergePatch(kPod, {{"metadata", {{"annotations", {{"a", "2"}}}}}}));
  REQUIRE(api.Settle());
  CHECK(heard.Take() == Lines{"set:p", "gone:p"});
  CHECK_FALSE(watch->Broken());
}

TEST_CASE("held events come late; a watch that lists again never sees them") {
  FakeKubeApi api;
  Heard heard;
  const auto watch = api.StartWatch(kPods, "", heard.Callbacks());
  REQUIRE(api.Settle());
  heard.Take();
  api.HoldEvents(true);
  REQUIRE(api.Create(kPods, Pod()));
  CHECK_FALSE(api.Settle(50));
  CHECK(heard.Take().empty());
  SECTION("late") {
    api.HoldEvents(false);
    REQUIRE(api.Settle());
    CHECK(heard.Take() == Lines{"set:p"});
  }
  SECTION("never") {
    api.Remove(kPod);
    api.Relist();
    REQUIRE(api.Settle());
    CHECK(heard.Take() == Lines{"sync:"});
  }
}

TEST_CASE("calls fail on request, before or after they take effect") {
  FakeKubeApi api;
  api.FailNext("create", "pods", Status(EHOSTUNREACH, "no"));
  CHECK(api.Create(kPods, Pod()).error().err() == EHOSTUNREACH);
  CHECK(api.Peek(kPod).is_null());
  api.FailNext("create", "pods", Status(EHOSTUNREACH, "no"), 1, /*done=*/true);
  CHECK(api.Create(kPods, Pod()).error().err() == EHOSTUNREACH);
  CHECK_FALSE(api.Peek(kPod).is_null());
  CHECK(api.Create(kPods, Pod()).error().err() == EEXIST);
  api.SetHooks([&](const FakeKubeApi::Call& call) {
    if (call.verb == "patch") api.Change(kPod, {{"metadata", {{"annotations", {{"other", "1"}}}}}});
    return Status::Ok();
  }, nullptr);
  const std::string version = api.Peek(kPod)["metadata"]["resourceVersion"];
  CHECK(api.MergePatch(kPod, {{"metadata", {{"resourceVersion", version}, {"labels", {{"a", "b"}}}}}}).error().err() ==
        kErrnoConflict);
  CHECK(api.Calls("create").size() == 3);
}

TEST_CASE("an API that is away breaks watches, which list when it is back") {
  FakeKubeApi api;
  Heard heard;
  const auto watch = api.StartWatch(kPods, "", heard.Callbacks());
  REQUIRE(api.Settle());
  api.SetReachable(false);
  CHECK(watch->Broken());
  CHECK(api.Get(kPod).error().err() == EHOSTUNREACH);
  api.Put(kPod, Pod());
  api.SetReachable(true);
  REQUIRE(api.Settle());
  CHECK_FALSE(watch->Broken());
  CHECK(heard.Take() == Lines{"sync:", "sync:p,"});
}

}  // namespace moorfs::test
