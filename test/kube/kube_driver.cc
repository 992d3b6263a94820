// SPDX-License-Identifier: Apache-2.0
//
// Uses common/kube against a real API server; test/kube/run starts both.
//   kube_driver calls                 one call of each kind and each precondition
//   kube_driver watch SECONDS OUT     writes what it sees; the state at the end, as lines "name version"
//   kube_driver storm COUNT THREADS   adds up an annotation, watched; the sum must be exact
//   kube_driver events COUNT          one event, COUNT times
//   kube_driver pages COUNT           COUNT pods listed in pages, of which one is refused, and their end
//   kube_driver loop SECONDS          a GET every 50 ms; each must succeed
//   kube_driver cost COUNT            what a GET costs us in time and memory
// In: KUBE_SERVER, KUBE_CA, KUBE_TOKEN, KUBE_NS, KUBE_TIMEOUT_MS, and KUBE_DIRECT,
//     the server without a proxy between; KUBE_CARELESS=1: storm does not look
//     whether a change was made whose answer was lost, and must be found out

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "common/kube/api.h"
#include "common/kube/pod.h"

namespace moorfs::kube {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::_Exit(1);
}
void Must(bool so, const std::string& what) {
  if (!so) Fail(what);
}
template <typename T>
T Must(Result<T> result, const std::string& what) {
  if (!result) Fail(what + ": " + result.error().ToString());
  return std::move(*result);
}
template <typename T>
void MustFail(const Result<T>& result, int err, const std::string& what) {
  if (result) Fail(what + ": it succeeded");
  if (result.error().err() != err) Fail(what + ": not " + ErrnoName(err) + " but " + result.error().ToString());
}
void MustFail(const Status& status, int err, const std::string& what) {
  if (status.err() != err) Fail(what + ": not " + ErrnoName(err) + " but " + status.ToString());
}

std::string Env(const char* name, const char* otherwise = "") {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

std::unique_ptr<Api> Connect(const char* server = "KUBE_SERVER") {
  ApiConfig config{Env(server), Env("KUBE_CA"), Env("KUBE_TOKEN")};
  config.timeout_ms = std::atoi(Env("KUBE_TIMEOUT_MS", "5000").c_str());
  return Must(Api::Create(config), "connect");
}

std::string Pods() { return PodsOf(Env("KUBE_NS", "moorfs-mounts")); }

Json PodNamed(const std::string& name) {
  return {{"apiVersion", "v1"},
          {"kind", "Pod"},
          {"metadata",
           {{"name", name}, {"labels", {{"moorfs.io/node", "node"}}}, {"annotations", {{"count", "0"}}}}},
          {"spec",
           {{"automountServiceAccountToken", false},
            {"restartPolicy", "Never"},
            {"containers", Json::array({{{"name", "main"}, {"image", "moorfs.test/none:1"}}})}}}};
}
std::string VersionOf(const Json& object) { return object["metadata"]["resourceVersion"]; }
std::string UidOf(const Json& object) { return object["metadata"]["uid"]; }
Json Annotate(const std::string& key, const Json& value) { return {{"metadata", {{"annotations", {{key, value}}}}}}; }

void Calls() {
  auto api = Connect();
  const std::string path = Must(ObjectPath(Pods(), "calls"), "path");
  MustFail(api->Get(path), ENOENT, "get what is not there");
  MustFail(api->MergePatch(path, Annotate("a", "b")), ENOENT, "patch what is not there");
  Must(api->Delete(path, {}).ok(), "delete what is not there");
  const Json made = Must(api->Create(Pods(), PodNamed("calls")), "create");
  MustFail(api->Create(Pods(), PodNamed("calls")), EEXIST, "create it again");
  Must(UidOf(Must(api->Get(path), "get")) == UidOf(made), "the object read is the one made");
  MustFail(api->Create(Pods(), PodNamed("NOT_A_NAME")), EINVAL, "create with a bad name");

  Json patch = Annotate("moorfs.io/ref-1", "pods/x");
  patch["metadata"]["resourceVersion"] = VersionOf(made);
  const Json patched = Must(api->MergePatch(path, patch), "patch with the present version");
  Must(patched["metadata"]["annotations"]["moorfs.io/ref-1"] == "pods/x", "the annotation is there");
  MustFail(api->MergePatch(path, patch), kErrnoConflict, "patch with the old version");
  Json other = Annotate("moorfs.io/ref-1", nullptr);
  other["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555";
  MustFail(api->MergePatch(path, other), kErrnoConflict, "patch with another's uid");
  other["metadata"]["uid"] = UidOf(made);
  const Json cleared = Must(api->MergePatch(path, other), "patch with its uid, removing a key");
  Must(!cleared["metadata"]["annotations"].contains("moorfs.io/ref-1"), "the annotation is gone");

  const auto pod = Must(ParsePod(cleared), "parse");
  Must(pod.name == "calls" && pod.phase == "Pending" && pod.image == "moorfs.test/none:1" && Trouble(pod).ok(),
       "a young pod has no trouble");
  const auto ready = api->MergePatch(path + "/status", {{"status", {{"phase", "Failed"}, {"reason", "Evicted"}}}});
  const auto failed = Must(ParsePod(Must(ready, "patch the status")), "parse");
  Must(failed.Ended() && Trouble(failed).err() == ENOSPC, "an evicted pod wants room");

  MustFail(api->Delete(path, {.uid = UidOf(made), .resource_version = VersionOf(made)}), kErrnoConflict,
           "delete with the old version");
  Must(api->Delete(path, {.uid = "11111111-2222-3333-4444-555555555555"}).ok(),
       "delete with another's uid: that one is gone");
  Must(UidOf(Must(api->Get(path), "get")) == UidOf(made), "it is still there");
  const std::string version = VersionOf(Must(api->Get(path), "get"));
  Must(api->Delete(path, {.uid = UidOf(made), .resource_version = version, .grace_s = 0}).ok(), "delete it");
  MustFail(api->Get(path), ENOENT, "it is gone");
  MustFail(api->Get("/api/v1/nodes"), EPERM, "what the role does not allow");
  const auto c = api->GetCounters();
  Must(c.retries == 0 && c.failures == 0 && c.writes > 8, "nothing was tried twice");
}

// What a watch reports, as a table.
class Seen {
 public:
  explicit Seen(std::FILE* out) : out_(out) {}
  Api::WatchCallbacks Callbacks() {
    return {[this](const std::vector<Json>& all) { Synced(all); }, [this](const Event& e) { Happened(e); }};
  }
  std::map<std::string, Json> Table() {
    std::lock_guard lock(mutex_);
    return table_;
  }
  int syncs() const { return syncs_; }
  int events() const { return events_; }
  int gone() const { return gone_; }

 private:
  void Synced(const std::vector<Json>& all) {
    std::lock_guard lock(mutex_);
    table_.clear();
    for (const Json& each : all) Put(each);
    ++syncs_;
    Say("synced " + std::to_string(all.size()));
  }
  void Happened(const Event& e) {
    std::lock_guard lock(mutex_);
    ++events_;
    const std::string name = e.object["metadata"]["name"];
    if (e.type == Event::Type::kGone) {
      table_.erase(name);
      ++gone_;
      Say("gone " + name);
    } else {
      Put(e.object);
      Say("set " + name);
    }
  }
  void Put(const Json& object) {
    Must(object["kind"] == "Pod" && object["apiVersion"] == "v1", "a watched object names its kind");
    Must(!object["metadata"].contains("managedFields"), "a watched object is slim");
    table_[object["metadata"]["name"]] = object;
  }
  void Say(const std::string& line) {
    if (out_ == nullptr) return;
    std::fprintf(out_, "%s\n", line.c_str());
    std::fflush(out_);
  }

  std::FILE* out_;
  std::mutex mutex_;
  std::map<std::string, Json> table_;
  std::atomic<int> syncs_{0}, events_{0}, gone_{0};
};

void Watch(int seconds, const char* out) {
  auto api = Connect();
  std::FILE* file = std::fopen(out, "w");
  Must(file != nullptr, std::string("open ") + out);
  Seen seen(file);
  auto watch = api->StartWatch(Pods(), "moorfs.io/node=node", seen.Callbacks());
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  bool broken = false;
  // Ends early when its file is removed.
  while (Clock::now() < end && ::access(out, F_OK) == 0) {
    if (watch->Broken() != broken) {
      broken = !broken;
      std::fprintf(file, broken ? "broken\n" : "whole\n");
      std::fflush(file);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const auto before = Clock::now();
  watch.reset();
  Must(Clock::now() - before < std::chrono::seconds(1), "a watch ends within a second");
  for (const auto& [name, object] : seen.Table()) std::printf("%s %s\n", name.c_str(), VersionOf(object).c_str());
  const auto c = api->GetCounters();
  std::fprintf(stderr, "lists %lu watches %lu retries %lu\n", static_cast<unsigned long>(c.lists),
               static_cast<unsigned long>(c.watches), static_cast<unsigned long>(c.retries));
}

// ---- storm ---------------------------------------------------------------------
// Adds one to the annotation `key` under the version that was read. What came of a
// change whose answer was lost is read from the object: each increment leaves the
// ticket of its maker.
class Adder {
 public:
  Adder(Api& api, std::string path, int number) : api_(api), path_(std::move(path)), number_(number) {}

  void Add(int times) {
    for (int i = 0; i < times; ++i) AddOne(i);
  }
  uint64_t conflicts = 0, ambiguous = 0, unavailable = 0;

 private:
  void AddOne(int round) {
    const std::string mine = "t" + std::to_string(number_);
    for (;;) {
      const auto present = api_.Get(path_);
      if (!present) {
        Passing(present.error());
        continue;
      }
      const Json& annotations = (*present)["metadata"]["annotations"];
      // Also after a failure that looked final: our own ticket of this round says that it was made.
      if (!careless_ && annotations.value(mine, "") == std::to_string(round)) {
        ++ambiguous;
        return;
      }
      Json patch = Annotate("count", std::to_string(std::stoi(annotations.value("count", "0")) + 1));
      patch["metadata"]["annotations"][mine] = std::to_string(round);
      patch["metadata"]["resourceVersion"] = VersionOf(*present);
      const auto patched = api_.MergePatch(path_, patch);
      if (patched) return;
      Passing(patched.error());
    }
  }
  void Passing(const Status& status) {
    if (status.err() == kErrnoConflict) {
      ++conflicts;
    } else if (status.err() == EHOSTUNREACH || status.err() == ETIMEDOUT) {
      ++unavailable;
    } else if (status.err() != ESTALE) {  // a 410 for a single object exists only in this test
      Fail("add: " + status.ToString());
    }
  }

  Api& api_;
  const std::string path_;
  const int number_;
  const bool careless_ = !Env("KUBE_CARELESS").empty();
};

// Does the watch end with what a fresh list has?
bool SameAsNow(const std::map<std::string, Json>& seen) {
  const Json list = Must(Connect("KUBE_DIRECT")->Get(Pods()), "list directly");
  std::map<std::string, std::string> now, had;
  for (const Json& each : list["items"]) now[each["metadata"]["name"]] = VersionOf(each);
  for (const auto& [name, object] : seen) had[name] = VersionOf(object);
  return now == had;
}

// Pods come and go beside the counting.
void Churn(Api& api, std::atomic<bool>& end) {
  for (int i = 0; !end; ++i) {
    const std::string path = Must(ObjectPath(Pods(), "churn-" + std::to_string(i % 7)), "path");
    const auto made = api.Create(Pods(), PodNamed("churn-" + std::to_string(i % 7)));
    if (made || made.error().err() == EEXIST) (void)api.Delete(path, {.grace_s = 0});
  }
}

void Storm(int count, int threads) {
  auto api = Connect();
  const std::string path = Must(ObjectPath(Pods(), "storm"), "path");
  for (;;) {
    const auto made = api->Create(Pods(), PodNamed("storm"));
    if (made || made.error().err() == EEXIST) break;
  }
  Seen seen(nullptr);
  auto watch = api->StartWatch(Pods(), "", seen.Callbacks());
  std::vector<std::unique_ptr<Adder>> adders;
  std::vector<std::thread> running;
  std::atomic<bool> end{false};
  std::thread churn([&] { Churn(*api, end); });
  for (int i = 0; i < threads; ++i) {
    adders.push_back(std::make_unique<Adder>(*api, path, i));
    running.emplace_back([adder = adders.back().get(), each = count / threads] { adder->Add(each); });
  }
  for (auto& each : running) each.join();
  end = true;
  churn.join();
  uint64_t conflicts = 0, ambiguous = 0, unavailable = 0;
  for (const auto& each : adders) {
    conflicts += each->conflicts;
    ambiguous += each->ambiguous;
    unavailable += each->unavailable;
  }
  bool same = false;
  for (int i = 0; i < 600 && !same; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    same = SameAsNow(seen.Table());
  }
  Must(same, "the watch ends with what a fresh list has");
  const std::string sum = seen.Table().at("storm")["metadata"]["annotations"]["count"];
  Must(sum == std::to_string(count / threads * threads), "the sum is exact, it is " + sum);
  const auto c = api->GetCounters();
  std::printf("sum %s, conflicts %lu, found made %lu, unavailable %lu, retries %lu, lists %lu, watches %lu, events %d\n",
              sum.c_str(), static_cast<unsigned long>(conflicts), static_cast<unsigned long>(ambiguous),
              static_cast<unsigned long>(unavailable), static_cast<unsigned long>(c.retries),
              static_cast<unsigned long>(c.lists), static_cast<unsigned long>(c.watches), seen.events());
}

// ---- the rest --------------------------------------------------------------------
void Events(int count) {
  auto api = Connect();
  const Json pod = Must(api->Create(Pods(), PodNamed("told")), "create");
  {
    auto sender = EventSender::Start(*api, "moorfs", "node");
    for (int i = 0; i < count; ++i) {
      sender->Send(pod, true, "Repaired", "the client died and was started again");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    sender->Send(pod, false, "Other", "something else");
  }
  const auto c = api->GetCounters();
  Must(c.writes >= 3 && c.writes <= static_cast<uint64_t>(count) + 2, "events are sent");
}

// A list in pages, of which the server refuses to go on with one.
void Pages(int count) {
  auto direct = Connect("KUBE_DIRECT");
  const auto each = [count](const std::function<void(const std::string&)>& what) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([=] {
        for (int i = t; i < count; i += 4) what("page-" + std::to_string(i));
      });
    }
    for (auto& thread : threads) thread.join();
  };
  each([&](const std::string& name) { Must(direct->Create(Pods(), PodNamed(name)), "create"); });
  auto api = Connect();
  Seen seen(nullptr);
  auto watch = api->StartWatch(Pods(), "moorfs.io/node=node", seen.Callbacks());
  for (int i = 0; i < 500 && seen.syncs() == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Must(seen.Table().size() == static_cast<size_t>(count), "the list has every pod, once");
  Must(seen.syncs() == 1 && seen.events() == 0 && api->GetCounters().lists == 2, "one list failed, one is told");
  each([&](const std::string& name) { (void)direct->Delete(*ObjectPath(Pods(), name), {.grace_s = 0}); });
  for (int i = 0; i < 500 && !seen.Table().empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Must(seen.Table().empty(), "the watch sees every pod go, left are " + std::to_string(seen.Table().size()));
  Must(seen.gone() == count, "one end for each pod, there were " + std::to_string(seen.gone()));
}

void Loop(double seconds) {
  auto api = Connect();
  const auto end = Clock::now() + std::chrono::milliseconds(static_cast<int>(seconds * 1000));
  int calls = 0;
  for (; Clock::now() < end; ++calls) {
    Must(api->Get(Pods() + "?limit=1"), "list one");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::printf("%d calls, %lu retries\n", calls, static_cast<unsigned long>(api->GetCounters().retries));
}

struct Memory {
  long pss = 0, dirty = 0;  // kB; the former holds libraries' pages that the kernel may drop
};
Memory MemoryNow() {
  std::ifstream file("/proc/self/smaps_rollup");
  std::string word;
  Memory now;
  while (file >> word) {
    if (word == "Pss:") file >> now.pss;
    if (word == "Private_Dirty:") file >> now.dirty;
  }
  return now;
}
double CpuUs() {
  struct timespec t = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

void Cost(int count) {
  const Memory empty = MemoryNow();
  auto api = Connect();
  const std::string path = Must(ObjectPath(Pods(), "cost"), "path");
  Must(api->Create(Pods(), PodNamed("cost")), "create");
  const Memory one = MemoryNow();
  Seen seen(nullptr);
  auto watch = api->StartWatch(Pods(), "", seen.Callbacks());
  while (seen.syncs() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const Memory watching = MemoryNow();
  const double cpu = CpuUs();
  const auto start = Clock::now();
  for (int i = 0; i < count; ++i) Must(api->Get(path), "get");
  const double wall = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  const Memory end = MemoryNow();
  std::printf("GET %.0f us, of our CPU %.0f us; PSS +%ld kB, +%ld with a watch (dirty +%ld, +%ld, in the end +%ld)\n",
              wall / count, (CpuUs() - cpu) / count, one.pss - empty.pss, watching.pss - empty.pss,
              one.dirty - empty.dirty, watching.dirty - empty.dirty, end.dirty - empty.dirty);
  Must((CpuUs() - cpu) / count < 1000, "a GET costs less than a millisecond of our CPU");
  Must(api->Delete(path, {.grace_s = 0}).ok(), "delete");
}

}  // namespace

int Main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "calls") {
    Calls();
  } else if (command == "watch" && argc == 4) {
    Watch(std::atoi(argv[2]), argv[3]);
  } else if (command == "storm" && argc == 4) {
    Storm(std::atoi(argv[2]), std::atoi(argv[3]));
  } else if (command == "events" && argc == 3) {
    Events(std::atoi(argv[2]));
  } else if (command == "pages" && argc == 3) {
    Pages(std::atoi(argv[2]));
  } else if (command == "loop" && argc == 3) {
    Loop(std::atof(argv[2]));
  } else if (command == "cost" && argc == 3) {
    Cost(std::atoi(argv[2]));
  } else {
    Fail("unknown command, see kube_driver.cc");
  }
  return 0;
}

}  // namespace moorfs::kube

int main(int argc, char** argv) { return moorfs::kube::Main(argc, argv); }
