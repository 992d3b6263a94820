// SPDX-License-Identifier: Apache-2.0

#include "csi/arguments.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/agent/protocol.h"
#include "csi/services.h"
#include "csi/unix_server.h"

namespace moorfs::csi {
namespace {

constexpr int kUsageError = 2;
constexpr char kNone[] = "none";

constexpr char kNodeExample[] =
    "Example:\n"
    "  moorfs node --node-id \"$(hostname)\" --fs main=leveldb:/srv/main/meta \\\n"
    "    --http 127.0.0.1:9808\n"
    "\n"
    "Serves CSI at unix:///var/lib/kubelet/plugins/csi.moorfs.io/csi.sock, registers it\n"
    "with kubelet, and answers the FlexVolume door (moorfs-flex) at /run/moorfs/agent.sock.\n"
    "SIGTERM ends it and leaves every mount as it is.\n";
constexpr char kControllerExample[] =
    "Example:\n"
    "  moorfs controller --endpoint unix:///csi/csi.sock --fs main=leveldb:/srv/main/meta\n"
    "\n"
    "Serves CSI to the external-provisioner: a volume is a directory of a file system, with\n"
    "a record and a quota. It never mounts.\n";

// What a word of the command line became, or what is wrong with it.
Status Read(bool ok, std::string_view what) { return ok ? Status::Ok() : Status(EINVAL, std::string(what)); }

struct Common {
  std::string endpoint;
  std::string http;
  std::string log_level = "info";
  std::vector<std::string> fs;
  std::vector<std::string> pod_fs;
  std::string default_fs;

  void Declare(CLI::App& app) {
    app.add_option("--fs", fs, "A file system and the name that volumes call it by; may repeat")
        ->type_name("NAME=META")->expected(1)->take_all();
    app.add_option("--http", http, "Serve /healthz, /readyz and /metrics there")->type_name("ADDRESS:PORT");
    app.add_option("--log-level", log_level, "debug, info, warning or error")->type_name("LEVEL")->capture_default_str();
  }
  Status Apply(FileSystems* file_systems, std::string* csi_socket) const {
    log::Level level;
    RETURN_IF_ERROR(Read(log::ParseLevel(log_level, &level), "read --log-level: known are debug, info, warning, error"));
    log::SetLevel(level);
    ASSIGN_OR_RETURN_STATUS(*file_systems, FileSystems::Parse(fs, default_fs, pod_fs));
    ASSIGN_OR_RETURN_STATUS(*csi_socket, SocketPathOf(endpoint));
    return Status::Ok();
  }
};

// Parses, then turns words into arguments; says what is wrong with either.
template <typename Apply>
bool Parse(CLI::App& app, int argc, char** argv, int* exit_code, Apply apply) {
  try {
    app.parse(argc - 1, argv + 1);
  } catch (const CLI::ParseError& e) {
    *exit_code = app.exit(e) == 0 ? 0 : kUsageError;
    return false;
  }
  const Status status = apply();
  if (status.ok()) return true;
  std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), status.message().c_str());
  *exit_code = kUsageError;
  return false;
}

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

struct NodeWords : Common {
  std::string flex_trust = "pod";
  NodeArguments out;

  void DeclareNode(CLI::App& app) {
    app.add_option("--endpoint", endpoint, "The CSI socket [unix://KUBELET_ROOT/plugins/csi.moorfs.io/csi.sock]")
        ->envname("CSI_ENDPOINT")->type_name("unix:///PATH");
    app.add_option("--kubelet-endpoint", out.kubelet_endpoint,
                   "The CSI socket's path on the host, where kubelet sees another one than we do [as --endpoint]")
        ->type_name("PATH");
    app.add_option("--node-id", out.node_id, "This node's name in the cluster [the host's name]")
        ->envname("NODE_ID")->type_name("NAME");
    app.add_option("--max-volumes", out.max_volumes, "Volumes that kubelet may place on this node; 0 is no limit")
        ->type_name("N")->check(CLI::Range(int64_t{0}, int64_t{1} << 31))->capture_default_str();
    app.add_option("--state-root", out.state_root, "Records, mount sources and sockets of clients")
        ->type_name("DIR")->default_val("/var/lib/moorfs");
    app.add_option("--kubelet-root", out.kubelet_root, "kubelet's --root-dir; targets must be below it")
        ->type_name("DIR")->default_val("/var/lib/kubelet");
    app.add_option("--registration-dir", out.registration_dir,
                   "Where kubelet looks for plugins; 'none' does not register [KUBELET_ROOT/plugins_registry]")
        ->type_name("DIR");
    app.add_option("--agent-socket", out.agent_socket, "Where the FlexVolume door finds us; 'none' for no door")
        ->type_name("PATH")->default_val(agent::kDefaultSocket);
    app.add_option("--pod-fs", pod_fs,
                   "A name of --fs that volumes described in a pod itself (inline flexVolume and CSI) may use: whoever "
                   "may create a pod then reaches all of it; may repeat")
        ->type_name("NAME")->expected(1)->take_all();
    app.add_option("--flex-trust", flex_trust,
                   "Who chose the options of inline flexVolumes: 'pod' refuses host paths, 'volume' takes them")
        ->type_name("WHO")->check(CLI::IsMember({"pod", "volume"}))->capture_default_str();
  }
  Status Finish() {
    if (endpoint.empty()) endpoint = "unix://" + out.kubelet_root + "/plugins/" + kDriverName + "/csi.sock";
    RETURN_IF_ERROR(Apply(&out.file_systems, &out.csi_socket));
    out.http = http;
    if (out.kubelet_endpoint.empty()) out.kubelet_endpoint = out.csi_socket;
    ASSIGN_OR_RETURN_STATUS(out.kubelet_endpoint, SocketPathOf(out.kubelet_endpoint));
    if (out.node_id.empty()) out.node_id = HostName();
    RETURN_IF_ERROR(Read(!out.node_id.empty() && out.node_id.size() <= 256, "read --node-id: it has 1 to 256 bytes"));
    for (const std::string* path : {&out.state_root, &out.kubelet_root}) {
      RETURN_IF_ERROR(Read(path->starts_with('/'), "read " + *path + ": a directory must be an absolute path"));
    }
    if (out.registration_dir.empty()) out.registration_dir = out.kubelet_root + "/plugins_registry";
    if (out.registration_dir == kNone) out.registration_dir.clear();
    if (out.agent_socket == kNone) out.agent_socket.clear();
    out.flex_trust = flex_trust == "volume" ? config::Trust::kVolume : config::Trust::kPod;
    return Status::Ok();
  }
};

}  // namespace

std::optional<NodeArguments> ParseNodeArguments(int argc, char** argv, int* exit_code) {
  CLI::App app("The node agent: CSI and FlexVolume on one mount manager.", "moorfs node");
  app.footer(kNodeExample);
  NodeWords words;
  words.Declare(app);
  words.DeclareNode(app);
  if (!Parse(app, argc, argv, exit_code, [&] { return words.Finish(); })) return std::nullopt;
  return words.out;
}

std::optional<ControllerArguments> ParseControllerArguments(int argc, char** argv, int* exit_code) {
  CLI::App app("The CSI controller: makes and deletes volumes.", "moorfs controller");
  app.footer(kControllerExample);
  Common words;
  ControllerArguments out;
  words.Declare(app);
  app.add_option("--endpoint", words.endpoint, "The CSI socket")
      ->envname("CSI_ENDPOINT")->type_name("unix:///PATH")->required();
  app.add_option("--default-fs", words.default_fs, "The file system of a StorageClass that names none [the only one]")
      ->type_name("NAME");
  const bool parsed = Parse(app, argc, argv, exit_code, [&] {
    out.http = words.http;
    RETURN_IF_ERROR(Read(!words.fs.empty(), "read --fs: at least one NAME=META is needed to make volumes in"));
    return words.Apply(&out.file_systems, &out.csi_socket);
  });
  if (!parsed) return std::nullopt;
  return out;
}

}  // namespace moorfs::csi
