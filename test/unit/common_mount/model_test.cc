// SPDX-License-Identifier: Apache-2.0
//
// Model check of the protocol of references: the code of core.cc and repair.cc
// itself, over a small world that stops it at every call to a record, a client,
// a mount or a lock. Depth first, every choice is tried: who runs next, whether
// the client dies here, whether the agent dies here and a new one begins.
// States that were seen before are not followed again; what a call under way
// holds in its variables is a function of the answers it got, so their hash
// stands for it.
//
// Checked after every step: a client is never ended or thrown away under a live
// target; a publish that says OK has a live mount at that moment; nobody waits
// for ever. Checked when all is quiet and repair has run: references equal
// mounts, every mounted target is served, no client is left without a target.

#include <sys/mount.h>
#include <ucontext.h>

#include <catch2/catch.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <iostream>
#include <random>
#include <set>
#include <sstream>
#include <unordered_set>

#include "common/log/log.h"
#include "common/mount/core.h"

using namespace moorfs;
using namespace moorfs::mount;

namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr char kKey[] = "k";

// Thrown through a call whose agent dies, or whose execution is not followed.
struct Gone {};

struct Bugs {
  bool update_without_version = false;
  bool create_over_another = false;
  bool ending_unseen = false;  // the phase "ending" looks like "serving" to readers
  bool delete_without_version = false;
  bool no_target_locks = false;
};

using Body = std::function<void(Core&)>;
struct Scenario {
  std::string name;
  std::vector<Body> before;       // one after the other, without choices
  std::vector<Body> actors;
  std::vector<Body> after_crash;  // beside the new agent's repair
  int crashes = 0;
  int client_deaths = 0;
  Bugs bugs;
};

struct Client {
  bool mounted = false;
  enum { kGone, kStarting, kServing, kEnding, kDead } state = kGone;
};
struct Layer {
  int generation;
  bool read_only;
};

std::string TextOf(const ClientRecord& r);

struct World {
  std::map<std::string, ClientRecord> records;
  std::map<int, Client> clients;  // by generation
  std::map<std::string, std::vector<Layer>> layers;
  std::set<std::string> directories;
  std::string violation;

  std::string Text() const {
    std::ostringstream out;
    for (const auto& [key, r] : records) out << TextOf(r) << '\n';
    for (const auto& [g, c] : clients) out << g << c.mounted << static_cast<int>(c.state) << ' ';
    for (const auto& [t, l] : layers) {
      out << t << ':';
      for (const Layer& x : l) out << x.generation << x.read_only << ',';
    }
    for (const auto& d : directories) out << d << ' ';
    return out.str();
  }
  bool Serves(int generation) const {
    const auto it = clients.find(generation);
    return it != clients.end() && (it->second.state == Client::kServing || it->second.state == Client::kEnding);
  }
  bool Shown(int generation) const {
    for (const auto& [t, l] : layers) {
      for (const Layer& x : l) {
        if (x.generation == generation) return true;
      }
    }
    return false;
  }
  void Violate(const std::string& what) {
    if (violation.empty()) violation = what;
  }
};

// One execution: fibers over a world, told by `choose` what happens next.
// Cheaper than JSON; for hashes.
std::string TextOf(const ClientRecord& r) {
  std::string out = std::to_string(r.generation) + PhaseName(r.phase) + r.device + "/" + r.spec.meta;
  for (const auto& device : r.old_devices) out += "," + device;
  for (const auto& [hash, ref] : r.references) out += ";" + hash + ref.volume_id + (ref.read_only ? "r" : "w");
  return out;
}

// Making and unmapping stacks would cost more than the calls on them.
class StackPool {
 public:
  static std::unique_ptr<char[]> Take() {
    if (Free().empty()) return std::unique_ptr<char[]>(new char[kStackBytes]);
    auto out = std::move(Free().back());
    Free().pop_back();
    return out;
  }
  static void Give(std::unique_ptr<char[]> stack) { Free().push_back(std::move(stack)); }

 private:
  static std::vector<std::unique_ptr<char[]>>& Free() {
    static std::vector<std::unique_ptr<char[]>> free;
    return free;
  }
};

class Execution final : RecordStore, Launcher, Targets, NameLocks {
 public:
  // Returns the option to take, or -1 to stop here.
  using Choose = std::function<int(size_t hash, int options)>;

  Execution(const Scenario& scenario, Choose choose) : s_(scenario), choose_(std::move(choose)) {}
  ~Execution() { KillFibers(); }

  // True: it ran to its end (or to a violation).
  bool Run() {
    crashes_ = s_.crashes;
    deaths_ = s_.client_deaths;
    for (const Body& body : s_.before) RunAlone(body);
    for (const Body& body : s_.actors) Spawn(body);
    for (;;) {
      if (!world_.violation.empty()) return true;
      const std::vector<std::function<void()>> options = Options();
      if (options.empty()) break;
      int chosen = 0;
      if (options.size() > 1) {
        chosen = choose_(Hash(), static_cast<int>(options.size()));
        if (chosen < 0) return false;
      }
      options[static_cast<size_t>(chosen)]();
    }
    for (const auto& f : fibers_) {
      if (!f->done) world_.Violate("a call waits for ever");
    }
    if (world_.violation.empty()) CheckQuiet();
    return true;
  }
  const World& world() const { return world_; }
  const std::string& trace() const { return trace_; }

  static PublishPlan Plan(const std::string& target, bool read_only) {
    PublishPlan plan;
    plan.target = {"/kubelet/" + target, target, target};
    plan.mount_key = kKey;
    plan.spec = {"leveldb:/v", "", 1};
    plan.reference = {target, "v", "", read_only};
    return plan;
  }
  static Body Publish(const std::string& target, bool read_only = false) {
    return [=](Core& core) {
      auto& self = *current_;
      const auto result = core.Publish(Plan(target, read_only), Deadline::In(1000));
      if (result) self.CheckPublished(target, read_only);
    };
  }
  static Body Unpublish(const std::string& target) {
    return [=](Core& core) {
      [[maybe_unused]] const Status s = core.Unpublish(Plan(target, false).target, Deadline::In(1000));
    };
  }
  static Body Repair() {
    return [](Core& core) { core.Repair(true); };
  }

 private:
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    Body body;
    bool done = false;
    std::string waits_for;  // a lock
    size_t history = 0;
    ~Fiber() { StackPool::Give(std::move(stack)); }
  };

  // ---- scheduling ----------------------------------------------------------
  void Spawn(const Body& body) {
    auto f = std::make_unique<Fiber>();
    f->body = body;
    f->stack = StackPool::Take();
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack.get();
    f->context.uc_stack.ss_size = kStackBytes;
    f->context.uc_link = &main_;
    makecontext(&f->context, reinterpret_cast<void (*)()>(&Execution::Entry), 0);
    fibers_.push_back(std::move(f));
  }
  static void Entry() {
    Execution& self = *current_;
    Fiber& fiber = *self.running_;
    try {
      Core core({self, self, self, self, "boot", nullptr, nullptr});
      if (!self.dying_) fiber.body(core);
    } catch (const Gone&) {
    }
    fiber.done = true;
  }
  void Resume(Fiber& f) {
    current_ = this;
    running_ = &f;
    swapcontext(&main_, &f.context);
    running_ = nullptr;
  }
  // Before every effect: others may run first.
  void Pause() {
    if (alone_) return;
    if (dying_) throw Gone();
    running_->history = running_->history * 31 + 7;  // how far it is
    swapcontext(&running_->context, &main_);
    if (dying_) throw Gone();
  }
  template <typename T>
  T Saw(T value, const std::string& text) {
    if (running_ != nullptr) running_->history = running_->history * 1'000'003 + std::hash<std::string>()(text) + 1;
    return value;
  }
  void RunAlone(const Body& body) {
    alone_ = true;
    current_ = this;
    Core core({*this, *this, *this, *this, "boot", nullptr, nullptr});
    body(core);
    alone_ = false;
  }
  void KillFibers() {
    dying_ = true;
    for (auto& f : fibers_) {
      if (!f->done) Resume(*f);
    }
    fibers_.clear();
    held_.clear();
    dying_ = false;
  }

  std::vector<std::function<void()>> Options() {
    std::vector<std::function<void()>> out;
    bool any = false;
    for (size_t i = 0; i < fibers_.size(); ++i) {
      Fiber* f = fibers_[i].get();
      if (f->done || (!f->waits_for.empty() && held_.count(f->waits_for))) continue;
      any = true;
      out.push_back([this, f, i] {
        trace_ += static_cast<char>('a' + i);
        Resume(*f);
      });
    }
    if (!any) return out;
    if (deaths_ > 0) {
      for (auto& [generation, client] : world_.clients) {
        if (client.state != Client::kServing && client.state != Client::kStarting) continue;
        Client* c = &client;
        out.push_back([this, c] {
          trace_ += '!';
          --deaths_;
          c->state = Client::kDead;
          if (!c->mounted) c->state = Client::kGone;
        });
      }
    }
    if (crashes_ > 0) {
      // What others were doing for the agent goes on or ends with it.
      out.push_back([this] { Crash(/*through=*/true); });
      if (Unfinished()) out.push_back([this] { Crash(/*through=*/false); });
    }
    return out;
  }
  bool Unfinished() const {
    for (const auto& [g, c] : world_.clients) {
      if (c.state == Client::kStarting || c.state == Client::kEnding) return true;
    }
    return false;
  }
  void Crash(bool through) {
    trace_ += through ? 'X' : 'x';
    --crashes_;
    KillFibers();
    for (auto& [g, c] : world_.clients) {
      if (c.state == Client::kStarting) {
        c.state = through ? Client::kServing : Client::kGone;
        c.mounted = through;
      } else if (c.state == Client::kEnding) {
        c.state = through ? Client::kGone : Client::kServing;
        c.mounted = !through;
      }
    }
    Spawn([](Core& core) {
      core.Repair(false);
      core.Repair(true);
    });
    for (const Body& body : s_.after_crash) Spawn(body);
  }
  size_t Hash() const {
    std::string text = world_.Text();
    text += "|" + std::to_string(crashes_) + std::to_string(deaths_);
    for (const auto& lock : held_) text += lock + ";";
    for (const auto& f : fibers_) {
      text += std::to_string(f->history) + (f->done ? "d" : "r") + f->waits_for + ";";
    }
    return std::hash<std::string>()(text);
  }

  // ---- properties ----------------------------------------------------------
  void CheckPublished(const std::string& target, bool read_only) {
    const auto& layers = world_.layers[target];
    if (layers.empty()) return world_.Violate("publish of " + target + " says OK, nothing is mounted");
    // A client may have died a moment ago; the mount must be of the last one.
    if (!world_.Serves(layers.back().generation) && s_.client_deaths == deaths_) {
      return world_.Violate("publish of " + target + " says OK, its mount is dead");
    }
    if (layers.back().read_only != read_only) return world_.Violate("publish of " + target + ": wrong ro flag");
    if (world_.records.empty() || !world_.records.begin()->second.references.count(target)) {
      world_.Violate("publish of " + target + " says OK, without a reference");
    }
  }
  void CheckQuiet() {
    fibers_.clear();
    for (int pass = 0; pass < 4; ++pass) RunAlone(Repair());
    if (!world_.violation.empty()) return;
    std::set<std::string> references, mounted;
    for (const auto& [key, r] : world_.records) {
      for (const auto& [hash, reference] : r.references) references.insert(hash);
      if (r.phase == RecordPhase::kEnding) world_.Violate("a record stays \"ending\"");
    }
    for (const auto& [target, layers] : world_.layers) {
      if (layers.empty()) continue;
      mounted.insert(target);
      if (!world_.Serves(layers.back().generation)) world_.Violate(target + " stays dead");
      if (layers.size() > 2) world_.Violate(target + " has too many layers");
    }
    if (references != mounted) world_.Violate("references differ from mounts");
    int serving = 0;
    for (const auto& [g, c] : world_.clients) {
      serving += world_.Serves(g);
      if (c.mounted && !world_.Serves(g)) world_.Violate("a dead source stays mounted");
    }
    if (serving != (mounted.empty() ? 0 : 1)) world_.Violate(std::to_string(serving) + " clients serve");
    if (mounted.empty() && !world_.records.empty()) world_.Violate("a record is left");
    for (const std::string& d : world_.directories) {
      if (!mounted.count(d)) world_.Violate("a directory is left");
    }
  }

  // ---- records. The content is the version: who acts on the content that is
  // there now acts as if he had just read it. -----------------------------------
  static ClientRecord Versioned(ClientRecord r) {
    r.version.clear();
    r.version = std::to_string(std::hash<std::string>()(TextOf(r)));
    return r;
  }
  ClientRecord Seen(ClientRecord r) const {
    if (s_.bugs.ending_unseen && r.phase == RecordPhase::kEnding) r.phase = RecordPhase::kServing;
    return r;
  }
  Result<std::optional<ClientRecord>> Get(const std::string& key) override {
    Pause();
    const auto it = world_.records.find(key);
    if (it == world_.records.end()) return Saw(std::optional<ClientRecord>(), "none");
    return Saw(std::optional(Seen(it->second)), TextOf(it->second));
  }
  Result<ClientRecord> Create(const ClientRecord& record) override {
    Pause();
    if (world_.records.count(record.mount_key) && !s_.bugs.create_over_another) {
      Saw(0, "conflict");
      return Error(kErrnoConflict, "conflict");
    }
    return Saw(world_.records[record.mount_key] = Versioned(record), "created");
  }
  Result<ClientRecord> Update(const ClientRecord& record) override {
    Pause();
    const auto it = world_.records.find(record.mount_key);
    if (it == world_.records.end() || (it->second.version != record.version && !s_.bugs.update_without_version)) {
      Saw(0, "conflict");
      return Error(kErrnoConflict, "conflict");
    }
    return Saw(it->second = Versioned(record), "updated");
  }
  Status Delete(const std::string& key, const std::string& version) override {
    Pause();
    const auto it = world_.records.find(key);
    if (it == world_.records.end() || (it->second.version != version && !s_.bugs.delete_without_version)) {
      Saw(0, "conflict");
      return Status(kErrnoConflict, "conflict");
    }
    world_.records.erase(it);
    Saw(0, "deleted");
    return Status::Ok();
  }
  Result<std::vector<ClientRecord>> List() override {
    Pause();
    std::vector<ClientRecord> out;
    std::string text;
    for (const auto& [key, r] : world_.records) {
      out.push_back(Seen(r));
      text += TextOf(r);
    }
    return Saw(out, text);
  }

  // ---- clients -------------------------------------------------------------
  static std::string DeviceOf(int generation) { return "0:" + std::to_string(generation); }
  std::string SourcePath(const ClientRecord& record) override {
    return "/state/" + record.mount_key + "/" + std::to_string(record.generation);
  }
  ClientHealth Probe(const ClientRecord& record) override {
    Pause();
    ClientHealth health;
    health.device = record.device;
    const auto it = world_.clients.find(record.generation);
    if (it != world_.clients.end()) {
      health.mounted = it->second.mounted;
      if (health.mounted) health.device = DeviceOf(record.generation);
      if (it->second.state == Client::kStarting) health.state = ClientHealth::kStarting;
      if (world_.Serves(record.generation)) health.state = ClientHealth::kServing;
    }
    return Saw(health, std::to_string(health.state) + std::to_string(health.mounted));
  }
  Result<std::string> Ensure(const ClientRecord& record, Deadline) override {
    Pause();
    const int g = record.generation;
    if (world_.Serves(g)) return Saw(DeviceOf(g), "serves");
    for (const auto& [other, client] : world_.clients) {
      if (world_.Serves(other) || client.state == Client::kStarting) {
        // The volume's lock: a second client cannot start.
        Saw(0, "locked");
        return Error(EBUSY, "the volume is locked");
      }
    }
    world_.clients[g] = {true, Client::kStarting};
    Pause();
    Client& client = world_.clients[g];
    if (client.state != Client::kStarting) {
      client = {};
      Saw(0, "died");
      return Error(EIO, "the client died");
    }
    client.state = Client::kServing;
    return Saw(DeviceOf(g), "started");
  }
  Status End(const ClientRecord& record, Deadline) override {
    Pause();
    Client& client = world_.clients[record.generation];
    if (world_.Serves(record.generation)) {
      if (world_.Shown(record.generation)) world_.Violate("a client is ended under a live target");
      client.state = Client::kEnding;
      Pause();
      if (world_.Shown(record.generation)) world_.Violate("a target was bound to a client that ends");
    }
    world_.clients[record.generation] = {};
    Saw(0, "ended");
    return Status::Ok();
  }
  Status Discard(const std::string&, int generation) override {
    Pause();
    if (world_.Serves(generation)) world_.Violate("a live source is thrown away");
    world_.clients[generation] = {};
    return Status::Ok();
  }
  int NextGeneration(const std::string&) override {
    Pause();
    int highest = 0;
    for (const auto& [g, c] : world_.clients) {
      if (c.mounted || world_.Shown(g)) highest = std::max(highest, g);
    }
    return Saw(highest + 1, std::to_string(highest));
  }
  Result<std::vector<Source>> Sources() override {
    Pause();
    std::vector<Source> out;
    std::string text;
    for (const auto& [g, c] : world_.clients) {
      if (!c.mounted) continue;
      out.push_back({kKey, g, DeviceOf(g)});
      text += DeviceOf(g);
    }
    return Saw(out, text);
  }
  Status PrepareRoot(const ClientRecord&, const std::string&, bool, std::optional<gid_t>, Deadline) override {
    return Status::Ok();
  }
  Result<control::Json> CallClient(const ClientRecord&, const control::Json&, const control::CallOptions&) override {
    return Error(ENOSYS, "the model's clients have no control socket");
  }
  Result<control::LineSocket> ConnectClient(const ClientRecord&, int) override {
    return Error(ENOSYS, "the model's clients have no control socket");
  }

  // ---- targets -------------------------------------------------------------
  Result<TargetName> Name(std::string_view target) override { return FromRef(std::string(target)); }
  TargetName FromRef(const std::string& ref) override { return {"/kubelet/" + ref, ref, ref}; }
  std::string RefOfMount(const os::MountEntry& m) override {
    return m.mountpoint.starts_with("/kubelet/") ? m.mountpoint.substr(9) : "";
  }
  Result<std::vector<os::MountEntry>> Table() override {
    Pause();
    std::vector<os::MountEntry> out;
    std::string text;
    const auto add = [&](int generation, const std::string& where, bool read_only, int id, int parent) {
      os::MountEntry m;
      m.id = id;
      m.parent = parent;
      m.minor = static_cast<uint32_t>(generation);
      m.root = "/";
      m.mountpoint = where;
      m.options = read_only ? "ro" : "rw";
      m.fstype = "fuse.moorfs";
      m.source = "moorfs:v";
      out.push_back(m);
      text += where + m.options + std::to_string(generation);
    };
    for (const auto& [g, c] : world_.clients) {
      if (c.mounted) add(g, "/state/k/" + std::to_string(g), false, 1000 + g, 1);
    }
    int id = 2000;
    for (const auto& [target, layers] : world_.layers) {
      int parent = 1;
      for (const Layer& layer : layers) {
        add(layer.generation, "/kubelet/" + target, layer.read_only, ++id, parent);
        parent = id;
      }
    }
    return Saw(out, text);
  }
  Result<bool> MakeDirectory(const TargetName& target) override {
    Pause();
    const bool made = world_.directories.insert(target.ref).second;
    return Saw(made, std::to_string(made));
  }
  Status RemoveDirectory(const TargetName& target) override {
    Pause();
    if (!world_.layers[target.ref].empty()) {
      Saw(0, "busy");
      return Status(EBUSY, "busy");
    }
    world_.directories.erase(target.ref);
    Saw(0, "removed");
    return Status::Ok();
  }
  Status Bind(const TargetName& target, const Binding& binding, Deadline) override {
    Pause();
    const int generation = std::stoi(binding.source.substr(binding.source.rfind('/') + 1));
    const auto it = world_.clients.find(generation);
    if (it == world_.clients.end() || !it->second.mounted || !world_.directories.count(target.ref)) {
      Saw(0, "no source");
      return Status(EIO, "no source");
    }
    if (it->second.state == Client::kEnding) world_.Violate("a target is bound to a client that ends");
    world_.layers[target.ref].push_back({generation, false});
    Saw(0, "bound");
    if (binding.read_only) {
      Pause();
      auto& layers = world_.layers[target.ref];
      if (!layers.empty()) layers.back().read_only = true;
    }
    return Status::Ok();
  }
  Status SetReadOnly(const TargetName& target, const os::MountEntry&, bool read_only) override {
    Pause();
    auto& layers = world_.layers[target.ref];
    if (!layers.empty()) layers.back().read_only = read_only;
    return Status::Ok();
  }
  Status Pop(const TargetName& target, const os::MountEntry&, Deadline) override {
    Pause();
    auto& layers = world_.layers[target.ref];
    if (!layers.empty()) layers.pop_back();
    return Status::Ok();
  }
  Result<int> RepairCopies(const std::vector<std::string>&, const Binding&, Deadline) override { return 0; }
  bool BindPending(const std::string&) override { return false; }

  // ---- locks ---------------------------------------------------------------
  bool Unlocked(const std::string& name) const {
    return s_.bugs.no_target_locks && name.starts_with("target/");
  }
  bool TryLock(const std::string& name) override {
    Pause();
    const bool got = Unlocked(name) || held_.insert(name).second;
    return Saw(got, std::to_string(got));
  }
  bool Lock(const std::string& name, Deadline) override {
    if (Unlocked(name)) return true;
    if (alone_) return held_.insert(name).second;
    running_->waits_for = name;
    Pause();
    running_->waits_for.clear();
    held_.insert(name);
    return true;
  }
  void Unlock(const std::string& name) override { held_.erase(name); }

  const Scenario& s_;
  const Choose choose_;
  World world_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::set<std::string> held_;
  std::string trace_;
  ucontext_t main_;
  Fiber* running_ = nullptr;
  bool dying_ = false;
  bool alone_ = false;
  int crashes_ = 0, deaths_ = 0;
  static Execution* current_;
};
Execution* Execution::current_ = nullptr;

struct Outcome {
  size_t states = 0, executions = 0, sampled = 0;
  bool complete = true;
  std::string violation, trace;
};

// What the depth-first search did not get to is at least sampled.
void Sample(const Scenario& scenario, size_t executions, Outcome* out) {
  std::mt19937 random(1);
  for (size_t i = 0; i < executions && out->violation.empty(); ++i) {
    Execution execution(scenario, [&](size_t, int options) {
      return static_cast<int>(random() % static_cast<unsigned>(options));
    });
    execution.Run();
    ++out->sampled;
    out->violation = execution.world().violation;
    out->trace = execution.trace();
  }
}

Outcome Explore(const Scenario& scenario, size_t max_states) {
  struct Choice {
    int chosen, count;
  };
  Outcome out;
  std::vector<Choice> path;
  std::unordered_set<size_t> seen;
  for (;;) {
    size_t depth = 0;
    Execution execution(scenario, [&](size_t hash, int options) {
      if (depth == path.size()) {
        if (seen.size() >= max_states) {
          out.complete = false;
          return -1;
        }
        if (!seen.insert(hash).second) return -1;
        path.push_back({0, options});
      }
      return path[depth++].chosen;
    });
    execution.Run();
    ++out.executions;
    if (!execution.world().violation.empty()) {
      out.violation = execution.world().violation;
      out.trace = execution.trace();
      break;
    }
    path.resize(depth);
    while (!path.empty() && path.back().chosen + 1 == path.back().count) path.pop_back();
    if (path.empty()) break;
    ++path.back().chosen;
  }
  out.states = seen.size();
  if (!out.complete && out.violation.empty()) Sample(scenario, max_states / 8, &out);
  std::cout << "model check: " << scenario.name << ": " << out.states << " states, " << out.executions
            << " executions" << (!out.violation.empty() ? ": " + out.violation + " after " + out.trace
                : out.complete        ? ", complete"
                                      : ", bounded, and " + std::to_string(out.sampled) + " at random") << std::endl;
  return out;
}

using E = Execution;

std::vector<Scenario> Scenarios() {
  return {
      {"two publishers", {}, {E::Publish("A"), E::Publish("B")}, {}, 0, 0, {}},
      {"publisher and last unpublisher", {E::Publish("A")}, {E::Publish("B"), E::Unpublish("A")}, {}, 0, 0, {}},
      {"publisher, unpublisher and repair",
       {E::Publish("A")},
       {E::Publish("B"), E::Unpublish("A"), E::Repair()},
       {}, 0, 0, {}},
      {"two unpublishers and repair",
       {E::Publish("A"), E::Publish("B")},
       {E::Unpublish("A"), E::Unpublish("B"), E::Repair()},
       {}, 0, 0, {}},
      {"one target, published and unpublished at once, and repair",
       {},
       {E::Publish("A", true), E::Unpublish("A"), E::Repair()},
       {}, 0, 0, {}},
      {"the agent dies under a publish", {}, {E::Publish("A", true)}, {E::Publish("A", true)}, 2, 0, {}},
      {"the agent dies under an unpublish", {E::Publish("A")}, {E::Unpublish("A")}, {E::Unpublish("A")}, 2, 0, {}},
      {"the agent dies under publish and last unpublish",
       {E::Publish("A")},
       {E::Publish("B"), E::Unpublish("A")},
       {E::Unpublish("A")},
       1, 0, {}},
      {"the client dies under a publish", {E::Publish("A")}, {E::Publish("B"), E::Repair()}, {}, 0, 1, {}},
      {"the client dies under unpublish and publish",
       {E::Publish("A")},
       {E::Publish("A"), E::Unpublish("A")},
       {}, 0, 1, {}},
      {"agent and client die", {E::Publish("A")}, {E::Publish("B")}, {E::Publish("B")}, 1, 1, {}},
  };
}

// $MOORFS_MODEL_STATES: states per scenario.
size_t MaxStates() {
  const char* wanted = std::getenv("MOORFS_MODEL_STATES");
  return wanted ? std::strtoul(wanted, nullptr, 10) : 10'000;
}

}  // namespace

TEST_CASE("every interleaving of publish, unpublish, repair and deaths keeps references and mounts equal") {
  log::SetLevel(log::Level::kError);
  size_t states = 0;
  for (const Scenario& scenario : Scenarios()) {
    const Outcome out = Explore(scenario, MaxStates());
    INFO(scenario.name << ": " << out.violation << " after " << out.trace);
    CHECK(out.violation.empty());
    states += out.states;
  }
  std::cout << "model check: " << states << " states in all" << std::endl;
}

TEST_CASE("the model check finds planted bugs") {
  log::SetLevel(log::Level::kError);
  const auto finds = [](Scenario scenario, Bugs bugs, const char* what) {
    scenario.bugs = bugs;
    scenario.name += std::string(", planted: ") + what;
    return !Explore(scenario, MaxStates()).violation.empty();
  };
  const Scenario two = {"two publishers", {}, {E::Publish("A"), E::Publish("B")}, {}, 0, 0, {}};
  const Scenario last = {"publisher and last unpublisher", {E::Publish("A")},
                         {E::Publish("B"), E::Unpublish("A")}, {}, 0, 0, {}};
  const Scenario same = {"one target twice", {}, {E::Publish("A"), E::Unpublish("A")}, {}, 0, 0, {}};
  CHECK(finds(last, {.update_without_version = true}, "update without version"));
  CHECK(finds(two, {.create_over_another = true}, "create over another"));
  CHECK(finds(last, {.ending_unseen = true, .delete_without_version = true}, "delete without version or phase"));
  CHECK(finds(same, {.no_target_locks = true}, "no target locks"));
}
