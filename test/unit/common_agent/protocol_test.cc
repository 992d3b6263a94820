// SPDX-License-Identifier: Apache-2.0
//
// What the door says is what the agent understands, and nothing else is.

#include <catch2/catch.hpp>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

#include "common/agent/protocol.h"

using namespace moorfs;
using namespace moorfs::agent;
using Json = nlohmann::json;

namespace {

FlexPublish Full() {
  FlexPublish p;
  p.target = "/var/lib/kubelet/pods/u/volumes/moorfs.io~moorfs-flex/ü n";
  p.options = {{"fs", "main"}, {"subdir", "a,b"}};
  p.secrets = {{"meta", std::string("x\0y", 3)}};
  p.volume_id = "pv-1";
  p.read_only = true;
  p.fs_group = 4294967294U;
  p.from_pod = false;
  return p;
}

}  // namespace

TEST_CASE("a publish request survives the socket") {
  const FlexPublish p = Full();
  const Json wire = Json::parse(EncodePublish(p).dump());
  CHECK(wire["cmd"] == "publish");
  CHECK(wire["protocol"] == 1);
  const auto back = DecodePublish(wire);
  REQUIRE(back);
  CHECK(back->target == p.target);
  CHECK(back->options == p.options);
  CHECK(back->secrets == p.secrets);
  CHECK(back->volume_id == p.volume_id);
  CHECK(back->read_only);
  CHECK(back->fs_group == p.fs_group);
  CHECK_FALSE(back->from_pod);
}

TEST_CASE("members that nobody knows yet are ignored, and absent maps are empty") {
  Json wire = EncodePublish({.target = "/t"});
  wire["newer"] = {1, 2};
  wire.erase("options");
  wire.erase("secrets");
  const auto back = DecodePublish(wire);
  REQUIRE(back);
  CHECK(back->options.empty());
  CHECK_FALSE(back->fs_group);
  CHECK(back->from_pod);
}

TEST_CASE("a member of the wrong kind is refused by name, without its value") {
  const std::pair<const char*, Json> bad[] = {
      {"target", 1},         {"target", nullptr},          {"target", std::string(5000, 'x')},
      {"options", "hunter2"}, {"options", {{"a", 1}}},      {"options", {"hunter2"}},
      {"secrets", {{"a", nullptr}}}, {"volume_id", Json::array()}, {"volume_id", std::string(2000, 'x')},
      {"read_only", "true"}, {"fs_group", -1},             {"fs_group", 4294967295U},
      {"fs_group", "0"},     {"fs_group", 1.5},            {"trust", "administrator"},
      {"trust", true}};
  for (const auto& [member, value] : bad) {
    Json wire = EncodePublish(Full());
    wire[member] = value;
    const auto back = DecodePublish(wire);
    INFO(member << " " << value);
    REQUIRE_FALSE(back);
    CHECK(back.error().err() == EINVAL);
    CHECK(back.error().message().find(std::string("\"") + member + "\"") != std::string::npos);
    CHECK(back.error().message().find("hunter2") == std::string::npos);
  }
  for (const char* member : {"target", "volume_id", "read_only", "trust"}) {
    Json wire = EncodePublish(Full());
    wire.erase(member);
    CHECK(DecodePublish(wire).error().err() == EINVAL);
  }
  CHECK(DecodePublish(Json::array()).error().err() == EINVAL);
}

TEST_CASE("a request with random damage is decoded or refused, never more") {
  std::mt19937 random(3);
  const std::string good = EncodePublish(Full()).dump();
  size_t refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = good;
    for (int n = 0; n < 3; ++n) bytes[random() % bytes.size()] = static_cast<char>(random());
    const Json wire = Json::parse(bytes, nullptr, false);
    if (wire.is_discarded()) continue;
    const auto back = DecodePublish(wire);
    if (!back) {
      ++refused;
      CHECK(back.error().err() == EINVAL);
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("the socket is where the environment says") {
  unsetenv("MOORFS_AGENT_SOCKET");
  CHECK(SocketPath() == kDefaultSocket);
  setenv("MOORFS_AGENT_SOCKET", "/tmp/x.sock", 1);
  CHECK(SocketPath() == "/tmp/x.sock");
  unsetenv("MOORFS_AGENT_SOCKET");
}
