// SPDX-License-Identifier: Apache-2.0

#include "installer/install.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <memory>
#include <set>

#include "common/base/version.h"
#include "common/os/file.h"
#include "common/os/lock_file.h"
#include "installer/files.h"
#include "installer/full.h"
#include "installer/host.h"
#include "installer/kubelet.h"
#include "installer/manifest.h"
#include "installer/programs.h"

namespace moorfs::installer {
namespace {

constexpr char kDriverDir[] = "/moorfs.io~moorfs-flex";
constexpr char kDriver[] = "/moorfs-flex";
constexpr char kNone[] = "none";
constexpr int kLockTries = 300;  // of 100 ms
constexpr size_t kMountsNamed = 5;
constexpr char kPluginRemedy[] =
    "give kubelet another directory (its flag --volume-plugin-dir or volumePluginDir in its configuration) and tell it "
    "here with --plugin-dir";

std::string DirectoryOf(const std::string& path) { return path.substr(0, std::max<size_t>(path.rfind('/'), 1)); }

// Hash of a file that can be executed; empty when there is none, or one with another mode.
Result<std::string> InstalledHash(const std::string& ours) {
  struct stat st;
  if (lstat(ours.c_str(), &st) != 0) {
    return errno == ENOENT ? Result<std::string>("") : Error(Status::FromErrno("look at " + ours));
  }
  if (S_ISDIR(st.st_mode)) return Error(EISDIR, "install " + ours + ": a directory is in its place; move it away");
  if (!S_ISREG(st.st_mode) || (st.st_mode & 07777) != 0755) return std::string();
  return Sha256OfFile(ours);
}

// OK for none of them.
Status RefuseUnder(const std::vector<std::string>& mounts, const std::string& how, const std::string& remedy) {
  if (mounts.empty()) return Status::Ok();
  std::string named;
  for (size_t i = 0; i < mounts.size() && i < kMountsNamed; ++i) named += (i == 0 ? "" : ", ") + mounts[i];
  if (mounts.size() > kMountsNamed) named += " and " + std::to_string(mounts.size() - kMountsNamed) + " more";
  return Status(EBUSY, std::to_string(mounts.size()) + (mounts.size() == 1 ? " volume is" : " volumes are") +
                           " mounted " + how + ": " + named + "; " + remedy + ", or say --force");
}

class Run {
 public:
  explicit Run(const Options& options) : options_(options), host_(options.host_root, options.host_proc) {}

  Result<std::string> Install();
  Result<std::string> Check();
  Result<std::string> Uninstall();

 private:
  struct Door {
    std::string plugin_dir, driver_dir, path;  // the host's
    std::string how;
    std::string content, hash;
  };

  Status Begin();
  Result<Door> PlanDoor() const;
  Status InstallDoor();
  Status PlaceDoor(const Door& door, const std::string& installed_version);
  Result<std::string> VerifyDoor(const std::string& ours, const Door& door) const;
  Status RefuseDowngrade(const std::string& what, const std::string& installed, const std::string& offered) const;

  Status InstallFull();
  Status PlaceFull(const FullPlan& plan, const std::string& bin);
  Status PlaceFile(const Item& item);
  Status PlaceLink(const Item& item);
  Status CheckHelper(const Item& item) const;
  Status DropOldVersions(const FullPlan& plan);

  Result<std::string> IsRight(const Item& item) const;
  Status RefuseUnderMounts() const;
  Status Remove(const std::string& path, const Entry& entry);
  Status CleanTemporaries();
  void Say(const std::string& line) { said_ += line + "\n"; }

  const Options& options_;
  const Host host_;
  std::string state_;  // ours
  std::unique_ptr<os::LockFile> lock_;
  std::unique_ptr<Manifest> manifest_;
  std::string said_;
};

// ---- the state directory and its lock ---------------------------------------

Status Run::Begin() {
  ASSIGN_OR_RETURN_STATUS(state_, host_.Resolve(options_.state));
  std::set<std::string> made;
  for (std::string path = options_.state; path.size() > 1; path = DirectoryOf(path)) {
    ASSIGN_OR_RETURN_STATUS(const std::string ours, host_.Resolve(path));
    if (access(ours.c_str(), F_OK) == 0) break;
    made.insert(path);
  }
  RETURN_IF_ERROR(
      ExplainNoSpace(os::MakeDirs(state_, 0755)).Annotate("make the installer's directory (--state chooses another)"));
  for (int tries = 0;; ++tries) {
    auto lock = os::LockFile::Acquire(state_ + "/lock");
    if (lock) {
      lock_ = std::make_unique<os::LockFile>(std::move(*lock));
      break;
    }
    if (lock.error().err() != EBUSY) return lock.error();
    if (tries == kLockTries) {
      return Status(EBUSY, "begin: another installer works on this host (it locks " + state_ +
                               "/lock); run again when it is done");
    }
    const timespec pause{0, 100'000'000};
    nanosleep(&pause, nullptr);
  }
  RETURN_IF_ERROR(RemoveWithPrefix(state_, "manifest.json.tmp-"));
  ASSIGN_OR_RETURN_STATUS(Manifest manifest, Manifest::Load(state_ + "/manifest.json"));
  manifest_ = std::make_unique<Manifest>(std::move(manifest));
  // Its own is the installer's whoever made it: a killed one may have.
  made.insert(options_.state);
  for (const std::string& path : made) manifest_->Expect(path, Entry::Kind::kDirectory, "");
  return Status::Ok();
}

// In every directory where something of ours is or was about to be.
Status Run::CleanTemporaries() {
  std::set<std::string> directories;
  for (const auto& [path, entry] : manifest_->entries()) directories.insert(DirectoryOf(path));
  for (const std::string& path : directories) {
    ASSIGN_OR_RETURN_STATUS(const std::string ours, host_.Resolve(path));
    RETURN_IF_ERROR(RemoveTemporaries(ours));
  }
  return Status::Ok();
}

Status Run::RefuseDowngrade(const std::string& what, const std::string& installed, const std::string& offered) const {
  if (options_.allow_downgrade || CompareVersions(offered, installed) >= 0) return Status::Ok();
  return Status(EPERM, "install " + what + " " + (offered.empty() ? "of an unknown version" : offered) + " over " +
                           installed + ": that is a downgrade; use the newer image, or say --allow-downgrade");
}

// ---- the door -----------------------------------------------------------------

Result<Run::Door> Run::PlanDoor() const {
  Door door;
  std::string source = options_.source;
  if (source.empty()) {
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self);
    if (n <= 0) return Error(Status::FromErrno("find this program"));
    source = DirectoryOf(std::string(self, static_cast<size_t>(n))) + kDriver;
  }
  auto content = ReadProgram(source);
  if (!content) return Error(content.error().Annotate("read the door to install (--source names another)"));
  door.content = std::move(*content);
  door.hash = Sha256(door.content);
  door.plugin_dir = options_.plugin_dir;
  door.how = "as --plugin-dir says";
  if (door.plugin_dir.empty()) {
    ASSIGN_OR_RETURN(const PluginDir found, FindPluginDir(host_));
    door.plugin_dir = found.path;
    door.how = found.how;
  }
  door.driver_dir = door.plugin_dir + kDriverDir;
  door.path = door.driver_dir + kDriver;
  return door;
}

// The version it tells.
Result<std::string> Run::VerifyDoor(const std::string& ours, const Door& door) const {
  ASSIGN_OR_RETURN(const std::string hash, Sha256OfFile(ours));
  if (hash != door.hash) {
    return Error(EIO, "verify " + ours + ": it does not hold what was written; the disk is not to be trusted");
  }
  TRY_VOID(CheckDoor(ours));
  return DoorVersion(ours);
}

Status Run::InstallDoor() {
  ASSIGN_OR_RETURN_STATUS(const Door door, PlanDoor());
  ASSIGN_OR_RETURN_STATUS(const std::string plugin_dir, host_.Resolve(door.plugin_dir));
  ASSIGN_OR_RETURN_STATUS(const std::string driver_dir, host_.Resolve(door.driver_dir));
  const std::string final = driver_dir + kDriver;
  RETURN_IF_ERROR(host_.CheckTakesPrograms(driver_dir, "kubelet's plugin directory", kPluginRemedy));
  RETURN_IF_ERROR(RemoveTemporaries(plugin_dir));
  RETURN_IF_ERROR(RemoveTemporaries(driver_dir));
  ASSIGN_OR_RETURN_STATUS(const std::string installed, InstalledHash(final));
  std::string version;
  if (!installed.empty()) {
    // One that does not run is replaced like one that is not there.
    if (auto told = DoorVersion(final); told) version = *told;
  }
  if (installed == door.hash && CheckDoor(final).ok()) {
    manifest_->Expect(door.path, Entry::Kind::kFile, door.hash);
    manifest_->Settle(door.path, door.hash);
    Say("moorfs-flex " + version + " is at " + door.path + " already (" + door.how + ")");
    return manifest_->Save();
  }
  RETURN_IF_ERROR(PlaceDoor(door, version));
  ASSIGN_OR_RETURN_STATUS(const std::string now, VerifyDoor(final, door));
  manifest_->Settle(door.path, door.hash);
  const std::string instead = installed.empty() ? "" : ", instead of " + (version.empty() ? "another" : version);
  Say("moorfs-flex " + now + " is at " + door.path + " (" + door.how + instead + ")");
  return manifest_->Save();
}

// Kubelet watches its plugin directory. A driver's directory therefore appears with the driver in it:
// kubelet would ask an empty one once, and might not hear of the file that follows.
Status Run::PlaceDoor(const Door& door, const std::string& installed_version) {
  RETURN_IF_ERROR(manifest_->MakeDirs(host_, door.plugin_dir));
  ASSIGN_OR_RETURN_STATUS(const std::string driver_dir, host_.Resolve(door.driver_dir));
  const bool first = access(driver_dir.c_str(), F_OK) != 0;
  const std::string temporary_dir = TemporaryFor(driver_dir);
  const std::string temporary = first ? temporary_dir + kDriver : TemporaryFor(driver_dir + kDriver);
  // Before anything is there, so that uninstall finds what a killed installer leaves.
  if (first) manifest_->Expect(door.driver_dir, Entry::Kind::kDirectory, "");
  manifest_->Expect(door.path, Entry::Kind::kFile, door.hash);
  RETURN_IF_ERROR(manifest_->Save());
  if (first) RETURN_IF_ERROR(os::MakeDirs(temporary_dir, 0755));
  Status s = WriteStored(temporary, door.content, 0755);
  if (s.ok()) {
    const auto version = VerifyDoor(temporary, door);
    s = version ? RefuseDowngrade("moorfs-flex", installed_version, *version) : version.error();
  }
  if (s.ok() && first) s = os::SyncDirectory(temporary_dir);
  if (s.ok()) s = first ? RenameStored(temporary_dir, driver_dir) : RenameStored(temporary, driver_dir + kDriver);
  if (!s.ok()) os::RemoveTree(first ? temporary_dir : temporary).ok();  // what is left the next run removes
  return s;
}

// ---- the whole program ------------------------------------------------------

Status Run::InstallFull() {
  ASSIGN_OR_RETURN_STATUS(const FullPlan plan, PlanFull(options_.directory, options_.sbin));
  ASSIGN_OR_RETURN_STATUS(const std::string ours, host_.Resolve(plan.version_dir));
  RETURN_IF_ERROR(host_.CheckTakesPrograms(ours, "the directory", "choose another with --directory"));
  for (const Item& item : plan.helpers) RETURN_IF_ERROR(CheckHelper(item));
  ASSIGN_OR_RETURN_STATUS(const std::string bin, host_.Resolve(plan.directory));
  const std::string installed = LinkTarget(bin + "/bin");
  RETURN_IF_ERROR(RefuseDowngrade("moorfs", VersionOfBin(installed), std::string(kVersion)));
  RETURN_IF_ERROR(PlaceFull(plan, installed));
  const bool same = installed == plan.bin.content;
  Say("moorfs " + std::string(kVersion) + " is at " + plan.directory + "/bin/moorfs" + (same ? " already" : "") +
      (plan.helpers.empty() ? "" : ", mount.moorfs in " + options_.sbin));
  return DropOldVersions(plan);
}

Status Run::PlaceFull(const FullPlan& plan, const std::string& installed) {
  RETURN_IF_ERROR(manifest_->MakeDirs(host_, DirectoryOf(plan.program)));
  RETURN_IF_ERROR(manifest_->MakeDirs(host_, DirectoryOf(plan.loader)));
  for (const Item& item : plan.files) manifest_->Expect(item.path, item.kind, item.value);
  RETURN_IF_ERROR(manifest_->Save());
  // Nobody uses them before the link leads to them.
  for (const Item& item : plan.files) RETURN_IF_ERROR(PlaceFile(item));
  RETURN_IF_ERROR(CheckFull(host_, plan));
  if (installed.empty()) {
    ASSIGN_OR_RETURN_STATUS(const std::string ours, host_.Resolve(plan.directory));
    if (access((ours + "/bin").c_str(), F_OK) == 0 && manifest_->Find(plan.bin.path) == nullptr) {
      return Status(EEXIST, "install " + plan.bin.path + ": something else is there; choose another --directory");
    }
  }
  RETURN_IF_ERROR(PlaceLink(plan.bin));
  for (const Item& item : plan.helpers) RETURN_IF_ERROR(PlaceLink(item));
  for (const Item& item : plan.files) manifest_->Settle(item.path, item.value);
  return manifest_->Save();
}

Status Run::PlaceFile(const Item& item) {
  ASSIGN_OR_RETURN_STATUS(const std::string ours, host_.Resolve(item.path));
  ASSIGN_OR_RETURN_STATUS(const std::string installed, InstalledHash(ours));
  if (installed == item.value) return Status::Ok();
  const std::string temporary = TemporaryFor(ours);
  RETURN_IF_ERROR(WriteStored(temporary, item.content, item.mode));
  const Status s = RenameStored(temporary, ours);
  if (!s.ok()) unlink(temporary.c_str());
  return s;
}

Status Run::PlaceLink(const Item& item) {
  RETURN_IF_ERROR(manifest_->MakeDirs(host_, DirectoryOf(item.path)));
  ASSIGN_OR_RETURN_STATUS(const std::string directory, host_.Resolve(DirectoryOf(item.path)));
  const std::string ours = directory + item.path.substr(item.path.rfind('/'));
  if (LinkTarget(ours) != item.content) {
    manifest_->Expect(item.path, item.kind, item.value);
    RETURN_IF_ERROR(manifest_->Save());
    RETURN_IF_ERROR(LinkStored(item.content, ours));
  }
  manifest_->Expect(item.path, item.kind, item.value);
  manifest_->Settle(item.path, item.value);
  return manifest_->Save();
}

// A mount.moorfs that somebody else put there is not ours to replace.
Status Run::CheckHelper(const Item& item) const {
  ASSIGN_OR_RETURN_STATUS(const std::string directory, host_.Resolve(DirectoryOf(item.path)));
  RETURN_IF_ERROR(host_.CheckTakesPrograms(directory, "the directory",
                                           "leave mount.moorfs out with --sbin none, or choose another with --sbin"));
  const std::string ours = directory + item.path.substr(item.path.rfind('/'));
  struct stat st;
  if (lstat(ours.c_str(), &st) != 0 || LinkTarget(ours) == item.content) return Status::Ok();
  const Entry* entry = manifest_->Find(item.path);
  if (entry != nullptr && entry->values.count(LinkTarget(ours)) != 0) return Status::Ok();
  return Status(EEXIST, "install " + item.path + ": one is there that this installer did not put there; remove it, or "
                        "leave the helpers out with --sbin none");
}

// Clients of an old version start their successors from its directory: it stays while one runs.
Status Run::DropOldVersions(const FullPlan& plan) {
  std::set<std::string> old;
  const std::string prefix = plan.directory + "/";
  for (const auto& [path, entry] : manifest_->entries()) {
    if (!path.starts_with(prefix) || path == plan.bin.path) continue;
    const std::string version_dir = path.substr(0, path.find('/', prefix.size()));
    if (version_dir != plan.version_dir) old.insert(version_dir);
  }
  for (const std::string& version_dir : old) {
    if (host_.RunsFrom(version_dir)) {
      Say(version_dir + " stays: processes run from it");
      continue;
    }
    const auto entries = manifest_->entries();
    for (auto it = entries.rbegin(); it != entries.rend(); ++it) {
      if (it->first != version_dir && !it->first.starts_with(version_dir + "/")) continue;
      RETURN_IF_ERROR(Remove(it->first, it->second));
      manifest_->Forget(it->first);
    }
  }
  return manifest_->Save();
}

Result<std::string> Run::Install() {
  TRY_VOID(Begin());
  TRY_VOID(CleanTemporaries());
  if (options_.full) TRY_VOID(InstallFull());
  if (options_.plugin_dir != kNone) TRY_VOID(InstallDoor());
  return said_;
}

// ---- the check ------------------------------------------------------------------

// Empty when it is; else what is wrong with it.
Result<std::string> Run::IsRight(const Item& item) const {
  if (item.kind == Entry::Kind::kLink) {
    ASSIGN_OR_RETURN(const std::string directory, host_.Resolve(DirectoryOf(item.path)));
    const std::string target = LinkTarget(directory + item.path.substr(item.path.rfind('/')));
    return target == item.content ? "" : target.empty() ? "is not there" : "leads to " + target;
  }
  ASSIGN_OR_RETURN(const std::string ours, host_.Resolve(item.path));
  ASSIGN_OR_RETURN(const std::string hash, InstalledHash(ours));
  return hash == item.value ? "" : hash.empty() ? "is not there" : "is another file";
}

Result<std::string> Run::Check() {
  std::vector<Item> items;
  if (options_.full) {
    ASSIGN_OR_RETURN(FullPlan plan, PlanFull(options_.directory, options_.sbin));
    items = std::move(plan.files);
    items.push_back(plan.bin);
    items.insert(items.end(), plan.helpers.begin(), plan.helpers.end());
    Say("moorfs " + std::string(kVersion) + " is installed at " + plan.directory);
  }
  std::string door_path;
  if (options_.plugin_dir != kNone) {
    ASSIGN_OR_RETURN(const Door door, PlanDoor());
    items.push_back({.path = door.path, .value = door.hash});
    door_path = door.path;
  }
  for (const Item& item : items) {
    ASSIGN_OR_RETURN(const std::string wrong, IsRight(item));
    if (!wrong.empty()) return Error(ENOENT, "check " + item.path + ": it " + wrong + "; install again");
  }
  if (!door_path.empty()) {
    ASSIGN_OR_RETURN(const std::string ours, host_.Resolve(door_path));
    TRY_VOID(CheckDoor(ours));
    Say("moorfs-flex is installed at " + door_path);
  }
  return said_;
}

// ---- uninstall ----------------------------------------------------------------

Status Run::RefuseUnderMounts() const {
  ASSIGN_OR_RETURN_STATUS(const std::vector<std::string> mounts, host_.OurMounts());
  const bool full = manifest_->Find(options_.directory + "/bin") != nullptr;
  std::vector<std::string> flex, by_hand;
  for (const std::string& mount : mounts) {
    // Those of CSI and the agent's sources need nothing of what is on the host.
    const bool agents =
        mount.find("/volumes/kubernetes.io~csi/") != std::string::npos || mount.starts_with("/var/lib/moorfs/");
    if (mount.find("/volumes/moorfs.io~moorfs-flex/") != std::string::npos) {
      flex.push_back(mount);
    } else if (full && !agents) {
      by_hand.push_back(mount);
    }
  }
  RETURN_IF_ERROR(RefuseUnder(flex, "through the driver, and kubelet could not unmount without it",
                              "delete the pods that use them"));
  return RefuseUnder(by_hand, "with the program in " + options_.directory, "unmount them");
}

Status Run::Remove(const std::string& path, const Entry& entry) {
  ASSIGN_OR_RETURN_STATUS(const std::string directory, host_.Resolve(DirectoryOf(path)));
  const std::string ours = directory + path.substr(path.rfind('/'));
  struct stat st;
  if (lstat(ours.c_str(), &st) != 0) return errno == ENOENT ? Status::Ok() : Status::FromErrno("look at " + ours);
  if (entry.kind == Entry::Kind::kDirectory) {
    // Others may have put something into it, or mounted something on it: then it is theirs.
    if (rmdir(ours.c_str()) != 0 && errno != ENOTEMPTY && errno != EBUSY && errno != ENOTDIR) {
      return Status::FromErrno("remove " + ours);
    }
    return Status::Ok();
  }
  std::string value;
  if (entry.kind == Entry::Kind::kLink) {
    value = LinkTarget(ours);
  } else if (S_ISREG(st.st_mode)) {
    ASSIGN_OR_RETURN_STATUS(value, Sha256OfFile(ours));
  }
  if (entry.values.count(value) == 0) {
    Say(path + " stays: it is no longer what was installed");
    return Status::Ok();
  }
  if (unlink(ours.c_str()) != 0) return Status::FromErrno("remove " + ours);
  Say("removed " + path);
  return os::SyncDirectory(directory);
}

Result<std::string> Run::Uninstall() {
  ASSIGN_OR_RETURN(const std::string state, host_.Resolve(options_.state));
  if (access(state.c_str(), F_OK) != 0) return "nothing is installed: there is no " + options_.state + "\n";
  TRY_VOID(Begin());
  if (!options_.force) TRY_VOID(RefuseUnderMounts());
  TRY_VOID(CleanTemporaries());
  const std::map<std::string, Entry> entries = manifest_->entries();
  for (auto it = entries.rbegin(); it != entries.rend(); ++it) {
    if (it->second.kind != Entry::Kind::kDirectory) TRY_VOID(Remove(it->first, it->second));
  }
  // The last thing that names the directories; without it they would only be empty ones.
  for (const std::string& file : {state + "/manifest.json", state + "/lock"}) {
    if (unlink(file.c_str()) != 0 && errno != ENOENT) return Error(Status::FromErrno("remove " + file));
  }
  for (auto it = entries.rbegin(); it != entries.rend(); ++it) {
    if (it->second.kind == Entry::Kind::kDirectory) TRY_VOID(Remove(it->first, it->second));
  }
  return said_;
}

}  // namespace

Result<std::string> Install(const Options& options) { return Run(options).Install(); }
Result<std::string> Check(const Options& options) { return Run(options).Check(); }
Result<std::string> Uninstall(const Options& options) { return Run(options).Uninstall(); }

}  // namespace moorfs::installer
