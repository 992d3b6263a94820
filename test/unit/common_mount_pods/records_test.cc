// SPDX-License-Identifier: Apache-2.0
//
// Records in the annotations of pods, over a Kubernetes API in memory that lets
// others change things, loses answers and refuses.

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "common/mount/file_record_store.h"
#include "common/mount/pods/pod_records.h"
#include "test/support/fake_kube_api.h"
#include "test/support/temp_dir.h"

namespace moorfs::mount {
namespace {

using kube::Json;
using test::FakeKubeApi;
using test::TempDir;

const std::string kKey = "0123456789abcdef0123456789abcdef";

config::MountPodConfig PodConfig() {
  config::MountPodConfig c;
  c.image = "moorfs.io/moorfs:test";
  return c;
}

ClientRecord Record(const std::vector<std::string>& targets = {"pods/1/volumes/a"}) {
  ClientRecord r;
  r.mount_key = kKey;
  r.spec.meta = "leveldb:/volumes/main/meta";
  r.boot_id = "boot";
  for (const std::string& target : targets) r.references[TargetHash(target)] = {target, "main#x", "dir", false};
  return r;
}

struct Node {
  TempDir dir;
  FakeKubeApi api;
  std::unique_ptr<RecordStore> copies = std::move(*OpenFileRecordStore(dir / "clients"));
  std::unique_ptr<NodePods> pods = NodePods::Start(api, {"node-1", PodConfig(), [] {}});
  std::unique_ptr<PodRecords> records = PodRecords::Over(*pods, *copies);

  Node() { REQUIRE(api.Settle()); }
  std::string Path(int generation = 1) const {
    return kube::PodsOf("moorfs-mounts") + "/" + PodName("node-1", kKey, generation);
  }
  ClientRecord Now() {
    auto record = records->Get(kKey);
    REQUIRE(record);
    REQUIRE(*record);
    return **record;
  }
  Annotations InPod(int generation = 1) {
    auto pod = kube::ParsePod(api.Peek(Path(generation)));
    REQUIRE(pod);
    return RecordAnnotations(pod->annotations);
  }
  // As the core does: read, change, write, again after a conflict.
  Status Mutate(const std::function<void(ClientRecord&)>& change) {
    for (;;) {
      auto record = records->Get(kKey);
      if (!record || !*record) return Status(ENOENT, "no record");
      change(**record);
      auto written = records->Update(**record);
      if (written) return Status::Ok();
      if (written.error().err() != kErrnoConflict) return written.error();
    }
  }
  void Begin(const ClientRecord& record = Record()) {
    REQUIRE(records->Create(record));
    REQUIRE(records->CreatePod(kKey, ""));
    api.PlacePod(Path(), "node-1");
    api.RunPod(Path());
    REQUIRE(api.Settle());
  }
};

}  // namespace

TEST_CASE("a mount pod has no privilege, and its name is a function of node, key and generation") {
  const auto pod = BuildPod(Record(), 3, "node-1", PodConfig());
  REQUIRE(pod);
  CHECK((*pod)["metadata"]["name"] == PodName("node-1", kKey, 3));
  CHECK(PodName("node-1", kKey, 3) != PodName("node-2", kKey, 3));
  CHECK(PodName("node-1", kKey, 3).size() <= 63);
  const Json& spec = (*pod)["spec"];
  CHECK(spec["automountServiceAccountToken"] == false);
  CHECK_FALSE(spec.contains("hostNetwork"));
  CHECK_FALSE(spec.contains("hostPID"));
  CHECK_FALSE(spec.contains("nodeName"));
  CHECK(spec["securityContext"]["runAsNonRoot"] == true);
  CHECK(spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault");
  CHECK(spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] == false);
  CHECK(spec["containers"][0]["securityContext"]["capabilities"]["drop"] == Json::array({"ALL"}));
  for (const Json& volume : spec["volumes"]) CHECK_FALSE(volume.contains("hostPath"));
  CHECK(spec["containers"][0]["resources"]["limits"]["memory"] == "512Mi");
  CHECK_FALSE(spec["containers"][0]["resources"]["limits"].contains("cpu"));
  CHECK(spec["volumes"][2]["persistentVolumeClaim"]["claimName"] == "main");
  auto elsewhere = Record();
  elsewhere.spec.meta = "leveldb:/srv/meta";
  const auto refused = BuildPod(elsewhere, 1, "node-1", PodConfig());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().err() == EINVAL);
}

TEST_CASE("a record survives its way through a pod's annotations") {
  const auto pod = BuildPod(Record({"pods/1/a", "pods/2/b"}), 1, "node-1", PodConfig());
  REQUIRE(pod);
  auto object = *pod;
  object["metadata"]["uid"] = "u";
  object["metadata"]["resourceVersion"] = "1";
  const auto parsed = kube::ParsePod(object);
  REQUIRE(parsed);
  const auto record = RecordOfPod(*parsed);
  REQUIRE(record);
  REQUIRE(*record);
  CHECK((*record)->references == Record({"pods/1/a", "pods/2/b"}).references);
  CHECK(AnnotationsOf(**record) == AnnotationsOf(Record({"pods/1/a", "pods/2/b"})));
}

TEST_CASE("a new reference is one write, and no question") {
  Node node;
  node.Begin();
  node.api.Forget();
  REQUIRE(node.Mutate([](ClientRecord& r) { r.references["h2"] = {"pods/2", "v", "", true}; }).ok());
  REQUIRE(node.api.Calls().size() == 1);
  CHECK(node.api.Calls("patch").size() == 1);
  CHECK(node.InPod() == AnnotationsOf(node.Now()));
}

TEST_CASE("kubelet's changes of a pod are no conflict, somebody's change of an annotation is") {
  Node node;
  node.Begin();
  node.api.HoldEvents(true);
  node.api.Change(node.Path(), {{"status", {{"message", "something else"}}}});
  CHECK(node.Mutate([](ClientRecord& r) { r.device = "0:50"; }).ok());
  CHECK(node.InPod() == AnnotationsOf(node.Now()));
  const std::string ref = "moorfs.io/ref-" + TargetHash("pods/1/volumes/a");
  const std::string vol = "moorfs.io/vol-" + TargetHash("pods/1/volumes/a");
  node.api.Change(node.Path(), {{"metadata", {{"annotations", {{ref, nullptr}, {vol, nullptr}}}}}});
  auto old = node.Now();
  old.phase = RecordPhase::kServing;
  const auto written = node.records->Update(old);
  REQUIRE_FALSE(written);
  CHECK(written.error().err() == kErrnoConflict);
  // What the pod says is the record now.
  CHECK(node.Now().references.empty());
  node.api.HoldEvents(false);
}

TEST_CASE("annotations that were damaged are put back") {
  Node node;
  node.Begin();
  node.api.Change(node.Path(), {{"metadata", {{"annotations", {{"moorfs.io/client", "{"}}}}}});
  REQUIRE(node.api.Settle());
  node.records->Adopt();
  CHECK(node.InPod() == AnnotationsOf(Record()));
  CHECK(node.Mutate([](ClientRecord& r) { r.device = "0:51"; }).ok());
}

TEST_CASE("a reference added in between keeps a pod from being deleted") {
  Node node;
  node.Begin(Record({}));
  const auto ending = node.Now();
  // The copy still says that nothing refers to it; the pod knows better.
  node.api.HoldEvents(true);
  const Annotations more = AnnotationsOf(Record({"pods/9/late"}));
  node.api.Change(node.Path(), {{"metadata", {{"annotations", Json(more)}}}});
  const Status s = node.records->Delete(kKey, ending.version);
  CHECK(s.err() == kErrnoConflict);
  CHECK_FALSE(node.api.Peek(node.Path()).is_null());
  CHECK(node.Now().references.size() == 1);
  node.api.HoldEvents(false);
}

TEST_CASE("a generation that was made although the answer was lost is taken over") {
  Node node;
  REQUIRE(node.records->Create(Record()));
  node.api.FailNext("create", "", Status(EHOSTUNREACH, "lost"), 1, /*done=*/true);
  CHECK_FALSE(node.records->CreatePod(kKey, ""));
  // The watch may tell of it first; then it is simply there.
  if (!node.pods->Current(kKey)) {
    const auto made = node.records->CreatePod(kKey, "");
    REQUIRE(made);
    CHECK(made->name == PodName("node-1", kKey, 1));
  }
  CHECK(node.api.Paths(kube::PodsOf("moorfs-mounts")).size() == 1);
}

TEST_CASE("the successor of a pod gets all references, also those of the last moment") {
  Node node;
  node.api.SetGracefulPods(true);
  node.Begin();
  REQUIRE(node.api.Delete(node.Path(), {}).ok());
  REQUIRE(node.Mutate([](ClientRecord& r) { r.references["h2"] = {"pods/2", "v", "", false}; }).ok());
  REQUIRE(node.records->CreatePod(kKey, ""));
  CHECK(node.InPod(2) == AnnotationsOf(node.Now()));
  CHECK(node.Now().references.size() == 2);
  // From now on the successor has the record.
  REQUIRE(node.Mutate([](ClientRecord& r) { r.references.erase("h2"); }).ok());
  CHECK(node.InPod(2).size() == 3);
  node.api.EndPod(node.Path(1));
  REQUIRE(node.api.Settle());
  CHECK(node.pods->Of(kKey).size() == 1);
}

TEST_CASE("a pod that somebody removed leaves its record with the node") {
  Node node;
  node.Begin();
  node.api.Remove(node.Path());
  REQUIRE(node.api.Settle());
  CHECK_FALSE(node.pods->Current(kKey));
  CHECK(node.Mutate([](ClientRecord& r) { r.references["h2"] = {"pods/2", "v", "", false}; }).ok());
  REQUIRE(node.records->CreatePod(kKey, ""));
  CHECK(node.InPod(1) == AnnotationsOf(node.Now()));
}

TEST_CASE("without the API server nothing is changed, and everything is known") {
  Node node;
  node.Begin();
  node.api.SetReachable(false);
  const Status s = node.Mutate([](ClientRecord& r) { r.references.clear(); });
  CHECK(s.err() == EHOSTUNREACH);
  CHECK(node.Now().references.size() == 1);
  CHECK(node.records->List()->size() == 1);
  // An agent that starts meanwhile knows no less, and makes nothing up.
  auto pods = NodePods::Start(node.api, {"node-1", PodConfig(), [] {}});
  auto records = PodRecords::Over(*pods, *node.copies);
  CHECK((**records->Get(kKey)).references.size() == 1);
  auto record = **records->Get(kKey);
  CHECK(records->Update(record).error().err() == EHOSTUNREACH);
  CHECK(records->Delete(kKey, record.version).err() == EHOSTUNREACH);
  node.api.SetReachable(true);
  REQUIRE(node.api.Settle());
  CHECK(node.Mutate([](ClientRecord& r) { r.references.clear(); }).ok());
}

TEST_CASE("an ended client makes room for a new one while its pod still terminates") {
  Node node;
  node.api.SetGracefulPods(true);
  node.Begin(Record({}));
  REQUIRE(node.Mutate([](ClientRecord& r) { r.phase = RecordPhase::kEnding; }).ok());
  REQUIRE(node.records->Delete(kKey, node.Now().version).ok());
  CHECK_FALSE(*node.records->Get(kKey));
  CHECK_FALSE(node.records->Adopt());
  CHECK_FALSE(*node.records->Get(kKey));
  REQUIRE(node.records->Create(Record()));
  const auto made = node.records->CreatePod(kKey, "");
  REQUIRE(made);
  CHECK(made->name == PodName("node-1", kKey, 2));
}

TEST_CASE("a hundred changes by eight threads with lost answers, conflicts and refusals: all are there") {
  Node node;
  node.Begin(Record({}));
  std::atomic<unsigned> calls{0};
  node.api.SetHooks(
      [&](const FakeKubeApi::Call& call) {
        const unsigned n = ++calls;
        if (call.verb == "patch" && n % 5 == 0) {
          node.api.Change(node.Path(), {{"status", {{"message", std::to_string(n)}}}});
        }
        return n % 7 == 0 ? Status(EHOSTUNREACH, "refused") : Status::Ok();
      },
      [&](const FakeKubeApi::Call&) { return calls % 11 == 0 ? Status(EHOSTUNREACH, "lost") : Status::Ok(); });
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&node, t] {
      for (int i = 0; i < 13; ++i) {
        const std::string hash = std::to_string(t) + "-" + std::to_string(i);
        while (!node.Mutate([&](ClientRecord& r) { r.references[hash] = {"pods/" + hash, "v", "", false}; }).ok()) {
          node.records->Adopt();
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  node.api.SetHooks(nullptr, nullptr);
  REQUIRE(node.api.Settle());
  node.records->Adopt();
  CHECK(node.Now().references.size() == 8 * 13);
  CHECK(node.InPod() == AnnotationsOf(node.Now()));
}

}  // namespace moorfs::mount
