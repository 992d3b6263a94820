// SPDX-License-Identifier: Apache-2.0
//
// `moorfs info PATH`.

#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "fs/admin/command.h"
#include "fs/admin/volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

void Print(const std::string& path, const Json& info, Output& out) {
  const auto number = [&](const char* key) { return std::to_string(info.value(key, uint64_t{0})); };
  char mode[8];
  std::snprintf(mode, sizeof mode, "%04o", info.value("mode", 0u));
  out.Line(Printable(path) + ": " + info.value("type", "?"));
  out.Line("  inode    " + number("inode") + ", " + number("links") + " links, mode " + mode + ", owner " + number("uid") +
           ":" + number("gid"));
  out.Line("  length   " + number("length") + " bytes stored" +
           (info.contains("seen_length") && info["seen_length"] != info["length"]
                ? ", " + number("seen_length") + " with what is still in memory"
                : ""));
  for (const Json& p : info.value("paths", Json::array())) out.Line("  path     " + Printable(p.get<std::string>()));
  if (info.value("inline", false)) out.Line("  data     inside the metadata");
  if (!info.contains("slices")) return;
  for (const Json& s : info["slices"]) {
    out.Line("  slice    at " + std::to_string(s["file_offset"].get<uint64_t>()) + ", " +
             FormatBytes(s["bytes"].get<uint64_t>()) + ": " +
             (s["object"].is_null() ? "hole"
                                    : s["object"].get<std::string>() + " from " +
                                          std::to_string(s["object_offset"].get<uint64_t>())));
  }
  if (info.value("more_slices", false)) out.Line("  slice    … and more");
  out.Line("  objects  " + std::to_string(info["objects"].size()) + " in " + info.value("store", "?"));
}

class InfoCommand final : public Command {
 public:
  std::string Name() const override { return "info"; }
  std::string Summary() const override { return "Show how a file is stored: inode, slices, objects"; }
  std::string Example() const override { return "moorfs info /mnt/file --json"; }
  void Declare(Arguments& a) override {
    a.Positional("PATH", &path_, "A path below a mount point");
    a.Option("--meta", &meta_, "META", "Volume that is not mounted; PATH is then a path inside it");
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override {
    Json request = {{"cmd", "info"}};
    std::string target = meta_;
    if (meta_.empty()) {
      struct stat st;
      if (lstat(path_.c_str(), &st) != 0) return Status::FromErrno("look at " + path_);
      request["ino"] = st.st_ino;
      target = path_;
    } else {
      request["path"] = path_;
    }
    ASSIGN_OR_RETURN_STATUS(const Json info, CallVolume(target, request, out));
    if (json_) {
      out.Line(info.dump(2, ' ', false, Json::error_handler_t::replace));
    } else {
      Print(path_, info, out);
    }
    return Status::Ok();
  }

 private:
  std::string path_, meta_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeInfoCommand() { return std::make_unique<InfoCommand>(); }

}  // namespace moorfs::admin
