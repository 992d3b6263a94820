// SPDX-License-Identifier: Apache-2.0
//
// The one option language. FlexVolume `options`, a PersistentVolume's
// `volumeAttributes`, StorageClass `parameters`, mountOptions and `moorfs
// mount -o` all pass through one table; '-' and '_' in a name are the same.
// docs/options.md is printed from the table.

#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/base/units.h"

namespace moorfs::config {

// What changing an option means for a client that serves already.
enum class OptionClass {
  kIdentity,  // another value is another client; part of the mount key
  kRestart,   // takes effect with the next client
  kLive,      // takes effect at once
  kTarget,    // of one target only (subdir, ro): never reaches the client
};
// Who may set it; each includes those before it.
enum class Trust {
  kAdministrator,  // `moorfs mount`, the command line of node and controller
  kVolume,         // PersistentVolume, StorageClass: cluster objects
  kPod,            // inline flexVolume or inline CSI: whoever may create a pod
};
// Where an option has a meaning; a bit set.
enum Place : unsigned { kMount = 1, kFlex = 2, kCsiVolume = 4, kCsiClass = 8 };

enum class OptionType { kText, kPath, kBytes, kSeconds, kFlag, kChoice, kUser };

struct OptionSpec {
  const char* name;
  OptionType type;
  const char* metavar;   // empty: a word without a value
  const char* fallback;  // the default, for people
  OptionClass option_class;
  Trust trust;           // the least trusted who may set it
  unsigned places;       // Place
  const char* help;
  const char* bounds = "";  // of the value, for people
};
const std::vector<OptionSpec>& OptionTable();

struct VolumeOptions {
  // ---- which volume -----------------------------------------------------------
  std::string meta;    // META URL, absolute: "leveldb:/srv/vol/meta"
  std::string fs;      // or its name at the node (--fs NAME=META); see ResolveVolume
  std::string subdir;  // the directory the target shows: "", "a/b"; no leading '/', no "..", no empty parts
  bool create_subdir = false;
  // ---- of the client ----------------------------------------------------------
  std::string cache_dir;
  uint64_t cache_bytes = 1_GiB;
  uint64_t memory_bytes = 256_MiB;
  uint64_t read_ahead_bytes = 4_MiB;
  std::string client_user;
  int abort_after_s = 300;
  int start_timeout_s = 60;
  std::string log_level = "info";
  std::string log_file;
  // ---- of the target ----------------------------------------------------------
  bool read_only = false;
  unsigned long mount_flags = 0;  // MS_* of the words (nosuid, noexec, …)
};

// Sets options one after the other. EINVAL names an unknown word with the
// nearest known one, a duplicate, a value out of its bounds with the bounds, or
// an option that `trust` may not set with who may. Never quotes a value of an
// option or key it does not know (it may be a secret in the wrong place).
class OptionParser {
 public:
  OptionParser(Trust trust, Place place) : trust_(trust), place_(place) {}
  Status Set(std::string_view name, std::string_view value);
  // Where options come from several places (PersistentVolume's attributes and
  // its mountOptions, a Secret), each goes through the same parser. For
  // `moorfs mount` the last of two wins, as mount(8) puts the command line
  // behind fstab; everywhere else two of one name are refused.
  // Keys of Kubernetes itself ("kubernetes.io/…", "csi.storage.k8s.io/…") are
  // ignored where a volume's map is read, as newer ones may come.
  // "a=1,b,c=2" as after -o. Words for mount(8) and init systems (noauto,
  // _netdev, nofail, x-systemd.…) mean nothing here and are accepted.
  Status SetWords(std::string_view words);
  // Checks what only makes sense together.
  Result<VolumeOptions> Finish();

 private:
  Status SetOption(const OptionSpec& spec, std::string_view value);
  Status SetFlag(const OptionSpec& spec, std::string_view value);
  Status CheckAllowed(const OptionSpec& spec) const;
  Status CheckDuplicate(const OptionSpec& spec);
  Status Unknown(std::string_view name) const;
  std::string Called(std::string_view name) const;

  Trust trust_;
  Place place_;
  VolumeOptions options_;
  std::map<std::string, std::string, std::less<>> seen_;
};

// "kubernetes.io/…", "csi.storage.k8s.io/…", "x.kubernetes.io/…".
bool IsKubernetesKey(std::string_view name);
// "pod", "volume"; what an operator and the agent's socket call them.
const char* TrustName(Trust trust);

// Names of file systems at a node: what `--fs NAME=META` says.
using FsNames = std::map<std::string, std::string, std::less<>>;
// EINVAL, and what a name may be.
Status CheckFsName(std::string_view name);
// Adds one "NAME=META". EINVAL names what is wrong with it; never quotes META.
Status AddFsName(std::string_view name_and_meta, FsNames* names);
// Makes `options->meta` of `options->fs`, or, where the options have neither,
// of a volume handle's `handle_fs` (a name, or a META URL unless a pod chose
// it). EINVAL says what is missing.
Status ResolveVolume(const FsNames& names, Trust trust, std::string_view handle_fs, VolumeOptions* options);

// Names that a volume may use which a pod describes itself; nothing else keeps
// whoever may create a pod from every directory of that file system.
using PodFsNames = std::set<std::string, std::less<>>;
// After ResolveVolume. EPERM from Trust::kPod for a name that is not open.
Status CheckOpenToPods(const PodFsNames& open, Trust trust, const VolumeOptions& options);

// The options of the client, as `moorfs mount -o` takes them: what differs
// from the defaults, in the table's order.
std::string ClientOptionWords(const VolumeOptions& options);

// The canonical list that decides whether two targets share a client: one line
// per identity item, first line the list's version. Secrets never enter.
std::string MountKeyText(const VolumeOptions& options);

// "fs#suffix": what kubelet calls a volume. Two PVs need different handles, the
// suffix makes them so. `fs` is a META URL or a name given with --fs.
struct VolumeHandle {
  std::string fs;
  std::string suffix;
};
VolumeHandle ParseHandle(std::string_view handle);

// docs/options.md.
std::string OptionsMarkdown();

}  // namespace moorfs::config
