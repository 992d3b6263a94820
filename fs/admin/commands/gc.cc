// SPDX-License-Identifier: Apache-2.0
//
// `moorfs gc META`.

#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "fs/admin/command.h"
#include "fs/admin/volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

class GcCommand final : public Command {
 public:
  std::string Name() const override { return "gc"; }
  std::string Summary() const override { return "Find objects that no file uses, and delete them if asked"; }
  std::string Example() const override { return "moorfs gc /mnt --delete"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, "META of the volume, or its mount point");
    a.Flag("--delete", &delete_, "Delete them, and deleted files whose time is over");
    a.Flag("--json", &json_, "Print JSON, objects one a line and a summary");
  }
  Status Run(Output& out) override {
    const auto result = CallVolume(target_, {{"cmd", "gc"}, {"delete", delete_}}, out, [&](std::string_view line) {
      const Json j = Json::parse(line, nullptr, false);
      out.Line(json_ || !j.is_object()
                   ? std::string(line)
                   : "unused " + j.value("object", "?") + " " + FormatBytes(j.value("bytes", uint64_t{0})));
      return Status::Ok();
    });
    if (!result) return result.error();
    if (json_) {
      out.Line(result->dump());
      return Status::Ok();
    }
    const auto number = [&](const char* key) { return result->value(key, uint64_t{0}); };
    out.Line(std::to_string(number("objects")) + " objects, " + FormatBytes(number("bytes")) + "; unused: " +
             std::to_string(number("leaked")) + ", " + FormatBytes(number("leaked_bytes")) + "; younger than an hour: " +
             std::to_string(number("young")));
    if (delete_) {
      out.Line("deleted " + std::to_string(number("deleted")) + " unused objects and " +
               std::to_string(number("due_deleted")) + " of deleted files");
    } else if (number("leaked") > 0) {
      out.Line("delete them with: moorfs gc " + target_ + " --delete");
    }
    return Status::Ok();
  }

 private:
  std::string target_;
  bool delete_ = false, json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeGcCommand() { return std::make_unique<GcCommand>(); }

}  // namespace moorfs::admin
