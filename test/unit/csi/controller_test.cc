// SPDX-License-Identifier: Apache-2.0
//
// csi.v1.Controller over a real socket, as the external-provisioner calls it.

#include <set>

#include "test/unit/csi/fakes.h"

namespace moorfs::csi::test {
namespace {

using grpc::StatusCode;
constexpr int64_t kGiB = int64_t{1} << 30;

pb::CreateVolumeRequest CreateOf(const std::string& name, int64_t required = kGiB, int64_t limit = 0) {
  pb::CreateVolumeRequest out;
  out.set_name(name);
  *out.add_volume_capabilities() = MountCapability();
  out.mutable_capacity_range()->set_required_bytes(required);
  out.mutable_capacity_range()->set_limit_bytes(limit);
  return out;
}

grpc::Status Create(Served& s, const pb::CreateVolumeRequest& request, pb::CreateVolumeResponse* response) {
  return Call(&pb::Controller::Stub::CreateVolume, *s.ControllerStub(), request, response);
}
grpc::Status Create(Served& s, const pb::CreateVolumeRequest& request) {
  pb::CreateVolumeResponse response;
  return Create(s, request, &response);
}
StatusCode Delete(Served& s, const std::string& id) {
  pb::DeleteVolumeRequest request;
  request.set_volume_id(id);
  pb::DeleteVolumeResponse response;
  return Call(&pb::Controller::Stub::DeleteVolume, *s.ControllerStub(), request, &response).error_code();
}
std::vector<std::string> IdsOf(const pb::ListVolumesResponse& response) {
  std::vector<std::string> out;
  for (const auto& entry : response.entries()) out.push_back(entry.volume().volume_id());
  return out;
}

}  // namespace

TEST_CASE("a volume has the size that was asked for, and says where it is") {
  Served s;
  auto request = CreateOf("pvc-1", 12345);
  (*request.mutable_parameters())["cache-size"] = "2GiB";
  (*request.mutable_parameters())["inodes"] = "1000";
  (*request.mutable_parameters())["csi.storage.k8s.io/pvc/name"] = "claim";
  pb::CreateVolumeResponse response;
  REQUIRE(Create(s, request, &response).ok());
  CHECK(response.volume().volume_id() == "main#pvc-1");
  CHECK(response.volume().capacity_bytes() == 12345);
  const auto& context = response.volume().volume_context();
  CHECK(context.at("fs") == "main");
  CHECK(context.at("subdir") == "volumes/pvc-1");
  CHECK(context.at("cache-size") == "2GiB");
  CHECK(context.size() == 3);
  const auto& record = s.volumes.volumes["leveldb:/srv/main"].at("pvc-1");
  CHECK(record.bytes == 12345);
  CHECK(record.inodes == 1000);
  // What the node gets is what its parser takes.
  pb::NodePublishVolumeRequest publish;
  publish.set_volume_id(response.volume().volume_id());
  publish.set_target_path("/k/t");
  *publish.mutable_volume_capability() = MountCapability();
  *publish.mutable_volume_context() = context;
  pb::NodePublishVolumeResponse published;
  REQUIRE(Call(&pb::Node::Stub::NodePublishVolume, *s.NodeStub(), publish, &published).ok());
  CHECK(s.manager.last.options.subdir == "volumes/pvc-1");
  CHECK(s.manager.last.options.meta == "leveldb:/srv/main");
}

TEST_CASE("the same name again is the same volume, or says that it is another") {
  Served s;
  REQUIRE(Create(s, CreateOf("v", 10, 10)).ok());
  CHECK(Create(s, CreateOf("v", 10, 10)).ok());
  CHECK(Create(s, CreateOf("v", 5, 20)).ok());
  CHECK(Create(s, CreateOf("v", 0, 0)).ok());
  CHECK(Create(s, CreateOf("v", 20, 20)).error_code() == StatusCode::ALREADY_EXISTS);
  CHECK(Create(s, CreateOf("v", 0, 5)).error_code() == StatusCode::ALREADY_EXISTS);
  auto other_class = CreateOf("v", 10, 10);
  (*other_class.mutable_parameters())["cache-size"] = "2GiB";
  CHECK(Create(s, other_class).error_code() == StatusCode::ALREADY_EXISTS);
  auto other_fs = CreateOf("v", 20, 20);
  (*other_fs.mutable_parameters())["fs"] = "other";
  CHECK(Create(s, other_fs).ok());
}

TEST_CASE("a wrong request makes no volume and says what is wrong") {
  Served s;
  auto request = CreateOf("v");
  StatusCode wanted = StatusCode::INVALID_ARGUMENT;
  std::string word;
  SECTION("no name") { request.clear_name(); }
  SECTION("a name with a control character") { request.set_name("a\nb"); }
  SECTION("no capability") { request.clear_volume_capabilities(); }
  SECTION("a block device") { request.mutable_volume_capabilities(0)->mutable_block(); }
  SECTION("a mount flag that nobody knows") {
    request.mutable_volume_capabilities(0)->mutable_mount()->add_mount_flags(word = "nosiud");
  }
  SECTION("a negative size") {
    request.mutable_capacity_range()->set_required_bytes(-1);
    wanted = StatusCode::OUT_OF_RANGE;
  }
  SECTION("more than the limit") {
    request = CreateOf("v", 10, 5);
    wanted = StatusCode::OUT_OF_RANGE;
  }
  SECTION("an unknown parameter") { (*request.mutable_parameters())[word = "cahce-size"] = "s3cr3t"; }
  SECTION("a META") { (*request.mutable_parameters())[word = "meta"] = "leveldb:/s3cr3t"; }
  SECTION("a file system that is not known") { (*request.mutable_parameters())["fs"] = word = "third"; }
  SECTION("no number of inodes") { (*request.mutable_parameters())[word = "inodes"] = "many"; }
  SECTION("a mutable parameter") { (*request.mutable_mutable_parameters())[word = "iops"] = "5"; }
  SECTION("a snapshot") { request.mutable_volume_content_source()->mutable_snapshot()->set_snapshot_id("x"); }
  SECTION("a clone") { request.mutable_volume_content_source()->mutable_volume()->set_volume_id("main#y"); }
  const grpc::Status status = Create(s, request);
  CHECK(status.error_code() == wanted);
  CHECK_THAT(status.error_message(), Catch::Contains(word));
  CHECK_THAT(status.error_message(), !Catch::Contains("s3cr3t"));
  CHECK(s.volumes.volumes["leveldb:/srv/main"].empty());
}

TEST_CASE("deleting is done when there is nothing, whatever the id looks like") {
  Served s;
  REQUIRE(Create(s, CreateOf("v")).ok());
  CHECK(Delete(s, "") == StatusCode::INVALID_ARGUMENT);
  for (const std::string id : {"fake-vol-id", "#", "main#", "main#absent", "leveldb:/srv/main#v", "a/b#c", "..", "main#a\nb"}) {
    CHECK(Delete(s, id) == StatusCode::OK);
  }
  CHECK(s.volumes.volumes["leveldb:/srv/main"].size() == 1);
  // A volume whose file system this controller was not started with is not "gone".
  CHECK(Delete(s, "third#v") == StatusCode::FAILED_PRECONDITION);
  CHECK(Delete(s, "main#v") == StatusCode::OK);
  CHECK(Delete(s, "main#v") == StatusCode::OK);
  CHECK(s.volumes.volumes["leveldb:/srv/main"].empty());
}

TEST_CASE("capabilities are confirmed for a volume that exists, or denied in words") {
  Served s;
  REQUIRE(Create(s, CreateOf("v")).ok());
  pb::ValidateVolumeCapabilitiesRequest request;
  const auto validate = [&](pb::ValidateVolumeCapabilitiesResponse* response) {
    return Call(&pb::Controller::Stub::ValidateVolumeCapabilities, *s.ControllerStub(), request, response).error_code();
  };
  pb::ValidateVolumeCapabilitiesResponse response;
  CHECK(validate(&response) == StatusCode::INVALID_ARGUMENT);
  request.set_volume_id("main#v");
  CHECK(validate(&response) == StatusCode::INVALID_ARGUMENT);
  *request.add_volume_capabilities() = MountCapability(pb::VolumeCapability::AccessMode::SINGLE_NODE_WRITER);
  REQUIRE(validate(&response) == StatusCode::OK);
  CHECK(response.confirmed().volume_capabilities_size() == 1);
  request.mutable_volume_capabilities(0)->mutable_block();
  pb::ValidateVolumeCapabilitiesResponse denied;
  REQUIRE(validate(&denied) == StatusCode::OK);
  CHECK_FALSE(denied.has_confirmed());
  CHECK_FALSE(denied.message().empty());
  for (const std::string id : {"fake-vol-id-1", "main#absent", "third#v"}) {
    request.set_volume_id(id);
    CHECK(validate(&response) == StatusCode::NOT_FOUND);
  }
}

TEST_CASE("pages of a list together are the list, over all file systems") {
  Served s;
  for (const char* name : {"a", "b", "c"}) REQUIRE(Create(s, CreateOf(name)).ok());
  for (const char* name : {"a", "d"}) {
    auto request = CreateOf(name);
    (*request.mutable_parameters())["fs"] = "other";
    REQUIRE(Create(s, request).ok());
  }
  const std::vector<std::string> all = {"main#a", "main#b", "main#c", "other#a", "other#d"};
  pb::ListVolumesRequest request;
  pb::ListVolumesResponse response;
  const auto list = [&] {
    response.Clear();
    return Call(&pb::Controller::Stub::ListVolumes, *s.ControllerStub(), request, &response).error_code();
  };
  REQUIRE(list() == StatusCode::OK);
  CHECK(IdsOf(response) == all);
  CHECK(response.next_token().empty());
  for (int page = 1; page <= 6; ++page) {
    std::vector<std::string> seen;
    request.set_starting_token("");
    do {
      request.set_max_entries(page);
      REQUIRE(list() == StatusCode::OK);
      REQUIRE(response.entries_size() <= page);
      REQUIRE(response.entries_size() > 0);
      for (const auto& id : IdsOf(response)) seen.push_back(id);
      request.set_starting_token(response.next_token());
    } while (!response.next_token().empty());
    CHECK(seen == all);
  }
  request.set_max_entries(-1);
  CHECK(list() == StatusCode::INVALID_ARGUMENT);
  request.set_max_entries(0);
  for (const std::string token : {"invalid-token", "third#a", "main#"}) {
    request.set_starting_token(token);
    CHECK(list() == StatusCode::ABORTED);
  }
  // The last volume of a page may be gone by the time the next is asked for.
  REQUIRE(Delete(s, "main#b") == StatusCode::OK);
  request.set_starting_token("main#b");
  REQUIRE(list() == StatusCode::OK);
  CHECK(IdsOf(response) == std::vector<std::string>{"main#c", "other#a", "other#d"});
}

TEST_CASE("capacity is the file system's, and none for what cannot be made") {
  Served s;
  pb::GetCapacityRequest request;
  pb::GetCapacityResponse response;
  const auto capacity = [&] {
    response.Clear();
    return Call(&pb::Controller::Stub::GetCapacity, *s.ControllerStub(), request, &response).error_code();
  };
  REQUIRE(capacity() == StatusCode::OK);
  CHECK(response.available_capacity() == 70);
  (*request.mutable_parameters())["fs"] = "third";
  CHECK(capacity() == StatusCode::INVALID_ARGUMENT);
  (*request.mutable_parameters())["fs"] = "other";
  request.add_volume_capabilities()->mutable_block();
  REQUIRE(capacity() == StatusCode::OK);
  CHECK(response.available_capacity() == 0);
}

TEST_CASE("what is not offered is unimplemented, and not advertised") {
  Served s;
  pb::ControllerGetCapabilitiesResponse capabilities;
  REQUIRE(Call(&pb::Controller::Stub::ControllerGetCapabilities, *s.ControllerStub(),
               pb::ControllerGetCapabilitiesRequest(), &capabilities).ok());
  std::set<int> types;
  for (const auto& each : capabilities.capabilities()) types.insert(each.rpc().type());
  using Rpc = pb::ControllerServiceCapability::RPC;
  CHECK(types == std::set<int>{Rpc::CREATE_DELETE_VOLUME, Rpc::LIST_VOLUMES, Rpc::GET_CAPACITY,
                               Rpc::SINGLE_NODE_MULTI_WRITER});
  pb::ControllerExpandVolumeResponse expanded;
  CHECK(Call(&pb::Controller::Stub::ControllerExpandVolume, *s.ControllerStub(), pb::ControllerExpandVolumeRequest(),
             &expanded).error_code() == StatusCode::UNIMPLEMENTED);
  pb::CreateSnapshotResponse snapshot;
  CHECK(Call(&pb::Controller::Stub::CreateSnapshot, *s.ControllerStub(), pb::CreateSnapshotRequest(), &snapshot)
            .error_code() == StatusCode::UNIMPLEMENTED);
}

}  // namespace moorfs::csi::test
