// SPDX-License-Identifier: Apache-2.0
//
// Reads only what the mount manager looks at. What the API always sets must be
// there; what it sets later may be missing; a member of another type than the
// API's is an error, never a default.

#include "common/kube/pod.h"

#include <string_view>

#include "common/kube/answers.h"

namespace moorfs::kube {
namespace {

// Notes the first member that has the wrong type, so that the code below reads
// as a list of members.
class Reader {
 public:
  const Json& Object(const Json& parent, const char* name, const char* path) {
    return Typed(parent, name, path, [](const Json& v) { return v.is_object(); });
  }
  const Json& Array(const Json& parent, const char* name, const char* path) {
    return Typed(parent, name, path, [](const Json& v) { return v.is_array(); });
  }
  std::string String(const Json& parent, const char* name, const char* path) {
    const Json& v = Typed(parent, name, path, [](const Json& j) { return j.is_string(); });
    return v.is_string() ? v.get<std::string>() : "";
  }
  std::string Required(const Json& parent, const char* name, const char* path) {
    std::string v = String(parent, name, path);
    if (v.empty()) Wrong(path, "is missing");
    return v;
  }
  int Integer(const Json& parent, const char* name, const char* path) {
    const Json& v = Typed(parent, name, path, [](const Json& j) { return j.is_number_integer(); });
    return v.is_number_integer() ? v.get<int>() : 0;
  }
  std::map<std::string, std::string> Strings(const Json& parent, const char* name, const char* path) {
    std::map<std::string, std::string> all;
    const Json& object = Object(parent, name, path);
    if (!object.is_object()) return all;
    for (const auto& [key, value] : object.items()) {
      if (!value.is_string()) {
        Wrong(path, "holds something that is no string");
      } else {
        all.emplace(key, value.get<std::string>());
      }
    }
    return all;
  }
  void Wrong(std::string_view path, std::string_view what) {
    if (error_.empty()) error_ = std::string(path) + " " + std::string(what);
  }
  const std::string& error() const { return error_; }

 private:
  template <typename Is>
  const Json& Typed(const Json& parent, const char* name, const char* path, Is is) {
    static const Json null;
    const Json& value = Member(parent, name);
    if (value.is_null() || is(value)) return value;
    Wrong(path, "has the wrong type");
    return null;
  }
  std::string error_;
};

const Json& First(const Json& array) {
  static const Json null;
  return array.is_array() && !array.empty() ? array[0] : null;
}

void ReadContainer(Reader& r, const Json& status, Pod* pod) {
  const Json& container = First(r.Array(status, "containerStatuses", "status.containerStatuses"));
  pod->restarts = r.Integer(container, "restartCount", "status.containerStatuses[0].restartCount");
  const Json& state = r.Object(container, "state", "status.containerStatuses[0].state");
  const Json& waiting = r.Object(state, "waiting", "status.containerStatuses[0].state.waiting");
  pod->waiting_reason = r.String(waiting, "reason", "status.containerStatuses[0].state.waiting.reason");
  pod->waiting_message = r.String(waiting, "message", "status.containerStatuses[0].state.waiting.message");
  pod->container_running = Member(state, "running").is_object();
  const Json* ended = &r.Object(state, "terminated", "status.containerStatuses[0].state.terminated");
  if (!ended->is_object()) {
    const Json& last = r.Object(container, "lastState", "status.containerStatuses[0].lastState");
    ended = &r.Object(last, "terminated", "status.containerStatuses[0].lastState.terminated");
  }
  pod->terminated_reason = r.String(*ended, "reason", "status.containerStatuses[0].….terminated.reason");
  pod->exit_code = r.Integer(*ended, "exitCode", "status.containerStatuses[0].….terminated.exitCode");
}

// The pod's own reason; else what the scheduler says while it waits, or who
// disrupted it when it has failed.
void ReadReason(Reader& r, const Json& status, Pod* pod) {
  pod->reason = r.String(status, "reason", "status.reason");
  pod->message = r.String(status, "message", "status.message");
  const Json& conditions = r.Array(status, "conditions", "status.conditions");
  if (!pod->reason.empty() || !conditions.is_array()) return;
  for (const Json& each : conditions) {
    const std::string type = StringMember(each, "type"), value = StringMember(each, "status");
    const bool unscheduled = pod->phase == "Pending" && type == "PodScheduled" && value == "False";
    const bool disrupted = pod->phase == "Failed" && type == "DisruptionTarget" && value == "True";
    if (!unscheduled && !disrupted) continue;
    pod->reason = StringMember(each, "reason");
    if (pod->message.empty()) pod->message = StringMember(each, "message");
  }
}

bool Holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string With(std::string sentence, const std::string& detail) {
  if (!detail.empty()) sentence += ": " + Quoted(detail);
  return sentence;
}

Status Unschedulable(const Pod& pod, const std::string& who) {
  const std::string& m = pod.message;
  const bool room = Holds(m, "Insufficient") || Holds(m, "Too many pods");
  const bool claim = Holds(m, "persistentvolumeclaim") || Holds(m, "PersistentVolumeClaim") ||
                     Holds(m, "persistent volume") || Holds(m, "volume node affinity");
  if (!room && claim) {
    return Status(EIO, With(who + " is not scheduled, its volume's claim is missing, unbound or bound elsewhere", m) +
                           "; look at the PersistentVolumeClaims in namespace " + pod.ns);
  }
  if (!room && (Holds(m, "untolerated taint") || Holds(m, "were unschedulable"))) {
    return Status(EIO, With(who + " is not scheduled, its node takes no pods", m) +
                           "; uncordon the node, or add the toleration to mount pods in MoorFS's configuration");
  }
  return Status(ENOSPC, With(who + " is not scheduled", m) +
                            "; make room on the node, or lower the mount pods' requests in MoorFS's configuration");
}

Status Failed(const Pod& pod, const std::string& who) {
  if (pod.reason == "Evicted") {
    return Status(ENOSPC, With(who + " was evicted", pod.message) + "; the node is short of memory or disk");
  }
  if (pod.reason.rfind("OutOf", 0) == 0) {
    return Status(ENOSPC, With(who + " was not admitted by its node (" + Quoted(pod.reason) + ")", pod.message) +
                              "; make room on the node, or lower the mount pods' requests");
  }
  if (pod.terminated_reason == "OOMKilled") {
    return Status(ENOSPC, who + " ran out of memory and was killed; raise the mount pods' memory limit");
  }
  if (!pod.reason.empty()) return Status(EIO, With(who + " failed (" + Quoted(pod.reason) + ")", pod.message));
  std::string how = who + " failed";
  if (!pod.terminated_reason.empty()) {
    how += " (" + Quoted(pod.terminated_reason) + ", exit code " + std::to_string(pod.exit_code) + ")";
  }
  return Status(EIO, With(how, pod.message) + "; see kubectl logs -n " + pod.ns + " " + pod.name);
}

Status Waiting(const Pod& pod, const std::string& who) {
  const std::string& why = pod.waiting_reason;
  if (why == "ErrImagePull" || why == "ImagePullBackOff" || why == "InvalidImageName" || why == "ErrImageNeverPull" ||
      why == "ImageInspectError" || why == "RegistryUnavailable" || why == "SignatureValidationFailed") {
    return Status(EIO, With(who + " has no image " + Quoted(pod.image) + " (" + why + ")", pod.waiting_message) +
                           "; make the image available to the node, or correct its name in MoorFS's configuration");
  }
  if (why == "CrashLoopBackOff") {
    const bool memory = pod.terminated_reason == "OOMKilled";
    std::string how = who + " ends again and again";
    if (!pod.terminated_reason.empty()) {
      how += " (" + Quoted(pod.terminated_reason) + ", exit code " + std::to_string(pod.exit_code) + ")";
    }
    how += memory ? "; raise the mount pods' memory limit" : "; see kubectl logs -n " + pod.ns + " " + pod.name;
    return Status(memory ? ENOSPC : EIO, how);
  }
  if (why.empty() || why == "ContainerCreating" || why == "PodInitializing") return {};
  return Status(EIO, With(who + " does not start (" + Quoted(why) + ")", pod.waiting_message));
}

}  // namespace

Result<Pod> ParsePod(const Json& object) {
  if (!object.is_object()) return Error(EPROTO, "read a pod: it is no JSON object");
  Reader r;
  Pod pod;
  const Json& metadata = r.Object(object, "metadata", "metadata");
  pod.name = r.Required(metadata, "name", "metadata.name");
  pod.ns = r.Required(metadata, "namespace", "metadata.namespace");
  pod.uid = r.Required(metadata, "uid", "metadata.uid");
  pod.resource_version = r.Required(metadata, "resourceVersion", "metadata.resourceVersion");
  pod.labels = r.Strings(metadata, "labels", "metadata.labels");
  pod.annotations = r.Strings(metadata, "annotations", "metadata.annotations");
  pod.deleting = !r.String(metadata, "deletionTimestamp", "metadata.deletionTimestamp").empty();
  const Json& spec = r.Object(object, "spec", "spec");
  pod.node = r.String(spec, "nodeName", "spec.nodeName");
  pod.image = r.String(First(r.Array(spec, "containers", "spec.containers")), "image", "spec.containers[0].image");
  const Json& status = r.Object(object, "status", "status");
  pod.phase = r.String(status, "phase", "status.phase");
  if (pod.phase.empty()) pod.phase = "Pending";
  ReadContainer(r, status, &pod);
  ReadReason(r, status, &pod);
  if (!r.error().empty()) return Error(EPROTO, "read pod " + Quoted(pod.name) + ": " + r.error());
  return pod;
}

Status Trouble(const Pod& pod) {
  const std::string who = "mount pod " + pod.ns + "/" + pod.name;
  if (pod.phase == "Failed") return Failed(pod, who);
  if (pod.phase == "Succeeded") {
    return Status(EIO, who + " has ended; see kubectl logs -n " + pod.ns + " " + pod.name);
  }
  if (pod.phase == "Unknown") return Status(EIO, With(who + " is on a node that does not answer", pod.message));
  if (pod.node.empty() && !pod.reason.empty()) return Unschedulable(pod, who);
  return Waiting(pod, who);
}

}  // namespace moorfs::kube
