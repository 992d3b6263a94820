// SPDX-License-Identifier: Apache-2.0

#include <sys/utsname.h>

#include <nlohmann/json.hpp>

#include "fs/admin/command.h"

namespace moorfs::admin {
namespace {

class VersionCommand final : public Command {
 public:
  std::string Name() const override { return "version"; }
  std::string Summary() const override { return "Print the version of this program and of the kernel"; }
  std::string Example() const override { return "moorfs version --json"; }
  void Declare(Arguments& a) override { a.Flag("--json", &json_, "Print JSON"); }
  Status Run(Output& out) override {
    utsname kernel{};
    if (uname(&kernel) != 0) return Status::FromErrno("ask for the kernel's version");
    if (json_) {
      out.Line(nlohmann::json{{"version", MOORFS_VERSION}, {"format_version", 1}, {"kernel", kernel.release}}.dump());
    } else {
      out.Line(std::string("moorfs ") + MOORFS_VERSION + " (volume format 1), Linux " + kernel.release);
    }
    return Status::Ok();
  }

 private:
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeVersionCommand() { return std::make_unique<VersionCommand>(); }

}  // namespace moorfs::admin
