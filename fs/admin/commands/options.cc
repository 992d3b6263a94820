// SPDX-License-Identifier: Apache-2.0
//
// `moorfs options`: every option of a volume, as a table for people or as
// docs/options.md.

#include <cstdio>

#include "common/config/volume_options.h"
#include "fs/admin/command.h"

namespace moorfs::admin {
namespace {

class OptionsCommand final : public Command {
 public:
  std::string Name() const override { return "options"; }
  std::string Summary() const override { return "List the options of volumes, and who may set them where"; }
  std::string Example() const override { return "moorfs options --markdown"; }
  void Declare(Arguments& a) override { a.Flag("--markdown", &markdown_, "Print docs/options.md"); }
  Status Run(Output& out) override {
    if (markdown_) {
      std::fputs(config::OptionsMarkdown().c_str(), stdout);
      return Status::Ok();
    }
    for (const config::OptionSpec& spec : config::OptionTable()) {
      char left[64];
      std::snprintf(left, sizeof left, "%-28s %-14s", (std::string(spec.name) + (*spec.metavar ? "=" : "") + spec.metavar).c_str(),
                    config::TrustName(spec.trust));
      out.Line(std::string(left) + " " + spec.help + " (default " + spec.fallback + ")");
    }
    return Status::Ok();
  }

 private:
  bool markdown_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeOptionsCommand() { return std::make_unique<OptionsCommand>(); }

}  // namespace moorfs::admin
