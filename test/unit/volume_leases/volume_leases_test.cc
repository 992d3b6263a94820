// SPDX-License-Identifier: Apache-2.0
//
// One holder for each volume, whoever asks at once and whatever the API server
// does meanwhile; and questions to the holder that are answered once.

#include "common/mount/pods/volume_leases.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <ctime>
#include <thread>

#include "common/mount/pods/lease_board.h"
#include "test/support/fake_kube_api.h"

namespace moorfs::mount {
namespace {

using kube::Json;
using moorfs::test::FakeKubeApi;

const std::string kNs = "mounts";
const std::string kKey = "0123456789abcdef0123456789abcdef";
const std::string kMeta = "leveldb:/volumes/main/meta";
const std::string kPath = kube::LeasesOf(kNs) + "/moorfs-" + kKey;
constexpr int kCallMs = 5'000;

// An agent of a node; answers what it hears from a thread of its own, as the
// watch's must not block.
class Agent {
 public:
  using Act = std::function<Json(const Json&)>;
  Agent(FakeKubeApi& api, std::string node, Act act = nullptr)
      : leases_(VolumeLeases::Start(api, {kNs, std::move(node), [this, act](VolumeLeases::Ask ask) {
          std::lock_guard lock(mutex_);
          heard_.push_back(ask);
          if (act) threads_.emplace_back([this, act, ask = std::move(ask)] {
            while (!ready_) std::this_thread::yield();
            // What fails is heard again; the caller's side of the test notices.
            static_cast<void>(leases_->Answer(ask.mount_key, ask.id, act(ask.request)));
          });
        }})) {
    ready_ = true;
  }
  ~Agent() {
    // Threads end before what they use; no new ones come once the leases are gone.
    JoinAll();
    leases_.reset();
    JoinAll();
  }
  VolumeLeases& operator*() { return *leases_; }
  VolumeLeases* operator->() { return leases_.get(); }
  size_t Heard() {
    std::lock_guard lock(mutex_);
    return heard_.size();
  }
  VolumeLeases::Ask First() {
    std::lock_guard lock(mutex_);
    return heard_.at(0);
  }
  bool WaitHeard(size_t n) {
    for (int i = 0; i < 2'000 && Heard() < n; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return Heard() >= n;
  }

 private:
  void JoinAll() {
    std::vector<std::thread> threads;
    {
      std::lock_guard lock(mutex_);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::mutex mutex_;
  std::vector<VolumeLeases::Ask> heard_;
  std::vector<std::thread> threads_;
  std::atomic<bool> ready_{false};
  std::unique_ptr<VolumeLeases> leases_;
};

Json Echo(const Json& request) { return {{"ok", {{"echo", request}}}}; }

std::unique_ptr<LeaseCaller> StartCaller(FakeKubeApi& api, const std::string& fallback = "") {
  auto caller = LeaseCaller::Start(api, {kNs, fallback});
  REQUIRE(caller);
  return std::move(*caller);
}

// A claim bound to a volume of that node.
void PutClaim(FakeKubeApi& api, const std::vector<std::string>& nodes) {
  api.Put("/api/v1/namespaces/" + kNs + "/persistentvolumeclaims/main", {{"spec", {{"volumeName", "pv-1"}}}});
  const Json expression = {{"key", "kubernetes.io/hostname"}, {"operator", "In"}, {"values", nodes}};
  const Json term = {{"matchExpressions", Json::array({expression})}};
  api.Put("/api/v1/persistentvolumes/pv-1",
          {{"spec", {{"nodeAffinity", {{"required", {{"nodeSelectorTerms", Json::array({term})}}}}}}}});
}

std::string Holder(FakeKubeApi& api) {
  const Json lease = api.Peek(kPath);
  return lease.is_null() ? "" : lease["spec"].value("holderIdentity", "");
}
bool HasAsks(const Json& lease) {
  if (lease.is_null()) return false;
  for (const auto& [key, value] : lease["metadata"]["annotations"].items()) {
    if (key.starts_with("moorfs.io/ask-") || key.starts_with("moorfs.io/answer-")) return true;
  }
  return false;
}
void PutAsk(FakeKubeApi& api, const std::string& id, const Json& request) {
  api.Change(kPath, {{"metadata", {{"annotations", {{AskKey(id), request.dump()}}}}}});
}
std::string IdOfAge(int64_t seconds) { return std::to_string(time(nullptr) - seconds) + "-0000abcd"; }
bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

// ---- holding -------------------------------------------------------------------

TEST_CASE("a volume's first node holds it, and asking again costs no request") {
  FakeKubeApi api;
  Agent a(api, "n1");
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  const Json lease = api.Peek(kPath);
  CHECK(lease["spec"]["holderIdentity"] == "n1");
  CHECK(lease["metadata"]["labels"]["app.kubernetes.io/name"] == "moorfs-volume");
  CHECK(lease["metadata"]["annotations"]["moorfs.io/meta"] == kMeta);
  CHECK(lease["spec"]["acquireTime"].get<std::string>().size() == 27);
  REQUIRE(api.Settle());
  api.Forget();
  CHECK(a->Acquire(kKey, kMeta).ok());
  CHECK(api.Calls().empty());
}

TEST_CASE("a second node is refused with the holder's name and the remedy") {
  FakeKubeApi api;
  Agent a(api, "n1"), b(api, "n2");
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  const Status refused = b->Acquire(kKey, kMeta);
  CHECK(refused.err() == EBUSY);
  CHECK(refused.message() ==
        "volume leveldb:/volumes/main/meta is held by node n1: a volume with an embedded engine is served by one node at "
        "a time; run its pods on that node, or, when the node is gone for good, take the volume from it with `kubectl -n "
        "mounts delete lease moorfs-" + kKey + "`");
  CHECK(Holder(api) == "n1");
  // As it says.
  api.Remove(kPath);
  CHECK(b->Acquire(kKey, kMeta).ok());
  REQUIRE(api.Settle());
  CHECK(a->Acquire(kKey, kMeta).err() == EBUSY);
}

TEST_CASE("released, it goes to who asks next; who does not hold it releases nothing") {
  FakeKubeApi api;
  Agent a(api, "n1"), b(api, "n2");
  CHECK(a->Release(kKey).ok());
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  CHECK(b->Release(kKey).ok());
  CHECK(Holder(api) == "n1");
  CHECK(a->Release(kKey).ok());
  CHECK(Holder(api).empty());
  CHECK(a->Release(kKey).ok());
  CHECK(b->Acquire(kKey, kMeta).ok());
  CHECK(a->Acquire(kKey, kMeta).err() == EBUSY);
}

TEST_CASE("of nodes that ask for a volume at once exactly one gets it") {
  constexpr int kNodes = 6, kRounds = 40;
  FakeKubeApi api;
  std::vector<std::unique_ptr<Agent>> agents;
  for (int n = 0; n < kNodes; ++n) agents.push_back(std::make_unique<Agent>(api, "n" + std::to_string(n)));
  for (int round = 0; round < kRounds; ++round) {
    // New, released by its last holder, or taken away by an administrator.
    if (round % 3 == 0) api.Remove(kPath);
    std::atomic<int> got{0}, busy{0}, winner{-1};
    std::vector<std::thread> threads;
    for (int n = 0; n < kNodes; ++n) {
      threads.emplace_back([&, n] {
        const Status status = (*agents[n])->Acquire(kKey, kMeta);
        if (status.ok()) winner = n;
        ++(status.ok() ? got : busy);
        if (!status.ok() && status.err() != EBUSY) busy = -100;
      });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(got == 1);
    REQUIRE(busy == kNodes - 1);
    REQUIRE(Holder(api) == "n" + std::to_string(winner));
    REQUIRE((*agents[winner])->Release(kKey).ok());
    // An administrator's deletion is known with the watch's next event.
    REQUIRE(api.Settle());
  }
}

TEST_CASE("a watch that is behind never says that a released volume is still held") {
  FakeKubeApi api;
  Agent a(api, "n1"), b(api, "n2");
  REQUIRE(api.Settle());
  api.HoldEvents(true);
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  SECTION("its events come late") {}
  SECTION("it lists in between") { api.Relist(); }
  REQUIRE(a->Release(kKey).ok());
  REQUIRE(b->Acquire(kKey, kMeta).ok());
  // The first event says that n1 holds it.
  std::thread late([&] { api.HoldEvents(false); });
  for (int i = 0; i < 200; ++i) CHECK(a->Acquire(kKey, kMeta).err() == EBUSY);
  late.join();
  REQUIRE(api.Settle());
  CHECK(a->Acquire(kKey, kMeta).err() == EBUSY);
}

TEST_CASE("with the watch broken a holder looks before it says so") {
  FakeKubeApi api;
  Agent a(api, "n1");
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  REQUIRE(api.Settle());
  api.SetReachable(false);
  const Status status = a->Acquire(kKey, kMeta);
  CHECK(status.err() == EHOSTUNREACH);
  api.SetReachable(true);
  CHECK(a->Acquire(kKey, kMeta).ok());
}

TEST_CASE("conflicts and answers that got lost end with one holder") {
  FakeKubeApi api;
  Agent a(api, "n1");
  SECTION("the creation took effect, its answer did not arrive") {
    api.FailNext("create", "leases", Status(EHOSTUNREACH, "no answer"), 1, /*done=*/true);
    CHECK(a->Acquire(kKey, kMeta).err() == EHOSTUNREACH);
    CHECK(a->Acquire(kKey, kMeta).ok());
  }
  SECTION("somebody else created it meanwhile") {
    api.SetHooks([&](const FakeKubeApi::Call& call) {
      if (call.verb == "create") api.Put(kPath, {{"metadata", {{"annotations", {{"moorfs.io/meta", kMeta}}}}},
                                                 {"spec", {{"holderIdentity", "n9"}}}});
      return Status::Ok();
    }, nullptr);
    CHECK(a->Acquire(kKey, kMeta).err() == EBUSY);
    CHECK(Holder(api) == "n9");
    return;
  }
  SECTION("its free lease changes under the write") {
    REQUIRE(a->Acquire(kKey, kMeta).ok());
    REQUIRE(a->Release(kKey).ok());
    api.FailNext("patch", "leases", Status(kErrnoConflict, "modified"), 5);
    CHECK(a->Acquire(kKey, kMeta).ok());
  }
  SECTION("it changes under the release") {
    REQUIRE(a->Acquire(kKey, kMeta).ok());
    api.FailNext("patch", "leases", Status(kErrnoConflict, "modified"), 5);
    CHECK(a->Release(kKey).ok());
    CHECK(Holder(api).empty());
    return;
  }
  CHECK(Holder(api) == "n1");
}

TEST_CASE("a mount key that is none reaches no path") {
  FakeKubeApi api;
  Agent a(api, "n1");
  for (const char* key : {"", "../../pods/x", "0123456", "ABCDEF0123456789"}) CHECK(a->Acquire(key, kMeta).err() == EINVAL);
  CHECK(api.Calls().empty());
}

// ---- asking --------------------------------------------------------------------

TEST_CASE("the controller asks the holder and gets its answer, and nothing stays") {
  FakeKubeApi api;
  Agent a(api, "n1", Echo);
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  const auto caller = StartCaller(api);
  const auto answer = caller->Call(kKey, kMeta, {{"cmd", "volume-list"}}, kCallMs);
  REQUIRE(answer);
  CHECK((*answer)["echo"]["cmd"] == "volume-list");
  CHECK_FALSE(HasAsks(api.Peek(kPath)));
  CHECK(Holder(api) == "n1");
  CHECK(a.Heard() == 1);
  CHECK(a.First().meta == kMeta);
}

TEST_CASE("a call costs three writes and no read in the steady state") {
  FakeKubeApi api;
  Agent a(api, "n1", Echo);
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  const auto caller = StartCaller(api);
  REQUIRE(api.Settle());
  api.Forget();
  REQUIRE(caller->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs));
  CHECK(api.Calls("patch").size() == 3);
  CHECK(api.Calls().size() == 3);
}

TEST_CASE("the client's error comes back with its errno and message") {
  FakeKubeApi api;
  Agent a(api, "n1", [](const Json&) { return Json{{"error", {{"errno", ENOENT}, {"message", "no volume x"}}}}; });
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  const auto answer = StartCaller(api)->Call(kKey, kMeta, {{"cmd", "volume-show"}}, kCallMs);
  REQUIRE_FALSE(answer);
  CHECK(answer.error().err() == ENOENT);
  CHECK(answer.error().message() == "no volume x");
}

TEST_CASE("an answer of an unknown shape is an error that says so") {
  FakeKubeApi api;
  const Json shape = GENERATE(Json(1), Json::object(), Json{{"error", "text"}}, Json{{"error", {{"errno", 0}}}});
  Agent a(api, "n1", [&](const Json&) { return shape; });
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  CHECK(StartCaller(api)->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs).error().err() == EPROTO);
}

TEST_CASE("a volume nobody holds goes to the node its PersistentVolume is tied to") {
  FakeKubeApi api;
  Agent a(api, "n1", Echo), b(api, "n2", Echo);
  std::string fallback, expected;
  SECTION("one node") {
    PutClaim(api, {"n2"});
    fallback = "n1";
    expected = "n2";
  }
  SECTION("several: the fallback when it is one of them") {
    PutClaim(api, {"n1", "n2"});
    fallback = expected = "n2";
  }
  SECTION("several, none the fallback") {
    PutClaim(api, {"n1", "n2"});
    expected = "n1";
  }
  SECTION("a claim that is not bound yet: the fallback") {
    api.Put("/api/v1/namespaces/" + kNs + "/persistentvolumeclaims/main", {{"spec", Json::object()}});
    fallback = expected = "n1";
  }
  const auto caller = StartCaller(api, fallback);
  REQUIRE(caller->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs));
  CHECK(Holder(api) == expected);
  CHECK(a.Heard() == (expected == "n1" ? 1 : 0));
  CHECK(b.Heard() == (expected == "n2" ? 1 : 0));
}

TEST_CASE("without a claim, or without any node, the call says what to do") {
  FakeKubeApi api;
  const auto caller = StartCaller(api);
  const auto no_claim = caller->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs);
  CHECK(no_claim.error().err() == ENXIO);
  CHECK(Has(no_claim.error().message(), "there is no PersistentVolumeClaim main in namespace mounts; create it"));
  api.Put("/api/v1/namespaces/" + kNs + "/persistentvolumeclaims/main", {{"spec", Json::object()}});
  const auto no_node = caller->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs);
  CHECK(no_node.error().err() == EINVAL);
  CHECK(Has(no_node.error().message(), "--node-id NODE"));
  CHECK(api.Peek(kPath).is_null());
  CHECK(caller->Call(kKey, "leveldb:/srv/meta", {{"cmd", "x"}}, kCallMs).error().err() == EINVAL);
}

TEST_CASE("when nobody answers the call names the node and takes its ask back") {
  FakeKubeApi api;
  PutClaim(api, {"n7"});
  const auto caller = StartCaller(api);
  const auto answer = caller->Call(kKey, kMeta, {{"cmd", "x"}}, 300);
  REQUIRE_FALSE(answer);
  CHECK(answer.error().err() == ETIMEDOUT);
  CHECK(Has(answer.error().message(), "ask node n7 about volume " + kMeta + ": no answer within 1 s"));
  CHECK(Has(answer.error().message(), "delete lease moorfs-" + kKey));
  CHECK_FALSE(HasAsks(api.Peek(kPath)));
  // An agent that comes too late executes nothing, and may not leave an answer.
  Agent a(api, "n7", Echo);
  REQUIRE(api.Settle());
  CHECK(a.Heard() == 0);
  CHECK(a->Answer(kKey, "1-00000000", {{"ok", 1}}).err() == ENOENT);
}

TEST_CASE("an ask is heard once, however often the watch lists, and again by an agent that starts") {
  FakeKubeApi api;
  auto a = std::make_unique<Agent>(api, "n1");
  REQUIRE((*a)->Acquire(kKey, kMeta).ok());
  const std::string id = NewAskId();
  PutAsk(api, id, {{"cmd", "x"}});
  for (int i = 0; i < 20; ++i) {
    api.Relist();
    REQUIRE(api.Settle());
    api.Change(kPath, {{"metadata", {{"annotations", {{"other", std::to_string(i)}}}}}});
  }
  REQUIRE(api.Settle());
  CHECK(a->Heard() == 1);
  SECTION("unanswered: the next agent hears it") {
    a.reset();
    Agent next(api, "n1");
    CHECK(next.WaitHeard(1));
  }
  SECTION("answered: it does not") {
    REQUIRE((*a)->Answer(kKey, id, {{"ok", 1}}).ok());
    a.reset();
    Agent next(api, "n1");
    REQUIRE(api.Settle());
    CHECK(next.Heard() == 0);
  }
}

TEST_CASE("an ask that is no request is heard as one that nobody knows") {
  FakeKubeApi api;
  const std::string deep = R"({"cmd": "x", "a": )" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  const std::string text = GENERATE_COPY(as<std::string>(), "", "[", "7", "[]", "{}", R"({"cmd": 7})", deep);
  Agent a(api, "n1");
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  api.Change(kPath, {{"metadata", {{"annotations", {{AskKey(NewAskId()), text}}}}}});
  REQUIRE(a.WaitHeard(1));
  CHECK(a.First().request == Json{{"cmd", ""}});
}

TEST_CASE("only the holder hears, and who becomes it while an ask waits") {
  FakeKubeApi api;
  Agent a(api, "n1"), b(api, "n2");
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  PutAsk(api, NewAskId(), {{"cmd", "x"}});
  REQUIRE(api.Settle());
  CHECK(a.Heard() == 1);
  CHECK(b.Heard() == 0);
  REQUIRE(a->Release(kKey).ok());
  REQUIRE(b->Acquire(kKey, kMeta).ok());
  CHECK(b.WaitHeard(1));
}

TEST_CASE("a holder that lets go while asked is asked again, and so is one whose lease was deleted") {
  FakeKubeApi api;
  PutClaim(api, {"n1"});
  Agent a(api, "n1", Echo);
  const bool deleted = GENERATE(true, false);
  std::atomic<bool> once{false};
  api.SetHooks([&](const FakeKubeApi::Call& call) {
    // The first answer never comes: the lease changes instead.
    if (call.verb != "patch" || !call.body.dump().starts_with("{\"metadata\":{\"annotations\":{\"moorfs.io/answer") ||
        once.exchange(true)) {
      return Status::Ok();
    }
    if (deleted) {
      api.Remove(kPath);
      return Status(ENOENT, "gone");
    }
    api.Change(kPath, {{"spec", {{"holderIdentity", nullptr}}}});
    return Status(EHOSTUNREACH, "away");
  }, nullptr);
  const auto caller = StartCaller(api);
  const auto answer = caller->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs);
  REQUIRE(answer);
  CHECK((*answer)["echo"]["cmd"] == "x");
  CHECK(once);
  CHECK(Holder(api) == "n1");
}

TEST_CASE("asks and answers older than ten minutes are not executed, and removed by who sees them") {
  FakeKubeApi api;
  const std::string old = IdOfAge(601), odd = "no-time", young = IdOfAge(500);
  const auto put = [&] {
    for (const std::string& id : {old, odd, young}) PutAsk(api, id, {{"cmd", "x"}});
    api.Change(kPath, {{"metadata", {{"annotations", {{AnswerKey(old), "{}"}, {AnswerKey("1-1"), "{}"}}}}}});
  };
  const auto only_young = [&](const Json& lease) {
    const Json& notes = lease["metadata"]["annotations"];
    return notes.size() == 2 && notes.contains(AskKey(young)) && notes.contains("moorfs.io/meta");
  };
  api.Put(kPath, {{"metadata", {{"labels", {{"app.kubernetes.io/name", "moorfs-volume"}}},
                                {"annotations", {{"moorfs.io/meta", kMeta}}}}},
                  {"spec", {{"holderIdentity", "n1"}}}});
  put();
  SECTION("the holder's agent") {
    Agent a(api, "n1");
    CHECK(api.WaitFor(kPath, only_young));
    CHECK(a.WaitHeard(1));
    REQUIRE(api.Settle());
    CHECK(a.Heard() == 1);
    CHECK(a.First().id == young);
  }
  SECTION("the controller, whoever holds it") {
    const auto caller = StartCaller(api);
    CHECK(api.WaitFor(kPath, only_young));
  }
  SECTION("not an agent that does not hold it") {
    Agent a(api, "n2");
    REQUIRE(api.Settle());
    CHECK_FALSE(api.WaitFor(kPath, only_young, 100));
  }
}

TEST_CASE("an answer that fits no annotation becomes an error that fits") {
  FakeKubeApi api;
  Agent a(api, "n1", [](const Json&) { return Json{{"ok", std::string(70 << 10, 'x')}}; });
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  CHECK(StartCaller(api)->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs).error().err() == EMSGSIZE);
}

TEST_CASE("answers without room beside others ask to be asked again") {
  FakeKubeApi api;
  Agent a(api, "n1", [](const Json&) { return Json{{"ok", std::string(60 << 10, 'x')}}; });
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  api.Change(kPath, {{"metadata", {{"annotations", {{"filler", std::string(210 << 10, 'y')}}}}}});
  CHECK(StartCaller(api)->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs).error().err() == EAGAIN);
}

TEST_CASE("an ask whose answer did not get through is heard again when the API is back") {
  FakeKubeApi api;
  Agent a(api, "n1");
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  const std::string id = NewAskId();
  PutAsk(api, id, {{"cmd", "x"}});
  REQUIRE(a.WaitHeard(1));
  SECTION("away for long") {
    api.SetReachable(false);
    CHECK(a->Answer(kKey, id, {{"ok", 1}}).err() == EHOSTUNREACH);
    api.SetReachable(true);
    CHECK(a.WaitHeard(2));
  }
  SECTION("away for a moment: it is not even heard again") {
    api.FailNext("patch", "leases", Status(EHOSTUNREACH, "away"), 2);
  }
  CHECK(a->Answer(kKey, id, {{"ok", 1}}).ok());
  CHECK(api.Peek(kPath)["metadata"]["annotations"][AnswerKey(id)] == "{\"ok\":1}");
}

TEST_CASE("many calls at once about several volumes each get their own answer") {
  FakeKubeApi api;
  api.Put("/api/v1/namespaces/" + kNs + "/persistentvolumeclaims/main", {{"spec", Json::object()}});
  Agent a(api, "n1", Echo);
  const auto caller = StartCaller(api, "n1");
  constexpr int kThreads = 12, kEach = 8;
  std::atomic<int> good{0}, stirs{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::string key = "0123456789abcde" + std::to_string(t % 3);
      for (int i = 0; i < kEach; ++i) {
        const int number = t * 1000 + i;
        const auto answer = caller->Call(key, kMeta, {{"cmd", "x"}, {"n", number}}, 30'000);
        if (answer && (*answer)["echo"]["n"] == number) ++good;
        if (!answer) UNSCOPED_INFO(answer.error().message());
      }
    });
  }
  std::thread stir([&] {
    while (good < kThreads * kEach / 2 && stirs++ < 200) {
      api.Relist();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  for (std::thread& thread : threads) thread.join();
  stir.join();
  CHECK(good == kThreads * kEach);
  CHECK(a.Heard() == kThreads * kEach);
  for (const std::string& path : api.Paths(kube::LeasesOf(kNs))) CHECK_FALSE(HasAsks(api.Peek(path)));
}

TEST_CASE("with the API away a call fails, and the next one does not") {
  FakeKubeApi api;
  Agent a(api, "n1", Echo);
  REQUIRE(a->Acquire(kKey, kMeta).ok());
  const auto caller = StartCaller(api);
  api.SetReachable(false);
  CHECK(caller->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs).error().err() == EHOSTUNREACH);
  api.SetReachable(true);
  CHECK(caller->Call(kKey, kMeta, {{"cmd", "x"}}, kCallMs));
}

TEST_CASE("leases of others in the namespace are none of ours") {
  FakeKubeApi api;
  api.Put(kube::LeasesOf(kNs) + "/some-leader", {{"metadata", {{"labels", {{"app.kubernetes.io/name", "moorfs-volume"}}}}}});
  Agent a(api, "n1");
  REQUIRE(api.Settle());
  CHECK(a->Acquire(kKey, kMeta).ok());
}

}  // namespace moorfs::mount
