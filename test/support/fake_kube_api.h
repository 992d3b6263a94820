// SPDX-License-Identifier: Apache-2.0
//
// A Kubernetes API in memory, for tests of what uses kube::Api. Of the real one
// it has what callers rely on: resourceVersions and uids, preconditions, merge
// patches (a change of nothing is no new version), subresource status, immutable
// pod specs, deletion in two steps, finalizers, watches with label selectors
// whose events come late and in order. Beyond that a test may make calls fail
// before or after they take effect, hold back events, break watches, and change
// objects as somebody else.
//
// Objects are addressed by their path, as in kube::Api. Thread-safe. Watches
// must be destroyed before it.

#pragma once

#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "common/kube/api.h"

namespace moorfs::test {

class FakeKubeApi final : public kube::Api {
 public:
  using Json = kube::Json;
  FakeKubeApi();
  ~FakeKubeApi() override;

  // ---- what the code under test sees ------------------------------------------
  Result<Json> Get(const std::string& path) override;
  Result<Json> Create(const std::string& collection, const Json& object) override;
  Result<Json> MergePatch(const std::string& path, const Json& patch) override;
  Status Delete(const std::string& path, const DeleteOptions& options) override;
  std::unique_ptr<Watch> StartWatch(const std::string& collection, const std::string& label_selector,
                                    WatchCallbacks callbacks) override;
  Counters GetCounters() const override;

  // ---- faults -----------------------------------------------------------------
  struct Call {
    std::string verb;  // "get", "create", "patch", "delete"
    std::string path;  // the collection, for "create"
    Json body;
  };
  // Called, unlocked, for every call: `before` it takes effect (an error: it
  // never does; the hook itself may change objects, to be the faster one) and
  // `after` (an error: it has, and the caller does not know). nullptr: none.
  using Hook = std::function<Status(const Call&)>;
  void SetHooks(Hook before, Hook after);
  // The next `times` calls of that verb ("": any) whose path holds `path_part`
  // fail; with `done` after they took effect.
  void FailNext(std::string verb, std::string path_part, Status error, int times = 1, bool done = false);
  // Every call EHOSTUNREACH, watches broken, until it is back: then they list.
  void SetReachable(bool reachable);
  // Watches fall behind: nothing comes until it is over.
  void HoldEvents(bool hold);
  // Every watch lists again, as after 410: events held back are never seen.
  void Relist();
  // Every watch has seen everything and returned from its callbacks.
  bool Settle(int timeout_ms = 5'000);
  // What was called, in order, with what failed; since the start or Forget().
  std::vector<Call> Calls(const std::string& verb = "") const;
  void Forget();

  // ---- somebody else ----------------------------------------------------------
  // Null: absent.
  Json Peek(const std::string& path) const;
  std::vector<std::string> Paths(const std::string& collection) const;
  // As it is, made or replaced; versions and uid are added. No hook, no check.
  void Put(const std::string& path, Json object);
  // A merge patch on all of it, status included.
  void Change(const std::string& path, const Json& patch);
  // Gone at once, whatever holds it.
  void Remove(const std::string& path);
  // Until the object satisfies `is` (absent: null).
  bool WaitFor(const std::string& path, const std::function<bool(const Json&)>& is, int timeout_ms = 5'000) const;

  // ---- pods -------------------------------------------------------------------
  // On: a pod on a node only gets a deletionTimestamp, until EndPod(); a grace of
  // 0, or a pod without a node, is gone at once, as without.
  void SetGracefulPods(bool on);
  // The scheduler, the kubelet.
  void PlacePod(const std::string& path, const std::string& node);
  void RunPod(const std::string& path, bool ready = true);
  void FailPod(const std::string& path, const std::string& reason, const std::string& message);
  // Ended: gone when it is being deleted, else Failed.
  void EndPod(const std::string& path);

 private:
  struct Rule {
    std::string verb, path_part;
    Status error;
    int times;
    bool done;
  };
  struct LogEntry {
    std::string path;
    Json before, after;  // null: absent
  };
  class FakeWatch;

  template <typename T, typename Act>
  T Run(const Call& call, Act act);
  Status Fault(const Call& call, bool done);
  Result<Json> CreateLocked(const std::string& collection, Json object);
  Result<Json> PatchLocked(const std::string& path, const Json& patch);
  Status DeleteLocked(const std::string& path, const DeleteOptions& options);
  void Store(const std::string& path, Json object);
  void Erase(const std::string& path);

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::map<std::string, Json> objects_;
  std::vector<LogEntry> log_;
  std::set<FakeWatch*> watches_;
  std::vector<Call> calls_;
  std::list<Rule> rules_;
  Hook before_, after_;
  Counters counters_;
  uint64_t version_ = 1000;
  uint64_t next_uid_ = 1;
  bool reachable_ = true, hold_events_ = false, graceful_pods_ = false;
};

}  // namespace moorfs::test
