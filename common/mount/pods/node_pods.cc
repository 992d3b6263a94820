// SPDX-License-Identifier: Apache-2.0

#include "common/mount/pods/node_pods.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <mutex>
#include <set>

#include "common/log/log.h"

namespace moorfs::mount {
namespace {

using kube::Json;
using kube::Pod;

// kubelet's own changes of a pod's status come all the time.
constexpr int kTries = 20;

// Versions are opaque by contract and numbers in fact; as numbers they tell an
// event that is older than what a change of ours returned.
bool Older(const std::string& a, const std::string& b) {
  uint64_t x = 0, y = 0;
  std::from_chars(a.data(), a.data() + a.size(), x);
  std::from_chars(b.data(), b.data() + b.size(), y);
  return x < y;
}

bool EndedOnPurpose(const Pod& pod) {
  if (!pod.deleting) return false;
  const auto record = RecordOfPod(pod);
  return record && *record && (*record)->phase == RecordPhase::kEnding && (*record)->references.empty();
}

class Pods final : public NodePods {
 public:
  Pods(kube::Api& api, Config config)
      : api_(api), config_(std::move(config)), collection_(kube::PodsOf(config_.pods.ns)) {}
  // The watch's thread ends before what it fills.
  ~Pods() override { watch_.reset(); }

  void Begin() {
    watch_ = api_.StartWatch(collection_, PodSelector(config_.node),
                             {[this](const std::vector<Json>& all) { OnSynced(all); },
                              [this](const kube::Event& event) { OnEvent(event); }});
  }

  bool Synced() const override {
    const std::lock_guard lock(mutex_);
    return synced_;
  }

  std::vector<Pod> Of(const std::string& mount_key) const override {
    const std::lock_guard lock(mutex_);
    std::vector<Pod> out;
    if (const auto it = pods_.find(mount_key); it != pods_.end()) {
      for (const auto& [generation, pod] : it->second) out.push_back(pod);
    }
    return out;
  }

  std::optional<Pod> Current(const std::string& mount_key) const override {
    const std::lock_guard lock(mutex_);
    const auto it = pods_.find(mount_key);
    if (it == pods_.end()) return std::nullopt;
    for (auto pod = it->second.rbegin(); pod != it->second.rend(); ++pod) {
      if (!ended_.contains(pod->second.uid) && !EndedOnPurpose(pod->second)) return pod->second;
    }
    return std::nullopt;
  }

  std::vector<std::string> MountKeys() const override {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> out;
    for (const auto& [key, pods] : pods_) out.push_back(key);
    return out;
  }

  Result<Pod> Create(const ClientRecord& record, const std::string& image) override {
    const int generation = HighestGeneration(record.mount_key) + 1;
    const std::string what = "make mount pod " + PodName(config_.node, record.mount_key, generation);
    config::MountPodConfig config = config_.pods;
    if (!image.empty()) config.image = image;
    ASSIGN_OR_RETURN(const Json object, BuildPod(record, generation, config_.node, config));
    auto made = api_.Create(collection_, object);
    if (!made && made.error().err() == EEXIST) return TakeOver(record, generation, what);
    if (!made) return Error(made.error().Annotate(what));
    return Remember(*made);
  }

  Status Change(const ClientRecord* from, const ClientRecord& to) override {
    const Annotations after = AnnotationsOf(to);
    for (int i = 0; i < kTries; ++i) {
      const auto pod = Current(to.mount_key);
      if (!pod) return Status(kErrnoConflict, "change the record of client " + to.mount_key + ": its pod is gone");
      const Annotations there = RecordAnnotations(pod->annotations);
      if (there == after) return Status::Ok();  // an attempt whose answer was lost
      if (from != nullptr && there != AnnotationsOf(*from)) return Changed(*pod);
      const Json changes = AnnotationPatch(there, after);
      ASSIGN_OR_RETURN_STATUS(const std::string path, kube::ObjectPath(collection_, pod->name));
      const auto patched = api_.MergePatch(
          path, {{"metadata",
                  {{"uid", pod->uid}, {"resourceVersion", pod->resource_version}, {"annotations", changes}}}});
      if (patched) return RememberStatus(*patched);
      if (patched.error().err() != kErrnoConflict && patched.error().err() != ENOENT) {
        return patched.error().Annotate("change the annotations of pod " + pod->name);
      }
      RETURN_IF_ERROR(Refresh(*pod));
    }
    return Status(kErrnoConflict, "change the record of client " + to.mount_key + ": others change its pod all the time");
  }

  Status End(const ClientRecord& record) override {
    const Annotations expected = AnnotationsOf(record);
    for (int i = 0; i < kTries; ++i) {
      const auto pod = Current(record.mount_key);
      if (!pod) break;
      if (RecordAnnotations(pod->annotations) != expected) return Changed(*pod);
      ASSIGN_OR_RETURN_STATUS(const std::string path, kube::ObjectPath(collection_, pod->name));
      const Status deleted = api_.Delete(path, {.uid = pod->uid, .resource_version = pod->resource_version});
      if (deleted.ok()) {
        const std::lock_guard lock(mutex_);
        ended_.insert(pod->uid);
        break;
      }
      if (deleted.err() != kErrnoConflict) return deleted.Annotate("delete pod " + pod->name);
      RETURN_IF_ERROR(Refresh(*pod));
      if (i + 1 == kTries) return deleted.Annotate("delete pod " + pod->name);
    }
    for (const Pod& other : Of(record.mount_key)) {
      if (other.deleting || IsEnded(other)) continue;
      RETURN_IF_ERROR(Delete(other, -1));
    }
    return Status::Ok();
  }

  Status Delete(const Pod& pod, int grace_s) override {
    ASSIGN_OR_RETURN_STATUS(const std::string path, kube::ObjectPath(collection_, pod.name));
    const Status s = api_.Delete(path, {.uid = pod.uid, .resource_version = "", .grace_s = grace_s});
    // Another pod of that name is not the one that was meant.
    if (s.err() == kErrnoConflict || s.err() == ENOENT) return Status::Ok();
    return s.Annotate("delete pod " + pod.name);
  }

  Status SetServing(const Pod& pod, bool serving, const std::string& why) override {
    ASSIGN_OR_RETURN_STATUS(const std::string path, kube::ObjectPath(collection_, pod.name));
    const Json condition = {{"type", kPodServingGate},
                            {"status", serving ? "True" : "False"},
                            {"reason", serving ? "Serving" : "NotServing"},
                            {"message", why}};
    for (int i = 0; i < kTries; ++i) {
      ASSIGN_OR_RETURN_STATUS(const Json now, api_.Get(path));
      const Json metadata = now.value("metadata", Json::object());
      if (metadata.value("uid", "") != pod.uid) return Status::Ok();
      // kubelet's conditions are in the same list: all of it, as it was read.
      Json conditions = Json::array({condition});
      bool said = false;
      for (const Json& each : now.value("status", Json::object()).value("conditions", Json::array())) {
        if (!each.is_object()) continue;
        if (each.value("type", "") != kPodServingGate) {
          conditions.push_back(each);
        } else {
          said = each.value("status", "") == (serving ? "True" : "False");
        }
      }
      if (said) return Status::Ok();
      const auto patched = api_.MergePatch(
          path + "/status", {{"metadata", {{"resourceVersion", metadata.value("resourceVersion", "")}}},
                             {"status", {{"conditions", conditions}}}});
      if (patched) return RememberStatus(*patched);
      if (patched.error().err() != kErrnoConflict) {
        return patched.error().Annotate("set the readiness of pod " + pod.name);
      }
    }
    return Status(kErrnoConflict, "set the readiness of pod " + pod.name + ": others change it all the time");
  }

 private:
  // Somebody made this generation: an attempt of ours whose answer was lost, or
  // an agent before us.
  Result<Pod> TakeOver(const ClientRecord& record, int generation, const std::string& what) {
    ASSIGN_OR_RETURN(const std::string path,
                     kube::ObjectPath(collection_, PodName(config_.node, record.mount_key, generation)));
    const auto there = api_.Get(path);
    if (!there) return Error(there.error().Annotate(what));
    ASSIGN_OR_RETURN(const Pod pod, Remember(*there));
    if (PodMountKey(pod) == record.mount_key && RecordAnnotations(pod.annotations) == AnnotationsOf(record)) return pod;
    return Error(kErrnoConflict, what + ": there is one with another record");
  }

  Status Changed(const Pod& pod) {
    return Status(kErrnoConflict, "change the record in pod " + pod.name + ": somebody else changed its annotations");
  }

  Status Refresh(const Pod& pod) {
    ASSIGN_OR_RETURN_STATUS(const std::string path, kube::ObjectPath(collection_, pod.name));
    const auto now = api_.Get(path);
    if (now) return RememberStatus(*now);
    if (now.error().err() != ENOENT) return now.error();
    Forget(pod);
    return Status::Ok();
  }

  Status RememberStatus(const Json& object) {
    const auto pod = Remember(object);
    return pod ? Status::Ok() : pod.error();
  }

  Result<Pod> Remember(const Json& object) {
    ASSIGN_OR_RETURN(Pod pod, kube::ParsePod(object));
    Put(pod);
    return pod;
  }

  void Put(const Pod& pod) {
    const int generation = PodGeneration(pod);
    if (generation == 0) return;
    const std::lock_guard lock(mutex_);
    Pod& there = pods_[PodMountKey(pod)][generation];
    // A pod that is gone is not made again by a late answer or event.
    if (gone_.contains(pod.uid)) {
      if (there.uid.empty()) pods_[PodMountKey(pod)].erase(generation);
      return;
    }
    if (there.uid == pod.uid && Older(pod.resource_version, there.resource_version)) return;
    there = pod;
  }

  void Forget(const Pod& pod) {
    const std::lock_guard lock(mutex_);
    ended_.erase(pod.uid);
    gone_.insert(pod.uid);
    const auto it = pods_.find(PodMountKey(pod));
    if (it == pods_.end()) return;
    const auto generation = it->second.find(PodGeneration(pod));
    if (generation != it->second.end() && generation->second.uid == pod.uid) it->second.erase(generation);
    if (it->second.empty()) pods_.erase(it);
  }

  void OnEvent(const kube::Event& event) {
    auto pod = kube::ParsePod(event.object);
    if (!pod) {
      LOG_ERROR("pods") << pod.error().ToString();
      return;
    }
    if (event.type == kube::Event::Type::kGone) {
      Forget(*pod);
    } else {
      Put(*pod);
    }
    config_.on_change();
  }

  void OnSynced(const std::vector<Json>& all) {
    std::vector<Pod> listed;
    std::set<std::string> uids;
    for (const Json& object : all) {
      auto pod = kube::ParsePod(object);
      if (!pod) {
        LOG_ERROR("pods") << pod.error().ToString();
        continue;
      }
      uids.insert(pod->uid);
      listed.push_back(std::move(*pod));
    }
    for (const Pod& pod : Known()) {
      // One that was made after the list was taken is confirmed by a look.
      if (!uids.contains(pod.uid)) lost_.push_back(pod);
    }
    for (const Pod& pod : listed) Put(pod);
    for (const Pod& pod : std::exchange(lost_, {})) {
      if (Status s = Refresh(pod); !s.ok()) {
        LOG_WARNING("pods") << "look whether pod " << pod.name << " is still there: " << s.ToString();
      }
    }
    {
      const std::lock_guard lock(mutex_);
      synced_ = true;
      gone_.clear();
    }
    config_.on_change();
  }

  std::vector<Pod> Known() const {
    const std::lock_guard lock(mutex_);
    std::vector<Pod> out;
    for (const auto& [key, pods] : pods_) {
      for (const auto& [generation, pod] : pods) out.push_back(pod);
    }
    return out;
  }

  bool IsEnded(const Pod& pod) const {
    const std::lock_guard lock(mutex_);
    return ended_.contains(pod.uid);
  }

  int HighestGeneration(const std::string& mount_key) const {
    const std::lock_guard lock(mutex_);
    const auto it = pods_.find(mount_key);
    return it == pods_.end() || it->second.empty() ? 0 : it->second.rbegin()->first;
  }

  kube::Api& api_;
  const Config config_;
  const std::string collection_;
  mutable std::mutex mutex_;
  bool synced_ = false;
  std::map<std::string, std::map<int, Pod>> pods_;  // mount key -> generation
  std::set<std::string> ended_;                     // uids: deleted by End(), still terminating
  std::set<std::string> gone_;                      // uids since the last list
  std::vector<Pod> lost_;                           // of the watch's thread
  std::unique_ptr<kube::Api::Watch> watch_;
};

}  // namespace

std::unique_ptr<NodePods> NodePods::Start(kube::Api& api, Config config) {
  auto pods = std::make_unique<Pods>(api, std::move(config));
  pods->Begin();
  return pods;
}

}  // namespace moorfs::mount
