// SPDX-License-Identifier: Apache-2.0
//
// `moorfs status [MOUNTPOINT]`.

#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "fs/admin/command.h"
#include "fs/admin/mount_status.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

std::string Pid(const Json& mount, const char* key) {
  const auto it = mount.find(key);
  return it != mount.end() && it->is_number_integer() && it->get<int64_t>() > 0 ? std::to_string(it->get<int64_t>())
                                                                               : "gone";
}

std::string Bytes(const Json& mount, const char* key) { return FormatBytes(mount.value(key, uint64_t{0})); }

std::string Duration(int64_t s) {
  if (s < 120) return std::to_string(s) + " s";
  if (s < 7200) return std::to_string(s / 60) + " min";
  if (s < 172'800) return std::to_string(s / 3600) + " h";
  return std::to_string(s / 86'400) + " days";
}

void Print(const Json& m, Output& out) {
  const auto text = [&](const char* key) { return m.contains(key) && m[key].is_string() ? m[key].get<std::string>() : ""; };
  out.Line(text("mountpoint") + ": " + text("state"));
  for (const Json& target : m.value("targets", Json::array())) {
    out.Line("  target   " + Printable(target.value("path", "")) + " shows " + Printable(target.value("directory", "")) +
             (target.value("read_only", false) ? ", read-only" : ""));
  }
  out.Line("  volume   " + text("volume") + " (" + text("uuid") + ")" + (m.value("read_only", false) ? ", read-only" : ""));
  out.Line("  meta     " + text("meta"));
  out.Line("  store    " + text("store"));
  out.Line("  client   pid " + Pid(m, "client_pid") + ", version " + text("version") + ", up " +
           Duration(m.value("client_uptime_s", int64_t{0})) + ", restarts " +
           std::to_string(m.value("restarts", uint64_t{0})));
  out.Line("  keeper   pid " + Pid(m, "keeper_pid") + ", up " + Duration(m.value("uptime_s", int64_t{0})));
  if (m.contains("dirty_bytes")) {
    out.Line("  data     " + Bytes(m, "dirty_bytes") + " not stored yet (of " + Bytes(m, "dirty_budget_bytes") + "), " +
             std::to_string(m.value("open_files", uint64_t{0})) + " open files");
    out.Line("  cache    " + Bytes(m, "cache_memory_bytes") + " in memory, " + Bytes(m, "cache_disk_bytes") + " on disk");
    out.Line("  errors   " + std::to_string(m.value("flush_errors", uint64_t{0})) + " of writing, " +
             std::to_string(m.value("read_errors", uint64_t{0})) + " of reading, " +
             std::to_string(m.value("damaged_blocks", uint64_t{0})) + " damaged blocks");
  }
  if (!text("last_exit").empty()) out.Line("  last end " + text("last_exit"));
  if (!text("last_error").empty()) out.Line("  problem  " + Printable(text("last_error")));
  if (!text("log_file").empty()) out.Line("  log      " + text("log_file"));
}

class StatusCommand final : public Command {
 public:
  std::string Name() const override { return "status"; }
  std::string Summary() const override { return "Show mounts: processes, state, unsaved data, errors"; }
  std::string Example() const override { return "moorfs status /mnt --json"; }
  void Declare(Arguments& a) override {
    a.Positional("MOUNTPOINT", &mountpoint_, "One mount (default: all of this machine)", false);
    a.Flag("--json", &json_, "Print JSON: an object for one mount, a list for all");
  }
  Status Run(Output& out) override {
    if (!mountpoint_.empty()) {
      ASSIGN_OR_RETURN_STATUS(const LiveMount mount, LocateMount(mountpoint_));
      Json status = QueryMount(mount.paths);
      // A mount table entry nobody left a trace of is dead, and still there.
      if (!status.contains("mountpoint")) status["mountpoint"] = mount.mountpoint;
      if (json_) {
        out.Line(Dump(status));
      } else {
        Print(status, out);
      }
      return Status::Ok();
    }
    Json all = Json::array();
    for (const auto& paths : AllMounts()) all.push_back(QueryMount(paths));
    if (json_) {
      out.Line(Dump(all));
      return Status::Ok();
    }
    for (const Json& m : all) Print(m, out);
    if (all.empty()) out.Note("no volume is mounted here");
    return Status::Ok();
  }

 private:
  static std::string Dump(const Json& j) { return j.dump(2, ' ', false, Json::error_handler_t::replace); }
  std::string mountpoint_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeStatusCommand() { return std::make_unique<StatusCommand>(); }

}  // namespace moorfs::admin
