// SPDX-License-Identifier: Apache-2.0

#include "installer/kubelet.h"

#include <dirent.h>
#include <sys/stat.h>

#include <map>
#include <sstream>

#include "common/os/file.h"

namespace moorfs::installer {
namespace {

// The first is kubelet's own default. The others are of distributions where /usr
// cannot be written, or that keep a directory of their own.
constexpr const char* kWellKnown[] = {
    kDefaultPluginDir,
    "/etc/kubernetes/volumeplugins",                         // AKS
    "/etc/kubernetes/kubelet-plugins/volume/exec",           // OpenShift
    "/home/kubernetes/flexvolume",                           // GKE
    "/opt/libexec/kubernetes/kubelet-plugins/volume/exec",   // Flatcar
    "/usr/libexec/k0s/kubelet-plugins/volume/exec",          // k0s
    "/var/lib/kubelet/volumeplugins",                        // RKE, Kubespray, kOps on some systems
    "/var/lib/kubelet/volume-plugins",
    "/var/snap/microk8s/common/var/lib/kubelet/volumeplugins",
};
constexpr size_t kMaxFile = 1 << 20;

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string Trimmed(std::string text) {
  const auto drop = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '"' || c == '\'' || c == ','; };
  while (!text.empty() && drop(text.back())) text.pop_back();
  size_t begin = 0;
  while (begin < text.size() && drop(text[begin])) ++begin;
  return text.substr(begin);
}

// The last `--name VALUE` or `--name=VALUE`: kubelet's parser takes the last one, too.
std::string Flag(const std::vector<std::string>& argv, const std::string& name) {
  std::string value;
  for (size_t i = 0; i < argv.size(); ++i) {
    for (const std::string dashes : {"--", "-"}) {
      if (argv[i] == dashes + name && i + 1 < argv.size()) value = argv[i + 1];
      if (argv[i].starts_with(dashes + name + "=")) value = argv[i].substr(dashes.size() + name.size() + 1);
    }
  }
  return Trimmed(value);
}

// microk8s keeps kubelet's arguments in a file, one a line.
std::vector<std::string> WithArgumentsFile(std::vector<std::string> argv, const ReadHostFile& read) {
  const std::string file = Flag(argv, "kubelet-args-file");
  if (file.empty()) return argv;
  std::istringstream words(read(file));
  for (std::string word; words >> word;) argv.push_back(Trimmed(word));
  return argv;
}

bool IsKubelet(const std::vector<std::string>& argv) {
  if (argv.empty()) return false;
  const std::string name = BaseName(argv[0]);
  return name == "kubelet" || name == "kubelite" || (name == "hyperkube" && argv.size() > 1 && argv[1] == "kubelet");
}

std::vector<std::string> CommandLine(const std::string& proc, const std::string& pid) {
  std::vector<std::string> argv;
  const auto text = os::ReadFile(proc + "/" + pid + "/cmdline", kMaxFile);
  if (!text) return argv;  // it ended meanwhile
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\0', begin), text->size());
    argv.push_back(text->substr(begin, end - begin));
    begin = end + 1;
  }
  return argv;
}

// By directory: who uses it.
std::map<std::string, std::string> AskKubelets(const Host& host) {
  std::map<std::string, std::string> found;
  DIR* dir = opendir(host.proc().c_str());
  if (dir == nullptr) return found;
  const auto read = [&host](const std::string& path) {
    const auto ours = host.Resolve(path);
    const auto text = ours ? os::ReadFile(*ours, kMaxFile) : Result<std::string>(Error(ours.error()));
    return text ? *text : std::string();
  };
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    const std::string path = PluginDirOfCommand(CommandLine(host.proc(), entry->d_name), read);
    if (!path.empty()) found.emplace(path, std::string("used by the kubelet with pid ") + entry->d_name);
  }
  closedir(dir);
  return found;
}

std::map<std::string, std::string> LookForWellKnown(const Host& host) {
  std::map<std::string, std::string> found;
  for (const char* path : kWellKnown) {
    const auto ours = host.Resolve(path);
    struct stat st;
    if (!ours || stat(ours->c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) continue;
    found.emplace(path, "the one of the known ones that exists");
  }
  return found;
}

}  // namespace

std::string PluginDirOfConfig(const std::string& text) {
  std::istringstream lines(text);
  // Of YAML only top-level keys: a nested one is somebody else's.
  for (std::string line; std::getline(lines, line);) {
    const std::string key = "volumePluginDir";
    if (line.starts_with(key + ":")) return Trimmed(line.substr(key.size() + 1, line.find(" #") - key.size() - 1));
    const size_t at = line.find("\"" + key + "\"");
    if (at == std::string::npos) continue;
    const size_t begin = line.find('"', line.find(':', at));
    if (begin != std::string::npos) return line.substr(begin + 1, line.find('"', begin + 1) - begin - 1);
  }
  return "";
}

std::string PluginDirOfCommand(const std::vector<std::string>& command, const ReadHostFile& read) {
  if (!IsKubelet(command)) return "";
  const std::vector<std::string> argv = WithArgumentsFile(command, read);
  std::string path = Flag(argv, "volume-plugin-dir");
  if (path.empty()) {
    if (const std::string config = Flag(argv, "config"); !config.empty()) path = PluginDirOfConfig(read(config));
  }
  if (path.empty()) path = kDefaultPluginDir;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

Result<PluginDir> FindPluginDir(const Host& host) {
  std::map<std::string, std::string> found = AskKubelets(host);
  if (found.empty()) found = LookForWellKnown(host);
  if (found.empty()) return PluginDir{kDefaultPluginDir, "kubelet's default; no kubelet was seen"};
  if (found.size() == 1) return PluginDir{found.begin()->first, found.begin()->second};
  std::string all;
  for (const auto& [path, how] : found) all += (all.empty() ? "" : ", ") + path + " (" + how + ")";
  return Error(EINVAL, "find kubelet's plugin directory: there are several, choose one with --plugin-dir: " + all);
}

}  // namespace moorfs::installer
