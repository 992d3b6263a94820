// SPDX-License-Identifier: Apache-2.0
//
// docs/options.md, printed from the table so that it cannot disagree with it.

#include "common/config/volume_options.h"

namespace moorfs::config {
namespace {

const char* ClassName(OptionClass c) {
  switch (c) {
    case OptionClass::kIdentity: return "identity";
    case OptionClass::kRestart: return "restart";
    case OptionClass::kLive: return "live";
    case OptionClass::kTarget: return "target";
  }
  return "?";
}

const char* TypeName(OptionType t) {
  switch (t) {
    case OptionType::kText: return "text";
    case OptionType::kPath: return "path";
    case OptionType::kBytes: return "size";
    case OptionType::kSeconds: return "seconds";
    case OptionType::kFlag: return "word";
    case OptionType::kChoice: return "choice";
    case OptionType::kUser: return "user";
  }
  return "?";
}

std::string Places(unsigned places) {
  std::string out;
  for (const auto& [bit, name] :
       {std::pair{kMount, "mount"}, {kFlex, "flex"}, {kCsiVolume, "volume"}, {kCsiClass, "class"}}) {
    if (places & bit) out += (out.empty() ? "" : ", ") + std::string(name);
  }
  return out;
}

// A '|' would end the cell.
std::string Cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

constexpr char kHead[] = R"(# Options

One table for `moorfs mount -o`, `--name value`, fstab, FlexVolume `options`, a PersistentVolume's
`volumeAttributes` and `mountOptions`, and a StorageClass's `parameters`. This page is printed by
`moorfs options --markdown`; a test compares the two.

- `-` and `_` in a name are the same. An unknown name is refused, with the nearest known one.
  In a Kubernetes object a name given twice, or two words that contradict each other, are refused too; for
  `moorfs mount` the last one wins, because mount(8) puts the command line behind fstab's options.
- Sizes are powers of 1024: `4096`, `512KiB`, `4M`, `1GiB`.
- A word stands alone behind `-o`; in a Kubernetes object its value is `"true"`, `"false"` or empty.
- A Secret's values are options as well, under the same names; that is the place for a META with a password.
- Words for mount(8) and init systems (`noauto`, `_netdev`, `nofail`, `x-…`) are accepted and mean nothing here.

**Where**: `mount` = `moorfs mount` and fstab; `flex` = FlexVolume options; `volume` = volumeAttributes of a
PersistentVolume or an inline CSI volume; `class` = StorageClass parameters.

**Who** is the least trusted who may set it: `pod` = whoever may create a pod (an inline flexVolume or CSI
volume); `volume` = who may create PersistentVolumes and StorageClasses; `administrator` = who may become root on
the host. `moorfs node --flex-trust volume` treats flexVolumes like PersistentVolumes.

**Change**: `identity` = another value is another volume with a client of its own; `restart` = taken from the first
target that needs the client, and changed with the next client; `target` = of one target alone, which shares its
client with targets that have another value.

)";

}  // namespace

std::string OptionsMarkdown() {
  std::string out = kHead;
  out += "| option | type | default | bounds | where | who | change | what it does |\n";
  out += "|---|---|---|---|---|---|---|---|\n";
  for (const OptionSpec& s : OptionTable()) {
    const std::string word = *s.metavar == '\0' ? std::string(s.name) : std::string(s.name) + "=" + s.metavar;
    out += "| `" + Cell(word) + "` | " + TypeName(s.type) + " | " + Cell(s.fallback) + " | " + Cell(s.bounds) + " | " +
           Places(s.places) + " | " + TrustName(s.trust) + " | " + ClassName(s.option_class) + " | " + Cell(s.help) +
           " |\n";
  }
  return out;
}

}  // namespace moorfs::config
