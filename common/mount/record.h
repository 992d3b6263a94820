// SPDX-License-Identifier: Apache-2.0
//
// The record of one client: which volume it serves, how far its life has come,
// and who refers to it. For a client that is a process it is a file, for one
// that is a pod the pod's own metadata; references are annotations with the
// same keys in both:
//   moorfs.io/ref-<40 hex of sha256(target)>  the target, relative to the
//                                             kubelet root (absolute elsewhere)
//   moorfs.io/vol-<the same hex>              {"id", "root", "ro"}

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs::mount {

// What a target shows of the volume.
struct Reference {
  std::string target;
  std::string volume_id;
  std::string root;  // directory of the volume, "" = all of it
  bool read_only = false;

  friend bool operator==(const Reference&, const Reference&) = default;
};

enum class RecordPhase {
  kStarting,  // nobody said yet that the client serves
  kServing,
  kEnding,    // takes no new references
};
const char* PhaseName(RecordPhase phase);

// What is needed to start the client. Holds no secret.
struct ClientSpec {
  std::string meta;
  std::string words;  // as after -o
  int start_timeout_s = 60;
  int abort_after_s = 300;

  friend bool operator==(const ClientSpec&, const ClientSpec&) = default;
};

struct ClientRecord {
  std::string mount_key;
  int generation = 1;
  RecordPhase phase = RecordPhase::kStarting;
  ClientSpec spec;
  std::string boot_id;  // after a reboot everything below is void
  std::string device;   // of the client's mount, "0:57"; empty before it serves
  // Of earlier generations whose dead mounts still lie at targets.
  std::vector<std::string> old_devices;
  std::map<std::string, Reference> references;  // by the hex of the target

  // What the store compares; set by the store only. Never repeats, also not
  // when a record of the same key is made again.
  std::string version;
};

std::string EncodeRecord(const ClientRecord& record);
// EPROTO names the member.
Result<ClientRecord> DecodeRecord(std::string_view json);

// Lower-case hex of SHA-256, cut to `digits`.
std::string Sha256Hex(std::string_view text, size_t digits);
// Of the canonical text that decides who shares a client. It also names
// directories, so it is short: 128 bits.
std::string MountKeyOf(std::string_view mount_key_text);
inline std::string TargetHash(std::string_view target) { return Sha256Hex(target, 40); }

}  // namespace moorfs::mount
