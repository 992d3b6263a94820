// SPDX-License-Identifier: Apache-2.0

#include "common/mount/volume_admin.h"

#include <nlohmann/json.hpp>

#include "common/mount/command.h"

namespace moorfs::mount {
namespace {

using Json = nlohmann::json;

Result<Json> Ask(const std::string& executable, std::vector<std::string> words, int timeout_ms) {
  words.insert(words.begin(), "volume");
  words.emplace_back("--json");
  const std::string what = "moorfs volume " + words[1];
  ASSIGN_OR_RETURN(Command command, Command::Start({executable, words, false, /*ends_with_caller=*/true}));
  auto answer = command.Wait(Deadline::In(timeout_ms));
  if (!answer && answer.error().err() == ETIMEDOUT) {
    // Not through is not undone: repeating says what became of it.
    command.Kill();
  }
  if (answer && !answer->is_object()) return Error(EPROTO, what + ": its answer is no JSON object");
  return answer;
}

}  // namespace

Result<VolumeRecord> DecodeVolume(const Json& j) {
  VolumeRecord r;
  const auto text = [&](const char* name, std::string* out) {
    if (!j.contains(name) || !j[name].is_string()) return false;
    *out = j[name].get<std::string>();
    return true;
  };
  const auto number = [&](const char* name, uint64_t* out) {
    if (!j.contains(name) || !j[name].is_number_unsigned()) return false;
    *out = j[name].get<uint64_t>();
    return true;
  };
  if (!j.is_object() || !text("name", &r.name) || !text("directory", &r.directory) || !number("bytes", &r.bytes) ||
      !number("inodes", &r.inodes) || !number("used_bytes", &r.used_bytes) ||
      !number("used_inodes", &r.used_inodes) || !j.contains("parameters") || !j["parameters"].is_object()) {
    return Error(EPROTO, "read a volume's record: it has an unknown shape; another version of moorfs wrote it");
  }
  for (const auto& [name, value] : j["parameters"].items()) {
    if (!value.is_string()) return Error(EPROTO, "read a volume's record: parameter \"" + name + "\" is no text");
    r.parameters[name] = value.get<std::string>();
  }
  return r;
}

Result<std::vector<VolumeRecord>> DecodeVolumes(const Json& answer) {
  if (!answer.is_object() || !answer.contains("volumes") || !answer["volumes"].is_array()) {
    return Error(EPROTO, "list volumes: the answer has no list");
  }
  std::vector<VolumeRecord> out;
  for (const Json& j : answer["volumes"]) {
    ASSIGN_OR_RETURN(VolumeRecord record, DecodeVolume(j));
    out.push_back(std::move(record));
  }
  return out;
}

Result<Capacity> DecodeCapacity(const Json& answer) {
  Capacity c;
  for (const auto& [name, value] : {std::pair("total_bytes", &c.total_bytes),
                                    std::pair("available_bytes", &c.available_bytes)}) {
    if (!answer.is_object() || !answer.contains(name) || !answer[name].is_number_unsigned()) {
      return Error(EPROTO, std::string("read the capacity: member \"") + name + "\" is missing or wrong");
    }
    *value = answer[name].get<uint64_t>();
  }
  return c;
}

Result<VolumeRecord> VolumeAdmin::Create(const std::string& meta, const VolumeRecord& wanted, int timeout_ms) {
  std::vector<std::string> words = {"create", meta, wanted.name};
  if (wanted.bytes > 0) words.insert(words.end(), {"--bytes", std::to_string(wanted.bytes)});
  if (wanted.inodes > 0) words.insert(words.end(), {"--inodes", std::to_string(wanted.inodes)});
  for (const auto& [name, value] : wanted.parameters) words.insert(words.end(), {"--parameter", name + "=" + value});
  ASSIGN_OR_RETURN(const Json answer, Ask(executable_, std::move(words), timeout_ms));
  return DecodeVolume(answer);
}

Status VolumeAdmin::Delete(const std::string& meta, const std::string& name, int timeout_ms) {
  auto answer = Ask(executable_, {"delete", meta, name}, timeout_ms);
  return answer ? Status::Ok() : answer.error();
}

Result<VolumeRecord> VolumeAdmin::Get(const std::string& meta, const std::string& name, int timeout_ms) {
  ASSIGN_OR_RETURN(const Json answer, Ask(executable_, {"show", meta, name}, timeout_ms));
  return DecodeVolume(answer);
}

Result<std::vector<VolumeRecord>> VolumeAdmin::List(const std::string& meta, const std::string& after, size_t limit,
                                                    int timeout_ms) {
  std::vector<std::string> words = {"list", meta};
  if (!after.empty()) words.insert(words.end(), {"--after", after});
  if (limit > 0) words.insert(words.end(), {"--limit", std::to_string(limit)});
  ASSIGN_OR_RETURN(const Json answer, Ask(executable_, std::move(words), timeout_ms));
  return DecodeVolumes(answer);
}

Result<Capacity> VolumeAdmin::GetCapacity(const std::string& meta, int timeout_ms) {
  ASSIGN_OR_RETURN(const Json answer, Ask(executable_, {"capacity", meta}, timeout_ms));
  return DecodeCapacity(answer);
}

}  // namespace moorfs::mount
