// SPDX-License-Identifier: Apache-2.0
//
// Agents and a controller with Leases on a real API server; test/leases/run
// starts it. Every agent has a connection of its own, as on nodes of their own.
//   leases_driver race NODES ROUNDS     all take one volume at once: one gets it
//   leases_driver calls COUNT THREADS   questions to an agent; each gets its own answer
//   leases_driver acquire NODE KEY META
//   leases_driver release NODE KEY
//   leases_driver ask KEY META FALLBACK MS
// In: KUBE_SERVER, KUBE_CA, KUBE_NS, AGENT_TOKEN, CONTROLLER_TOKEN; KUBE_DIRECT,
//     the server without a proxy between.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "common/mount/pods/lease_board.h"
#include "common/mount/pods/volume_leases.h"

namespace moorfs::mount {
namespace {

using kube::Json;
using Clock = std::chrono::steady_clock;

const std::string kKey = "00112233445566778899aabbccddeeff";
const std::string kMeta = "leveldb:/volumes/main/meta";

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::_Exit(1);
}
void Must(bool so, const std::string& what) {
  if (!so) Fail(what);
}
std::string Env(const char* name, const char* otherwise = "") {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}
std::string Ns() { return Env("KUBE_NS", "moorfs-mounts"); }

std::unique_ptr<kube::Api> Connect(const char* token, const char* server = "KUBE_SERVER") {
  auto api = kube::Api::Create({.server = Env(server), .ca_file = Env("KUBE_CA"), .token_file = Env(token)});
  if (!api) Fail(api.error().ToString());
  return std::move(*api);
}

bool IsPassing(const Status& status) {
  return status.err() == EHOSTUNREACH || status.err() == ETIMEDOUT || status.err() == EAGAIN;
}

// An agent on a node: answers with what it was asked, by threads of its own.
class Agent {
 public:
  explicit Agent(const std::string& node, int threads = 0) : api_(Connect("AGENT_TOKEN")) {
    VolumeLeases::Config config{.ns = Ns(), .node = node, .on_ask = nullptr};
    if (threads > 0) {
      config.on_ask = [this](VolumeLeases::Ask ask) {
        std::lock_guard lock(mutex_);
        asks_.push_back(std::move(ask));
        changed_.notify_one();
      };
    }
    leases_ = VolumeLeases::Start(*api_, config);
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  ~Agent() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      changed_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
    leases_.reset();
  }
  VolumeLeases* operator->() { return leases_.get(); }
  uint64_t executed() const { return executed_; }
  kube::Api::Counters counters() const { return api_->GetCounters(); }

 private:
  void Work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || !asks_.empty(); });
      if (stop_) return;
      const VolumeLeases::Ask ask = std::move(asks_.front());
      asks_.pop_front();
      lock.unlock();
      ++executed_;
      // What fails is heard again.
      const Status answered = leases_->Answer(ask.mount_key, ask.id, {{"ok", ask.request}});
      if (!answered.ok()) std::fprintf(stderr, "answer: %s\n", answered.ToString().c_str());
    }
  }
  std::unique_ptr<kube::Api> api_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<VolumeLeases::Ask> asks_;
  bool stop_ = false;
  std::atomic<uint64_t> executed_{0};
  std::vector<std::thread> threads_;
  std::unique_ptr<VolumeLeases> leases_;
};

// Until it is said for certain.
Status Settled(const std::function<Status()>& call) {
  for (int tries = 0; tries < 60; ++tries) {
    const Status status = call();
    if (!IsPassing(status)) return status;
  }
  Fail("no certain answer in 60 tries");
}

std::string HolderNow(kube::Api& direct) {
  const auto lease = direct.Get(kube::LeasesOf(Ns()) + "/" + LeaseName(kKey));
  if (!lease) Fail(lease.error().ToString());
  return (*lease)["spec"].value("holderIdentity", "");
}

int Race(int nodes, int rounds) {
  const auto direct = Connect("AGENT_TOKEN", "KUBE_DIRECT");
  std::vector<std::unique_ptr<Agent>> agents;
  for (int n = 0; n < nodes; ++n) agents.push_back(std::make_unique<Agent>("node-" + std::to_string(n)));
  std::map<int, int> wins;
  for (int round = 0; round < rounds; ++round) {
    std::atomic<int> got{0}, winner{-1};
    std::vector<std::thread> threads;
    for (int n = 0; n < nodes; ++n) {
      threads.emplace_back([&, n] {
        const Status status = Settled([&] { return (*agents[static_cast<size_t>(n)])->Acquire(kKey, kMeta); });
        if (!status.ok() && status.err() != EBUSY) Fail("acquire: " + status.ToString());
        if (!status.ok()) return;
        winner = n;
        ++got;
      });
    }
    for (std::thread& thread : threads) thread.join();
    Must(got == 1, std::to_string(got) + " holders in round " + std::to_string(round));
    Must(HolderNow(*direct) == "node-" + std::to_string(winner), "the lease names another node than the winner");
    ++wins[winner];
    const Status released = Settled([&] { return (*agents[static_cast<size_t>(winner)])->Release(kKey); });
    if (!released.ok()) Fail("release: " + released.ToString());
  }
  std::printf("%d rounds of %d nodes: one holder each; wins", rounds, nodes);
  for (const auto& [node, count] : wins) std::printf(" %d", count);
  std::printf("\n");
  return 0;
}

int Calls(int count, int threads) {
  Agent agent("node-0", 4);
  const Status held = Settled([&] { return agent->Acquire(kKey, kMeta); });
  if (!held.ok()) Fail(held.ToString());
  const auto api = Connect("CONTROLLER_TOKEN");
  auto caller = LeaseCaller::Start(*api, {.ns = Ns(), .fallback_node = "node-0"});
  if (!caller) Fail(caller.error().ToString());
  std::atomic<int> next{0}, answered{0}, failed{0};
  std::mutex mutex;
  std::vector<double> times;
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&] {
      for (int i = next++; i < count; i = next++) {
        const auto start = Clock::now();
        const auto answer = (*caller)->Call(kKey, kMeta, {{"cmd", "volume-show"}, {"n", i}}, 30'000);
        const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
        if (!answer && !IsPassing(answer.error())) Fail("call: " + answer.error().ToString());
        if (answer && (*answer)["n"] != i) Fail("an answer to another question");
        ++(answer ? answered : failed);
        std::lock_guard lock(mutex);
        times.push_back(ms);
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  std::sort(times.begin(), times.end());
  const auto c = api->GetCounters(), a = agent.counters();
  std::printf("%d calls by %d threads: %d answered, %d gave up, %llu executed; ms p50 %.1f p99 %.1f max %.1f; "
              "controller's requests %llu reads %llu writes, agent's %llu reads %llu writes\n",
              count, threads, answered.load(), failed.load(), static_cast<unsigned long long>(agent.executed()),
              times[times.size() / 2], times[times.size() * 99 / 100], times.back(),
              static_cast<unsigned long long>(c.reads), static_cast<unsigned long long>(c.writes),
              static_cast<unsigned long long>(a.reads), static_cast<unsigned long long>(a.writes));
  Must(agent.executed() >= static_cast<uint64_t>(answered), "fewer were executed than answered");
  return 0;
}

int Report(const Status& status) {
  std::printf("%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

int Ask(const std::string& key, const std::string& meta, const std::string& fallback, int ms) {
  const auto api = Connect("CONTROLLER_TOKEN");
  auto caller = LeaseCaller::Start(*api, {.ns = Ns(), .fallback_node = fallback});
  if (!caller) Fail(caller.error().ToString());
  const auto answer = (*caller)->Call(key, meta, {{"cmd", "volume-capacity"}}, ms);
  return Report(answer ? Status::Ok() : answer.error());
}

int Main(const std::vector<std::string>& words) {
  const auto is = [&](const char* name, size_t n) { return words.size() == n + 1 && words[0] == name; };
  if (is("race", 2)) return Race(std::stoi(words[1]), std::stoi(words[2]));
  if (is("calls", 2)) return Calls(std::stoi(words[1]), std::stoi(words[2]));
  if (is("acquire", 3)) return Report(Agent(words[1])->Acquire(words[2], words[3]));
  if (is("release", 2)) return Report(Agent(words[1])->Release(words[2]));
  if (is("ask", 4)) return Ask(words[1], words[2], words[3], std::stoi(words[4]));
  std::fprintf(stderr, "see the first lines of leases_driver.cc\n");
  return 2;
}

}  // namespace
}  // namespace moorfs::mount

int main(int argc, char** argv) { return moorfs::mount::Main({argv + 1, argv + argc}); }
