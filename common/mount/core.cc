// SPDX-License-Identifier: Apache-2.0

#include "common/mount/core.h"

#include <sys/mount.h>

#include <algorithm>

#include "common/log/log.h"
#include "common/mount/source_mounts.h"

namespace moorfs::mount {
namespace {

// For undoing and for ends that a caller's deadline left no time for.
constexpr int kUndoMs = 15'000;

std::string TargetLockName(const TargetName& target) { return "target/" + target.hash; }
std::string ClientLockName(const std::string& mount_key) { return "client/" + mount_key; }

std::string RootWords(const std::string& root) { return root.empty() ? "the whole volume" : "\"" + root + "\""; }

// What differs between what a target shows and what is wanted; empty: nothing.
std::string Difference(const Reference& there, const Reference& wanted) {
  if (!there.volume_id.empty() && !wanted.volume_id.empty() && there.volume_id != wanted.volume_id) {
    return "it shows volume " + there.volume_id + ", not " + wanted.volume_id;
  }
  if (there.root != wanted.root) return "it shows " + RootWords(there.root) + ", not " + RootWords(wanted.root);
  if (there.read_only != wanted.read_only) {
    return there.read_only ? "it is read-only there" : "it is writable there";
  }
  return {};
}

Status Ending(const std::string& mount_key) {
  return Status(EAGAIN, "use client " + mount_key + ": it is ending; ask again");
}

}  // namespace

const ClientRecord* OwnerOf(const os::MountEntry& mount, const std::vector<ClientRecord>& records) {
  if (mount.fstype != kFsType) return nullptr;
  const std::string device = mount.Device();
  for (const ClientRecord& r : records) {
    if (r.device == device) return &r;
    if (std::find(r.old_devices.begin(), r.old_devices.end(), device) != r.old_devices.end()) return &r;
  }
  return nullptr;
}

Result<Core::View> Core::Look(const TargetName& target) {
  View view;
  ASSIGN_OR_RETURN(view.records, p_.store.List());
  ASSIGN_OR_RETURN(view.table, p_.targets.Table());
  view.layers = LayersAt(view.table, target.path);
  for (const os::MountEntry& m : view.table) {
    // A path through somebody's volume would be walked by its server.
    if (m.fstype.starts_with("fuse") && target.path.size() > m.mountpoint.size() &&
        target.path.starts_with(m.mountpoint + "/")) {
      return Error(EINVAL, "target: it lies inside the mount at " + m.mountpoint);
    }
  }
  return view;
}

Result<std::optional<Core::Found>> Core::Find(const TargetName& target) {
  ASSIGN_OR_RETURN(const auto records, p_.store.List());
  for (const ClientRecord& record : records) {
    if (const auto it = record.references.find(target.hash); it != record.references.end()) {
      return Found{record, it->second};
    }
  }
  return std::nullopt;
}

Result<std::optional<ClientRecord>> Core::Mutate(const std::string& mount_key,
                                                 const std::function<bool(ClientRecord&)>& change) {
  for (;;) {
    ASSIGN_OR_RETURN(auto record, p_.store.Get(mount_key));
    if (!record || !change(*record)) return record;
    auto written = p_.store.Update(*record);
    if (written) return std::move(*written);
    if (written.error().err() != kErrnoConflict) return Error(written.error());
  }
}

// ---- publish -------------------------------------------------------------------

Result<PublishOutcome> Core::Publish(const PublishPlan& plan, Deadline deadline) {
  const NameLock lock = NameLock::Try(p_.locks, TargetLockName(plan.target));
  if (!lock) return Error(EAGAIN, "publish " + plan.target.path + ": another call works on this target");
  Step("publish-1");
  Step("publish-2");
  auto before = CheckTarget(plan, deadline);
  if (!before) return Error(before.error().Annotate("publish " + plan.target.path));
  if (before->done) return *before->done;
  Step("publish-3");
  bool made_directory = false;
  auto outcome = Establish(plan, deadline, &made_directory);
  if (outcome) return outcome;
  if (outcome.error().err() == ETIMEDOUT && p_.targets.BindPending(plan.mount_key)) {
    // The bind may still happen. Its reference stays; the next repair sees
    // what became of it.
    return Error(outcome.error().Annotate("publish " + plan.target.path));
  }
  Undo(plan, before->layers, made_directory);
  return Error(outcome.error().Annotate("publish " + plan.target.path));
}

Result<Core::Before> Core::CheckTarget(const PublishPlan& plan, Deadline deadline) {
  ASSIGN_OR_RETURN(const View view, Look(plan.target));
  Before before;
  before.layers = view.layers.size();
  if (view.layers.empty()) {
    // A predecessor died over a publish of another volume here.
    for (const ClientRecord& record : view.records) {
      if (record.mount_key == plan.mount_key || !record.references.count(plan.target.hash)) continue;
      TRY_VOID(DropReference(record.mount_key, plan.target.hash));
      if (Status s = EndIfUnused(record.mount_key, deadline); !s.ok()) {
        LOG_WARNING("mount") << s.ToString();
      }
    }
    return before;
  }
  const os::MountEntry& top = view.layers.back();
  const ClientRecord* owner = OwnerOf(top, view.records);
  if (owner == nullptr) {
    return Error(EBUSY, top.source + " (" + top.fstype + ") is mounted there and is not ours; unmount it, or use "
                        "another directory");
  }
  if (owner->mount_key != plan.mount_key) {
    return Error(EEXIST, "another volume, or this one with other client options, is mounted there; unpublish it first");
  }
  const auto reference = owner->references.find(plan.target.hash);
  if (reference != owner->references.end()) {
    const std::string difference = Difference(reference->second, plan.reference);
    if (!difference.empty()) return Error(EEXIST, difference + "; unpublish it first");
  }
  const bool live = top.Device() == owner->device && owner->phase != RecordPhase::kStarting &&
                    ShowsRoot(top, plan.reference.root) && p_.launcher.Probe(*owner).Lives();
  if (!live) {
    if (top.Device() == owner->device && top.root != "/" + plan.reference.root && top.root.find("//deleted") ==
        std::string::npos) {
      return Error(EEXIST, "it shows \"" + top.root + "\", not " + RootWords(plan.reference.root) +
                               "; unpublish it first");
    }
    return before;  // a live mount is stacked on it
  }
  if (IsReadOnly(top) != plan.reference.read_only) {
    // With a reference, only the flag is missing: a predecessor died before it.
    if (reference == owner->references.end()) {
      return Error(EEXIST, std::string(IsReadOnly(top) ? "it is read-only" : "it is writable") +
                               " there; unpublish it first");
    }
    TRY_VOID(p_.targets.SetReadOnly(plan.target, top, plan.reference.read_only));
  }
  TRY_VOID(AddReference(plan, deadline));
  before.done = PublishOutcome{top.Device(), /*already=*/true};
  return before;
}

Result<PublishOutcome> Core::Establish(const PublishPlan& plan, Deadline deadline, bool* made_directory) {
  TRY_VOID(AddReference(plan, deadline));
  Step("publish-4");
  ASSIGN_OR_RETURN(const ClientRecord record, EnsureClient(plan.mount_key, deadline));
  Step("publish-5");
  if (!plan.reference.root.empty() || plan.group) {
    TRY_VOID(p_.launcher.PrepareRoot(record, plan.reference.root, plan.create_root, plan.group, deadline));
  }
  Step("publish-6");
  ASSIGN_OR_RETURN(*made_directory, p_.targets.MakeDirectory(plan.target));
  TRY_VOID(Stack(plan.target, record, plan.reference, plan.mount_flags, deadline));
  Step("publish-7");
  TRY_VOID(Verify(plan, record.device));
  Step("publish-8");
  return PublishOutcome{record.device, /*already=*/false};
}

// The bottom layer is what running containers look at: it stays. Above it at
// most one mount, the live one.
Status Core::Stack(const TargetName& target, const ClientRecord& record, const Reference& reference,
                   unsigned long mount_flags, Deadline deadline) {
  for (;;) {
    ASSIGN_OR_RETURN_STATUS(const auto table, p_.targets.Table());
    const auto layers = LayersAt(table, target.path);
    // nosuid and the like are known from the mount that is replaced.
    if (!layers.empty()) mount_flags |= FlagsOf(layers.front()) & ~static_cast<unsigned long>(MS_RDONLY);
    if (layers.size() < 2) break;
    if (layers.back().fstype != kFsType) {
      return Status(EBUSY, layers.back().source + " (" + layers.back().fstype + ") is mounted there and is not ours");
    }
    RETURN_IF_ERROR(p_.targets.Pop(target, layers.back(), deadline));
  }
  Targets::Binding binding;
  binding.mount_key = record.mount_key;
  binding.source = p_.launcher.SourcePath(record);
  binding.root = reference.root;
  binding.read_only = reference.read_only;
  binding.flags = mount_flags;
  return p_.targets.Bind(target, binding, deadline);
}

Status Core::Verify(const PublishPlan& plan, const std::string& device) {
  ASSIGN_OR_RETURN_STATUS(const auto table, p_.targets.Table());
  const auto layers = LayersAt(table, plan.target.path);
  const Status wrong(EIO, "the mount table does not show the volume there; somebody else mounts at the same place");
  if (layers.empty()) return wrong;
  const os::MountEntry& top = layers.back();
  if (top.Device() != device || !ShowsRoot(top, plan.reference.root)) return wrong;
  if (plan.reference.read_only && !IsReadOnly(top)) return wrong;
  return Status::Ok();
}

void Core::Undo(const PublishPlan& plan, size_t layers_before, bool made_directory) {
  const Deadline deadline = Deadline::In(kUndoMs);
  const auto undo = [&]() -> Status {
    ASSIGN_OR_RETURN_STATUS(View view, Look(plan.target));
    while (view.layers.size() > layers_before && OwnerOf(view.layers.back(), view.records) != nullptr) {
      RETURN_IF_ERROR(p_.targets.Pop(plan.target, view.layers.back(), deadline));
      ASSIGN_OR_RETURN_STATUS(view, Look(plan.target));
    }
    for (const os::MountEntry& layer : view.layers) {
      // What lay there before, dead, is still referred to.
      if (OwnerOf(layer, view.records) != nullptr) return Status::Ok();
    }
    if (made_directory && view.layers.empty()) RETURN_IF_ERROR(p_.targets.RemoveDirectory(plan.target));
    RETURN_IF_ERROR(DropReference(plan.mount_key, plan.target.hash));
    return EndIfUnused(plan.mount_key, deadline);
  };
  if (Status s = undo(); !s.ok()) {
    LOG_ERROR("mount") << "undo the publishing of " << plan.target.path << ": " << s.ToString()
                       << "; the next repair goes on with it";
  }
}

// ---- references ----------------------------------------------------------------

Status Core::Enlist(const std::string& mount_key, const ClientSpec& spec,
                    const std::function<bool(ClientRecord&)>& change, Deadline deadline) {
  for (;;) {
    ASSIGN_OR_RETURN_STATUS(const auto there, p_.store.Get(mount_key));
    if (there && there->phase == RecordPhase::kEnding) {
      // Its end holds the client's lock.
      const NameLock lock = NameLock::Wait(p_.locks, ClientLockName(mount_key), deadline);
      if (!lock) return Ending(mount_key);
      ASSIGN_OR_RETURN_STATUS(const auto now, p_.store.Get(mount_key));
      if (now && now->phase == RecordPhase::kEnding) return Ending(mount_key);
      continue;
    }
    Result<ClientRecord> written = tl::unexpected(Status());
    if (!there) {
      ClientRecord record;
      record.mount_key = mount_key;
      record.generation = p_.launcher.NextGeneration(mount_key);
      record.spec = spec;
      record.boot_id = p_.boot_id;
      change(record);
      written = p_.store.Create(record);
    } else {
      ClientRecord record = *there;
      const bool changed = change(record);
      if (!changed && record.spec == spec) return Status::Ok();
      record.spec = spec;  // what is not identity counts from the next client on
      written = p_.store.Update(record);
    }
    if (written) return Status::Ok();
    if (written.error().err() != kErrnoConflict) return written.error();
    if (deadline.LeftMs() == 0) return written.error();
  }
}

Status Core::AddReference(const PublishPlan& plan, Deadline deadline) {
  const auto add = [&](ClientRecord& record) {
    const auto [it, added] = record.references.try_emplace(plan.target.hash, plan.reference);
    if (!added && it->second == plan.reference) return false;
    it->second = plan.reference;
    return true;
  };
  return Enlist(plan.mount_key, plan.spec, add, deadline);
}

Status Core::DropReference(const std::string& mount_key, const std::string& hash) {
  auto result = Mutate(mount_key, [&](ClientRecord& record) { return record.references.erase(hash) > 0; });
  return result ? Status::Ok() : result.error();
}

// ---- clients -------------------------------------------------------------------

Result<ClientRecord> Core::Use(const std::string& mount_key, const ClientSpec& spec, Deadline deadline) {
  ASSIGN_OR_RETURN(const auto there, p_.store.Get(mount_key));
  // What targets asked for is not changed by somebody who only asks.
  const ClientSpec& wanted = there && !there->references.empty() ? there->spec : spec;
  TRY_VOID(Enlist(mount_key, wanted, [](ClientRecord&) { return false; }, deadline));
  return EnsureClient(mount_key, deadline);
}

Result<ClientRecord> Core::EnsureClient(const std::string& mount_key, Deadline deadline) {
  {
    ASSIGN_OR_RETURN(const auto record, p_.store.Get(mount_key));
    if (record && record->phase == RecordPhase::kServing) {
      const ClientHealth health = p_.launcher.Probe(*record);
      if (health.Usable() && health.device == record->device) return *record;
    }
  }
  const NameLock lock = NameLock::Wait(p_.locks, ClientLockName(mount_key), deadline);
  if (!lock) return Error(EAGAIN, "start client " + mount_key + ": another call starts it; ask again");
  ASSIGN_OR_RETURN(auto record, p_.store.Get(mount_key));
  if (!record || record->phase == RecordPhase::kEnding) return Error(Ending(mount_key));
  const ClientHealth health = p_.launcher.Probe(*record);
  if (record->phase == RecordPhase::kServing && health.Usable() && health.device == record->device) return *record;
  if (health.state == ClientHealth::kAborted) {
    return Error(EAGAIN, "use client " + mount_key + ": nobody could serve it for too long and its mount was given "
                         "up; it is replaced once it has stored its data");
  }
  if (record->spec.meta.empty()) {
    return Error(EIO, "start client " + mount_key + ": its record was lost and what to start is not known; unpublish "
                      "and publish it again");
  }
  if (record->phase == RecordPhase::kServing || (health.mounted && health.state == ClientHealth::kDead)) {
    const int generation = p_.launcher.NextGeneration(mount_key);
    ASSIGN_OR_RETURN(record, Mutate(mount_key, [&](ClientRecord& r) {
                       r.generation = generation;
                       r.phase = RecordPhase::kStarting;
                       if (!r.device.empty()) r.old_devices.push_back(r.device);
                       r.device.clear();
                       return true;
                     }));
    if (!record) return Error(Ending(mount_key));
    Step("generation-1");
  }
  ASSIGN_OR_RETURN(const std::string device, p_.launcher.Ensure(*record, deadline));
  Step("generation-2");
  ASSIGN_OR_RETURN(record, Mutate(mount_key, [&](ClientRecord& r) {
                     r.device = device;
                     r.phase = RecordPhase::kServing;
                     std::erase(r.old_devices, device);  // a number that was free again
                     return true;
                   }));
  if (!record) return Error(Ending(mount_key));
  Step("generation-3");
  return *record;
}

Status Core::EndIfUnused(const std::string& mount_key, Deadline deadline) {
  const NameLock lock = NameLock::Wait(p_.locks, ClientLockName(mount_key), deadline);
  if (!lock) return Status(ETIMEDOUT, "end client " + mount_key + ": another call works on it");
  return EndLocked(mount_key, deadline);
}

Status Core::EndLocked(const std::string& mount_key, Deadline deadline) {
  if (p_.in_use && p_.in_use(mount_key)) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(const auto record, Mutate(mount_key, [](ClientRecord& r) {
                            if (!r.references.empty() || r.phase == RecordPhase::kEnding) return false;
                            r.phase = RecordPhase::kEnding;
                            return true;
                          }));
  if (!record || !record->references.empty()) return Status::Ok();
  Step("unpublish-5a");
  if (Status s = p_.launcher.End(*record, deadline); !s.ok()) {
    if (s.err() == ETIMEDOUT) return s;
    // It serves on, so others may use it; the next repair tries again.
    if (p_.launcher.Probe(*record).Usable()) {
      auto back = Mutate(mount_key, [](ClientRecord& r) {
        r.phase = RecordPhase::kServing;
        return true;
      });
      if (!back) return back.error();
    }
    return s;
  }
  RETURN_IF_ERROR(DiscardOthers(*record));
  Step("unpublish-5b");
  RETURN_IF_ERROR(p_.store.Delete(mount_key, record->version));
  Step("unpublish-5c");
  return Status::Ok();
}

Status Core::DiscardOthers(const ClientRecord& record) {
  ASSIGN_OR_RETURN_STATUS(const auto sources, p_.launcher.Sources());
  for (const Source& source : sources) {
    if (source.mount_key != record.mount_key || source.generation == record.generation) continue;
    RETURN_IF_ERROR(p_.launcher.Discard(source.mount_key, source.generation));
  }
  return Status::Ok();
}

// ---- unpublish -----------------------------------------------------------------

Status Core::Unpublish(const TargetName& target, Deadline deadline) {
  const std::string what = "unpublish " + target.path;
  const NameLock lock = NameLock::Try(p_.locks, TargetLockName(target));
  if (!lock) return Status(EAGAIN, what + ": another call works on this target");
  Step("unpublish-1");
  for (;;) {
    auto view = Look(target);
    if (!view) return view.error().Annotate(what);
    if (view->layers.empty()) break;
    const os::MountEntry& top = view->layers.back();
    if (OwnerOf(top, view->records) == nullptr) {
      return Status(EBUSY, what + ": " + top.source + " (" + top.fstype + ") is mounted there and is not ours; "
                                                                         "unmount it with umount(8)");
    }
    RETURN_IF_ERROR(p_.targets.Pop(target, top, deadline).Annotate(what));
  }
  Step("unpublish-2");
  // A directory with files in it is the caller's to clean up, but the client
  // is released all the same.
  const Status removed = p_.targets.RemoveDirectory(target).Annotate(what);
  Step("unpublish-3");
  // From here on the caller's wish is fulfilled. What fails is repaired later:
  // a full disk must not keep a pod from ending.
  const auto release = [&]() -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto found, Find(target));
    if (!found) return Status::Ok();
    RETURN_IF_ERROR(DropReference(found->record.mount_key, target.hash));
    Step("unpublish-4");
    return EndIfUnused(found->record.mount_key, deadline);
  };
  if (Status s = release(); !s.ok()) {
    LOG_WARNING("mount") << what << ": it is unmounted, but its client is not released yet: " << s.ToString();
  }
  return removed;
}

}  // namespace moorfs::mount
