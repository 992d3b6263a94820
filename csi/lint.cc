// SPDX-License-Identifier: Apache-2.0

#include "csi/lint.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "common/base/text.h"
#include "common/config/volume_options.h"
#include "csi/roles.h"
#include "csi/services.h"

namespace moorfs::csi {
namespace {

using Json = nlohmann::json;

constexpr int kUsageError = 2;
constexpr char kFlexDriver[] = "moorfs.io/moorfs-flex";

// Missing members and members of another type are empty.
const Json& Member(const Json& object, const char* name) {
  static const Json none;
  if (!object.is_object()) return none;
  const auto found = object.find(name);
  return found == object.end() ? none : *found;
}
std::string Text(const Json& object, const char* name) {
  const Json& value = Member(object, name);
  return value.is_string() ? value.get<std::string>() : "";
}

class Linter {
 public:
  void Look(const Json& object) {
    if (Text(object, "kind") != "PersistentVolume") return;
    name_ = Text(Member(object, "metadata"), "name");
    const Json& spec = Member(object, "spec");
    if (const Json& csi = Member(spec, "csi"); Text(csi, "driver") == kDriverName) {
      LookAtHandle(csi);
      LookAtOptions(Member(csi, "volumeAttributes"), Member(spec, "mountOptions"), config::kCsiVolume);
    }
    if (const Json& flex = Member(spec, "flexVolume"); Text(flex, "driver") == kFlexDriver) {
      LookAtOptions(Member(flex, "options"), {}, config::kFlex);
      if (!Member(spec, "mountOptions").empty()) Found("kubelet refuses mountOptions of a flexVolume; use the option mount-options");
    }
  }
  std::vector<std::string> Take() { return std::move(problems_); }

 private:
  void Found(const std::string& what) { problems_.push_back(Printable(name_) + ": " + Printable(what)); }

  void LookAtHandle(const Json& csi) {
    const std::string handle = Text(csi, "volumeHandle");
    const auto [first, is_new] = owners_.try_emplace(handle, name_);
    if (!is_new) {
      Found("it has the volumeHandle of " + first->second + ", so only one of them ever mounts on a node; give each its "
            "own suffix: FS#SUFFIX");
    }
    const Json& attributes = Member(csi, "volumeAttributes");
    const bool named = !Text(attributes, "fs").empty() || !Text(attributes, "meta").empty() ||
                       !Member(csi, "nodePublishSecretRef").is_null();
    if (!named && config::ParseHandle(handle).fs.empty()) {
      Found("nothing names its file system: begin the volumeHandle with FS#, or set the attribute fs");
    }
  }

  void LookAtOptions(const Json& options, const Json& words, config::Place place) {
    config::OptionParser parser(config::Trust::kVolume, place);
    if (options.is_object()) {
      for (const auto& [key, value] : options.items()) {
        if (config::IsKubernetesKey(key)) continue;
        if (!value.is_string()) Found("option \"" + key.substr(0, 64) + "\" is no string");
        else if (const Status s = parser.Set(key, value.get<std::string>()); !s.ok()) Found(s.message());
      }
    }
    if (words.is_array()) {
      for (const Json& word : words) {
        if (!word.is_string()) continue;
        if (const Status s = parser.SetWords(word.get<std::string>()); !s.ok()) Found(s.message());
      }
    }
    if (const auto checked = parser.Finish(); !checked) Found(checked.error().message());
  }

  std::string name_;
  std::map<std::string, std::string> owners_;  // of a handle
  std::vector<std::string> problems_;
};

}  // namespace

Result<std::vector<std::string>> LintVolumes(const Json& list) {
  Linter linter;
  const std::string kind = Text(list, "kind");
  if (kind == "PersistentVolume") {
    linter.Look(list);
  } else if (const Json& items = Member(list, "items"); items.is_array()) {
    for (const Json& each : items) linter.Look(each);
  } else {
    return Error(EINVAL, "it is no list of PersistentVolumes; feed it `kubectl get pv -o json`");
  }
  return linter.Take();
}

int LintMain(int argc, char** argv) {
  CLI::App app("What is wrong with PersistentVolumes of MoorFS.", "moorfs lint-volumes");
  app.footer("Example:\n  kubectl get pv -o json | moorfs lint-volumes\n");
  std::string file = "-";
  app.add_option("FILE", file, "JSON as kubectl prints it; '-' is standard input")->capture_default_str();
  try {
    app.parse(argc - 1, argv + 1);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kUsageError;
  }
  std::ifstream opened;
  if (file != "-") opened.open(file);
  std::istream& in = file == "-" ? std::cin : opened;
  const std::string text(std::istreambuf_iterator<char>(in), {});
  const auto problems = LintVolumes(Json::parse(text, nullptr, false));
  if (!problems) {
    std::fprintf(stderr, "moorfs lint-volumes: %s: %s\n", Printable(file).c_str(), problems.error().message().c_str());
    return kUsageError;
  }
  for (const std::string& problem : *problems) std::printf("%s\n", problem.c_str());
  return problems->empty() ? 0 : 1;
}

}  // namespace moorfs::csi
