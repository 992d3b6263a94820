// SPDX-License-Identifier: Apache-2.0
//
// `moorfs quota set|get|list|check`.

#include <sys/stat.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "fs/admin/command.h"
#include "fs/admin/locate.h"
#include "fs/admin/volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr char kTargetHelp[] = "META of the volume, or a path of its mount";
constexpr char kDirHelp[] = "Path inside the volume (\"/\" is its root), or of a directory of the mount";

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

// On a mount the kernel resolves a path that leads there; any other path is
// one inside the volume.
Status NameDirectory(const std::string& target, const std::string& dir, Json* request) {
  struct stat st;
  const auto at = LooksLikeMeta(target) ? LiveMount{} : LocateMount(target).value_or(LiveMount{});
  const auto there = at.mountpoint.empty() ? LiveMount{} : LocateMount(dir).value_or(LiveMount{});
  if (!there.mountpoint.empty() && there.device == at.device) {
    if (lstat(dir.c_str(), &st) != 0) return Status::FromErrno("look at " + dir);
    if (!S_ISDIR(st.st_mode)) return Status(ENOTDIR, "use " + dir + ": it is no directory");
    (*request)["ino"] = st.st_ino;
  } else {
    (*request)["path"] = dir;
  }
  return Status::Ok();
}

std::string Usage(uint64_t used, uint64_t limit, bool bytes) {
  const auto text = [&](uint64_t n) { return bytes ? FormatBytes(n) : std::to_string(n) + " inodes"; };
  return text(used) + (limit == 0 ? " (no limit)" : " of " + text(limit));
}

std::string Describe(const Json& q) {
  const std::string path = q.contains("path") && q["path"].is_string()
                               ? Printable(q["path"].get<std::string>())
                               : "inode " + std::to_string(q.value("inode", uint64_t{0}));
  return path + "  " + Usage(q.value("used_bytes", uint64_t{0}), q.value("bytes", uint64_t{0}), true) + ", " +
         Usage(q.value("used_inodes", uint64_t{0}), q.value("inodes", uint64_t{0}), false) +
         (q.value("removed", false) ? "  (removed, files are still open or being deleted)" : "") +
         (q.value("counting", false) ? "  (still counting what was there before)" : "");
}

class QuotaSet final : public Command {
 public:
  std::string Name() const override { return "set"; }
  std::string Summary() const override { return "Limit what a directory and everything below it may hold"; }
  std::string Example() const override { return "moorfs quota set /mnt /mnt/projects/a --bytes 10GiB --inodes 100000"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, kTargetHelp);
    a.Positional("DIR", &dir_, kDirHelp);
    a.Option("--bytes", &bytes_, "SIZE", "Most bytes; 0 for no limit (default: as it is)");
    a.Option("--inodes", &inodes_, "N", "Most files and directories, DIR included; 0 for no limit (default: as it is)");
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override {
    Json request = {{"cmd", "quota-set"}};
    RETURN_IF_ERROR(NameDirectory(target_, dir_, &request));
    if (!bytes_.empty()) {
      const auto bytes = ParseBytes(bytes_);
      if (!bytes || *bytes > INT64_MAX) return Status(EINVAL, "use --bytes " + bytes_ + ": a size is needed, like 10GiB");
      request["bytes"] = *bytes;
    }
    if (!inodes_.empty()) {
      uint64_t inodes = 0;
      const auto [end, error] = std::from_chars(inodes_.data(), inodes_.data() + inodes_.size(), inodes);
      if (error != std::errc() || *end != '\0' || inodes > INT64_MAX) {
        return Status(EINVAL, "use --inodes " + inodes_ + ": a number is needed");
      }
      request["inodes"] = inodes;
    }
    ASSIGN_OR_RETURN_STATUS(const Json quota, CallVolume(target_, request, out));
    out.Line(json_ ? Dump(quota) : Describe(quota));
    return Status::Ok();
  }

 private:
  std::string target_, dir_, bytes_, inodes_;
  bool json_ = false;
};

class QuotaGet final : public Command {
 public:
  std::string Name() const override { return "get"; }
  std::string Summary() const override { return "Show the quota of a directory and what counts in it"; }
  std::string Example() const override { return "moorfs quota get leveldb:/srv/meta /projects/a"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, kTargetHelp);
    a.Positional("DIR", &dir_, kDirHelp);
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override {
    Json request = {{"cmd", "quota-get"}};
    RETURN_IF_ERROR(NameDirectory(target_, dir_, &request));
    ASSIGN_OR_RETURN_STATUS(const Json quota, CallVolume(target_, request, out));
    out.Line(json_ ? Dump(quota) : Describe(quota));
    return Status::Ok();
  }

 private:
  std::string target_, dir_;
  bool json_ = false;
};

class QuotaList final : public Command {
 public:
  std::string Name() const override { return "list"; }
  std::string Summary() const override { return "List all quotas of a volume"; }
  std::string Example() const override { return "moorfs quota list /mnt"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, kTargetHelp);
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override {
    ASSIGN_OR_RETURN_STATUS(const Json list, CallVolume(target_, {{"cmd", "quota-list"}}, out));
    if (json_) {
      out.Line(Dump(list));
      return Status::Ok();
    }
    for (const Json& quota : list.at("quotas")) out.Line(Describe(quota));
    if (list.at("quotas").empty()) out.Note("there are no quotas");
    return Status::Ok();
  }

 private:
  std::string target_;
  bool json_ = false;
};

class QuotaCheck final : public Command {
 public:
  std::string Name() const override { return "check"; }
  std::string Summary() const override { return "Count again what quotas hold, mounted or not"; }
  std::string Example() const override { return "moorfs quota check /mnt --repair"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, kTargetHelp);
    a.Flag("--repair", &repair_, "Put right what is off");
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override {
    ASSIGN_OR_RETURN_STATUS(const Json check, CallVolume(target_, {{"cmd", "quota-check"}, {"repair", repair_}}, out));
    if (json_) {
      out.Line(Dump(check));
    } else {
      for (const Json& finding : check.at("findings")) out.Line(Printable(finding.get<std::string>()));
      out.Line(std::to_string(check.value("quotas", uint64_t{0})) + " quotas, " +
               std::to_string(check.value("repaired", uint64_t{0})) + " repairs");
    }
    if (check.value("clean", false)) return Status::Ok();
    return Status(EUCLEAN, "check quotas of " + target_ + ": they are off by what is listed" +
                               (repair_ ? ", and not all of it could be repaired" : "; run it with --repair"));
  }

 private:
  std::string target_;
  bool repair_ = false, json_ = false;
};

class QuotaCommand final : public Command {
 public:
  std::string Name() const override { return "quota"; }
  std::string Summary() const override { return "Limit the bytes and inodes of directories"; }
  std::string Example() const override {
    return "moorfs quota set /mnt /mnt/projects/a --bytes 10GiB\n  moorfs quota list /mnt";
  }
  void Declare(Arguments&) override {}
  Status Run(Output&) override { return Status(EINVAL, "one of set, get, list, check is needed"); }
  std::vector<std::unique_ptr<Command>> Children() override {
    std::vector<std::unique_ptr<Command>> out;
    out.push_back(std::make_unique<QuotaSet>());
    out.push_back(std::make_unique<QuotaGet>());
    out.push_back(std::make_unique<QuotaList>());
    out.push_back(std::make_unique<QuotaCheck>());
    return out;
  }
};

}  // namespace

std::unique_ptr<Command> MakeQuotaCommand() { return std::make_unique<QuotaCommand>(); }

}  // namespace moorfs::admin
