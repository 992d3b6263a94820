// SPDX-License-Identifier: Apache-2.0

#include "test/support/fake_kube_api.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <stdexcept>
#include <thread>

namespace moorfs::test {
namespace {

using Json = kube::Json;

// The API server's own bound on all annotations of an object.
constexpr size_t kMaxAnnotationBytes = 256 << 10;

std::string Now() {
  const time_t now = time(nullptr);
  char text[32];
  tm parts;
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
  return text;
}

std::string CollectionOf(const std::string& path) { return path.substr(0, path.rfind('/')); }
std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }
bool IsPod(const std::string& path) { return CollectionOf(path).ends_with("/pods"); }

// "…/pods/x/status" is x's status.
std::string WithoutStatus(const std::string& path) {
  constexpr std::string_view kStatus = "/status";
  return path.ends_with(kStatus) ? path.substr(0, path.size() - kStatus.size()) : path;
}

std::string Text(const Json& object, const char* pointer) {
  const Json::json_pointer at(pointer);
  return object.contains(at) && object[at].is_string() ? object[at].get<std::string>() : "";
}

bool IsDnsSubdomain(const std::string& name) {
  const auto fits = [](unsigned char c) { return (std::isalnum(c) && !std::isupper(c)) || c == '-' || c == '.'; };
  return !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), fits) &&
         std::isalnum(static_cast<unsigned char>(name.front())) && std::isalnum(static_cast<unsigned char>(name.back()));
}

bool IsLabelValue(const std::string& value) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '.' || c == '_'; };
  return value.empty() || (value.size() <= 63 && std::all_of(value.begin(), value.end(), fits) &&
                           std::isalnum(static_cast<unsigned char>(value.front())) &&
                           std::isalnum(static_cast<unsigned char>(value.back())));
}

Status Refuse(const std::string& path, const std::string& why) {
  return Status(EINVAL, "change " + path + ": " + why);
}

// What the real one answers with 422.
Status Check(const std::string& path, const Json& object) {
  const Json meta = object.value("metadata", Json::object());
  if (!IsDnsSubdomain(meta.value("name", ""))) return Refuse(path, "metadata.name: Invalid value");
  for (const char* map : {"labels", "annotations"}) {
    size_t bytes = 0;
    const Json entries = meta.value(map, Json::object());
    for (const auto& [key, value] : entries.items()) {
      if (!value.is_string()) return Refuse(path, std::string("metadata.") + map + "." + key + ": must be a string");
      bytes += key.size() + value.get<std::string>().size();
      if (*map == 'l' && !IsLabelValue(value)) {
        return Refuse(path, "metadata.labels: Invalid value: \"" + value.get<std::string>() + "\"");
      }
    }
    if (*map == 'a' && bytes > kMaxAnnotationBytes) {
      return Refuse(path, "metadata.annotations: Too long: may not be more than 262144 bytes");
    }
  }
  return Status::Ok();
}

Status Missing(const std::string& path) { return Status(ENOENT, path + " not found"); }
Status Conflict(const std::string& path) {
  return Status(kErrnoConflict, "change " + path + ": the object has been modified");
}
Status Unreachable() { return Status(EHOSTUNREACH, "reach the Kubernetes API: connection refused"); }

// "a=b,c!=d,e,!f"
bool Matches(const std::string& selector, const Json& object) {
  const Json labels = object.value("metadata", Json::object()).value("labels", Json::object());
  for (size_t begin = 0; begin < selector.size();) {
    const size_t end = std::min(selector.find(',', begin), selector.size());
    std::string term = selector.substr(begin, end - begin);
    begin = end + 1;
    const size_t equals = term.find('=');
    if (equals == std::string::npos) {
      const bool wants = !term.starts_with('!');
      if (labels.contains(wants ? term : term.substr(1)) != wants) return false;
      continue;
    }
    const bool differs = equals > 0 && term[equals - 1] == '!';
    const std::string key = term.substr(0, differs ? equals - 1 : equals);
    const std::string value = term.substr(term.find_first_not_of('=', equals) == std::string::npos
                                              ? term.size()
                                              : term.find_first_not_of('=', equals));
    if ((labels.value(key, "\n") == value) == differs) return false;
  }
  return true;
}

}  // namespace

// One thread for a watch, with a place in the log of changes.
class FakeKubeApi::FakeWatch final : public kube::Api::Watch {
 public:
  FakeWatch(FakeKubeApi& api, std::string collection, std::string selector, WatchCallbacks callbacks)
      : api_(api), prefix_(std::move(collection) + "/"), selector_(std::move(selector)),
        callbacks_(std::move(callbacks)) {
    std::lock_guard lock(api_.mutex_);
    api_.watches_.insert(this);
    thread_ = std::thread([this] { Loop(); });
  }
  ~FakeWatch() override {
    {
      std::lock_guard lock(api_.mutex_);
      stop_ = true;
      api_.changed_.notify_all();
    }
    thread_.join();
    std::lock_guard lock(api_.mutex_);
    api_.watches_.erase(this);
    api_.changed_.notify_all();
  }
  bool Broken() const override {
    std::lock_guard lock(api_.mutex_);
    return !synced_ || !api_.reachable_;
  }

  // Under the API's lock.
  bool UpToDate() const { return synced_ && !busy_ && next_ == api_.log_.size(); }
  void Relist() { synced_ = false; }

 private:
  void Loop() {
    std::unique_lock lock(api_.mutex_);
    while (!stop_) {
      if (!api_.reachable_) {
        synced_ = false;
      } else if (!synced_) {
        List(lock);
        continue;
      } else if (next_ < api_.log_.size() && !api_.hold_events_) {
        Handle(lock);
        continue;
      }
      api_.changed_.wait(lock);
    }
  }
  void List(std::unique_lock<std::mutex>& lock) {
    std::vector<Json> all;
    for (const auto& [path, object] : api_.objects_) {
      if (Fits(path, object)) all.push_back(object);
    }
    next_ = api_.log_.size();
    synced_ = true;
    ++api_.counters_.lists;
    ++api_.counters_.watches;
    Unlocked(lock, [&] {
      if (callbacks_.on_synced) callbacks_.on_synced(all);
    });
  }
  void Handle(std::unique_lock<std::mutex>& lock) {
    const LogEntry entry = api_.log_[next_++];
    const bool was = Fits(entry.path, entry.before), is = Fits(entry.path, entry.after);
    if (!was && !is) {
      api_.changed_.notify_all();
      return;
    }
    // What no longer matches comes as the new one, as from the real server.
    kube::Event event{is ? kube::Event::Type::kSet : kube::Event::Type::kGone,
                      entry.after.is_null() ? entry.before : entry.after};
    Unlocked(lock, [&] {
      if (callbacks_.on_event) callbacks_.on_event(event);
    });
  }
  template <typename Act>
  void Unlocked(std::unique_lock<std::mutex>& lock, Act act) {
    busy_ = true;
    lock.unlock();
    act();
    lock.lock();
    busy_ = false;
    api_.changed_.notify_all();
  }
  bool Fits(const std::string& path, const Json& object) const {
    return !object.is_null() && path.starts_with(prefix_) && path.find('/', prefix_.size()) == std::string::npos &&
           Matches(selector_, object);
  }

  FakeKubeApi& api_;
  const std::string prefix_, selector_;
  const WatchCallbacks callbacks_;
  size_t next_ = 0;
  bool synced_ = false, busy_ = false, stop_ = false;
  std::thread thread_;
};

FakeKubeApi::FakeKubeApi() = default;
FakeKubeApi::~FakeKubeApi() { assert(watches_.empty()); }

// ---- calls ------------------------------------------------------------------

Status FakeKubeApi::Fault(const Call& call, bool done) {
  std::unique_lock lock(mutex_);
  if (!done) calls_.push_back(call);
  if (!done && !reachable_) return Unreachable();
  for (auto rule = rules_.begin(); rule != rules_.end(); ++rule) {
    if (rule->done != done || (!rule->verb.empty() && rule->verb != call.verb) ||
        call.path.find(rule->path_part) == std::string::npos) {
      continue;
    }
    const Status error = rule->error;
    if (--rule->times == 0) rules_.erase(rule);
    return error;
  }
  const Hook hook = done ? after_ : before_;
  lock.unlock();
  return hook ? hook(call) : Status::Ok();
}

template <typename T, typename Act>
T FakeKubeApi::Run(const Call& call, Act act) {
  const auto failed = [&](const Status& error) {
    std::lock_guard lock(mutex_);
    ++counters_.failures;
    if constexpr (std::is_same_v<T, Status>) {
      return error;
    } else {
      return T(Error(error));
    }
  };
  if (const Status error = Fault(call, false); !error.ok()) return failed(error);
  std::unique_lock lock(mutex_);
  ++(call.verb == "get" ? counters_.reads : counters_.writes);
  T result = act();
  lock.unlock();
  bool took_effect;
  if constexpr (std::is_same_v<T, Status>) {
    took_effect = result.ok();
  } else {
    took_effect = result.has_value();
  }
  if (!took_effect) return result;
  if (const Status error = Fault(call, true); !error.ok()) return failed(error);
  return result;
}

Result<Json> FakeKubeApi::Get(const std::string& path) {
  return Run<Result<Json>>({"get", path, nullptr}, [&]() -> Result<Json> {
    const auto found = objects_.find(path);
    if (found == objects_.end()) return Error(Missing(path));
    return found->second;
  });
}
Result<Json> FakeKubeApi::Create(const std::string& collection, const Json& object) {
  return Run<Result<Json>>({"create", collection, object}, [&] { return CreateLocked(collection, object); });
}
Result<Json> FakeKubeApi::MergePatch(const std::string& path, const Json& patch) {
  return Run<Result<Json>>({"patch", path, patch}, [&] { return PatchLocked(path, patch); });
}
Status FakeKubeApi::Delete(const std::string& path, const DeleteOptions& options) {
  return Run<Status>({"delete", path, {{"uid", options.uid}, {"grace_s", options.grace_s}}},
                     [&] { return DeleteLocked(path, options); });
}

Result<Json> FakeKubeApi::CreateLocked(const std::string& collection, Json object) {
  Json& meta = object["metadata"];
  if (!meta.contains("name") && meta.contains("generateName")) {
    meta["name"] = meta["generateName"].get<std::string>() + std::to_string(next_uid_);
  }
  const std::string path = collection + "/" + meta.value("name", "");
  TRY_VOID(Check(path, object));
  if (objects_.contains(path)) return Error(EEXIST, "create " + path + ": it exists already");
  // "/api/v1/namespaces/NS/pods"
  constexpr std::string_view kNamespaces = "/namespaces/";
  if (const size_t at = collection.find(kNamespaces); at != std::string::npos) {
    const size_t begin = at + kNamespaces.size();
    const std::string ns = collection.substr(begin, collection.find('/', begin) - begin);
    if (meta.value("namespace", ns) != ns) return Error(Refuse(path, "the namespace of the object is another one"));
    meta["namespace"] = ns;
  }
  for (const char* servers : {"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"}) meta.erase(servers);
  object.erase("status");
  if (IsPod(path)) object["status"] = {{"phase", "Pending"}};
  Store(path, std::move(object));
  return objects_[path];
}

Result<Json> FakeKubeApi::PatchLocked(const std::string& full_path, const Json& patch) {
  const std::string path = WithoutStatus(full_path);
  const auto found = objects_.find(path);
  if (found == objects_.end()) return Error(Missing(path));
  const Json& old = found->second;
  for (const char* precondition : {"/metadata/resourceVersion", "/metadata/uid"}) {
    const std::string wanted = Text(patch, precondition);
    if (!wanted.empty() && wanted != Text(old, precondition)) return Error(Conflict(path));
  }
  Json object = old;
  object.merge_patch(patch);
  // Metadata goes with either; of the rest only its own.
  const bool of_status = full_path != path;
  if (of_status || IsPod(path)) {
    for (const auto& [key, value] : old.items()) {
      if (key != "metadata" && (key == "status") != of_status) object[key] = value;
    }
    if (!of_status && !old.contains("status")) object.erase("status");
  }
  for (const char* servers : {"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp",
                              "deletionGracePeriodSeconds"}) {
    if (old["metadata"].contains(servers)) {
      object["metadata"][servers] = old["metadata"][servers];
    } else {
      object["metadata"].erase(servers);
    }
  }
  if (IsPod(path) && object.value("spec", Json()) != old.value("spec", Json())) {
    return Error(Refuse(path, "spec: Forbidden: pod updates may not change fields"));
  }
  TRY_VOID(Check(path, object));
  if (object == old) return old;
  const bool ends = object["metadata"].contains("deletionTimestamp") &&
                    object["metadata"].value("finalizers", Json::array()).empty() && !IsPod(path);
  Store(path, std::move(object));
  const Json result = objects_[path];
  if (ends) Erase(path);
  return result;
}

Status FakeKubeApi::DeleteLocked(const std::string& path, const DeleteOptions& options) {
  const auto found = objects_.find(path);
  if (found == objects_.end()) return Status::Ok();
  const Json& old = found->second;
  // That one is gone.
  if (!options.uid.empty() && options.uid != Text(old, "/metadata/uid")) return Status::Ok();
  if (!options.resource_version.empty() && options.resource_version != Text(old, "/metadata/resourceVersion")) {
    return Conflict(path);
  }
  const bool stays = !old["metadata"].value("finalizers", Json::array()).empty();
  const bool lingers = IsPod(path) && graceful_pods_ && options.grace_s != 0 && !Text(old, "/spec/nodeName").empty();
  if (!stays && !lingers) {
    Erase(path);
    return Status::Ok();
  }
  if (old["metadata"].contains("deletionTimestamp")) return Status::Ok();
  Json object = old;
  object["metadata"]["deletionTimestamp"] = Now();
  object["metadata"]["deletionGracePeriodSeconds"] =
      options.grace_s >= 0 ? options.grace_s : old.value("spec", Json::object()).value("terminationGracePeriodSeconds", 30);
  Store(path, std::move(object));
  return Status::Ok();
}

void FakeKubeApi::Store(const std::string& path, Json object) {
  Json& current = objects_[path];
  Json& meta = object["metadata"];
  if (current.is_null()) {
    char uid[48];
    std::snprintf(uid, sizeof uid, "00000000-0000-4000-8000-%012llx", static_cast<unsigned long long>(next_uid_++));
    meta["uid"] = uid;
    meta["creationTimestamp"] = Now();
  } else {
    meta["uid"] = current["metadata"]["uid"];
    meta["creationTimestamp"] = current["metadata"]["creationTimestamp"];
  }
  meta["name"] = NameOf(path);
  meta["resourceVersion"] = std::to_string(++version_);
  log_.push_back({path, current, object});
  current = std::move(object);
  changed_.notify_all();
}

void FakeKubeApi::Erase(const std::string& path) {
  const auto found = objects_.find(path);
  Json last = std::move(found->second);
  objects_.erase(found);
  // A deletion is a version of its own.
  last["metadata"]["resourceVersion"] = std::to_string(++version_);
  log_.push_back({path, std::move(last), nullptr});
  changed_.notify_all();
}

std::unique_ptr<kube::Api::Watch> FakeKubeApi::StartWatch(const std::string& collection,
                                                          const std::string& label_selector,
                                                          WatchCallbacks callbacks) {
  return std::make_unique<FakeWatch>(*this, collection, label_selector, std::move(callbacks));
}

kube::Api::Counters FakeKubeApi::GetCounters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

// ---- faults -----------------------------------------------------------------

void FakeKubeApi::SetHooks(Hook before, Hook after) {
  std::lock_guard lock(mutex_);
  before_ = std::move(before);
  after_ = std::move(after);
}
void FakeKubeApi::FailNext(std::string verb, std::string path_part, Status error, int times, bool done) {
  std::lock_guard lock(mutex_);
  rules_.push_back({std::move(verb), std::move(path_part), std::move(error), times, done});
}
void FakeKubeApi::SetReachable(bool reachable) {
  std::lock_guard lock(mutex_);
  reachable_ = reachable;
  for (FakeWatch* watch : watches_) watch->Relist();
  changed_.notify_all();
}
void FakeKubeApi::HoldEvents(bool hold) {
  std::lock_guard lock(mutex_);
  hold_events_ = hold;
  changed_.notify_all();
}
void FakeKubeApi::Relist() {
  std::lock_guard lock(mutex_);
  for (FakeWatch* watch : watches_) watch->Relist();
  changed_.notify_all();
}
bool FakeKubeApi::Settle(int timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] {
    return std::all_of(watches_.begin(), watches_.end(), [](const FakeWatch* watch) { return watch->UpToDate(); });
  });
}
std::vector<FakeKubeApi::Call> FakeKubeApi::Calls(const std::string& verb) const {
  std::lock_guard lock(mutex_);
  std::vector<Call> out;
  for (const Call& call : calls_) {
    if (verb.empty() || call.verb == verb) out.push_back(call);
  }
  return out;
}
void FakeKubeApi::Forget() {
  std::lock_guard lock(mutex_);
  calls_.clear();
  counters_ = {};
}

// ---- somebody else ----------------------------------------------------------

Json FakeKubeApi::Peek(const std::string& path) const {
  std::lock_guard lock(mutex_);
  const auto found = objects_.find(path);
  return found == objects_.end() ? Json() : found->second;
}
std::vector<std::string> FakeKubeApi::Paths(const std::string& collection) const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [path, object] : objects_) {
    if (CollectionOf(path) == collection) out.push_back(path);
  }
  return out;
}
void FakeKubeApi::Put(const std::string& path, Json object) {
  std::lock_guard lock(mutex_);
  Store(path, std::move(object));
}
void FakeKubeApi::Change(const std::string& path, const Json& patch) {
  std::lock_guard lock(mutex_);
  const auto found = objects_.find(path);
  if (found == objects_.end()) throw std::logic_error("FakeKubeApi::Change: there is no " + path);
  Json object = found->second;
  object.merge_patch(patch);
  Store(path, std::move(object));
}
void FakeKubeApi::Remove(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (objects_.contains(path)) Erase(path);
}
bool FakeKubeApi::WaitFor(const std::string& path, const std::function<bool(const Json&)>& is, int timeout_ms) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] {
    const auto found = objects_.find(path);
    return is(found == objects_.end() ? Json() : found->second);
  });
}

// ---- pods -------------------------------------------------------------------

void FakeKubeApi::SetGracefulPods(bool on) {
  std::lock_guard lock(mutex_);
  graceful_pods_ = on;
}
void FakeKubeApi::PlacePod(const std::string& path, const std::string& node) {
  Change(path, {{"spec", {{"nodeName", node}}},
                {"status", {{"conditions", {{{"type", "PodScheduled"}, {"status", "True"}}}}}}});
}
void FakeKubeApi::RunPod(const std::string& path, bool ready) {
  const Json pod = Peek(path);
  const Json containers = pod.value("spec", Json::object()).value("containers", Json::array());
  Json statuses = Json::array();
  for (const Json& container : containers) {
    statuses.push_back({{"name", container.value("name", "")},
                        {"ready", ready},
                        {"restartCount", 0},
                        {"state", {{"running", {{"startedAt", Now()}}}}}});
  }
  Change(path, {{"status", {{"phase", "Running"},
                            {"conditions", {{{"type", "PodScheduled"}, {"status", "True"}},
                                            {{"type", "ContainersReady"}, {"status", ready ? "True" : "False"}}}},
                            {"containerStatuses", statuses}}}});
}
void FakeKubeApi::FailPod(const std::string& path, const std::string& reason, const std::string& message) {
  Change(path, {{"status", {{"phase", "Failed"}, {"reason", reason}, {"message", message}}}});
}
void FakeKubeApi::EndPod(const std::string& path) {
  const Json pod = Peek(path);
  if (pod.is_null()) return;
  if (pod["metadata"].contains("deletionTimestamp")) {
    Remove(path);
  } else {
    FailPod(path, "Ended", "the pod ended");
  }
}

}  // namespace moorfs::test
