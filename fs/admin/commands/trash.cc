// SPDX-License-Identifier: Apache-2.0
//
// `moorfs trash list|restore|empty`.

#include <charconv>
#include <ctime>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "fs/admin/command.h"
#include "fs/admin/volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr char kTargetHelp[] = "META of the volume, or its mount point";

std::string LocalTime(int64_t seconds) {
  const time_t t = seconds;
  tm local{};
  localtime_r(&t, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
  return text;
}

class TrashList final : public Command {
 public:
  std::string Name() const override { return "list"; }
  std::string Summary() const override { return "List deleted files that can be restored"; }
  std::string Example() const override { return "moorfs trash list /mnt"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, kTargetHelp);
    a.Flag("--json", &json_, "Print JSON, one object a line");
  }
  Status Run(Output& out) override {
    const auto result = CallVolume(target_, {{"cmd", "trash-list"}}, out, [&](std::string_view line) {
      if (json_) {
        out.Line(line);
        return Status::Ok();
      }
      const Json e = Json::parse(line, nullptr, false);
      if (!e.is_object()) return Status(EPROTO, "read the list of the trash: a line has an unknown shape");
      const std::string path = e.value("path", "");
      out.Line(std::to_string(e.value("id", uint64_t{0})) + "  " + LocalTime(e.value("deleted", int64_t{0})) + "  " +
               (e.value("directory", false) ? "directory" : FormatBytes(e.value("length", uint64_t{0}))) + "  " +
               Printable(path.empty() ? e.value("name", "?") : path));
      return Status::Ok();
    });
    if (!result) return result.error();
    if (!json_ && result->value("entries", 0) == 0) out.Note("the trash is empty");
    return Status::Ok();
  }

 private:
  std::string target_;
  bool json_ = false;
};

class TrashRestore final : public Command {
 public:
  std::string Name() const override { return "restore"; }
  std::string Summary() const override { return "Put a deleted file or directory back"; }
  std::string Example() const override { return "moorfs trash restore /mnt 1234 --to /docs/report"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, kTargetHelp);
    a.Positional("ID", &id_, "As `moorfs trash list` shows it");
    a.Option("--to", &to_, "PATH", "Path inside the volume (default: where it was)");
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override {
    uint64_t id = 0;
    const auto [end, error] = std::from_chars(id_.data(), id_.data() + id_.size(), id);
    if (error != std::errc() || *end != '\0') {
      return Status(EINVAL, "restore \"" + id_ + "\": an id is a number; `moorfs trash list` shows them");
    }
    Json request = {{"cmd", "trash-restore"}, {"id", id}};
    if (!to_.empty()) request["path"] = to_;
    ASSIGN_OR_RETURN_STATUS(const Json result, CallVolume(target_, request, out));
    out.Line(json_ ? result.dump() : "restored " + Printable(result.value("path", id_)));
    return Status::Ok();
  }

 private:
  std::string target_, id_, to_;
  bool json_ = false;
};

class TrashEmpty final : public Command {
 public:
  std::string Name() const override { return "empty"; }
  std::string Summary() const override { return "Delete what is in the trash for good"; }
  std::string Example() const override { return "moorfs trash empty /mnt --older-than-hours 6"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, kTargetHelp);
    a.Option("--older-than-hours", &hours_, "N", "Only what was deleted before that (default: everything)");
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override {
    int64_t hours = 0;
    if (!hours_.empty()) {
      const auto [end, error] = std::from_chars(hours_.data(), hours_.data() + hours_.size(), hours);
      if (error != std::errc() || *end != '\0' || hours < 0 || hours > 1'000'000) {
        return Status(EINVAL, "use --older-than-hours " + hours_ + ": a number of hours is needed");
      }
    }
    ASSIGN_OR_RETURN_STATUS(const Json result,
                            CallVolume(target_, {{"cmd", "trash-empty"}, {"older_than_s", hours * 3600}}, out));
    out.Line(json_ ? result.dump() : "deleted " + std::to_string(result.value("deleted", uint64_t{0})) + " entries");
    return Status::Ok();
  }

 private:
  std::string target_, hours_;
  bool json_ = false;
};

class TrashCommand final : public Command {
 public:
  std::string Name() const override { return "trash"; }
  std::string Summary() const override { return "List, restore or delete what was deleted"; }
  std::string Example() const override { return "moorfs trash list /mnt\n  moorfs trash restore /mnt 1234"; }
  void Declare(Arguments&) override {}
  Status Run(Output&) override { return Status(EINVAL, "one of list, restore, empty is needed"); }
  std::vector<std::unique_ptr<Command>> Children() override {
    std::vector<std::unique_ptr<Command>> out;
    out.push_back(std::make_unique<TrashList>());
    out.push_back(std::make_unique<TrashRestore>());
    out.push_back(std::make_unique<TrashEmpty>());
    return out;
  }
};

}  // namespace

std::unique_ptr<Command> MakeTrashCommand() { return std::make_unique<TrashCommand>(); }

}  // namespace moorfs::admin
