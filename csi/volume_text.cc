// SPDX-License-Identifier: Apache-2.0

#include "csi/volume_text.h"

#include <charconv>

namespace moorfs::csi {
namespace {

using config::OptionParser;
using config::Place;
using config::Trust;

constexpr char kEphemeral[] = "csi.storage.k8s.io/ephemeral";
constexpr char kFs[] = "fs";
constexpr char kMeta[] = "meta";

bool IsInline(const VolumeText& text) {
  const auto found = text.context.find(kEphemeral);
  return found != text.context.end() && found->second == "true";
}

Status SetAll(const std::map<std::string, std::string>& words, OptionParser* parser) {
  for (const auto& [key, value] : words) {
    if (config::IsKubernetesKey(key)) continue;
    RETURN_IF_ERROR(parser->Set(key, value));
  }
  return Status::Ok();
}

}  // namespace

Result<config::VolumeOptions> ParseVolumeText(const VolumeText& text, const FileSystems& file_systems) {
  const bool is_inline = IsInline(text);
  const Trust trust = is_inline ? Trust::kPod : Trust::kVolume;
  OptionParser parser(trust, Place::kCsiVolume);
  TRY_VOID(SetAll(text.context, &parser));
  TRY_VOID(SetAll(text.secrets, &parser));
  for (const std::string& flag : text.mount_flags) TRY_VOID(parser.SetWords(flag));
  ASSIGN_OR_RETURN(config::VolumeOptions options, parser.Finish());
  // kubelet makes up the id of an inline volume; a PersistentVolume's handle may name the file system.
  const std::string handle_fs = is_inline ? "" : config::ParseHandle(text.volume_id).fs;
  TRY_VOID(config::ResolveVolume(file_systems.all(), trust, handle_fs, &options));
  TRY_VOID(config::CheckOpenToPods(file_systems.open_to_pods(), trust, options));
  if (text.read_only) options.read_only = true;
  return options;
}

Result<ClassParameters> ParseClassParameters(const std::map<std::string, std::string>& parameters,
                                             const FileSystems& file_systems) {
  ClassParameters out;
  out.fs = file_systems.default_name();
  OptionParser parser(Trust::kVolume, Place::kCsiClass);
  for (const auto& [key, value] : parameters) {
    if (config::IsKubernetesKey(key)) continue;
    if (key == kFs) {
      out.fs = value;
    } else if (key == kMeta) {
      return Error(EINVAL, "read the parameters of the class: 'meta' is not taken here; start moorfs controller and "
                           "moorfs node with --fs NAME=META and say fs: NAME");
    } else if (key == "inodes") {
      const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), out.inodes);
      if (ec != std::errc() || end != value.data() + value.size() || out.inodes == 0) {
        return Error(EINVAL, "read the parameters of the class: 'inodes' is not a positive number");
      }
    } else {
      TRY_VOID(parser.Set(key, value));
      out.options.emplace(key, value);
    }
  }
  auto checked = parser.Finish();
  if (!checked) return Error(checked.error());
  auto meta = file_systems.MetaOf(out.fs);
  if (!meta) return Error(meta.error().Annotate("read the parameters of the class"));
  return out;
}

Status CheckMountFlags(const std::vector<std::string>& flags) {
  OptionParser parser(Trust::kVolume, Place::kCsiVolume);
  for (const std::string& flag : flags) RETURN_IF_ERROR(parser.SetWords(flag));
  auto checked = parser.Finish();
  return checked ? Status::Ok() : checked.error();
}

}  // namespace moorfs::csi
