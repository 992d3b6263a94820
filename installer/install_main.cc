// SPDX-License-Identifier: Apache-2.0
//
// `moorfs install` and `moorfs uninstall`: the command line, and the process
// that stays on a node as the DaemonSet's container and looks after the files.

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>

#include "common/base/unique_fd.h"
#include "common/log/log.h"
#include "installer/install.h"

namespace moorfs::installer {
namespace {

constexpr int kUsageError = 2;

constexpr char kInstallExample[] =
    "Examples:\n"
    "  moorfs install                                   the FlexVolume driver, where kubelet looks for it\n"
    "  moorfs install --host-root /host --watch         in a DaemonSet that mounts the host's root at /host\n"
    "  moorfs install --full --plugin-dir none          moorfs and mount.moorfs for a host without kubelet\n"
    "\n"
    "May be run again at any time; what is there and right stays. Killed at any moment it leaves\n"
    "the old file or the new one, never a part of one.\n";
constexpr char kUninstallExample[] =
    "Examples:\n"
    "  moorfs uninstall\n"
    "  moorfs uninstall --host-root /host               after the DaemonSet is gone: it would install again\n"
    "\n"
    "Removes what `moorfs install` put there and nothing else. Refuses while pods have volumes\n"
    "mounted through the FlexVolume driver.\n";

struct Arguments {
  Options options;
  bool check = false;
  bool watch = false;
  int interval = 60;
  std::string ready_file;
};

void DeclareCommon(CLI::App& app, Options& o) {
  const auto directory = [&app](const char* name, std::string& value, const char* what) {
    return app.add_option(name, value, what)->type_name("DIR");
  };
  directory("--host-root", o.host_root, "Where the host's root directory is")->capture_default_str();
  directory("--host-proc", o.host_proc, "Where the host's /proc is; default: proc below the host's root");
  directory("--state", o.state, "The installer's own directory on the host")->capture_default_str();
  directory("--directory", o.directory, "The whole program's directory on the host")->capture_default_str();
}

void DeclareInstall(CLI::App& app, Arguments& a) {
  Options& o = a.options;
  DeclareCommon(app, o);
  app.add_option("--plugin-dir", o.plugin_dir,
                 "Kubelet's FlexVolume directory on the host; default: kubelet is asked, then the known places are "
                 "looked at; none: no driver")
      ->type_name("DIR");
  app.add_option("--source", o.source, "The driver to install; default: moorfs-flex beside this program")
      ->type_name("FILE");
  app.add_flag("--full", o.full, "Install the whole program with its libraries, and mount.moorfs, too");
  app.add_option("--sbin", o.sbin, "Where mount(8) looks for mount.moorfs; none: leave it out")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_flag("--allow-downgrade", o.allow_downgrade, "Also install over a newer version");
  app.add_flag("--check", a.check, "Change nothing; exit with 0 when all of it is installed and right");
  app.add_flag("--watch,--stay", a.watch, "Stay until SIGTERM; look after the files, install again what is not right");
  app.add_option("--interval", a.interval, "With --watch: seconds between two looks")
      ->type_name("S")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  app.add_option("--ready-file", a.ready_file, "With --watch: this file exists while everything is right")
      ->type_name("FILE");
}

bool Parse(CLI::App& app, int argc, char** argv, int* exit_code) {
  try {
    app.parse(argc - 1, argv + 1);
    return true;
  } catch (const CLI::ParseError& e) {
    *exit_code = app.exit(e) == 0 ? 0 : kUsageError;
    return false;
  }
}

// "/a//b/" as "/a/b": the manifest knows a file by one name.
Status Tidy(std::string* path, const char* option) {
  if (path->empty() || *path == "none") return Status::Ok();
  std::string out;
  for (const char c : *path) {
    if (c != '/' || out.empty() || out.back() != '/') out += c;
  }
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  *path = out;
  const bool climbs = (out + "/").find("/../") != std::string::npos || (out + "/").find("/./") != std::string::npos;
  if (out.front() == '/' && !climbs) return Status::Ok();
  return Status(EINVAL, std::string("read ") + option + ": want an absolute path without . and .., not " + out);
}

Status Tidy(Options* o) {
  RETURN_IF_ERROR(Tidy(&o->host_root, "--host-root"));
  RETURN_IF_ERROR(Tidy(&o->host_proc, "--host-proc"));
  RETURN_IF_ERROR(Tidy(&o->state, "--state"));
  RETURN_IF_ERROR(Tidy(&o->directory, "--directory"));
  RETURN_IF_ERROR(Tidy(&o->plugin_dir, "--plugin-dir"));
  return Tidy(&o->sbin, "--sbin");
}

int Tell(const char* command, const Result<std::string>& result) {
  if (result) {
    std::fputs(result->c_str(), stdout);
    return std::fflush(stdout) == 0 ? 0 : 1;
  }
  std::fprintf(stderr, "moorfs %s: %s\n", command, result.error().message().c_str());
  return 1;
}

void SetReady(const std::string& file, bool ready) {
  if (file.empty()) return;
  if (!ready) {
    unlink(file.c_str());
    return;
  }
  const UniqueFd fd(open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) LOG_ERROR("installer") << "cannot make " << file << ": " << strerror(errno);
}

void LogLines(const std::string& text) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    LOG_INFO("installer") << text.substr(begin, end - begin);
    begin = end + 1;
  }
}

// One look. Logs what changed and each new failure once.
void LookAfter(const Arguments& a, std::string* last_failure) {
  const auto right = Check(a.options);
  if (right) {
    SetReady(a.ready_file, true);
    last_failure->clear();
    return;
  }
  SetReady(a.ready_file, false);
  const auto done = Install(a.options);
  if (done) {
    LOG_WARNING("installer") << right.error().message() << ": installed again";
    LogLines(*done);
    SetReady(a.ready_file, true);
    last_failure->clear();
  } else if (*last_failure != done.error().message()) {
    *last_failure = done.error().message();
    LOG_ERROR("installer") << *last_failure << "; the next try is in " << a.interval << " seconds";
  }
}

int Watch(const Arguments& a) {
  log::SetRole("installer");
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigprocmask(SIG_BLOCK, &stop, nullptr);
  SetReady(a.ready_file, false);
  const auto first = Install(a.options);
  // The container ends with the reason, where `kubectl` shows it.
  if (!first) return Tell("install", first);
  LogLines(*first);
  SetReady(a.ready_file, true);
  std::string last_failure;
  const timespec interval{a.interval, 0};
  for (;;) {
    const int got = sigtimedwait(&stop, nullptr, &interval);
    if (got > 0) {
      LOG_INFO("installer") << "stopping: " << strsignal(got) << "; what is installed stays";
      SetReady(a.ready_file, false);
      return 0;
    }
    if (errno == EAGAIN) LookAfter(a, &last_failure);
  }
}

}  // namespace

int InstallMain(int argc, char** argv) {
  Arguments a;
  CLI::App app("Puts the FlexVolume driver, or all of MoorFS, onto this host.", "moorfs install");
  app.footer(kInstallExample);
  DeclareInstall(app, a);
  int exit_code = 0;
  if (!Parse(app, argc, argv, &exit_code)) return exit_code;
  if (const Status s = Tidy(&a.options); !s.ok()) return Tell("install", Error(s));
  if (a.check) return Tell("install", Check(a.options));
  return a.watch ? Watch(a) : Tell("install", Install(a.options));
}

int UninstallMain(int argc, char** argv) {
  Options options;
  CLI::App app("Takes away what `moorfs install` put onto this host.", "moorfs uninstall");
  app.footer(kUninstallExample);
  DeclareCommon(app, options);
  app.add_flag("--force", options.force, "Also while volumes are mounted: their pods hang until the driver is back");
  int exit_code = 0;
  if (!Parse(app, argc, argv, &exit_code)) return exit_code;
  if (const Status s = Tidy(&options); !s.ok()) return Tell("uninstall", Error(s));
  return Tell("uninstall", Uninstall(options));
}

}  // namespace moorfs::installer
