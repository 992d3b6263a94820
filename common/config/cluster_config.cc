// SPDX-License-Identifier: Apache-2.0
//
// Every member is read by name from an object that knows its own place in the
// file; what was not asked for is refused. Values are quoted except METAs,
// which may hold passwords.

#include "common/config/cluster_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "common/config/nearest.h"
#include "common/config/quantity.h"
#include "common/config/shown.h"
#include "common/os/file.h"

namespace moorfs::config {
namespace {

using Json = nlohmann::json;

// A ConfigMap holds no more.
constexpr size_t kMaxFileBytes = 1 << 20;
constexpr int64_t kMaxDelayS = 24 * 3600;
constexpr int64_t kMaxUser = 2147483647;
// Less, and no client starts; mostly a unit was forgotten.
constexpr double kLeastMemory = 16 << 20;
constexpr char kNamesOfOurs[] = "moorfs.io/";
constexpr std::string_view kVolumes = "leveldb:/volumes/";

Status Wrong(const std::string& place, const std::string& what) {
  return Status(EINVAL, "read member " + Shown(place) + ": " + what);
}

std::string Joined(const std::string& place, std::string_view name) {
  return place.empty() ? std::string(name) : place + "." + std::string(name);
}

// One object of the file. Members are taken; Finish() refuses what is left.
class Members {
 public:
  Members(const Json& json, std::string place) : json_(json), place_(std::move(place)) {}
  static Result<Members> Of(const Json& json, const std::string& place) {
    if (json.is_object()) return Members(json, place);
    return Error(place.empty() ? Status(EINVAL, "it is no JSON object; begin it with {\"fileSystems\": …")
                               : Wrong(place, "an object is needed, {…}"));
  }

  // nullptr: absent.
  const Json* Take(const char* name) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) known_.emplace_back(name);
    const auto found = json_.find(name);
    return found == json_.end() ? nullptr : &*found;
  }
  std::string At(std::string_view name) const { return Joined(place_, name); }

  Status Text(const char* name, std::string* out) {
    const Json* value = Take(name);
    if (value == nullptr) return Status::Ok();
    if (!value->is_string()) return Wrong(At(name), "a text is needed, \"…\"");
    *out = value->get<std::string>();
    return Status::Ok();
  }
  Status Flag(const char* name, bool* out) {
    const Json* value = Take(name);
    if (value == nullptr) return Status::Ok();
    if (!value->is_boolean()) return Wrong(At(name), "true or false is needed, without quotes");
    *out = value->get<bool>();
    return Status::Ok();
  }
  Status Number(const char* name, int64_t least, int64_t most, int64_t* out) {
    const Json* value = Take(name);
    if (value == nullptr) return Status::Ok();
    const bool fits = value->is_number_integer() && (!value->is_number_unsigned() || value->get<uint64_t>() <= INT64_MAX);
    if (!fits || value->get<int64_t>() < least || value->get<int64_t>() > most) {
      return Wrong(At(name), "a whole number from " + std::to_string(least) + " to " + std::to_string(most) +
                                 " is needed, without quotes");
    }
    *out = value->get<int64_t>();
    return Status::Ok();
  }
  // Absent: as it is. A number is one too, as in a pod.
  Status Quantity(const char* name, std::string* out, double* value) {
    const Json* member = Take(name);
    if (member == nullptr) return Status::Ok();
    std::string text;
    if (member->is_number()) {
      text = member->dump();
    } else {
      RETURN_IF_ERROR(Text(name, &text));
    }
    const auto parsed = ParseQuantity(text);
    if (!parsed) return Wrong(At(name), parsed.error().message());
    if (*parsed <= 0) return Wrong(At(name), "it is 0; leave it out, or write it like 128Mi");
    *out = text;
    *value = *parsed;
    return Status::Ok();
  }
  Status Finish() const {
    for (const auto& [name, value] : json_.items()) {
      if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
      const std::string near = Nearest(std::string_view(name).substr(0, 64), known_);
      std::string all;
      for (const std::string& each : known_) all += (all.empty() ? "" : ", ") + each;
      return Wrong(At(name), "it is not known" + (near.empty() ? "; known here: " + all : ", did you mean " + near + "?"));
    }
    return Status::Ok();
  }

 private:
  const Json& json_;
  std::string place_;
  std::vector<std::string> known_;
};

// ---- values --------------------------------------------------------------------

Status ReadName(Members& members, const char* name, bool may_be_empty, std::string* out) {
  RETURN_IF_ERROR(members.Text(name, out));
  if ((out->empty() && may_be_empty) || IsDnsLabel(*out)) return Status::Ok();
  return Wrong(members.At(name), "\"" + Shown(*out) + "\" is no name in Kubernetes: at most 63 of a-z, 0-9 and '-', a "
                                 "letter or digit at both ends");
}

Status ReadNames(Members& members, const char* name, std::vector<std::string>* out) {
  const Json* list = members.Take(name);
  if (list == nullptr) return Status::Ok();
  if (!list->is_array()) return Wrong(members.At(name), "a list of names is needed, [\"…\"]");
  for (const Json& each : *list) {
    const std::string text = each.is_string() ? each.get<std::string>() : "";
    if (!IsDnsSubdomain(text)) {
      return Wrong(members.At(name), "\"" + Shown(text) + "\" is no name of a Secret: a-z, 0-9, '-' and '.'; write it "
                                     "like [\"registry-login\"]");
    }
    if (std::find(out->begin(), out->end(), text) != out->end()) return Wrong(members.At(name), text + " is there twice");
    out->push_back(text);
  }
  return Status::Ok();
}

Status ReadMap(Members& members, const char* name, bool labels, std::map<std::string, std::string>* out) {
  const Json* map = members.Take(name);
  if (map == nullptr) return Status::Ok();
  const std::string place = members.At(name);
  if (!map->is_object()) return Wrong(place, "an object of texts is needed, {\"key\": \"value\"}");
  for (const auto& [key, value] : map->items()) {
    if (!IsLabelKey(key)) {
      return Wrong(place, "\"" + Shown(key) + "\" is no key: at most 63 letters, digits, '-', '_', '.', before it "
                          "perhaps a domain and '/'");
    }
    if (key.starts_with(kNamesOfOurs) || (labels && key == "app.kubernetes.io/name")) {
      return Wrong(place, key + " is set by MoorFS itself; leave it out");
    }
    if (!value.is_string()) return Wrong(Joined(place, key), "a text is needed; put the value in quotes");
    if (labels && !IsLabelValue(value.get<std::string>())) {
      return Wrong(Joined(place, key), "\"" + Shown(value.get<std::string>()) + "\" is no value of a label: at most 63 "
                                       "letters, digits, '-', '_', '.'; longer texts are annotations");
    }
    (*out)[key] = value.get<std::string>();
  }
  return Status::Ok();
}

Status CheckWord(const std::string& place, const std::string& word, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), word) != known.end()) return Status::Ok();
  std::string all;
  for (const std::string& each : known) all += (all.empty() ? "" : ", ") + each;
  return Wrong(place, "\"" + Shown(word) + "\" is not known; write one of " + all);
}

Status CheckToleration(const Json& json, const std::string& place) {
  ASSIGN_OR_RETURN_STATUS(Members members, Members::Of(json, place));
  std::string key, op = "Equal", value, effect;
  int64_t seconds = -1;
  RETURN_IF_ERROR(members.Text("key", &key));
  RETURN_IF_ERROR(members.Text("operator", &op));
  RETURN_IF_ERROR(members.Text("value", &value));
  RETURN_IF_ERROR(members.Text("effect", &effect));
  RETURN_IF_ERROR(members.Number("tolerationSeconds", INT32_MIN, INT32_MAX, &seconds));
  RETURN_IF_ERROR(members.Finish());
  RETURN_IF_ERROR(CheckWord(members.At("operator"), op, {"Exists", "Equal"}));
  if (!effect.empty()) {
    RETURN_IF_ERROR(CheckWord(members.At("effect"), effect, {"NoSchedule", "PreferNoSchedule", "NoExecute"}));
  }
  if (key.empty() ? op != "Exists" : !IsLabelKey(key)) {
    return Wrong(members.At("key"), key.empty() ? "without a key the operator must be Exists"
                                                : "\"" + Shown(key) + "\" is no key of a taint");
  }
  if (op == "Exists" && !value.empty()) return Wrong(members.At("value"), "with the operator Exists there is no value");
  if (!IsLabelValue(value)) return Wrong(members.At("value"), "\"" + Shown(value) + "\" is no value of a taint");
  if (json.contains("tolerationSeconds") && effect != "NoExecute") {
    return Wrong(members.At("tolerationSeconds"), "it goes with the effect NoExecute only");
  }
  return Status::Ok();
}

Status ReadTolerations(Members& members, std::string* out) {
  const Json* list = members.Take("tolerations");
  if (list == nullptr) return Status::Ok();
  const std::string place = members.At("tolerations");
  if (!list->is_array()) return Wrong(place, "a list is needed, [{\"operator\": \"Exists\"}]");
  for (size_t i = 0; i < list->size(); ++i) {
    RETURN_IF_ERROR(CheckToleration((*list)[i], place + "[" + std::to_string(i) + "]"));
  }
  *out = list->dump();
  return Status::Ok();
}

// ---- mountPods.resources -------------------------------------------------------

struct Amounts {
  std::string cpu, memory;
  double cpu_value = 0, memory_value = 0;
};

Status ReadAmounts(Members& resources, const char* name, Amounts* out) {
  if (!out->cpu.empty()) out->cpu_value = *ParseQuantity(out->cpu);
  if (!out->memory.empty()) out->memory_value = *ParseQuantity(out->memory);
  const Json* json = resources.Take(name);
  if (json == nullptr) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(Members members, Members::Of(*json, resources.At(name)));
  RETURN_IF_ERROR(members.Quantity("cpu", &out->cpu, &out->cpu_value));
  RETURN_IF_ERROR(members.Quantity("memory", &out->memory, &out->memory_value));
  RETURN_IF_ERROR(members.Finish());
  if (!out->memory.empty() && out->memory_value < kLeastMemory) {
    return Wrong(members.At("memory"), "\"" + Shown(out->memory) + "\" is less than 16Mi, with which no client starts; "
                                       "write it like 128Mi");
  }
  return Status::Ok();
}

Status ReadResources(Members& pods, MountPodConfig* out) {
  const Json* json = pods.Take("resources");
  if (json == nullptr) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(Members members, Members::Of(*json, pods.At("resources")));
  Amounts requests{out->cpu_request, out->memory_request}, limits;
  RETURN_IF_ERROR(ReadAmounts(members, "requests", &requests));
  RETURN_IF_ERROR(ReadAmounts(members, "limits", &limits));
  RETURN_IF_ERROR(members.Finish());
  if (!limits.cpu.empty() && limits.cpu_value < requests.cpu_value) {
    return Wrong(members.At("limits.cpu"), limits.cpu + " is less than what is requested, " + requests.cpu);
  }
  if (!limits.memory.empty() && limits.memory_value < requests.memory_value) {
    return Wrong(members.At("limits.memory"), limits.memory + " is less than what is requested, " + requests.memory);
  }
  out->cpu_request = requests.cpu;
  out->memory_request = requests.memory;
  out->cpu_limit = limits.cpu;
  out->memory_limit = limits.memory;
  return Status::Ok();
}

// ---- the three parts -----------------------------------------------------------

Status ReadMountPods(const Json* json, MountPodConfig* out) {
  if (json == nullptr) return Wrong("mountPods", "it is missing; write {\"mountPods\": {\"image\": \"…\"}}");
  ASSIGN_OR_RETURN_STATUS(Members members, Members::Of(*json, "mountPods"));
  int64_t delay = out->delete_delay_s;
  RETURN_IF_ERROR(ReadName(members, "namespace", false, &out->ns));
  RETURN_IF_ERROR(members.Text("image", &out->image));
  RETURN_IF_ERROR(members.Text("imagePullPolicy", &out->image_pull_policy));
  RETURN_IF_ERROR(ReadNames(members, "imagePullSecrets", &out->image_pull_secrets));
  RETURN_IF_ERROR(ReadName(members, "priorityClassName", true, &out->priority_class));
  RETURN_IF_ERROR(ReadResources(members, out));
  RETURN_IF_ERROR(ReadTolerations(members, &out->tolerations_json));
  RETURN_IF_ERROR(ReadMap(members, "labels", true, &out->labels));
  RETURN_IF_ERROR(ReadMap(members, "annotations", false, &out->annotations));
  RETURN_IF_ERROR(members.Number("deleteDelaySeconds", 0, kMaxDelayS, &delay));
  RETURN_IF_ERROR(members.Number("runAsUser", 1, kMaxUser, &out->run_as_user));
  RETURN_IF_ERROR(members.Finish());
  out->delete_delay_s = static_cast<int>(delay);
  if (out->image.empty()) return Wrong("mountPods.image", "it is missing; write the image that this version came with");
  const bool plain = std::all_of(out->image.begin(), out->image.end(), [](unsigned char c) { return c > ' ' && c < 0x7f; });
  if (!plain) return Wrong("mountPods.image", "\"" + Shown(out->image) + "\" has a character that no image's name has");
  if (out->image_pull_policy.empty()) return Status::Ok();
  return CheckWord("mountPods.imagePullPolicy", out->image_pull_policy, {"Always", "IfNotPresent", "Never"});
}

Status ReadFileSystem(const std::string& name, const Json& json, ClusterConfig* out) {
  if (const Status s = CheckFsName(name); !s.ok()) return Wrong("fileSystems", s.message());
  const std::string place = Joined("fileSystems", name);
  ASSIGN_OR_RETURN_STATUS(Members members, Members::Of(json, place));
  std::string meta, plain;
  bool open = false;
  RETURN_IF_ERROR(members.Text("meta", &meta));
  RETURN_IF_ERROR(members.Flag("openToPods", &open));
  RETURN_IF_ERROR(members.Finish());
  if (meta.empty()) return Wrong(members.At("meta"), "it is missing; write it like leveldb:/volumes/CLAIM/meta");
  if (const Status s = MetaInto(meta, &plain); !s.ok()) return Wrong(members.At("meta"), s.message());
  if (const auto claim = ClaimOf(plain); !claim) return Wrong(members.At("meta"), claim.error().message());
  out->file_systems[name] = plain;
  if (open) out->open_to_pods.insert(name);
  return Status::Ok();
}

Status ReadFileSystems(const Json* json, ClusterConfig* out) {
  if (json == nullptr) return Status::Ok();
  if (!json->is_object()) return Wrong("fileSystems", "an object is needed, {\"NAME\": {\"meta\": \"META\"}}");
  for (const auto& [name, each] : json->items()) RETURN_IF_ERROR(ReadFileSystem(name, each, out));
  return Status::Ok();
}

Status CheckDefault(ClusterConfig* out) {
  if (out->default_fs.empty()) {
    if (out->file_systems.size() == 1) out->default_fs = out->file_systems.begin()->first;
    return Status::Ok();
  }
  if (out->file_systems.contains(out->default_fs)) return Status::Ok();
  std::string known;
  for (const auto& [name, meta] : out->file_systems) known += (known.empty() ? "" : ", ") + name;
  return Wrong("defaultFileSystem", "\"" + Shown(out->default_fs) + "\" is not among fileSystems (" +
                                        (known.empty() ? "there are none" : known) + ")");
}

// ---- JSON ----------------------------------------------------------------------

std::string PlaceOf(std::string_view text, size_t byte) {
  const std::string_view before = text.substr(0, byte == 0 ? 0 : byte - 1);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t start = before.rfind('\n');
  const size_t column = before.size() - (start == std::string_view::npos ? 0 : start + 1) + 1;
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

// The parser's own text quotes what it read, which may be a secret.
Result<Json> ParseJson(std::string_view text) {
  std::vector<std::set<std::string>> open;
  std::string twice;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second && twice.empty()) {
      twice = parsed.get<std::string>();
    }
    return true;
  };
  try {
    Json json = Json::parse(text, watch);
    if (!twice.empty()) return Error(Wrong(twice, "it is there twice in one object; keep one"));
    return json;
  } catch (const Json::parse_error& e) {
    return Error(EINVAL, "it is no JSON, from " + PlaceOf(text, e.byte) +
                             " on; look there for a missing quote, a missing or last comma, or a comment");
  } catch (const Json::out_of_range&) {
    return Error(EINVAL, "it holds a number that is too large for any member; look for one with an exponent");
  }
}

}  // namespace

Result<ClusterConfig> ParseClusterConfig(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  ASSIGN_OR_RETURN(Members members, Members::Of(json, ""));
  ClusterConfig out;
  TRY_VOID(ReadFileSystems(members.Take("fileSystems"), &out));
  TRY_VOID(members.Text("defaultFileSystem", &out.default_fs));
  const Json* pods = members.Take("mountPods");
  // First, as a slip in this name would say that it is missing.
  TRY_VOID(members.Finish());
  TRY_VOID(ReadMountPods(pods, &out.mount_pods));
  TRY_VOID(CheckDefault(&out));
  return out;
}

Result<ClusterConfig> ReadClusterConfig(const std::string& path) {
  auto text = os::ReadFile(path, kMaxFileBytes);
  if (!text) return Error(text.error().Annotate("read the configuration"));
  auto config = ParseClusterConfig(*text);
  if (!config) return Error(config.error().Annotate("read the configuration " + path));
  return config;
}

Result<std::string> ClaimOf(std::string_view meta) {
  if (!meta.starts_with(kLevelDb)) return std::string();
  std::string plain;
  TRY_VOID(MetaInto(meta, &plain));
  const std::string_view rest =
      plain.starts_with(kVolumes) ? std::string_view(plain).substr(kVolumes.size()) : std::string_view();
  const size_t slash = rest.find('/');
  const std::string_view claim = rest.substr(0, slash);
  if (slash != std::string_view::npos && IsDnsLabel(claim)) return std::string(claim);
  return Error(EINVAL, "\"" + Shown(plain) + "\" is no directory of a PersistentVolumeClaim; in a mount pod the claim "
                       "CLAIM is mounted at /volumes/CLAIM, so write it like leveldb:/volumes/CLAIM/meta (CLAIM: at most "
                       "63 of a-z, 0-9 and '-')");
}

}  // namespace moorfs::config
