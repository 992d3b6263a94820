// SPDX-License-Identifier: Apache-2.0
//
// Volumes through the agent that holds their file system: an API server in
// memory, a real VolumeLeases as the agent, and a client that keeps a map.

#include "csi/cluster.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <map>
#include <mutex>
#include <thread>

#include "common/config/volume_options.h"
#include "common/mount/record.h"
#include "test/support/fake_kube_api.h"

namespace moorfs::csi {
namespace {

using kube::Json;
using moorfs::test::FakeKubeApi;

const std::string kMeta = "leveldb:/volumes/main/meta";
constexpr int kCallMs = 20'000;

// What fs/admin/ops/volumes.cc does, as far as its answers go.
class Client {
 public:
  Json Do(const Json& request) {
    std::lock_guard lock(mutex_);
    ++calls;
    const std::string cmd = request.value("cmd", "");
    if (cmd == "volume-capacity") return {{"ok", {{"total_bytes", 100}, {"available_bytes", 70}}}};
    if (cmd == "volume-list") return List(request);
    const std::string name = request.value("name", "");
    if (cmd == "volume-delete") return {{"ok", {{"deleted", volumes.erase(name) > 0}}}};
    if (cmd == "volume-create" && !volumes.contains(name)) {
      volumes[name] = {{"name", name},
                       {"directory", "volumes/" + name},
                       {"bytes", request.value("bytes", uint64_t{0})},
                       {"inodes", request.value("inodes", 0u)},
                       {"parameters", request.value("parameters", Json::object())},
                       {"created_at", 1},
                       {"used_bytes", 0u},
                       {"used_inodes", 1u}};
    }
    if (!volumes.contains(name)) return {{"error", {{"errno", ENOENT}, {"message", "there is no volume " + name}}}};
    if (cmd == "volume-create" && volumes[name]["bytes"] != request.value("bytes", uint64_t{0})) {
      return {{"error", {{"errno", EEXIST}, {"message", "another size"}}}};
    }
    return {{"ok", volumes[name]}};
  }
  std::map<std::string, Json> volumes;
  std::atomic<int> calls{0};

 private:
  Json List(const Json& request) {
    Json list = Json::array();
    for (auto it = volumes.upper_bound(request.value("after", "")); it != volumes.end(); ++it) {
      if (list.size() == request.value("limit", 10'000u)) break;
      list.push_back(it->second);
    }
    return {{"ok", {{"volumes", std::move(list)}}}};
  }
  std::mutex mutex_;
};

// An agent, a controller, and the API between them.
struct Cluster {
  Cluster() {
    api.Put("/api/v1/namespaces/mounts/persistentvolumeclaims/main", {{"spec", Json::object()}});
    leases = mount::VolumeLeases::Start(api, {"mounts", "n1", [this](mount::VolumeLeases::Ask ask) {
      std::lock_guard lock(mutex);
      threads.emplace_back([this, ask = std::move(ask)] {
        while (!ready) std::this_thread::yield();
        last_meta = ask.meta;
        CHECK(leases->Answer(ask.mount_key, ask.id, client.Do(ask.request)).ok());
      });
    }});
    ready = true;
    auto started = mount::LeaseCaller::Start(api, {"mounts", "n1"});
    REQUIRE(started);
    caller = std::move(*started);
    volumes = MakeAgentVolumes(*caller);
  }
  ~Cluster() {
    for (size_t i = 0;; ++i) {
      std::unique_lock lock(mutex);
      if (i == threads.size()) break;
      std::thread thread = std::move(threads[i]);
      lock.unlock();
      thread.join();
    }
  }
  FakeKubeApi api;
  Client client;
  std::atomic<bool> ready{false};
  std::string last_meta;
  std::mutex mutex;
  std::vector<std::thread> threads;
  std::unique_ptr<mount::VolumeLeases> leases;
  std::unique_ptr<mount::LeaseCaller> caller;
  std::unique_ptr<Volumes> volumes;
};

}  // namespace

TEST_CASE("volumes are made, shown and deleted through the agent of their file system") {
  Cluster c;
  const mount::VolumeRecord wanted{.name = "pvc-1", .bytes = uint64_t{5} << 40, .parameters = {{"memory", "64MiB"}}};
  for (int i = 0; i < 2; ++i) {
    const auto made = c.volumes->Create(kMeta, wanted, kCallMs);
    REQUIRE(made);
    CHECK(made->directory == "volumes/pvc-1");
    CHECK(made->bytes == wanted.bytes);
    CHECK(made->parameters == wanted.parameters);
  }
  CHECK(c.last_meta == kMeta);
  CHECK(c.volumes->Create(kMeta, {.name = "pvc-1", .bytes = 1}, kCallMs).error().err() == EEXIST);
  const auto shown = c.volumes->Get(kMeta, "pvc-1", kCallMs);
  REQUIRE(shown);
  CHECK(shown->used_inodes == 1);
  CHECK(c.volumes->Get(kMeta, "pvc-2", kCallMs).error().err() == ENOENT);
  CHECK(c.volumes->Delete(kMeta, "pvc-1", kCallMs).ok());
  CHECK(c.volumes->Delete(kMeta, "pvc-1", kCallMs).ok());
  CHECK(c.volumes->Get(kMeta, "pvc-1", kCallMs).error().err() == ENOENT);
  const auto capacity = c.volumes->GetCapacity(kMeta, kCallMs);
  REQUIRE(capacity);
  CHECK(capacity->available_bytes == 70);
  CHECK(capacity->total_bytes == 100);
  // The lease of the volume's mount key, as a node's agent names it.
  config::VolumeOptions options;
  options.meta = kMeta;
  const std::string key = mount::MountKeyOf(config::MountKeyText(options));
  CHECK(c.api.Paths(kube::LeasesOf("mounts")) == std::vector<std::string>{kube::LeasesOf("mounts") + "/moorfs-" + key});
}

TEST_CASE("a long list comes in pages that fit an annotation, whole and in order") {
  Cluster c;
  const size_t count = 330;
  size_t bytes = 0;
  SECTION("short records") {}
  SECTION("records with much in them") { bytes = 1'500; }
  SECTION("records of which two fit no answer") { bytes = 40'000; }
  const size_t all = bytes > 10'000 ? 5 : count;
  for (size_t i = 0; i < all; ++i) {
    const std::string name = "pvc-" + std::to_string(1000 + i);
    c.client.volumes[name] = {{"name", name},       {"directory", "volumes/" + name},
                              {"bytes", 1u},        {"inodes", 0u},
                              {"used_bytes", 0u},   {"used_inodes", 1u},
                              {"parameters", {{"note", std::string(bytes, 'x')}}}};
  }
  const auto listed = c.volumes->List(kMeta, "", 5'000, kCallMs);
  REQUIRE(listed);
  REQUIRE(listed->size() == all);
  for (size_t i = 0; i < all; ++i) CHECK((*listed)[i].name == "pvc-" + std::to_string(1000 + i));
  const auto part = c.volumes->List(kMeta, "pvc-1001", 2, kCallMs);
  REQUIRE(part);
  REQUIRE(part->size() == 2);
  CHECK(part->front().name == "pvc-1002");
}

TEST_CASE("a record that fits no answer at all is an error") {
  Cluster c;
  c.client.volumes["a"] = {{"name", std::string(80'000, 'x')}};
  CHECK(c.volumes->List(kMeta, "", 10, kCallMs).error().err() == EMSGSIZE);
}

TEST_CASE("an answer of another version is refused") {
  Cluster c;
  c.client.volumes["a"] = {{"name", "a"}};
  CHECK(c.volumes->Get(kMeta, "a", kCallMs).error().err() == EPROTO);
  CHECK(c.volumes->List(kMeta, "", 10, kCallMs).error().err() == EPROTO);
}

TEST_CASE("a claim that does not exist is no volume that does not exist") {
  Cluster c;
  // Deleting answers success for the latter.
  CHECK(c.volumes->Delete("leveldb:/volumes/other/meta", "pvc-1", kCallMs).err() == ENXIO);
}

}  // namespace moorfs::csi
