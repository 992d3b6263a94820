// SPDX-License-Identifier: Apache-2.0
//
// csi.v1.Node and Identity over a real socket, as kubelet calls them.

#include <thread>

#include "test/unit/csi/fakes.h"

namespace moorfs::csi::test {
namespace {

using Mode = pb::VolumeCapability::AccessMode;
using grpc::StatusCode;

pb::NodePublishVolumeRequest PublishOf(const std::string& id, const std::string& target) {
  pb::NodePublishVolumeRequest out;
  out.set_volume_id(id);
  out.set_target_path(target);
  *out.mutable_volume_capability() = MountCapability();
  return out;
}

grpc::Status Publish(Served& s, const pb::NodePublishVolumeRequest& request) {
  pb::NodePublishVolumeResponse response;
  return Call(&pb::Node::Stub::NodePublishVolume, *s.NodeStub(), request, &response);
}

grpc::Status Unpublish(Served& s, const std::string& id, const std::string& target) {
  pb::NodeUnpublishVolumeRequest request;
  request.set_volume_id(id);
  request.set_target_path(target);
  pb::NodeUnpublishVolumeResponse response;
  return Call(&pb::Node::Stub::NodeUnpublishVolume, *s.NodeStub(), request, &response);
}

}  // namespace

TEST_CASE("a node says its name, its limit and what it can do") {
  Served s;
  pb::NodeGetInfoResponse info;
  REQUIRE(Call(&pb::Node::Stub::NodeGetInfo, *s.NodeStub(), pb::NodeGetInfoRequest(), &info).ok());
  CHECK(info.node_id() == "node-7");
  CHECK(info.max_volumes_per_node() == 11);

  pb::NodeGetCapabilitiesResponse answer;
  REQUIRE(Call(&pb::Node::Stub::NodeGetCapabilities, *s.NodeStub(), pb::NodeGetCapabilitiesRequest(), &answer).ok());
  std::set<int> types;
  for (const auto& each : answer.capabilities()) types.insert(each.rpc().type());
  using Rpc = pb::NodeServiceCapability::RPC;
  CHECK(types == std::set<int>{Rpc::GET_VOLUME_STATS, Rpc::VOLUME_CONDITION, Rpc::VOLUME_MOUNT_GROUP,
                               Rpc::SINGLE_NODE_MULTI_WRITER});
}

TEST_CASE("a publish says what is missing before it looks for the volume") {
  Served s;
  auto good = PublishOf("main#a", "/var/lib/kubelet/t");
  auto request = good;
  SECTION("no volume id") { request.clear_volume_id(); }
  SECTION("no target") { request.clear_target_path(); }
  SECTION("a target that is not absolute") { request.set_target_path("some/path"); }
  SECTION("no capability") { request.clear_volume_capability(); }
  SECTION("no access mode") { request.mutable_volume_capability()->clear_access_mode(); }
  SECTION("an access mode nobody knows") {
    request.mutable_volume_capability()->mutable_access_mode()->set_mode(static_cast<Mode::Mode>(99));
  }
  SECTION("no access type") { request.mutable_volume_capability()->clear_mount(); }
  SECTION("a block device") { request.mutable_volume_capability()->mutable_block(); }
  SECTION("a group that is no number") {
    request.mutable_volume_capability()->mutable_mount()->set_volume_mount_group("wheel");
  }
  SECTION("a group beyond the kernel's") {
    request.mutable_volume_capability()->mutable_mount()->set_volume_mount_group("4294967295");
  }
  const grpc::Status status = Publish(s, request);
  CHECK(status.error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK_FALSE(status.error_message().empty());
  CHECK(s.manager.publishes == 0);
}

TEST_CASE("attributes, mount flags and the handle become one volume's options") {
  Served s;
  auto request = PublishOf("main#web", "/var/lib/kubelet/t");
  auto& context = *request.mutable_volume_context();
  context["subdir"] = "a/b";
  context["cache-size"] = "2GiB";
  context["csi.storage.k8s.io/pod.name"] = "web-0";
  context["csi.storage.k8s.io/serviceAccount.tokens"] = "{\"a\":1}";
  context["csi.storage.k8s.io/ephemeral"] = "false";
  context["storage.kubernetes.io/csiProvisionerIdentity"] = "1-2-csi.moorfs.io";
  auto& mount = *request.mutable_volume_capability()->mutable_mount();
  mount.add_mount_flags("nosuid");
  mount.add_mount_flags("memory=64MiB");
  mount.set_volume_mount_group("2000");
  const grpc::Status status = Publish(s, request);
  INFO(status.error_message());
  REQUIRE(status.ok());
  CHECK(s.manager.last.volume_id == "main#web");
  CHECK(s.manager.last.options.meta == "leveldb:/srv/main");
  CHECK(s.manager.last.options.subdir == "a/b");
  CHECK(s.manager.last.options.cache_bytes == 2_GiB);
  CHECK(s.manager.last.options.memory_bytes == 64_MiB);
  CHECK_FALSE(s.manager.last.options.read_only);
  CHECK(s.manager.last.group == gid_t{2000});
  CHECK(s.manager.last.timeout_ms <= 20'000);
}

TEST_CASE("a static volume's handle may hold the META itself") {
  Served s;
  REQUIRE(Publish(s, PublishOf("leveldb:/srv/third#x", "/k/t")).ok());
  CHECK(s.manager.last.options.meta == "leveldb:/srv/third");
}

TEST_CASE("read-only is asked for by the request, or by a mode that only reads") {
  Served s;
  auto request = PublishOf("main#a", "/k/t");
  SECTION("the request") { request.set_readonly(true); }
  SECTION("many readers") { *request.mutable_volume_capability() = MountCapability(Mode::MULTI_NODE_READER_ONLY); }
  SECTION("one reader") { *request.mutable_volume_capability() = MountCapability(Mode::SINGLE_NODE_READER_ONLY); }
  REQUIRE(Publish(s, request).ok());
  CHECK(s.manager.last.options.read_only);
}

TEST_CASE("an unknown option is named, and its value is not") {
  Served s;
  auto request = PublishOf("main#a", "/k/t");
  SECTION("as an attribute") { (*request.mutable_volume_context())["cache-szie"] = "s3cr3t"; }
  SECTION("as a mount flag") {
    request.mutable_volume_capability()->mutable_mount()->add_mount_flags("cache-szie=s3cr3t");
  }
  SECTION("as a secret") { (*request.mutable_secrets())["cache-szie"] = "s3cr3t"; }
  const grpc::Status status = Publish(s, request);
  CHECK(status.error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK_THAT(status.error_message(), Catch::Contains("cache-szie"));
  CHECK_THAT(status.error_message(), !Catch::Contains("s3cr3t"));
}

TEST_CASE("an inline volume names a file system and nothing of the host") {
  Served s;
  auto request = PublishOf("csi-0123", "/k/t");
  auto& context = *request.mutable_volume_context();
  context["csi.storage.k8s.io/ephemeral"] = "true";
  SECTION("by name it is published") {
    context["fs"] = "main";
    REQUIRE(Publish(s, request).ok());
    CHECK(s.manager.last.options.meta == "leveldb:/srv/main");
  }
  SECTION("one that is not open to pods is refused") {
    context["fs"] = "other";
    CHECK(Publish(s, request).error_code() == StatusCode::PERMISSION_DENIED);
    CHECK(s.manager.publishes == 0);
  }
  SECTION("without a name it is refused") {
    CHECK(Publish(s, request).error_code() == StatusCode::INVALID_ARGUMENT);
  }
  SECTION("a META is refused") {
    context["meta"] = "leveldb:/etc";
    CHECK(Publish(s, request).error_code() == StatusCode::INVALID_ARGUMENT);
    CHECK(s.manager.publishes == 0);
  }
  SECTION("a META as the file system's name is refused") {
    context["fs"] = "leveldb:/etc";
    CHECK(Publish(s, request).error_code() == StatusCode::INVALID_ARGUMENT);
    CHECK(s.manager.publishes == 0);
  }
  SECTION("a directory of the host is refused") {
    context["fs"] = "main";
    context["cache-dir"] = "/etc";
    CHECK(Publish(s, request).error_code() == StatusCode::INVALID_ARGUMENT);
    CHECK(s.manager.publishes == 0);
  }
}

TEST_CASE("a volume for a single pod has one target, also when two callers come at once") {
  Served s;
  auto first = PublishOf("main#one", "/k/1");
  *first.mutable_volume_capability() = MountCapability(Mode::SINGLE_NODE_SINGLE_WRITER);
  auto second = first;
  second.set_target_path("/k/2");
  SECTION("one after the other") {
    REQUIRE(Publish(s, first).ok());
    CHECK(Publish(s, second).error_code() == StatusCode::FAILED_PRECONDITION);
    CHECK(Publish(s, first).ok());
    REQUIRE(Unpublish(s, "main#one", "/k/1").ok());
    CHECK(Publish(s, second).ok());
  }
  SECTION("at once") {
    s.manager.hold_publishes = true;
    std::thread slow([&] { CHECK(Publish(s, first).ok()); });
    while (s.manager.publishes == 0) std::this_thread::yield();
    CHECK(Publish(s, second).error_code() == StatusCode::ABORTED);
    s.manager.Release();
    slow.join();
  }
  SECTION("many writers may have many targets") {
    for (const auto mode : {Mode::SINGLE_NODE_WRITER, Mode::SINGLE_NODE_MULTI_WRITER, Mode::MULTI_NODE_MULTI_WRITER}) {
      auto one = PublishOf("main#many", "/k/m1"), two = PublishOf("main#many", "/k/m2");
      *one.mutable_volume_capability() = *two.mutable_volume_capability() = MountCapability(mode);
      CHECK(Publish(s, one).ok());
      CHECK(Publish(s, two).ok());
    }
  }
}

TEST_CASE("an unpublish for one volume leaves another's mount at the same path alone") {
  Served s;
  REQUIRE(Publish(s, PublishOf("main#b", "/k/t")).ok());
  CHECK(Unpublish(s, "main#a", "/k/t").error_code() == StatusCode::NOT_FOUND);
  CHECK(s.manager.targets.size() == 1);
  CHECK(Unpublish(s, "main#b", "/k/t").ok());
  CHECK(Unpublish(s, "main#b", "/k/t").ok());
  CHECK(s.manager.targets.empty());
  CHECK(Unpublish(s, "", "/k/t").error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK(Unpublish(s, "main#b", "").error_code() == StatusCode::INVALID_ARGUMENT);
}

TEST_CASE("statistics are of a volume at its own path, with its condition") {
  Served s;
  s.manager.stats = {.total_bytes = 100, .used_bytes = 60, .available_bytes = 40, .total_inodes = UINT64_MAX,
                     .used_inodes = 6, .available_inodes = 4, .abnormal = true, .condition = "the client is stopped"};
  REQUIRE(Publish(s, PublishOf("main#a", "/k/t")).ok());
  pb::NodeGetVolumeStatsRequest request;
  pb::NodeGetVolumeStatsResponse response;
  const auto stats = [&](const std::string& id, const std::string& path) {
    request.set_volume_id(id);
    request.set_volume_path(path);
    return Call(&pb::Node::Stub::NodeGetVolumeStats, *s.NodeStub(), request, &response).error_code();
  };
  CHECK(stats("", "/k/t") == StatusCode::INVALID_ARGUMENT);
  CHECK(stats("main#a", "") == StatusCode::INVALID_ARGUMENT);
  CHECK(stats("main#a", "some/path") == StatusCode::NOT_FOUND);
  CHECK(stats("main#b", "/k/t") == StatusCode::NOT_FOUND);
  REQUIRE(stats("main#a", "/k/t") == StatusCode::OK);
  REQUIRE(response.usage_size() == 2);
  CHECK(response.usage(0).unit() == pb::VolumeUsage::BYTES);
  CHECK(response.usage(0).total() == 100);
  CHECK(response.usage(0).used() == 60);
  CHECK(response.usage(0).available() == 40);
  CHECK(response.usage(1).unit() == pb::VolumeUsage::INODES);
  CHECK(response.usage(1).total() == INT64_MAX);
  CHECK(response.volume_condition().abnormal());
  CHECK(response.volume_condition().message() == "the client is stopped");
}

TEST_CASE("a volume that hangs takes no thread that others need") {
  Served s(/*max_threads=*/128);
  SECTION("by its statistics") {
    REQUIRE(Publish(s, PublishOf("main#a", "/k/t")).ok());
    s.manager.hang_stats = true;
    const auto begun = std::chrono::steady_clock::now();
    std::atomic<int> answered = 0;
    std::vector<std::thread> callers;
    for (int i = 0; i < 100; ++i) {
      callers.emplace_back([&] {
        pb::NodeGetVolumeStatsRequest request;
        request.set_volume_id("main#a");
        request.set_volume_path("/k/t");
        pb::NodeGetVolumeStatsResponse response;
        const auto stub = pb::Node::NewStub(Dial(s.path));
        if (Call(&pb::Node::Stub::NodeGetVolumeStats, *stub, request, &response).ok()) ++answered;
      });
    }
    while (answered < 90) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    // All but the few that wait for an answer have one long before their deadline.
    CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(4));
    CHECK(Publish(s, PublishOf("other#b", "/k/u")).ok());
    for (auto& each : callers) each.join();
    CHECK(answered == 100);
  }
  SECTION("by its publishes") {
    s.manager.hold_publishes = true;
    std::atomic<int> fine = 0, turned_away = 0;
    std::vector<std::thread> callers;
    for (int i = 0; i < 100; ++i) {
      callers.emplace_back([&, i] {
        const auto stub = pb::Node::NewStub(Dial(s.path));
        pb::NodePublishVolumeResponse response;
        const auto code = Call(&pb::Node::Stub::NodePublishVolume, *stub,
                               PublishOf("main#a", "/k/" + std::to_string(i)), &response).error_code();
        ++(code == StatusCode::OK ? fine : turned_away);
        CHECK((code == StatusCode::OK || code == StatusCode::ABORTED));
      });
    }
    while (turned_away < 52) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    // The rest of the node is served meanwhile.
    CHECK(Unpublish(s, "other#b", "/k/u").ok());
    s.manager.Release();
    for (auto& each : callers) each.join();
    CHECK(fine == 48);
    CHECK(turned_away == 52);
  }
}

TEST_CASE("the manager's errors reach kubelet by the table, with their words") {
  Served s;
  for (const auto& [err, code] : std::map<int, StatusCode>{{EAGAIN, StatusCode::ABORTED},
                                                           {ETIMEDOUT, StatusCode::DEADLINE_EXCEEDED},
                                                           {EEXIST, StatusCode::ALREADY_EXISTS},
                                                           {EBUSY, StatusCode::FAILED_PRECONDITION},
                                                           {EPERM, StatusCode::PERMISSION_DENIED},
                                                           {EIO, StatusCode::INTERNAL}}) {
    s.manager.next_error = Status(err, "publish /k/t: the reason\nin words");
    const grpc::Status status = Publish(s, PublishOf("main#a", "/k/t"));
    CHECK(status.error_code() == code);
    CHECK(status.error_message() == "publish /k/t: the reason\\x0ain words");
  }
}

TEST_CASE("hostile words in any field are answered, and the server lives on") {
  Served s;
  const std::string nul("a\0b", 3);
  for (const std::string& word : {nul, std::string("line\nfeed"), std::string(1 << 14, 'x'), std::string("$(reboot)"),
                                  std::string("../../etc"), std::string("; rm -rf /"), std::string("\xC3\xA9\xE2\x82\xAC")}) {
    auto request = PublishOf(word, "/k/" + word);
    (*request.mutable_volume_context())[word] = word;
    (*request.mutable_secrets())[word] = word;
    request.mutable_volume_capability()->mutable_mount()->add_mount_flags(word);
    request.mutable_volume_capability()->mutable_mount()->set_volume_mount_group(word);
    CHECK(Publish(s, request).error_code() == StatusCode::INVALID_ARGUMENT);
    auto target_only = PublishOf("main#a", "/k/" + word);
    const auto code = Publish(s, target_only).error_code();
    CHECK((code == StatusCode::OK || code == StatusCode::INVALID_ARGUMENT));
    (void)Unpublish(s, word, word);
  }
  // More than a request may hold.
  auto huge = PublishOf("main#a", "/k/t");
  (*huge.mutable_volume_context())["subdir"] = std::string(2 << 20, 'y');
  CHECK(Publish(s, huge).error_code() == StatusCode::RESOURCE_EXHAUSTED);
  CHECK(Publish(s, PublishOf("main#a", "/k/ok")).ok());
}

TEST_CASE("identity is the same for node and controller, and Probe looks at nobody else") {
  Served s;
  const auto stub = pb::Identity::NewStub(s.channel);
  pb::GetPluginInfoResponse info;
  REQUIRE(Call(&pb::Identity::Stub::GetPluginInfo, *stub, pb::GetPluginInfoRequest(), &info).ok());
  CHECK(info.name() == "csi.moorfs.io");
  CHECK_FALSE(info.vendor_version().empty());
  pb::GetPluginCapabilitiesResponse capabilities;
  REQUIRE(Call(&pb::Identity::Stub::GetPluginCapabilities, *stub, pb::GetPluginCapabilitiesRequest(), &capabilities).ok());
  REQUIRE(capabilities.capabilities_size() == 1);
  CHECK(capabilities.capabilities(0).service().type() == pb::PluginCapability::Service::CONTROLLER_SERVICE);
  pb::ProbeResponse probe;
  REQUIRE(Call(&pb::Identity::Stub::Probe, *stub, pb::ProbeRequest(), &probe).ok());
  CHECK(probe.ready().value());
}

}  // namespace moorfs::csi::test
