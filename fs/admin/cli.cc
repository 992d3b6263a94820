// SPDX-License-Identifier: Apache-2.0
//
// `moorfs COMMAND …`: the commands put before CLI11, which parses and prints
// help. The only file that knows the library.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "common/config/nearest.h"
#include "common/log/log.h"
#include "fs/admin/command.h"
#include "fs/admin/roles.h"

namespace moorfs::admin {
namespace {

constexpr int kUsageError = 2;

class CliArguments final : public Arguments {
 public:
  explicit CliArguments(CLI::App& app) : app_(app) {}
  void Positional(const std::string& name, std::string* value, const std::string& help, bool required) override {
    app_.add_option(name, *value, help)->type_name("")->required(required);
  }
  void Option(const std::string& flags, std::string* value, const std::string& metavar, const std::string& help,
              bool required) override {
    app_.add_option(flags, *value, help)->type_name(metavar)->required(required);
  }
  void Options(const std::string& flags, std::vector<std::string>* values, const std::string& metavar,
               const std::string& help) override {
    // One value each time: the default would swallow the positionals behind.
    app_.add_option(flags, *values, help)->type_name(metavar)->expected(1)->take_all();
  }
  void Flag(const std::string& flags, bool* value, const std::string& help) override {
    app_.add_flag(flags, *value, help);
  }

 private:
  CLI::App& app_;
};

struct Entry {
  std::unique_ptr<Command> command;
  CLI::App* app;
  std::string full_name;
};

void Add(CLI::App& parent, std::unique_ptr<Command> command, const std::string& prefix, std::vector<Entry>* out) {
  CLI::App* app = parent.add_subcommand(command->Name(), command->Summary());
  app->footer("Example:\n  " + command->Example());
  CliArguments arguments(*app);
  command->Declare(arguments);
  auto children = command->Children();
  const std::string name = prefix + command->Name();
  if (!children.empty()) app->require_subcommand(1);
  for (auto& child : children) Add(*app, std::move(child), name + " ", out);
  out->push_back({std::move(command), app, name});
}

std::vector<std::unique_ptr<Command>> AllCommands() {
  std::vector<std::unique_ptr<Command>> all;
  for (auto make : {MakeFormatCommand, MakeMountCommand, MakeUmountCommand, MakeStatusCommand, MakeStatsCommand,
                    MakeInfoCommand, MakeTrashCommand, MakeQuotaCommand, MakeVolumeCommand,
                    MakeFsckCommand, MakeGcCommand, MakeDumpCommand,
                    MakeLoadCommand, MakeOptionsCommand, MakeVersionCommand}) {
    all.push_back(make());
  }
  return all;
}

// A mistyped command gets its nearest neighbour named; CLI11 would only list
// its arguments as extras.
bool NameNearest(CLI::App& root, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return false;
  std::vector<std::string> names;
  for (const CLI::App* sub : root.get_subcommands([](CLI::App*) { return true; })) {
    if (sub->get_name() == argv[1]) return false;
    names.push_back(sub->get_name());
  }
  const std::string near = config::Nearest(argv[1], names);
  std::fprintf(stderr, "moorfs: there is no command \"%s\"%s; see `moorfs --help`\n", argv[1],
               near.empty() ? "" : (", did you mean \"" + near + "\"?").c_str());
  return true;
}

}  // namespace

int CliMain(int argc, char** argv) {
  log::SetRole("cli");
  log::SetLevel(log::Level::kWarning);
  CLI::App root("MoorFS: a POSIX file system over a metadata engine and an object store", "moorfs");
  root.footer("Example:\n  moorfs format leveldb:/srv/meta --store file:/srv/data\n"
              "  moorfs mount leveldb:/srv/meta /mnt\n  moorfs umount /mnt\n"
              "Each command has its own help: moorfs mount --help\n"
              "For kubelet and by hand: moorfs node, controller, flex, csi, lint-volumes");
  bool version = false;
  root.add_flag("--version", version, "Print the version");
  std::vector<Entry> entries;
  for (auto& command : AllCommands()) Add(root, std::move(command), "", &entries);
  if (NameNearest(root, argc, argv)) return kUsageError;
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = root.exit(e);
    return code == 0 ? 0 : kUsageError;
  }
  if (version) {
    std::printf("moorfs %s\n", MOORFS_VERSION);
    return 0;
  }
  for (Entry& entry : entries) {
    if (!entry.app->parsed() || !entry.app->get_subcommands().empty()) continue;
    Output out;
    const Status status = entry.command->Run(out);
    if (status.ok()) return 0;
    out.Error(entry.full_name, status);
    return 1;
  }
  std::fputs(root.help().c_str(), stdout);
  return kUsageError;
}

}  // namespace moorfs::admin
