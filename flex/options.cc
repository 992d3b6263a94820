// SPDX-License-Identifier: Apache-2.0

#include "flex/options.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "common/base/base64.h"
#include "common/base/text.h"
#include "common/config/volume_options.h"

namespace moorfs::flex {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSecretPrefix = "kubernetes.io/secret/";
constexpr std::string_view kReadWrite = "kubernetes.io/readwrite";
constexpr std::string_view kVolumeName = "kubernetes.io/pvOrVolumeName";
constexpr std::string_view kPodUid = "kubernetes.io/pod.uid";
// Newer kubelets call it after a field of theirs.
constexpr std::string_view kGroupKeys[] = {"kubernetes.io/mounterArgs.FsGroup", "kubernetes.io/fsGroup"};
constexpr size_t kMaxShown = 64;

std::string Quoted(std::string_view key) {
  return "\"" + Printable(key.substr(0, kMaxShown)) + (key.size() > kMaxShown ? "…" : "") + "\"";
}

// The library takes the last of two equal keys; which one kubelet's user meant
// nobody knows.
Result<Json> ParseFlat(std::string_view text) {
  std::set<std::string> seen;
  std::string twice;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::key && depth == 1) {
      const auto& key = value.get_ref<const std::string&>();
      if (!seen.insert(key).second) twice = key;
    }
    return true;
  };
  Json json = Json::parse(text, watch, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) {
    return Error(EINVAL, "the options are no JSON object; they look like '{\"fs\": \"NAME\"}'");
  }
  if (!twice.empty()) return Error(EINVAL, "option " + Quoted(twice) + " is given twice");
  return json;
}

Status ReadGroup(std::string_view key, const std::string& value, std::optional<uint32_t>* group) {
  if (value.empty()) return Status::Ok();
  uint32_t gid = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), gid);
  if (error != std::errc() || end != value.data() + value.size() || gid == UINT32_MAX) {
    return Status(EINVAL, Quoted(key) + " is no group id");
  }
  if (*group && **group != gid) return Status(EINVAL, Quoted(key) + " names another group than its newer form");
  *group = gid;
  return Status::Ok();
}

Status ReadSecret(std::string_view key, const std::string& value, agent::FlexPublish* publish) {
  const std::string name(key.substr(kSecretPrefix.size()));
  auto decoded = DecodeBase64(value);
  if (!decoded) return Status(EINVAL, "the Secret's " + Quoted(name) + " is no base64");
  publish->secrets.emplace(name, std::move(*decoded));
  return Status::Ok();
}

Status ReadKubernetesKey(const std::string& key, const std::string& value, FlexOptions* out) {
  if (key.starts_with(kSecretPrefix)) return ReadSecret(key, value, &out->publish);
  for (const auto group : kGroupKeys) {
    if (key == group) return ReadGroup(key, value, &out->publish.fs_group);
  }
  if (key == kVolumeName) {
    out->publish.volume_id = value;
  } else if (key == kReadWrite) {
    if (value != "ro" && value != "rw" && !value.empty()) return Status(EINVAL, Quoted(key) + " is neither \"ro\" nor \"rw\"");
    out->publish.read_only = value == "ro";
  } else {
    out->ignored.push_back(key);
  }
  return Status::Ok();
}

}  // namespace

Result<FlexOptions> ParseOptions(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseFlat(text));
  FlexOptions out;
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      // Newer kubelets may send more; only a user's own options are texts.
      if (config::IsKubernetesKey(key)) {
        out.ignored.push_back(key);
        continue;
      }
      return Error(EINVAL, "option " + Quoted(key) + " is no text; write its value in quotes");
    }
    const auto& content = value.get_ref<const std::string&>();
    if (config::IsKubernetesKey(key)) {
      TRY_VOID(ReadKubernetesKey(key, content, &out));
    } else {
      out.publish.options.emplace(key, content);
    }
  }
  // An inline volume's name is one pod's only; for people it is enough.
  if (const auto uid = json.find(kPodUid); !out.publish.volume_id.empty() && uid != json.end() && uid->is_string()) {
    out.publish.volume_id += "@" + uid->get<std::string>();
  }
  out.publish.volume_id.resize(std::min<size_t>(out.publish.volume_id.size(), 1024));
  return out;
}

Status CheckTarget(std::string_view target) {
  const auto bad = [&](const char* why) { return Status(EINVAL, "mount directory " + Quoted(target) + " " + why); };
  if (!target.starts_with('/')) return bad("is no absolute path");
  if (target.size() >= 4096) return bad("is longer than a path may be");
  for (char c : target) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return bad("holds a control character");
  }
  if ((std::string(target) + "/").find("/../") != std::string::npos) return bad("has a \"..\" part");
  return Status::Ok();
}

}  // namespace moorfs::flex
