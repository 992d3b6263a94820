// SPDX-License-Identifier: Apache-2.0
//
// `moorfs volume create|delete|show|list|capacity`: what a provisioner calls.
// With --json a failure is one line on stdout too:
// {"error": {"errno": N, "message": TEXT}}.

#include <unistd.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "fs/admin/command.h"
#include "fs/admin/volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

constexpr char kTargetHelp[] = "META of the file system, or its mount point";
// Commands on a file system that nobody has mounted take turns.
constexpr int64_t kBusyWaitNs = 10'000'000'000;
constexpr useconds_t kBusyPauseUs = 20'000;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

Result<Json> CallPatiently(const std::string& target, const Json& request, Output& out) {
  const int64_t deadline = MonotonicNs() + kBusyWaitNs;
  for (;;) {
    auto result = CallVolume(target, request, out);
    if (result || result.error().err() != EBUSY || MonotonicNs() > deadline) return result;
    usleep(kBusyPauseUs);
  }
}

Result<uint64_t> Number(const std::string& option, const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > INT64_MAX) {
    return Error(EINVAL, "use " + option + " " + text + ": a number is needed");
  }
  return value;
}

Result<uint64_t> Size(const std::string& option, const std::string& text) {
  auto value = ParseBytes(text);
  if (!value || *value > INT64_MAX) {
    return Error(EINVAL, "use " + option + " " + text + ": a size is needed, like 1073741824 or 1GiB");
  }
  return *value;
}

std::string Limit(const Json& v, const char* used, const char* limit, bool bytes) {
  const uint64_t most = v.value(limit, uint64_t{0}), now = v.value(used, uint64_t{0});
  const auto text = [&](uint64_t n) { return bytes ? FormatBytes(n) : std::to_string(n) + " inodes"; };
  return text(now) + (most == 0 ? " (no limit)" : " of " + text(most));
}

std::string Describe(const Json& v) {
  return Printable(v.value("name", "?")) + "  /" + v.value("directory", "?") + "  " +
         Limit(v, "used_bytes", "bytes", true) + ", " + Limit(v, "used_inodes", "inodes", false);
}

// What the five have in common.
class VolumeCommand : public Command {
 public:
  Status Run(Output& out) final {
    auto result = Call(out);
    if (!result) {
      if (json_) {
        out.Line(Dump({{"error", {{"errno", result.error().err()}, {"message", result.error().message()}}}}));
      }
      return result.error();
    }
    if (json_) {
      out.Line(Dump(*result));
    } else {
      Print(*result, out);
    }
    return Status::Ok();
  }

 protected:
  virtual Result<Json> Call(Output& out) = 0;
  virtual void Print(const Json& result, Output& out) = 0;
  void DeclareCommon(Arguments& a, bool with_name) {
    a.Positional("META", &target_, kTargetHelp);
    if (with_name) a.Positional("NAME", &name_, "The volume's name");
    a.Flag("--json", &json_, "Print JSON, errors as well");
  }
  std::string target_, name_;
  bool json_ = false;
};

class VolumeCreate final : public VolumeCommand {
 public:
  std::string Name() const override { return "create"; }
  std::string Summary() const override { return "Make a volume: a directory with a record and a quota"; }
  std::string Example() const override { return "moorfs volume create leveldb:/srv/meta pvc-1 --bytes 10GiB"; }
  void Declare(Arguments& a) override {
    DeclareCommon(a, true);
    a.Option("--bytes", &bytes_, "SIZE", "Most that it may hold (default: no limit)");
    a.Option("--inodes", &inodes_, "N", "Most files and directories, its own directory included (default: no limit)");
    a.Options("--parameter", &parameters_, "KEY=VALUE", "Kept in the record");
  }

 protected:
  Result<Json> Call(Output& out) override {
    Json request = {{"cmd", "volume-create"}, {"name", name_}};
    if (!bytes_.empty()) {
      ASSIGN_OR_RETURN(request["bytes"], Size("--bytes", bytes_));
    }
    if (!inodes_.empty()) {
      ASSIGN_OR_RETURN(request["inodes"], Number("--inodes", inodes_));
    }
    Json parameters = Json::object();
    for (const std::string& parameter : parameters_) {
      const size_t equals = parameter.find('=');
      if (equals == std::string::npos || equals == 0) {
        return Error(EINVAL, "use --parameter " + parameter + ": KEY=VALUE is needed");
      }
      const std::string key = parameter.substr(0, equals);
      if (parameters.contains(key)) return Error(EINVAL, "use --parameter " + key + ": it is given twice");
      parameters[key] = parameter.substr(equals + 1);
    }
    request["parameters"] = std::move(parameters);
    return CallPatiently(target_, request, out);
  }
  void Print(const Json& v, Output& out) override {
    out.Line((v.value("created", false) ? "made " : "exists ") + Describe(v));
  }

 private:
  std::string bytes_, inodes_;
  std::vector<std::string> parameters_;
};

class VolumeDelete final : public VolumeCommand {
 public:
  std::string Name() const override { return "delete"; }
  std::string Summary() const override { return "Remove a volume at once; its space is reclaimed behind it"; }
  std::string Example() const override { return "moorfs volume delete leveldb:/srv/meta pvc-1"; }
  void Declare(Arguments& a) override { DeclareCommon(a, true); }

 protected:
  Result<Json> Call(Output& out) override {
    return CallPatiently(target_, {{"cmd", "volume-delete"}, {"name", name_}}, out);
  }
  void Print(const Json& v, Output& out) override {
    out.Line(v.value("deleted", false) ? "deleted " + Printable(name_) : "there is no volume " + Printable(name_));
  }
};

class VolumeShow final : public VolumeCommand {
 public:
  std::string Name() const override { return "show"; }
  std::string Summary() const override { return "Show a volume"; }
  std::string Example() const override { return "moorfs volume show leveldb:/srv/meta pvc-1"; }
  void Declare(Arguments& a) override { DeclareCommon(a, true); }

 protected:
  Result<Json> Call(Output& out) override {
    return CallPatiently(target_, {{"cmd", "volume-show"}, {"name", name_}}, out);
  }
  void Print(const Json& v, Output& out) override {
    out.Line(Describe(v));
    const Json parameters = v.value("parameters", Json::object());
    for (const auto& [key, value] : parameters.items()) {
      out.Line("  " + Printable(key) + " = " + Printable(value.get<std::string>()));
    }
  }
};

class VolumeList final : public VolumeCommand {
 public:
  std::string Name() const override { return "list"; }
  std::string Summary() const override { return "List volumes in order of name"; }
  std::string Example() const override { return "moorfs volume list leveldb:/srv/meta --after pvc-1 --limit 100"; }
  void Declare(Arguments& a) override {
    DeclareCommon(a, false);
    a.Option("--after", &after_, "NAME", "Only those behind this name");
    a.Option("--limit", &limit_, "N", "At most so many");
  }

 protected:
  Result<Json> Call(Output& out) override {
    Json request = {{"cmd", "volume-list"}, {"after", after_}};
    if (!limit_.empty()) {
      ASSIGN_OR_RETURN(request["limit"], Number("--limit", limit_));
    }
    return CallPatiently(target_, request, out);
  }
  void Print(const Json& list, Output& out) override {
    const Json volumes = list.value("volumes", Json::array());
    for (const Json& v : volumes) out.Line(Describe(v));
  }

 private:
  std::string after_, limit_;
};

class VolumeCapacity final : public VolumeCommand {
 public:
  std::string Name() const override { return "capacity"; }
  std::string Summary() const override { return "Show how much room the object store has"; }
  std::string Example() const override { return "moorfs volume capacity leveldb:/srv/meta"; }
  void Declare(Arguments& a) override { DeclareCommon(a, false); }

 protected:
  Result<Json> Call(Output& out) override { return CallPatiently(target_, {{"cmd", "volume-capacity"}}, out); }
  void Print(const Json& v, Output& out) override {
    out.Line(FormatBytes(v.value("available_bytes", uint64_t{0})) + " available of " +
             FormatBytes(v.value("total_bytes", uint64_t{0})));
  }
};

class VolumeGroup final : public Command {
 public:
  std::string Name() const override { return "volume"; }
  std::string Summary() const override { return "Make, delete, show and list volumes (directories with a quota)"; }
  std::string Example() const override {
    return "moorfs volume create leveldb:/srv/meta pvc-1 --bytes 10GiB\n  moorfs volume list leveldb:/srv/meta";
  }
  void Declare(Arguments&) override {}
  Status Run(Output&) override { return Status(EINVAL, "one of create, delete, show, list, capacity is needed"); }
  std::vector<std::unique_ptr<Command>> Children() override {
    std::vector<std::unique_ptr<Command>> out;
    out.push_back(std::make_unique<VolumeCreate>());
    out.push_back(std::make_unique<VolumeDelete>());
    out.push_back(std::make_unique<VolumeShow>());
    out.push_back(std::make_unique<VolumeList>());
    out.push_back(std::make_unique<VolumeCapacity>());
    return out;
  }
};

}  // namespace

std::unique_ptr<Command> MakeVolumeCommand() { return std::make_unique<VolumeGroup>(); }

}  // namespace moorfs::admin
