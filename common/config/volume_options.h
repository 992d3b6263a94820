// SPDX-License-Identifier: Apache-2.0
//
// The one option language. FlexVolume `options`, a PersistentVolume's
// `volumeAttributes`, StorageClass `parameters`, mountOptions and `moorfs
// mount -o` all pass through one table; '-' and '_' in a name are the same.
// docs/options.md is printed from the table.

#pragma once

#include <cstdint>
#include <map>
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
};
const std::vector<OptionSpec>& OptionTable();

struct VolumeOptions {
  // ---- which volume -----------------------------------------------------------
  std::string meta;    // META URL, absolute: "leveldb:/srv/vol/meta"
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
  // "a=1,b,c=2" as after -o. Words for mount(8) and init systems (noauto,
  // _netdev, nofail, x-systemd.…) mean nothing here and are accepted.
  Status SetWords(std::string_view words);
  // Checks what only makes sense together.
  Result<VolumeOptions> Finish();

 private:
  Trust trust_;
  Place place_;
  VolumeOptions options_;
  std::map<std::string, std::string, std::less<>> seen_;
};

// The options of the client, as `moorfs mount -o` takes them: what differs
// from the defaults, in the table's order. `only` picks classes.
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

}  // namespace moorfs::config
