// SPDX-License-Identifier: Apache-2.0

#include "flex/explain.h"

#include <nlohmann/json.hpp>

#include "common/config/volume_options.h"
#include "flex/options.h"

namespace moorfs::flex {
namespace {

using Json = nlohmann::ordered_json;

const char* ClassText(config::OptionClass c) {
  switch (c) {
    case config::OptionClass::kIdentity: return "names the volume, which has one client on a node";
    case config::OptionClass::kRestart: return "taken from the first target that needs the client";
    case config::OptionClass::kLive: return "of the client, at once";
    case config::OptionClass::kTarget: return "of this target alone";
  }
  return "?";
}

const config::OptionSpec* FindSpec(std::string name) {
  for (char& c : name) c = c == '_' ? '-' : c;
  for (const config::OptionSpec& spec : config::OptionTable()) {
    if (name == spec.name && (spec.places & config::kFlex) != 0) return &spec;
  }
  return nullptr;
}

// A META of another engine has a password before its '@'.
std::string MetaText(const std::string& meta) {
  return meta.find('@') == std::string::npos ? meta : "(hidden: it may hold a password)";
}

Json ExplainOne(config::Trust trust, const std::string& name, const std::string& value, bool secret) {
  config::OptionParser alone(trust, config::kFlex);
  const Status verdict = alone.Set(name, value);
  const config::OptionSpec* spec = FindSpec(name);
  Json out = {{"option", name}};
  if (spec != nullptr) {
    if (!secret) out["value"] = std::string_view(spec->name) == "meta" ? MetaText(value) : value;
    out["means"] = spec->help;
    out["change"] = ClassText(spec->option_class);
    out["may_be_set_by"] = config::TrustName(spec->trust);
  }
  out["verdict"] = verdict.ok() ? "accepted" : verdict.message();
  return out;
}

Result<config::VolumeOptions> Together(config::Trust trust, const Call& call, const agent::FlexPublish& publish) {
  config::OptionParser parser(trust, config::kFlex);
  for (const auto& [name, value] : publish.options) TRY_VOID(parser.Set(name, value));
  for (const auto& [name, value] : publish.secrets) TRY_VOID(parser.Set(name, value).Annotate("in the Secret"));
  ASSIGN_OR_RETURN(config::VolumeOptions options, parser.Finish());
  // Without --fs only the agent knows the names; that one is missing is an
  // error everywhere.
  if (options.fs.empty() || !call.fs_names.empty()) {
    TRY_VOID(config::ResolveVolume(call.fs_names, trust, "", &options));
  }
  return options;
}

Json KeyInputs(const config::VolumeOptions& options) {
  if (options.meta.empty()) {
    return {{"meta", "of the file system \"" + options.fs + "\", which the agent resolves (here: --fs " + options.fs + "=META)"}};
  }
  return {{"meta", MetaText(options.meta)}, {"version", config::MountKeyText(options).substr(0, 18)}};
}

void AddResult(const config::VolumeOptions& options, const agent::FlexPublish& publish, Json* out) {
  (*out)["mount_key_inputs"] = KeyInputs(options);
  (*out)["client_options"] = config::ClientOptionWords(options);
  (*out)["target"] = {{"subdir", options.subdir.empty() ? "/" : options.subdir},
                      {"create_subdir", options.create_subdir},
                      {"read_only", options.read_only || publish.read_only}};
  if (publish.fs_group) (*out)["target"]["fs_group"] = *publish.fs_group;
  if (!publish.volume_id.empty()) (*out)["volume_id"] = publish.volume_id;
}

}  // namespace

Answer Explain(const Call& call, const std::string& json) {
  const auto parsed = ParseOptions(json);
  if (!parsed) return Failure(parsed.error());
  const agent::FlexPublish& publish = parsed->publish;
  const config::Trust trust = call.trusted || call.standalone ? config::Trust::kVolume : config::Trust::kPod;
  const auto options = Together(trust, call, publish);
  Json out = {{"status", options ? "Success" : "Failure"}};
  if (!options) out["message"] = options.error().message();
  out["options_come_from"] = config::TrustName(trust);
  out["options"] = Json::array();
  for (const auto& [name, value] : publish.options) out["options"].push_back(ExplainOne(trust, name, value, false));
  for (const auto& [name, value] : publish.secrets) out["options"].push_back(ExplainOne(trust, name, value, true));
  if (!parsed->ignored.empty()) out["ignored"] = parsed->ignored;
  if (options) AddResult(*options, publish, &out);
  return {out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n", options ? 0 : 1};
}

}  // namespace moorfs::flex
