// SPDX-License-Identifier: Apache-2.0
//
// `moorfs mount META MOUNTPOINT`.

#include <sys/mount.h>

#include <map>
#include <nlohmann/json.hpp>

#include "common/log/log.h"
#include "fs/admin/command.h"
#include "fs/admin/mount_volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

class MountCommand final : public Command {
 public:
  std::string Name() const override { return "mount"; }
  std::string Summary() const override { return "Mount a volume; returns when it serves"; }
  std::string Example() const override {
    return "moorfs mount leveldb:/srv/meta /mnt -o memory=512MiB,client-user=nobody,nosuid";
  }
  void Declare(Arguments& a) override;
  Status Run(Output& out) override;

 private:
  MountRequest request_;
  std::vector<std::string> words_;
  std::map<std::string, std::string> flags_;
  bool read_only_ = false, json_ = false;
};

void MountCommand::Declare(Arguments& a) {
  a.Positional("META", &request_.meta, "Metadata of the volume: leveldb:DIR");
  a.Positional("MOUNTPOINT", &request_.mountpoint, "An existing directory");
  a.Options("-o,--options", &words_, "A,B=C",
            "Mount options: those below as NAME=VALUE, and ro, nosuid, nodev, noexec, noatime, relatime, sync, …");
  a.Flag("--foreground,-f", &request_.foreground, "Stay until the volume is unmounted, log to stderr");
  a.Flag("--read-only", &read_only_, "The same as -o ro");
  a.Flag("--json", &json_, "Print JSON; a failure is {\"error\": {\"errno\": N, \"message\": TEXT}}");
  for (const config::OptionSpec& spec : config::OptionTable()) {
    if ((spec.places & config::kMount) == 0 || spec.type == config::OptionType::kFlag) continue;
    a.Option(std::string("--") + spec.name, &flags_[spec.name], spec.metavar,
             std::string(spec.help) + " (default " + spec.fallback + ")");
  }
}

Status MountCommand::Run(Output& out) {
  config::OptionParser parser(config::Trust::kAdministrator, config::kMount);
  for (const std::string& words : words_) RETURN_IF_ERROR(parser.SetWords(words));
  for (const auto& [name, value] : flags_) {
    if (!value.empty()) RETURN_IF_ERROR(parser.Set(name, value));
  }
  if (read_only_) RETURN_IF_ERROR(parser.SetWords("ro"));
  ASSIGN_OR_RETURN_STATUS(request_.options, parser.Finish());
  auto ready = MountVolume(request_, out);
  if (!ready && json_) {
    out.Line(Json{{"error", {{"errno", ready.error().err()}, {"message", ready.error().message()}}}}
                 .dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  if (!ready) return ready.error();
  if (request_.foreground) return Status::Ok();
  if (json_) {
    out.Line(ready->dump());
  } else {
    out.Line(ready->value("volume", "volume") + " is mounted at " + ready->value("mountpoint", "?") + " (client pid " +
             std::to_string(ready->value("client_pid", 0)) + ", log " + ready->value("log_file", "") + ")");
  }
  return Status::Ok();
}

}  // namespace

std::unique_ptr<Command> MakeMountCommand() { return std::make_unique<MountCommand>(); }

}  // namespace moorfs::admin
