// SPDX-License-Identifier: Apache-2.0
//
// One command of the command line, independent of the library that parses it
// (cli.cc): what it is called, which arguments it takes, what it does.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "fs/admin/output.h"

namespace moorfs::admin {

// Where a command says which arguments it takes. Pointers are filled before
// Run() and must live as long as the command.
class Arguments {
 public:
  virtual ~Arguments() = default;
  virtual void Positional(const std::string& name, std::string* value, const std::string& help,
                          bool required = true) = 0;
  // `flags` like "-o,--options" or "--name"; `metavar` is shown in the help.
  virtual void Option(const std::string& flags, std::string* value, const std::string& metavar,
                      const std::string& help, bool required = false) = 0;
  // May be given several times.
  virtual void Options(const std::string& flags, std::vector<std::string>* values, const std::string& metavar,
                       const std::string& help) = 0;
  virtual void Flag(const std::string& flags, bool* value, const std::string& help) = 0;
};

class Command {
 public:
  virtual ~Command() = default;
  virtual std::string Name() const = 0;
  virtual std::string Summary() const = 0;
  // Shown below --help, without the leading "Example:".
  virtual std::string Example() const = 0;
  virtual void Declare(Arguments& arguments) = 0;
  // A failure is printed as "moorfs NAME: message" and makes the exit code 1.
  virtual Status Run(Output& out) = 0;
  // A command that only groups others ("trash list") returns them here.
  virtual std::vector<std::unique_ptr<Command>> Children() { return {}; }
};

std::unique_ptr<Command> MakeFormatCommand();
std::unique_ptr<Command> MakeMountCommand();
std::unique_ptr<Command> MakeUmountCommand();
std::unique_ptr<Command> MakeStatusCommand();
std::unique_ptr<Command> MakeOptionsCommand();
std::unique_ptr<Command> MakeStatsCommand();
std::unique_ptr<Command> MakeInfoCommand();
std::unique_ptr<Command> MakeTrashCommand();
std::unique_ptr<Command> MakeQuotaCommand();
std::unique_ptr<Command> MakeVolumeCommand();
std::unique_ptr<Command> MakeFsckCommand();
std::unique_ptr<Command> MakeGcCommand();
std::unique_ptr<Command> MakeDumpCommand();
std::unique_ptr<Command> MakeLoadCommand();
std::unique_ptr<Command> MakeVersionCommand();

}  // namespace moorfs::admin
