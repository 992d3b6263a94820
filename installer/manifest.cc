// SPDX-License-Identifier: Apache-2.0

#include "installer/manifest.h"

#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "common/os/file.h"
#include "installer/files.h"

namespace moorfs::installer {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
constexpr size_t kMaxManifest = 16 << 20;
constexpr const char* kKinds[] = {"directory", "file", "link"};

bool ParseEntry(const Json& json, Entry* out) {
  if (!json.is_object() || !json.contains("kind")) return false;
  if (!json.contains("values") || !json["values"].is_array()) return false;
  for (int i = 0; i < 3; ++i) {
    if (json["kind"] != kKinds[i]) continue;
    out->kind = static_cast<Entry::Kind>(i);
    for (const Json& value : json["values"]) {
      if (!value.is_string()) return false;
      out->values.insert(value.get<std::string>());
    }
    return true;
  }
  return false;
}

}  // namespace

Result<Manifest> Manifest::Load(const std::string& file) {
  Manifest manifest(file);
  const auto text = os::ReadFile(file, kMaxManifest);
  if (!text && text.error().err() == ENOENT) return manifest;
  if (!text) return Error(text.error());
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const std::string damaged = "read " + file + ": it is damaged, so it does not say what was installed; "
                              "move it away and install again, then uninstall works";
  if (!json.is_object() || !json.contains("format") || !json.contains("entries") || !json["entries"].is_object()) {
    return Error(EPROTO, damaged);
  }
  if (json["format"] != kFormat) {
    return Error(EPROTO, "read " + file + ": a newer installer wrote it; use that one, or a newer one");
  }
  for (const auto& [path, value] : json["entries"].items()) {
    if (!ParseEntry(value, &manifest.entries_[path])) return Error(EPROTO, damaged);
  }
  manifest.saved_ = *text;
  return manifest;
}

Status Manifest::Save() {
  Json entries = Json::object();
  for (const auto& [path, entry] : entries_) {
    entries[path] = {{"kind", kKinds[static_cast<int>(entry.kind)]}, {"values", entry.values}};
  }
  const Json json = {{"format", kFormat}, {"entries", std::move(entries)}};
  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (text == saved_) return Status::Ok();
  RETURN_IF_ERROR(ExplainNoSpace(os::ReplaceFileDurably(file_, text, 0644)).Annotate("note what is installed"));
  saved_ = text;
  return Status::Ok();
}

void Manifest::Expect(const std::string& path, Entry::Kind kind, const std::string& value) {
  Entry& entry = entries_[path];
  if (entry.kind != kind) entry.values.clear();
  entry.kind = kind;
  if (kind != Entry::Kind::kDirectory) entry.values.insert(value);
}

void Manifest::Settle(const std::string& path, const std::string& value) { entries_[path].values = {value}; }

void Manifest::Forget(const std::string& path) { entries_.erase(path); }

const Entry* Manifest::Find(const std::string& path) const {
  const auto found = entries_.find(path);
  return found == entries_.end() ? nullptr : &found->second;
}

Status Manifest::MakeDirs(const Host& host, const std::string& path) {
  std::vector<std::string> missing;
  for (size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string part = path.substr(0, end);
    ASSIGN_OR_RETURN_STATUS(const std::string ours, host.Resolve(part));
    struct stat st;
    if (stat(ours.c_str(), &st) == 0) continue;
    if (errno != ENOENT) return Status::FromErrno("look at " + ours);
    missing.push_back(ours);
    Expect(part, Entry::Kind::kDirectory, "");
  }
  if (missing.empty()) return Status::Ok();
  RETURN_IF_ERROR(Save());
  for (const std::string& ours : missing) RETURN_IF_ERROR(ExplainNoSpace(os::MakeDirs(ours, 0755)));
  for (const std::string& ours : missing) {
    RETURN_IF_ERROR(os::SyncDirectory(ours.substr(0, std::max<size_t>(ours.rfind('/'), 1))));
  }
  return Status::Ok();
}

}  // namespace moorfs::installer
