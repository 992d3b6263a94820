// SPDX-License-Identifier: Apache-2.0
//
// One pass over the three views of the node: records, mount table, clients.
// It decides on a snapshot, takes the lock of what looks wrong, and looks again
// before it acts. What somebody else works on is left to him.

#include <algorithm>
#include <set>

#include "common/log/log.h"
#include "common/mount/core.h"

namespace moorfs::mount {
namespace {

constexpr int kEndMs = 5'000;
constexpr int kStartGraceMs = 5'000;
constexpr int kStackMs = 10'000;

}  // namespace

class Core::Repairer {
 public:
  Repairer(Core& core, bool start) : c_(core), p_(core.p_), start_(start) {}

  RepairResult Run() {
    Do("forget the time before the last boot", &Repairer::ForgetOldBoots);
    Do("adopt clients", &Repairer::AdoptSources);
    Do("repair targets", &Repairer::RepairTargets);
    Do("restore references", &Repairer::RestoreReferences);
    Do("repair clients", &Repairer::RepairClients);
    if (dead_targets_) Do("repair targets", &Repairer::RepairTargets);
    if (start_) Do("repair running containers", &Repairer::RepairCopies);
    Do("remove dead mounts", &Repairer::DiscardStale);
    return std::move(result_);
  }

 private:
  void Do(const char* what, Status (Repairer::*part)()) {
    if (Status s = (this->*part)(); !s.ok()) Failed(what, s);
  }
  void Failed(const std::string& what, const Status& s) {
    LOG_WARNING("mount") << what << ": " << s.ToString();
    result_.again = true;
  }
  void Repaired(std::string sentence) {
    LOG_INFO("mount") << sentence;
    result_.repaired.push_back(std::move(sentence));
  }
  Status Refresh() {
    ASSIGN_OR_RETURN_STATUS(records_, p_.store.List());
    ASSIGN_OR_RETURN_STATUS(table_, p_.targets.Table());
    return Status::Ok();
  }

  // After a reboot no mount and no process of before exists.
  Status ForgetOldBoots() {
    ASSIGN_OR_RETURN_STATUS(records_, p_.store.List());
    for (const ClientRecord& record : records_) {
      if (record.boot_id == p_.boot_id) continue;
      const NameLock lock = NameLock::Try(p_.locks, "client/" + record.mount_key);
      if (!lock) continue;
      RETURN_IF_ERROR(p_.launcher.Discard(record.mount_key, record.generation));
      RETURN_IF_ERROR(p_.store.Delete(record.mount_key, record.version));
      Repaired("forgot client " + record.mount_key + ": it is of the time before the last boot");
    }
    return Status::Ok();
  }

  // A client's mount without a record: its record was lost.
  Status AdoptSources() {
    ASSIGN_OR_RETURN_STATUS(const auto sources, p_.launcher.Sources());
    RETURN_IF_ERROR(Refresh());
    for (const Source& source : sources) {
      if (HasRecord(source.mount_key)) continue;
      const NameLock lock = NameLock::Try(p_.locks, "client/" + source.mount_key);
      if (!lock) continue;
      ASSIGN_OR_RETURN_STATUS(const auto now, p_.store.Get(source.mount_key));
      if (now) continue;
      ClientRecord record;
      record.mount_key = source.mount_key;
      record.generation = source.generation;
      record.phase = RecordPhase::kServing;
      record.boot_id = p_.boot_id;
      record.device = source.device;
      const ClientHealth health = p_.launcher.Probe(record);
      if (health.state == ClientHealth::kStarting) {
        result_.again = true;
        continue;
      }
      if (!health.Lives() && !AnyTargetShows(source.device)) {
        RETURN_IF_ERROR(p_.launcher.Discard(source.mount_key, source.generation));
        Repaired("removed the dead mount of client " + source.mount_key);
        continue;
      }
      auto created = p_.store.Create(record);
      if (!created && created.error().err() != kErrnoConflict) return created.error();
      Repaired("made a record for client " + source.mount_key + ", whose record was lost");
    }
    return Status::Ok();
  }

  Status RepairTargets() {
    RETURN_IF_ERROR(Refresh());
    const std::vector<ClientRecord> snapshot = records_;
    dead_targets_ = false;
    for (const ClientRecord& record : snapshot) {
      for (const auto& [hash, reference] : record.references) {
        const TargetName target = p_.targets.FromRef(reference.target);
        if (LooksRight(record, reference, LayersAt(table_, target.path), records_)) continue;
        if (Status s = RepairTarget(record.mount_key, target); !s.ok()) Failed("repair " + target.path, s);
      }
    }
    return Status::Ok();
  }

  bool LooksRight(const ClientRecord& record, const Reference& reference, const std::vector<os::MountEntry>& layers,
                  const std::vector<ClientRecord>& records) {
    if (layers.empty()) return false;
    const os::MountEntry& top = layers.back();
    const ClientRecord* owner = OwnerOf(top, records);
    return owner != nullptr && owner->mount_key == record.mount_key && IsLive(top, *owner, reference) &&
           IsReadOnly(top) == reference.read_only;
  }

  bool IsLive(const os::MountEntry& mount, const ClientRecord& record, const Reference& reference) {
    if (mount.Device() != record.device || mount.root != "/" + reference.root) {
      // Another directory than the record says: the mount is the fact, and
      // only a deleted one is dead.
      if (mount.Device() != record.device || !ShowsRoot(mount, mount.root.substr(1))) return false;
    }
    return Health(record).Lives();
  }

  Status RepairTarget(const std::string& mount_key, const TargetName& target) {
    const NameLock lock = NameLock::Try(p_.locks, "target/" + target.hash);
    if (!lock) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(const View view, c_.Look(target));
    const ClientRecord* record = nullptr;
    for (const ClientRecord& r : view.records) {
      if (r.mount_key == mount_key) record = &r;
    }
    if (record == nullptr) return Status::Ok();
    const auto it = record->references.find(target.hash);
    if (it == record->references.end() || LooksRight(*record, it->second, view.layers, view.records)) {
      return Status::Ok();
    }
    const bool any_ours = std::any_of(view.layers.begin(), view.layers.end(), [&](const os::MountEntry& layer) {
      const ClientRecord* owner = OwnerOf(layer, view.records);
      return owner != nullptr && owner->mount_key == mount_key;
    });
    if (!any_ours) return DropUnmounted(mount_key, target, view.layers.empty());
    const os::MountEntry& top = view.layers.back();
    const ClientRecord* owner = OwnerOf(top, view.records);
    if (owner == nullptr || owner->mount_key != mount_key) return Status::Ok();  // covered by somebody else
    if (IsLive(top, *owner, it->second)) {
      RETURN_IF_ERROR(p_.targets.SetReadOnly(target, top, it->second.read_only));
      Repaired("made " + target.path + (it->second.read_only ? " read-only" : " writable") + " as its reference says");
      return Status::Ok();
    }
    dead_targets_ = true;
    if (record->phase != RecordPhase::kServing || !Health(*record).Usable()) {
      result_.again = true;
      return Status::Ok();
    }
    c_.Step("generation-4");
    RETURN_IF_ERROR(c_.Stack(target, *record, it->second, 0, Deadline::In(kStackMs)));
    Repaired("mounted " + target.path + " again over its dead mount");
    return Status::Ok();
  }

  Status DropUnmounted(const std::string& mount_key, const TargetName& target, bool remove_directory) {
    if (p_.targets.BindPending(mount_key)) {
      result_.again = true;
      return Status::Ok();
    }
    if (remove_directory) {
      if (Status s = p_.targets.RemoveDirectory(target); !s.ok()) {
        LOG_WARNING("mount") << s.ToString();
      }
    }
    RETURN_IF_ERROR(c_.DropReference(mount_key, target.hash));
    Repaired("dropped the reference of " + target.path + ": nothing of ours is mounted there");
    return Status::Ok();
  }

  Status RestoreReferences() {
    RETURN_IF_ERROR(Refresh());
    std::set<std::string> known;
    for (const ClientRecord& record : records_) {
      for (const auto& [hash, reference] : record.references) known.insert(record.mount_key + "/" + hash);
    }
    for (const os::MountEntry& mount : table_) {
      const ClientRecord* owner = OwnerOf(mount, records_);
      if (owner == nullptr) continue;
      const std::string ref = p_.targets.RefOfMount(mount);
      if (ref.empty()) continue;
      const TargetName target = p_.targets.FromRef(ref);
      if (!known.insert(owner->mount_key + "/" + target.hash).second) continue;
      if (Status s = RestoreReference(owner->mount_key, target); !s.ok()) Failed("restore " + target.path, s);
    }
    return Status::Ok();
  }

  Status RestoreReference(const std::string& mount_key, const TargetName& target) {
    const NameLock lock = NameLock::Try(p_.locks, "target/" + target.hash);
    const NameLock client = NameLock::Try(p_.locks, "client/" + mount_key);
    if (!lock || !client) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(const View view, c_.Look(target));
    for (const os::MountEntry& layer : view.layers) {
      const ClientRecord* owner = OwnerOf(layer, view.records);
      if (owner == nullptr || owner->mount_key != mount_key) continue;
      const std::string root = layer.root.substr(1, layer.root.find("//deleted") - 1);
      const Reference reference{target.ref, "", root, IsReadOnly(layer)};
      auto written = c_.Mutate(mount_key, [&](ClientRecord& r) {
        if (!r.references.try_emplace(target.hash, reference).second) return false;
        if (r.phase == RecordPhase::kEnding) r.phase = RecordPhase::kServing;
        return true;
      });
      if (!written) return written.error();
      Repaired("gave " + target.path + " its reference back: our mount is there");
      return Status::Ok();
    }
    return Status::Ok();
  }

  Status RepairClients() {
    RETURN_IF_ERROR(Refresh());
    const std::vector<ClientRecord> snapshot = records_;
    for (const ClientRecord& record : snapshot) {
      const ClientHealth health = Health(record);
      if (record.phase == RecordPhase::kServing && !record.references.empty() && health.Lives()) continue;
      // Without a deadline the start of an agent would hang on its clients.
      if (!start_) {
        result_.again = true;
        continue;
      }
      Status s = record.references.empty() ? EndClient(record) : StartClient(record, health);
      health_.erase(record.mount_key);
      if (!s.ok()) Failed("repair client " + record.mount_key, s);
    }
    return Status::Ok();
  }

  Status EndClient(const ClientRecord& record) {
    const NameLock lock = NameLock::Try(p_.locks, "client/" + record.mount_key);
    if (!lock) return Status::Ok();
    RETURN_IF_ERROR(c_.EndLocked(record.mount_key, Deadline::In(kEndMs)));
    ASSIGN_OR_RETURN_STATUS(const auto now, p_.store.Get(record.mount_key));
    if (!now) Repaired("ended client " + record.mount_key + ": nothing refers to it");
    return Status::Ok();
  }

  Status StartClient(const ClientRecord& record, const ClientHealth& health) {
    // A publish that is under way starts its client itself; a target that is
    // mounted has nobody else.
    if (!AnyTargetMounted(record)) return Status::Ok();
    if (health.state == ClientHealth::kAborted || record.spec.meta.empty()) {
      result_.again = true;
      return Status::Ok();
    }
    auto now = c_.EnsureClient(record.mount_key, Deadline::In(record.spec.start_timeout_s * 1000 + kStartGraceMs));
    if (!now) return now.error();
    dead_targets_ = true;
    if (now->generation != record.generation || now->phase != record.phase) {
      Repaired("client " + record.mount_key + " serves again, generation " + std::to_string(now->generation));
    }
    return Status::Ok();
  }

  Status RepairCopies() {
    RETURN_IF_ERROR(Refresh());
    for (const ClientRecord& record : records_) {
      if (record.phase != RecordPhase::kServing || record.old_devices.empty() || !Health(record).Usable()) continue;
      Targets::Binding live;
      live.mount_key = record.mount_key;
      live.source = p_.launcher.SourcePath(record);
      ASSIGN_OR_RETURN_STATUS(const int count,
                              p_.targets.RepairCopies(record.old_devices, live, Deadline::In(kStackMs)));
      if (count > 0) {
        Repaired("mounted client " + record.mount_key + " again in running containers, at " + std::to_string(count) +
                 " places");
      }
    }
    return Status::Ok();
  }

  // Sources of earlier generations, and device numbers nobody has any more.
  Status DiscardStale() {
    RETURN_IF_ERROR(Refresh());
    ASSIGN_OR_RETURN_STATUS(const auto sources, p_.launcher.Sources());
    for (const ClientRecord& record : records_) {
      if (record.phase != RecordPhase::kServing) continue;
      const NameLock lock = NameLock::Try(p_.locks, "client/" + record.mount_key);
      if (!lock) continue;
      for (const Source& source : sources) {
        if (source.mount_key != record.mount_key || source.generation >= record.generation) continue;
        RETURN_IF_ERROR(p_.launcher.Discard(source.mount_key, source.generation));
        Repaired("removed the dead mount of client " + source.mount_key + ", generation " +
                 std::to_string(source.generation));
        c_.Step("generation-5");
      }
      RETURN_IF_ERROR(ForgetOldDevices(record));
    }
    return Status::Ok();
  }

  Status ForgetOldDevices(const ClientRecord& record) {
    if (record.old_devices.empty()) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(table_, p_.targets.Table());
    const auto gone = [&](const std::string& device) {
      return std::none_of(table_.begin(), table_.end(), [&](const auto& m) { return m.Device() == device; });
    };
    auto result = c_.Mutate(record.mount_key, [&](ClientRecord& r) { return std::erase_if(r.old_devices, gone) > 0; });
    return result ? Status::Ok() : result.error();
  }

  bool HasRecord(const std::string& mount_key) const {
    return std::any_of(records_.begin(), records_.end(), [&](const auto& r) { return r.mount_key == mount_key; });
  }
  bool AnyTargetShows(const std::string& device) {
    return std::any_of(table_.begin(), table_.end(),
                       [&](const auto& m) { return m.Device() == device && !p_.targets.RefOfMount(m).empty(); });
  }
  bool AnyTargetMounted(const ClientRecord& record) {
    for (const auto& [hash, reference] : record.references) {
      for (const os::MountEntry& layer : LayersAt(table_, p_.targets.FromRef(reference.target).path)) {
        const ClientRecord* owner = OwnerOf(layer, records_);
        if (owner != nullptr && owner->mount_key == record.mount_key) return true;
      }
    }
    return false;
  }

  // Once per pass and generation.
  ClientHealth Health(const ClientRecord& record) {
    const auto it = health_.find(record.mount_key);
    if (it != health_.end() && it->second.first == record.generation) return it->second.second;
    const ClientHealth health = p_.launcher.Probe(record);
    health_[record.mount_key] = {record.generation, health};
    return health;
  }

  Core& c_;
  Parts& p_;
  const bool start_;
  RepairResult result_;
  std::vector<ClientRecord> records_;
  std::vector<os::MountEntry> table_;
  std::map<std::string, std::pair<int, ClientHealth>> health_;
  bool dead_targets_ = false;
};

Core::RepairResult Core::Repair(bool start) { return Repairer(*this, start).Run(); }

}  // namespace moorfs::mount
