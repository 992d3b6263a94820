// SPDX-License-Identifier: Apache-2.0
//
// The cluster's configuration file: what is read, and that whatever is wrong is
// refused with the member's name and the remedy.

#include "common/config/cluster_config.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "common/config/quantity.h"
#include "test/support/temp_dir.h"

using namespace moorfs;
using namespace moorfs::config;
using Json = nlohmann::json;

namespace {

Json Whole() {
  return Json::parse(R"({
    "fileSystems": {
      "main": {"meta": "leveldb:/volumes/main//meta/"},
      "scratch": {"meta": "leveldb:/volumes/scratch/meta", "openToPods": true}
    },
    "defaultFileSystem": "main",
    "mountPods": {
      "namespace": "moorfs-mounts",
      "image": "moorfs.io/moorfs:0.1.0",
      "imagePullPolicy": "IfNotPresent",
      "imagePullSecrets": ["registry-login"],
      "priorityClassName": "",
      "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
      "tolerations": [{"key": "a.example/b", "operator": "Equal", "value": "c", "effect": "NoExecute",
                       "tolerationSeconds": 60}],
      "labels": {"team": "storage"},
      "annotations": {"example.com/note": "some longer text, with anything"},
      "deleteDelaySeconds": 30,
      "runAsUser": 1000
    }
  })");
}

// The error when the member at `pointer` is `value`.
std::string ErrorWith(const char* pointer, const Json& value) {
  Json json = Whole();
  json[Json::json_pointer(pointer)] = value;
  const auto config = ParseClusterConfig(json.dump());
  INFO(pointer << " = " << value.dump());
  REQUIRE_FALSE(config);
  CHECK(config.error().err() == EINVAL);
  return config.error().message();
}

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a whole cluster configuration is read member by member") {
  const auto config = ParseClusterConfig(Whole().dump());
  REQUIRE(config);
  CHECK(config->file_systems == FsNames{{"main", "leveldb:/volumes/main/meta"},
                                        {"scratch", "leveldb:/volumes/scratch/meta"}});
  CHECK(config->open_to_pods == PodFsNames{"scratch"});
  CHECK(config->default_fs == "main");
  const MountPodConfig& pods = config->mount_pods;
  CHECK(pods.ns == "moorfs-mounts");
  CHECK(pods.image == "moorfs.io/moorfs:0.1.0");
  CHECK(pods.image_pull_policy == "IfNotPresent");
  CHECK(pods.image_pull_secrets == std::vector<std::string>{"registry-login"});
  CHECK(pods.priority_class.empty());
  CHECK(pods.cpu_request == "100m");
  CHECK(pods.memory_request == "256Mi");
  CHECK(pods.cpu_limit == "2");
  CHECK(pods.memory_limit == "1Gi");
  CHECK(Json::parse(pods.tolerations_json) == Whole()["mountPods"]["tolerations"]);
  CHECK(pods.labels == std::map<std::string, std::string>{{"team", "storage"}});
  CHECK(pods.annotations.size() == 1);
  CHECK(pods.delete_delay_s == 30);
  CHECK(pods.run_as_user == 1000);
}

TEST_CASE("the smallest cluster configuration has every default") {
  const auto config = ParseClusterConfig(R"({"fileSystems": {"only": {"meta": "leveldb:/volumes/c/meta"}},
                                             "mountPods": {"image": "x"}})");
  REQUIRE(config);
  CHECK(config->default_fs == "only");
  CHECK(config->open_to_pods.empty());
  CHECK(config->mount_pods.ns == "moorfs-mounts");
  CHECK(config->mount_pods.priority_class == "moorfs-mount");
  CHECK(config->mount_pods.cpu_request == "50m");
  CHECK(config->mount_pods.memory_limit.empty());
  CHECK(Json::parse(config->mount_pods.tolerations_json) == Json::parse(R"([{"operator": "Exists"}])"));
  CHECK(config->mount_pods.run_as_user == 65532);
}

TEST_CASE("unknown members are refused with the nearest known one") {
  CHECK(Has(ErrorWith("/mountPod", 1), "member mountPod: it is not known, did you mean mountPods?"));
  CHECK(Has(ErrorWith("/mountPods/imagePullPolcy", "Always"),
            "member mountPods.imagePullPolcy: it is not known, did you mean imagePullPolicy?"));
  CHECK(Has(ErrorWith("/fileSystems/main/store", "file:/x"), "member fileSystems.main.store: it is not known; known here: "
                                                             "meta, openToPods"));
  CHECK(Has(ErrorWith("/mountPods/resources/limits/cpus", "1"), "mountPods.resources.limits.cpus: it is not known, did you "
                                                                "mean cpu?"));
  CHECK(Has(ErrorWith("/mountPods/resources/limits/storage", "1"), "known here: cpu, memory"));
  CHECK(Has(ErrorWith("/mountPods/tolerations/0/op", "Exists"), "mountPods.tolerations[0].op"));
}

TEST_CASE("every member of a wrong type is refused by its name") {
  const Json whole = Whole().flatten();
  const auto check = [](const std::string& pointer, const Json& value) {
    const std::string error = ErrorWith(pointer.c_str(), value);
    // "/mountPods/resources/limits" is called mountPods.resources.limits.
    std::string name = pointer.substr(1);
    for (char& c : name) c = c == '/' ? '.' : c;
    const std::string first = name.substr(0, name.find_first_of("0123456789") == std::string::npos
                                                 ? name.size()
                                                 : name.find_first_of("0123456789") - 1);
    INFO(error);
    CHECK(Has(error, "read member " + first));
  };
  for (const auto& [pointer, value] : whole.items()) {
    if (Has(pointer, "example")) continue;  // its name holds an escaped '/'
    // A quantity may be a number.
    check(pointer, value.is_number() ? Json("7") : Has(pointer, "/resources/") ? Json(true) : Json(7));
    check(pointer, Json::array({Json::object()}));
  }
  for (const char* object : {"/fileSystems", "/fileSystems/main", "/mountPods", "/mountPods/resources",
                             "/mountPods/resources/limits", "/mountPods/labels", "/mountPods/annotations"}) {
    check(object, "text");
    check(object, nullptr);
  }
  for (const char* list : {"/mountPods/tolerations", "/mountPods/imagePullSecrets"}) check(list, "text");
}

TEST_CASE("values out of their bounds are refused with the bounds") {
  CHECK(Has(ErrorWith("/mountPods/deleteDelaySeconds", -1), "from 0 to 86400"));
  CHECK(Has(ErrorWith("/mountPods/deleteDelaySeconds", uint64_t{1} << 63), "from 0 to 86400"));
  CHECK(Has(ErrorWith("/mountPods/deleteDelaySeconds", 1.5), "whole number"));
  CHECK(Has(ErrorWith("/mountPods/runAsUser", 0), "from 1 to 2147483647"));
  CHECK(Has(ErrorWith("/mountPods/image", ""), "member mountPods.image: it is missing"));
  CHECK(Has(ErrorWith("/mountPods/image", "a b"), "has a character"));
  CHECK(Has(ErrorWith("/mountPods/imagePullPolicy", "always"), "write one of Always, IfNotPresent, Never"));
  CHECK(Has(ErrorWith("/mountPods/imagePullSecrets", {"Upper"}), "\"Upper\" is no name of a Secret"));
  CHECK(Has(ErrorWith("/mountPods/imagePullSecrets", {"a", "a"}), "a is there twice"));
  CHECK(Has(ErrorWith("/mountPods/namespace", ""), "no name in Kubernetes"));
  CHECK(Has(ErrorWith("/mountPods/namespace", "../kube-system"), "no name in Kubernetes"));
  CHECK(Has(ErrorWith("/mountPods/priorityClassName", std::string(64, 'a')), "at most 63"));
  CHECK(Has(ErrorWith("/mountPods/labels/moorfs.io~1node", "x"), "set by MoorFS itself"));
  CHECK(Has(ErrorWith("/mountPods/labels/app.kubernetes.io~1name", "x"), "set by MoorFS itself"));
  CHECK(Has(ErrorWith("/mountPods/annotations/moorfs.io~1client", "x"), "set by MoorFS itself"));
  CHECK(Has(ErrorWith("/mountPods/labels/team", "a b"), "mountPods.labels.team: \"a b\" is no value of a label"));
  CHECK(Has(ErrorWith("/mountPods/labels/-x", "a"), "\"-x\" is no key"));
  CHECK(Has(ErrorWith("/mountPods/tolerations/0/operator", "exists"), "write one of Exists, Equal"));
  CHECK(Has(ErrorWith("/mountPods/tolerations/0/operator", "Exists"), "there is no value"));
  CHECK(Has(ErrorWith("/mountPods/tolerations/0/effect", "NoSchedule"), "with the effect NoExecute only"));
  CHECK(Has(ErrorWith("/mountPods/tolerations/0/key", ""), "without a key the operator must be Exists"));
  CHECK(Has(ErrorWith("/defaultFileSystem", "other"), "\"other\" is not among fileSystems (main, scratch)"));
  CHECK(Has(ErrorWith("/fileSystems/a b", {{"meta", "leveldb:/volumes/c/meta"}}), "\"a b\" is no name"));
  CHECK(Has(ErrorWith("/fileSystems/main/openToPods", "true"), "true or false is needed, without quotes"));
}

TEST_CASE("quantities are those of Kubernetes") {
  for (const auto& [text, value] : std::map<std::string, double>{{"128Mi", 134217728}, {"50m", 0.05}, {"2", 2},
                                                                 {"1.5Gi", 1610612736}, {"1e3", 1000}, {"12E6", 12e6},
                                                                 {".5", 0.5}, {"3k", 3000}, {"1E", 1e18}}) {
    INFO(text);
    const auto parsed = ParseQuantity(text);
    REQUIRE(parsed);
    CHECK(*parsed == Approx(value));
  }
  for (const char* text : {"", "Mi", "128MB", "128mi", "1 Gi", "-1", "1.2.3", ".", "0x10", "1e", "1e+", "1e99", "128MiB",
                           "ä", "11111111111111111"}) {
    INFO(text);
    CHECK_FALSE(ParseQuantity(text));
  }
  Json numbers = Whole();
  numbers["mountPods"]["resources"]["limits"] = {{"cpu", 0.5}, {"memory", 1073741824}};
  const auto config = ParseClusterConfig(numbers.dump());
  REQUIRE(config);
  CHECK(config->mount_pods.cpu_limit == "0.5");
  CHECK(config->mount_pods.memory_limit == "1073741824");
  CHECK(Has(ErrorWith("/mountPods/resources/limits/cpu", -1), "no quantity"));
  CHECK(Has(ErrorWith("/mountPods/resources/limits/memory", "1GiB"), "mountPods.resources.limits.memory: \"1GiB\" is no "
                                                                     "quantity; write it like 128Mi"));
  CHECK(Has(ErrorWith("/mountPods/resources/requests/memory", "128m"), "write it like 128Mi"));
  CHECK(Has(ErrorWith("/mountPods/resources/requests/cpu", "0"), "it is 0"));
  CHECK(Has(ErrorWith("/mountPods/resources/limits/cpu", "50m"), "50m is less than what is requested, 100m"));
  CHECK(Has(ErrorWith("/mountPods/resources/limits/memory", "128Mi"), "128Mi is less than what is requested, 256Mi"));
}

TEST_CASE("an embedded engine lives in a claim that its META names") {
  CHECK(*ClaimOf("leveldb:/volumes/main/meta") == "main");
  CHECK(*ClaimOf("leveldb:/volumes//main/./a/b/") == "main");
  CHECK(ClaimOf("redis://:secret@host/1")->empty());
  for (const char* meta : {"leveldb:/srv/meta", "leveldb:/volumes/main", "leveldb:/volumes/", "leveldb:/volumes/Main/meta",
                           "leveldb:/volumes/a.b/meta", "leveldb:/volumesmain/meta"}) {
    INFO(meta);
    const auto claim = ClaimOf(meta);
    REQUIRE_FALSE(claim);
    CHECK(claim.error().err() == EINVAL);
    CHECK(Has(claim.error().message(), "write it like leveldb:/volumes/CLAIM/meta"));
  }
  CHECK_FALSE(ClaimOf("leveldb:/volumes/main/../other/meta"));
  CHECK(Has(ErrorWith("/fileSystems/main/meta", "leveldb:/srv/meta"), "member fileSystems.main.meta"));
  CHECK(Has(ErrorWith("/fileSystems/main/meta", ""), "it is missing"));
}

TEST_CASE("a text that is no JSON is refused with the place and without its content") {
  const auto broken = ParseClusterConfig("{\"fileSystems\":\n  {\"main\": {\"meta\": \"redis://:secret@host\",}}}");
  REQUIRE_FALSE(broken);
  CHECK(Has(broken.error().message(), "line 2, column"));
  CHECK_FALSE(Has(broken.error().message(), "secret"));
  CHECK(Has(ParseClusterConfig("[]").error().message(), "it is no JSON object"));
  CHECK(Has(ParseClusterConfig(R"({"mountPods": {"runAsUser": 1e999}})").error().message(), "a number that is too large"));
  CHECK(Has(ParseClusterConfig("").error().message(), "line 1"));
  const auto twice = ParseClusterConfig(R"({"mountPods": {"image": "a", "image": "b"}})");
  REQUIRE_FALSE(twice);
  CHECK(Has(twice.error().message(), "member image: it is there twice"));
  // One name in two objects is fine.
  CHECK(ParseClusterConfig(Whole().dump()));
  CHECK(Has(ParseClusterConfig("{}").error().message(), "mountPods: it is missing"));
}

TEST_CASE("every cut of a configuration is refused or read, never anything else") {
  const std::string text = Whole().dump();
  for (size_t n = 0; n < text.size(); ++n) CHECK_FALSE(ParseClusterConfig(std::string_view(text).substr(0, n)));
}

TEST_CASE("a configuration file is named in its errors") {
  test::TempDir dir;
  const std::string path = dir / "config.json";
  CHECK(ReadClusterConfig(path).error().err() == ENOENT);
  std::ofstream(path) << "{}";
  CHECK(Has(ReadClusterConfig(path).error().message(), path + ": read member mountPods"));
  std::ofstream(path) << Whole().dump(2);
  CHECK(ReadClusterConfig(path));
}

TEST_CASE("docs/cluster-config.md names every member") {
  std::ifstream file(CLUSTER_CONFIG_MD);
  std::stringstream text;
  text << file.rdbuf();
  for (const char* member :
       {"fileSystems.NAME.meta", "fileSystems.NAME.openToPods", "defaultFileSystem", "mountPods.namespace",
        "mountPods.image", "mountPods.imagePullPolicy", "mountPods.imagePullSecrets", "mountPods.priorityClassName",
        "mountPods.resources.requests.cpu", "mountPods.resources.requests.memory", "mountPods.resources.limits.cpu",
        "mountPods.resources.limits.memory", "mountPods.tolerations", "mountPods.labels", "mountPods.annotations",
        "mountPods.deleteDelaySeconds", "mountPods.runAsUser"}) {
    INFO(member);
    CHECK(Has(text.str(), std::string("`") + member + "`"));
  }
  // Its example is one.
  const size_t begin = text.str().find("```json\n") + 8;
  const std::string example = text.str().substr(begin, text.str().find("```", begin) - begin);
  const auto config = ParseClusterConfig(example);
  INFO((config ? "" : config.error().message()));
  CHECK(config);
}
