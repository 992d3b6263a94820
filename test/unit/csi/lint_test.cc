// SPDX-License-Identifier: Apache-2.0

#include "csi/lint.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace moorfs::csi {
namespace {

using Json = nlohmann::json;

Json CsiVolume(const std::string& name, const std::string& handle, Json attributes = Json::object()) {
  return {{"kind", "PersistentVolume"},
          {"metadata", {{"name", name}}},
          {"spec", {{"csi", {{"driver", "csi.moorfs.io"}, {"volumeHandle", handle}, {"volumeAttributes", std::move(attributes)}}}}}};
}
std::vector<std::string> Lint(Json items) { return LintVolumes({{"kind", "List"}, {"items", std::move(items)}}).value(); }

TEST_CASE("volumes that are in order have nothing said of them, and others' are left alone") {
  Json theirs = CsiVolume("theirs", "main#a", {{"whatever", 7}});
  theirs["spec"]["csi"]["driver"] = "csi.example.org";
  CHECK(Lint({CsiVolume("a", "main#a"), CsiVolume("b", "main#b", {{"subdir", "x"}}), theirs, Json(7), Json("x")}).empty());
  CHECK(LintVolumes(CsiVolume("alone", "main#a")).value().empty());
}

TEST_CASE("two volumes with one handle are named, for kubelet mounts one of them only and says nothing") {
  const auto problems = Lint({CsiVolume("a", "main"), CsiVolume("b", "main"), CsiVolume("c", "main#c")});
  REQUIRE(problems.size() == 1);
  CHECK_THAT(problems[0], Catch::StartsWith("b: ") && Catch::Contains("volumeHandle of a"));
}

TEST_CASE("what the doors would refuse is found before, and values are not repeated") {
  Json mounted = CsiVolume("mounted", "main#m");
  mounted["spec"]["mountOptions"] = {"nosuid", "cache-szie=hunter2"};
  const Json flex = {{"kind", "PersistentVolume"},
                     {"metadata", {{"name", "flex"}}},
                     {"spec", {{"flexVolume", {{"driver", "moorfs.io/moorfs-flex"}, {"options", {{"fss", "hunter2"}, {"ro", true}}}}},
                               {"mountOptions", {"ro"}}}}};
  const auto problems = Lint({mounted, flex, CsiVolume("none", "#x"), CsiVolume("log", "main#l", {{"log-file", "/hunter2"}})});
  std::string all;
  for (const std::string& problem : problems) all += problem + "\n";
  INFO(all);
  CHECK(problems.size() == 6);
  CHECK_THAT(all, Catch::Contains("mounted: ") && Catch::Contains("cache-szie") && Catch::Contains("flex: ") &&
                      Catch::Contains("\"fss\"") && Catch::Contains("no string") && Catch::Contains("none: nothing names") &&
                      Catch::Contains("log: ") && !Catch::Contains("hunter2"));
}

TEST_CASE("what is no list is refused") {
  for (const Json& bad : {Json(), Json(7), Json::array(), Json{{"kind", "Pod"}}, Json(Json::value_t::discarded)}) {
    CHECK(LintVolumes(bad).error().err() == EINVAL);
  }
}

}  // namespace
}  // namespace moorfs::csi
