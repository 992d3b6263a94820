// SPDX-License-Identifier: Apache-2.0

#include "common/mount/record.h"

#include <openssl/evp.h>

#include <nlohmann/json.hpp>

namespace moorfs::mount {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
constexpr std::string_view kRefPrefix = "moorfs.io/ref-";
constexpr std::string_view kVolPrefix = "moorfs.io/vol-";

// Reads members and remembers the first that has the wrong shape.
class Reader {
 public:
  explicit Reader(const Json& j) : j_(j) {}
  std::string Text(const char* name) {
    if (!j_.contains(name) || !j_[name].is_string()) return Bad(name), std::string();
    return j_[name].get<std::string>();
  }
  int Number(const char* name) {
    if (!j_.contains(name) || !j_[name].is_number_integer()) return Bad(name), 0;
    return j_[name].get<int>();
  }
  void Bad(const std::string& name) {
    if (status_.ok()) status_ = Status(EPROTO, "read a client's record: member \"" + name + "\" is missing or wrong");
  }
  const Status& status() const { return status_; }

 private:
  const Json& j_;
  Status status_;
};

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

void ReadReference(const Json& annotations, const std::string& hash, Reader& reader, ClientRecord* record) {
  const std::string ref = std::string(kRefPrefix) + hash, vol = std::string(kVolPrefix) + hash;
  if (!annotations[ref].is_string()) return reader.Bad(ref);
  Reference& out = record->references[hash];
  out.target = annotations[ref].get<std::string>();
  const Json details = annotations.contains(vol) && annotations[vol].is_string()
                           ? Json::parse(annotations[vol].get<std::string>(), nullptr, false)
                           : Json();
  if (!details.is_object()) return reader.Bad(vol);
  Reader in(details);
  out.volume_id = in.Text("id");
  out.root = in.Text("root");
  out.read_only = details.value("ro", false);
  if (!in.status().ok()) reader.Bad(vol);
}

}  // namespace

const char* PhaseName(RecordPhase phase) {
  switch (phase) {
    case RecordPhase::kStarting:
      return "starting";
    case RecordPhase::kServing:
      return "serving";
    case RecordPhase::kEnding:
      return "ending";
  }
  return "?";
}

std::string EncodeRecord(const ClientRecord& r) {
  Json annotations = Json::object();
  for (const auto& [hash, reference] : r.references) {
    annotations[std::string(kRefPrefix) + hash] = reference.target;
    annotations[std::string(kVolPrefix) + hash] =
        Dump({{"id", reference.volume_id}, {"root", reference.root}, {"ro", reference.read_only}});
  }
  return Dump({{"format", kFormat},
               {"mount_key", r.mount_key},
               {"generation", r.generation},
               {"phase", PhaseName(r.phase)},
               {"meta", r.spec.meta},
               {"options", r.spec.words},
               {"start_timeout_s", r.spec.start_timeout_s},
               {"abort_after_s", r.spec.abort_after_s},
               {"boot_id", r.boot_id},
               {"device", r.device},
               {"old_devices", r.old_devices},
               {"version", r.version},
               {"annotations", annotations}});
}

Result<ClientRecord> DecodeRecord(std::string_view text) {
  const Json j = Json::parse(text, nullptr, false);
  if (!j.is_object()) return Error(EPROTO, "read a client's record: it is no JSON object");
  Reader in(j);
  const int format = in.Number("format");
  TRY_VOID(in.status());
  if (format != kFormat) {
    return Error(EPROTO, "read a client's record: its format " + std::to_string(format) + " is not " +
                             std::to_string(kFormat) + "; another version of moorfs wrote it");
  }
  ClientRecord r;
  r.mount_key = in.Text("mount_key");
  r.generation = in.Number("generation");
  const std::string phase = in.Text("phase");
  bool known = false;
  for (RecordPhase p : {RecordPhase::kStarting, RecordPhase::kServing, RecordPhase::kEnding}) {
    if (phase == PhaseName(p)) r.phase = p, known = true;
  }
  if (!known) in.Bad("phase");
  r.spec = {in.Text("meta"), in.Text("options"), in.Number("start_timeout_s"), j.value("abort_after_s", 300)};
  r.boot_id = in.Text("boot_id");
  r.device = in.Text("device");
  r.version = in.Text("version");
  if (j.contains("old_devices") && j["old_devices"].is_array()) {
    for (const Json& device : j["old_devices"]) {
      if (device.is_string()) r.old_devices.push_back(device.get<std::string>());
    }
  }
  if (!j.contains("annotations") || !j["annotations"].is_object()) {
    in.Bad("annotations");
  } else {
    for (const auto& [name, value] : j["annotations"].items()) {
      if (name.starts_with(kRefPrefix)) ReadReference(j["annotations"], name.substr(kRefPrefix.size()), in, &r);
    }
  }
  TRY_VOID(in.status());
  return r;
}

std::string Sha256Hex(std::string_view text, size_t digits) {
  unsigned char digest[32];
  unsigned int size = 0;
  if (EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr) != 1) std::abort();
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (unsigned char byte : digest) {
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  out.resize(digits);
  return out;
}

std::string MountKeyOf(std::string_view mount_key_text) { return Sha256Hex(mount_key_text, 32); }

}  // namespace moorfs::mount
