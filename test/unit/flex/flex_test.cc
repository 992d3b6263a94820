// SPDX-License-Identifier: Apache-2.0
//
// The door's pure parts: kubelet's JSON in all its forms, the command line, the
// one answer, and what `explain` says. test/flex/run executes the programs.

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <random>

#include "common/base/base64.h"
#include "flex/answer.h"
#include "flex/call.h"
#include "flex/explain.h"
#include "flex/options.h"

using namespace moorfs;
using namespace moorfs::flex;
using Json = nlohmann::json;

namespace {

std::string Refusal(const std::string& json) {
  const auto parsed = ParseOptions(json);
  INFO(json.substr(0, 100));
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().err() == EINVAL);
  return parsed.error().message();
}

Call CallOf(const std::vector<std::string>& words) {
  auto call = ParseCall(words);
  REQUIRE(call);
  return *call;
}

}  // namespace

TEST_CASE("what a new kubelet sends is understood") {
  const auto p = ParseOptions(
      R"({"fs":"main","kubernetes.io/fsType":"","kubernetes.io/mounterArgs.FsGroup":"2000","kubernetes.io/pod.name":"p",)"
      R"("kubernetes.io/pod.namespace":"default","kubernetes.io/pod.uid":"11-22","kubernetes.io/pvOrVolumeName":"data",)"
      R"("kubernetes.io/readwrite":"ro","kubernetes.io/secret/meta":"bGV2ZWxkYjovYSBi","kubernetes.io/serviceAccount.name":"default",)"
      R"("subdir":"a\u003cb\u0026c"})");
  REQUIRE(p);
  CHECK(p->publish.options == std::map<std::string, std::string>{{"fs", "main"}, {"subdir", "a<b&c"}});
  CHECK(p->publish.secrets == std::map<std::string, std::string>{{"meta", "leveldb:/a b"}});
  CHECK(p->publish.read_only);
  CHECK(p->publish.fs_group == 2000U);
  CHECK(p->publish.volume_id == "data@11-22");
}

TEST_CASE("what an old kubelet sends is understood") {
  const auto p = ParseOptions(R"({"kubernetes.io/fsGroup":"7","kubernetes.io/readwrite":"rw","kubernetes.io/mountsDir":"/x","fs":"m"})");
  REQUIRE(p);
  CHECK(p->publish.fs_group == 7U);
  CHECK_FALSE(p->publish.read_only);
  CHECK(p->publish.volume_id.empty());
}

TEST_CASE("kubelet's keys of the future are ignored, also when they are no texts") {
  const auto p = ParseOptions(R"({"fs":"m","kubernetes.io/new":{"a":[1]},"x.kubernetes.io/y":"z","k8s.io/n":1})");
  REQUIRE(p);
  CHECK(p->ignored.size() == 3);
  CHECK(p->publish.options.size() == 1);
}

TEST_CASE("what is no flat object of texts is refused, without its values") {
  for (const char* bad : {"", "x", "[]", "null", "1", "\"x\"", "{", "{}x", "{} {}", R"({"a":"b",})", "{'a':'b'}", "{\"a\":\"\xff\"}",
                          "{\"a\":\"line\nbreak\"}"}) {
    CHECK(Refusal(bad).find("no JSON object") != std::string::npos);
  }
  for (const char* bad : {R"({"memory":1})", R"({"memory":null})", R"({"memory":true})", R"({"memory":{"a":"hunter2"}})",
                          R"({"memory":["hunter2"]})"}) {
    const std::string message = Refusal(bad);
    CHECK(message.find("\"memory\" is no text") != std::string::npos);
    CHECK(message.find("hunter2") == std::string::npos);
  }
  CHECK(Refusal(R"({"fs":"a","fs":"a"})").find("given twice") != std::string::npos);
  CHECK(Refusal(R"({"kubernetes.io/readwrite":"ro","kubernetes.io/readwrite":"rw"})").find("given twice") != std::string::npos);
  CHECK(Refusal(R"({"kubernetes.io/readwrite":"maybe"})").find("neither") != std::string::npos);
  CHECK(Refusal(R"({"kubernetes.io/secret/k":"hunter2!"})").find("hunter2") == std::string::npos);
  CHECK(Refusal(R"({"kubernetes.io/fsGroup":"1","kubernetes.io/mounterArgs.FsGroup":"2"})").find("another group") !=
        std::string::npos);
  for (const char* group : {"-1", "4294967295", "1x", "0x10", "99999999999999999999", " 1"}) {
    CHECK(Refusal(std::string(R"({"kubernetes.io/fsGroup":")") + group + "\"}").find("group id") != std::string::npos);
  }
  // Deep and wide.
  CHECK(Refusal(std::string(60'000, '[')).size() < 200);
  CHECK(Refusal("{\"" + std::string(4096, 'k') + "\":1}").size() < 200);
  CHECK(Refusal(R"({"a\nb\u0000":1})").find('\n') == std::string::npos);
}

TEST_CASE("a Secret's bytes arrive as they are") {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const auto p = ParseOptions(Json{{"kubernetes.io/secret/k", EncodeBase64(all)}, {"kubernetes.io/secret/e", ""}}.dump());
  REQUIRE(p);
  CHECK(p->publish.secrets.at("k") == all);
  CHECK(p->publish.secrets.at("e").empty());
}

TEST_CASE("a target is an absolute path that leads where it says") {
  for (const char* good : {"/mnt", "/var/lib/kubelet/pods/u/volumes/a~b/v", "/ü n/$(x);`y`", "/a..b/..c", "/a'b\"c"}) {
    CHECK(CheckTarget(good).ok());
  }
  for (const std::string& bad : {std::string(), std::string("mnt"), std::string("./x"), std::string("/.."), std::string("/a/../b"),
                                 std::string("/a/.."), std::string("/a\nb"), std::string("/a\0b", 4), "/" + std::string(4096, 'x'),
                                 std::string("-rf"), std::string("/\x1b[2J")}) {
    const Status s = CheckTarget(bad);
    CHECK(s.err() == EINVAL);
    CHECK(s.message().size() < 300);
    CHECK(s.message().find('\n') == std::string::npos);
  }
}

TEST_CASE("an operator's switches stand before the verb, and nothing behind it is one") {
  const Call c = CallOf({"--standalone", "--fs", "m=leveldb:/m", "--timeout", "7", "mount", "--standalone", "{}"});
  CHECK(c.standalone);
  CHECK_FALSE(c.trusted);
  CHECK(c.timeout_ms == 7000);
  CHECK(c.fs_names.at("m") == "leveldb:/m");
  CHECK(c.arguments == std::vector<std::string>{"--standalone", "{}"});
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{
           {}, {"--standalone"}, {"--what", "init"}, {"--fs"}, {"--fs", "x", "init"}, {"--timeout", "0", "init"}, {"--timeout", "x", "init"}}) {
    CHECK(ParseCall(bad).error().err() == EINVAL);
  }
}

TEST_CASE("an answer is one line of JSON, whatever the message holds") {
  const std::pair<Answer, const char*> answers[] = {{Success(), "Success"},
                                                    {Resized(5), "Success"},
                                                    {Capabilities(), "Success"},
                                                    {NotSupported(), "Not supported"},
                                                    {Failure(Status(EIO, "a\nb\0\xff\x1b ü")), "Failure"},
                                                    {Failure(Status(EIO, std::string(100'000, 'x'))), "Failure"}};
  for (const auto& [answer, status] : answers) {
    REQUIRE(answer.json.ends_with("\n"));
    CHECK(answer.json.find('\n') == answer.json.size() - 1);
    CHECK(answer.json.size() < 1000);
    CHECK(Json::parse(answer.json).at("status") == status);
    CHECK(answer.exit_code == (std::string(status) == "Failure" ? 1 : 0));
  }
  CHECK(Json::parse(Resized(5).json).at("volumeNewSize") == 5);
}

TEST_CASE("a Secret in a message is struck out") {
  const Answer a = Failure(Status(EIO, "log in with hunter22 and hunter22 to x"), {{"k", "hunter22"}, {"short", "x"}, {"none", ""}});
  CHECK(a.json.find("hunter22") == std::string::npos);
  CHECK(a.json.find("log in with *** and *** to x") != std::string::npos);
}

TEST_CASE("init promises nothing that a stopped client or kubelet's own walk would break") {
  const Json c = Json::parse(Capabilities().json).at("capabilities");
  for (const char* name : {"attach", "selinuxRelabel", "supportsMetrics", "fsGroup", "requiresFSResize"}) {
    CHECK(c.at(name) == false);
  }
  CHECK(c.size() == 5);
}

TEST_CASE("explain says for each option what it is and who may set it") {
  const std::string json = R"({"meta":"redis://u:hunter2@h/0","subdir":"a","kubernetes.io/secret/memory":"MTAwMDAwMDAw",)"
                           R"("kubernetes.io/readwrite":"ro","kubernetes.io/pod.name":"p"})";
  const Answer pod = Explain(CallOf({"explain"}), json);
  CHECK(pod.exit_code == 1);
  const Json p = Json::parse(pod.json);
  CHECK(p.at("status") == "Failure");
  CHECK(p.at("options").at(0).at("option") == "meta");
  CHECK(p.at("options").at(0).at("verdict").get<std::string>().find("may not be set by a pod") != std::string::npos);
  CHECK(p.at("options").at(1).at("verdict") == "accepted");
  CHECK(pod.json.find("hunter2") == std::string::npos);

  const Answer volume = Explain(CallOf({"--trust-volume", "explain"}), json);
  const Json v = Json::parse(volume.json);
  CHECK(v.at("status") == "Success");
  CHECK(v.at("client_options") == "memory=100000000");
  CHECK(v.at("target").at("read_only") == true);
  CHECK(v.at("target").at("subdir") == "a");
  // A Secret's value is not shown, though what it came to is.
  CHECK_FALSE(v.at("options").at(2).contains("value"));
  CHECK(volume.json.find("hunter2") == std::string::npos);

  const Json named = Json::parse(Explain(CallOf({"--fs", "m=leveldb:/m", "explain"}), R"({"fs":"m"})").json);
  CHECK(named.at("mount_key_inputs").at("meta") == "leveldb:/m");
  CHECK(Explain(CallOf({"explain"}), R"({"fs":"m"})").exit_code == 0);
  CHECK(Explain(CallOf({"explain"}), "{}").exit_code == 1);
  CHECK(Explain(CallOf({"explain"}), "[").exit_code == 1);
}

TEST_CASE("random damage to kubelet's JSON is refused or understood, never more") {
  std::mt19937 random(11);
  const std::string good = R"({"fs":"main","kubernetes.io/fsGroup":"2000","kubernetes.io/pvOrVolumeName":"data",)"
                           R"("kubernetes.io/readwrite":"ro","kubernetes.io/secret/k":"aHVudGVyMg==","subdir":"a\u003cb"})";
  const std::string letters = "{}[]\":,\\u0019ro/.-\n\xc3\xff\x01";
  size_t refused = 0, taken = 0;
  for (int i = 0; i < 30'000; ++i) {
    std::string bytes = good;
    for (size_t n = 1 + random() % 3; n > 0; --n) {
      const size_t at = random() % bytes.size();
      if (random() % 2) bytes[at] = letters[random() % letters.size()];
      else bytes.erase(at, random() % 4);
    }
    const auto parsed = ParseOptions(bytes);
    if (parsed) {
      ++taken;
      CHECK(Json::parse(Explain(CallOf({"explain"}), bytes).json).is_object());
    } else {
      ++refused;
      CHECK(parsed.error().message().size() < 300);
    }
  }
  CHECK(refused > 1000);
  CHECK(taken > 1000);
}
