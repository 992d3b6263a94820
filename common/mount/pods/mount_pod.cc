// SPDX-License-Identifier: Apache-2.0

#include "common/mount/pods/mount_pod.h"

#include <charconv>

#include "common/base/units.h"

namespace moorfs::mount {
namespace {

using kube::Json;

constexpr char kClientAnnotation[] = "moorfs.io/client";
constexpr std::string_view kRefPrefix = "moorfs.io/ref-";
constexpr std::string_view kVolPrefix = "moorfs.io/vol-";
constexpr size_t kMaxLabel = 63;
// Beside the client's memory budget: its program, and pages of the files it
// works on that the kernel cannot drop at once.
constexpr uint64_t kMemoryBeside = 256_MiB;

bool IsOurs(std::string_view name) {
  return name == kClientAnnotation || name.starts_with(kRefPrefix) || name.starts_with(kVolPrefix);
}

std::string LabelOf(const kube::Pod& pod, const char* name) {
  const auto it = pod.labels.find(name);
  return it == pod.labels.end() ? std::string() : it->second;
}

Json Resources(const ClientRecord& record, const config::MountPodConfig& config) {
  Json limits = Json::object();
  limits["memory"] = config.memory_limit.empty()
                         ? std::to_string((ClientOptionsOf(record.spec.words).memory_bytes + kMemoryBeside) >> 20) + "Mi"
                         : config.memory_limit;
  if (!config.cpu_limit.empty()) limits["cpu"] = config.cpu_limit;
  Json requests = Json::object();
  if (!config.cpu_request.empty()) requests["cpu"] = config.cpu_request;
  if (!config.memory_request.empty()) requests["memory"] = config.memory_request;
  return {{"requests", requests}, {"limits", limits}};
}

Json Container(const ClientRecord& record, const std::string& claim, const config::MountPodConfig& config) {
  Json mounts = Json::array({{{"name", kPodRunVolume}, {"mountPath", "/run/moorfs"}},
                             {{"name", "tmp"}, {"mountPath", "/tmp"}}});
  if (!claim.empty()) mounts.push_back({{"name", "volume"}, {"mountPath", "/volumes/" + claim}});
  Json container = {{"name", "client"},
                    {"image", config.image},
                    {"args", {"supervise", "--directory", "/run/moorfs"}},
                    {"resources", Resources(record, config)},
                    {"terminationMessagePolicy", "FallbackToLogsOnError"},
                    {"securityContext",
                     {{"allowPrivilegeEscalation", false},
                      {"readOnlyRootFilesystem", true},
                      {"capabilities", {{"drop", {"ALL"}}}}}},
                    {"volumeMounts", mounts}};
  if (!config.image_pull_policy.empty()) container["imagePullPolicy"] = config.image_pull_policy;
  return container;
}

Json Volumes(const std::string& claim) {
  Json volumes = Json::array({{{"name", kPodRunVolume}, {"emptyDir", {{"medium", "Memory"}, {"sizeLimit", "1Mi"}}}},
                              {{"name", "tmp"}, {"emptyDir", {{"sizeLimit", "64Mi"}}}}});
  if (!claim.empty()) volumes.push_back({{"name", "volume"}, {"persistentVolumeClaim", {{"claimName", claim}}}});
  return volumes;
}

Json SecurityContext(const config::MountPodConfig& config) {
  return {{"runAsNonRoot", true},
          {"runAsUser", config.run_as_user},
          {"runAsGroup", config.run_as_user},
          {"fsGroup", config.run_as_user},
          // Else kubelet would walk the whole store at every start.
          {"fsGroupChangePolicy", "OnRootMismatch"},
          {"seccompProfile", {{"type", "RuntimeDefault"}}}};
}

Json Spec(const ClientRecord& record, const std::string& claim, const std::string& node,
          const config::MountPodConfig& config) {
  // Through the scheduler, not around it: a claim that waits for its first
  // consumer is bound by it, and room is counted.
  const Json this_node = {{"key", "metadata.name"}, {"operator", "In"}, {"values", {node}}};
  Json spec = {
      {"affinity",
       {{"nodeAffinity",
         {{"requiredDuringSchedulingIgnoredDuringExecution",
           {{"nodeSelectorTerms", Json::array({{{"matchFields", Json::array({this_node})}}})}}}}}}},
      {"automountServiceAccountToken", false},
      {"enableServiceLinks", false},
      {"restartPolicy", "Always"},
      {"terminationGracePeriodSeconds", 30},
      {"readinessGates", Json::array({{{"conditionType", kPodServingGate}}})},
      {"securityContext", SecurityContext(config)},
      {"containers", Json::array({Container(record, claim, config)})},
      {"volumes", Volumes(claim)},
      {"tolerations", Json::parse(config.tolerations_json, nullptr, false)},
  };
  if (!config.priority_class.empty()) spec["priorityClassName"] = config.priority_class;
  for (const std::string& secret : config.image_pull_secrets) spec["imagePullSecrets"].push_back({{"name", secret}});
  return spec;
}

Json Labels(const ClientRecord& record, int pod_generation, const std::string& node,
            const config::MountPodConfig& config) {
  Json labels(config.labels);
  labels[kPodAppLabel] = kPodApp;
  labels[kPodKeyLabel] = record.mount_key;
  labels[kPodNodeLabel] = NodeLabel(node);
  labels[kPodGenerationLabel] = std::to_string(pod_generation);
  return labels;
}

}  // namespace

config::VolumeOptions ClientOptionsOf(const std::string& words) {
  config::OptionParser parser(config::Trust::kAdministrator, config::kMount);
  if (!parser.SetWords(words).ok()) return {};
  auto options = parser.Finish();
  return options ? std::move(*options) : config::VolumeOptions();
}

std::string PodName(std::string_view node, std::string_view mount_key, int pod_generation) {
  return "moorfs-" + Sha256Hex(node, 10) + "-" + std::string(mount_key.substr(0, 16)) + "-" +
         std::to_string(pod_generation);
}

std::string NodeLabel(std::string_view node) {
  return node.size() <= kMaxLabel ? std::string(node) : Sha256Hex(node, 40);
}

std::string PodSelector(std::string_view node) {
  return std::string(kPodAppLabel) + "=" + kPodApp + "," + kPodNodeLabel + "=" + NodeLabel(node);
}

int PodGeneration(const kube::Pod& pod) {
  const std::string text = LabelOf(pod, kPodGenerationLabel);
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc() && end == text.data() + text.size() && n > 0 ? n : 0;
}

std::string PodMountKey(const kube::Pod& pod) { return LabelOf(pod, kPodKeyLabel); }

Annotations AnnotationsOf(const ClientRecord& record) {
  Json j = Json::parse(EncodeRecord(record), nullptr, false);
  Annotations out;
  for (const auto& [name, value] : j["annotations"].items()) out[name] = value.get<std::string>();
  j.erase("annotations");
  j["version"] = "";  // of the node's copy; the pod has its own
  out[kClientAnnotation] = j.dump(-1, ' ', false, Json::error_handler_t::replace);
  return out;
}

Annotations RecordAnnotations(const Annotations& all) {
  Annotations out;
  for (const auto& [name, value] : all) {
    if (IsOurs(name)) out.emplace(name, value);
  }
  return out;
}

Result<std::optional<ClientRecord>> RecordOfPod(const kube::Pod& pod) {
  const auto client = pod.annotations.find(kClientAnnotation);
  if (client == pod.annotations.end()) return std::nullopt;
  const std::string what = "read the record of pod " + pod.name;
  Json j = Json::parse(client->second, nullptr, false);
  if (!j.is_object()) return Error(EPROTO, what + ": annotation " + kClientAnnotation + " is no JSON object");
  Json references = Json::object();
  for (const auto& [name, value] : RecordAnnotations(pod.annotations)) {
    if (name != kClientAnnotation) references[name] = value;
  }
  j["annotations"] = std::move(references);
  auto record = DecodeRecord(j.dump(-1, ' ', false, Json::error_handler_t::replace));
  if (!record) return Error(record.error().Annotate(what));
  if (record->mount_key != PodMountKey(pod)) {
    return Error(EPROTO, what + ": it is of client " + record->mount_key + ", but the label says " + PodMountKey(pod));
  }
  return std::optional(std::move(*record));
}

Json AnnotationPatch(const Annotations& from, const Annotations& to) {
  Json patch = Json::object();
  for (const auto& [name, value] : to) {
    const auto it = from.find(name);
    if (it == from.end() || it->second != value) patch[name] = value;
  }
  for (const auto& [name, value] : from) {
    if (!to.contains(name)) patch[name] = nullptr;
  }
  return patch;
}

Result<Json> BuildPod(const ClientRecord& record, int pod_generation, const std::string& node,
                      const config::MountPodConfig& config) {
  ASSIGN_OR_RETURN(const std::string claim, config::ClaimOf(record.spec.meta));
  Json annotations(config.annotations);
  // Bare pods stop a drain and an autoscaler unless they say otherwise.
  annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] = "true";
  annotations["sidecar.istio.io/inject"] = "false";
  annotations["linkerd.io/inject"] = "disabled";
  for (const auto& [name, value] : AnnotationsOf(record)) annotations[name] = value;
  return Json{{"apiVersion", "v1"},
              {"kind", "Pod"},
              {"metadata",
               {{"name", PodName(node, record.mount_key, pod_generation)},
                {"namespace", config.ns},
                {"labels", Labels(record, pod_generation, node, config)},
                {"annotations", annotations}}},
              {"spec", Spec(record, claim, node, config)}};
}

}  // namespace moorfs::mount
