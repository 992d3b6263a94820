// SPDX-License-Identifier: Apache-2.0
//
// `moorfs fsck META`.

#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "fs/admin/command.h"
#include "fs/admin/volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

class FsckCommand final : public Command {
 public:
  std::string Name() const override { return "fsck"; }
  std::string Summary() const override { return "Check a volume, mounted or not; repair one that is not mounted"; }
  std::string Example() const override { return "moorfs fsck leveldb:/srv/meta --repair"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, "META of the volume, or its mount point");
    a.Flag("--repair", &repair_, "Repair what is found; orphans go to /lost+found");
    a.Flag("--skip-store", &skip_store_, "Do not look whether every object is there");
    a.Flag("--json", &json_, "Print JSON, findings one a line and a summary");
  }
  Status Run(Output& out) override {
    const auto result = CallVolume(
        target_, {{"cmd", "fsck"}, {"repair", repair_}, {"skip_store", skip_store_}}, out, [&](std::string_view line) {
          Print(line, out);
          return Status::Ok();
        });
    if (!result) return result.error();
    if (json_) {
      out.Line(result->dump());
    } else {
      out.Line(std::to_string(result->value("inodes", uint64_t{0})) + " inodes, " +
               std::to_string(result->value("names", uint64_t{0})) + " names, " +
               std::to_string(result->value("objects", uint64_t{0})) + " objects, " +
               FormatBytes(result->value("used_bytes", uint64_t{0})) + "; " +
               std::to_string(result->value("repaired", uint64_t{0})) + " repairs");
    }
    if (result->value("clean", false)) {
      if (!json_) out.Line("the volume is clean");
      return Status::Ok();
    }
    uint64_t count = 0;
    for (const auto& [name, n] : (*result)["damage"].items()) count += n.get<uint64_t>();
    return Status(EUCLEAN, "check " + target_ + ": damage was found (" + std::to_string(count) + " times)" +
                               (repair_ ? " and not all of it could be repaired; restore what is missing from a backup"
                                        : "; unmount the volume and run fsck --repair"));
  }

 private:
  void Print(std::string_view line, Output& out) {
    const Json j = Json::parse(line, nullptr, false);
    if (json_ || !j.is_object()) {
      out.Line(line);
    } else if (j.contains("repair")) {
      out.Line("repaired: " + Printable(j.value("repair", "")));
    } else {
      out.Line(j.value("damage", "damage") + ": " + Printable(j.value("text", "")));
    }
  }
  std::string target_;
  bool repair_ = false, skip_store_ = false, json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeFsckCommand() { return std::make_unique<FsckCommand>(); }

}  // namespace moorfs::admin
