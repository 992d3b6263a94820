// SPDX-License-Identifier: Apache-2.0

#include "csi/arguments.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/agent/protocol.h"
#include "common/os/host.h"
#include "csi/services.h"
#include "csi/unix_server.h"

namespace moorfs::csi {
namespace {

constexpr int kUsageError = 2;
constexpr char kNone[] = "none";
constexpr char kKeeperSocket[] = "/run/moorfs/keeper.sock";

constexpr char kNodeExample[] =
    "Example:\n"
    "  moorfs node --node-id \"$(hostname)\" --fs main=leveldb:/srv/main/meta \\\n"
    "    --http 127.0.0.1:9808\n"
    "\n"
    "Serves CSI at unix:///var/lib/kubelet/plugins/csi.moorfs.io/csi.sock, registers it\n"
    "with kubelet, and answers the FlexVolume door (moorfs-flex) at /run/moorfs/agent.sock.\n"
    "SIGTERM ends it and leaves every mount as it is.\n"
    "\n"
    "In a cluster, with clients in pods:\n"
    "  moorfs node --mounts pods --config /etc/moorfs/config.json --node-id \"$NODE_NAME\"\n";
constexpr char kControllerExample[] =
    "Example:\n"
    "  moorfs controller --endpoint unix:///csi/csi.sock --fs main=leveldb:/srv/main/meta\n"
    "\n"
    "Serves CSI to the external-provisioner: a volume is a directory of a file system, with\n"
    "a record and a quota. It never mounts.\n"
    "\n"
    "In a cluster, where only nodes reach the file systems:\n"
    "  moorfs controller --endpoint unix:///csi/csi.sock --volumes agents --config /etc/moorfs/config.json\n";

// What a word of the command line became, or what is wrong with it.
Status Read(bool ok, std::string_view what) { return ok ? Status::Ok() : Status(EINVAL, std::string(what)); }

struct Common {
  std::string endpoint;
  std::string http;
  std::string log_level = "info";
  std::vector<std::string> fs;
  std::vector<std::string> pod_fs;
  std::string default_fs;
  std::string config_file;
  std::optional<config::ClusterConfig> config;
  KubeArguments kube;

  void Declare(CLI::App& app) {
    app.add_option("--config", config_file,
                   "The cluster's configuration file, which names the file systems (docs/cluster-config.md); instead of "
                   "--fs")->type_name("FILE");
    app.add_option("--kube-server", kube.server, "The Kubernetes API [that of the pod we run in]")->type_name("URL");
    app.add_option("--kube-ca", kube.ca_file, "Who vouches for --kube-server [as in a pod]")->type_name("FILE");
    app.add_option("--kube-token", kube.token_file, "The token for --kube-server [as in a pod]")->type_name("FILE");
    app.add_option("--fs", fs, "A file system and the name that volumes call it by; may repeat")
        ->type_name("NAME=META")->expected(1)->take_all();
    app.add_option("--http", http, "Serve /healthz, /readyz and /metrics there")->type_name("ADDRESS:PORT");
    app.add_option("--log-level", log_level, "debug, info, warning or error")->type_name("LEVEL")->capture_default_str();
  }
  Status ReadConfig() {
    if (config_file.empty()) return Status::Ok();
    RETURN_IF_ERROR(Read(fs.empty() && pod_fs.empty() && default_fs.empty(),
                         "read --config: the file says what --fs, --pod-fs and --default-fs say; give one or the other"));
    ASSIGN_OR_RETURN_STATUS(config, config::ReadClusterConfig(config_file));
    return Status::Ok();
  }
  // `used`: does anything here talk to Kubernetes, and which words would make it?
  Status CheckCluster(bool used, const char* words) const {
    if (!used) {
      return Read(kube.server.empty() && kube.ca_file.empty() && kube.token_file.empty(),
                  std::string("read --kube-server: it goes with ") + words);
    }
    RETURN_IF_ERROR(Read(config.has_value(), std::string("read ") + words + ": --config FILE is needed with it"));
    RETURN_IF_ERROR(Read(!kube.server.empty() || (kube.ca_file.empty() && kube.token_file.empty()),
                         "read --kube-ca, --kube-token: they go with --kube-server URL"));
    return Read(kube.server.empty() || kube.server.starts_with("https://") || kube.server.starts_with("http://"),
                "read --kube-server: it is no URL; write it like https://10.96.0.1:443");
  }
  Status Apply(FileSystems* file_systems, std::string* csi_socket) {
    log::Level level;
    RETURN_IF_ERROR(Read(log::ParseLevel(log_level, &level), "read --log-level: known are debug, info, warning, error"));
    log::SetLevel(level);
    RETURN_IF_ERROR(ReadConfig());
    if (config) {
      *file_systems = FileSystems::Of(*config);
    } else {
      ASSIGN_OR_RETURN_STATUS(*file_systems, FileSystems::Parse(fs, default_fs, pod_fs));
    }
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
    app.add_option("--mounts", out.mounts, "Where clients run: as processes beside us, or in mount pods")
        ->type_name("WHERE")->check(CLI::IsMember({kMountsInProcesses, kMountsInPods}))->capture_default_str();
    app.add_option("--keeper-socket", out.keeper_socket,
                   "With --mounts pods, who holds their descriptors beside us; 'none' for nobody")
        ->type_name("PATH")->default_val(kKeeperSocket);
  }
  Status Finish() {
    if (endpoint.empty()) endpoint = "unix://" + out.kubelet_root + "/plugins/" + kDriverName + "/csi.sock";
    RETURN_IF_ERROR(Apply(&out.file_systems, &out.csi_socket));
    out.http = http;
    if (out.kubelet_endpoint.empty()) out.kubelet_endpoint = out.csi_socket;
    ASSIGN_OR_RETURN_STATUS(out.kubelet_endpoint, SocketPathOf(out.kubelet_endpoint));
    if (out.node_id.empty()) out.node_id = os::HostName();
    RETURN_IF_ERROR(Read(!out.node_id.empty() && out.node_id.size() <= 256, "read --node-id: it has 1 to 256 bytes"));
    for (const std::string* path : {&out.state_root, &out.kubelet_root}) {
      RETURN_IF_ERROR(Read(path->starts_with('/'), "read " + *path + ": a directory must be an absolute path"));
    }
    if (out.registration_dir.empty()) out.registration_dir = out.kubelet_root + "/plugins_registry";
    if (out.registration_dir == kNone) out.registration_dir.clear();
    if (out.agent_socket == kNone) out.agent_socket.clear();
    if (out.keeper_socket == kNone) out.keeper_socket.clear();
    RETURN_IF_ERROR(CheckCluster(out.mounts == kMountsInPods, "--mounts pods"));
    out.config = config;
    out.kube = kube;
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
  app.add_option("--volumes", out.volumes,
                 "Who makes volumes: the file system's commands, here, or the agent of the node that serves it")
      ->type_name("HOW")->check(CLI::IsMember({kVolumesByCommands, kVolumesByAgents}))->capture_default_str();
  app.add_option("--node-id", out.node_id, "With --volumes agents, the node for a volume that none is nearer to [none]")
      ->type_name("NAME");
  const bool parsed = Parse(app, argc, argv, exit_code, [&] {
    out.http = words.http;
    RETURN_IF_ERROR(Read(!words.fs.empty() || !words.config_file.empty(),
                         "read --fs: at least one NAME=META is needed to make volumes in, or --config FILE"));
    RETURN_IF_ERROR(words.Apply(&out.file_systems, &out.csi_socket));
    const bool by_agents = out.volumes == kVolumesByAgents;
    RETURN_IF_ERROR(words.CheckCluster(by_agents, "--volumes agents"));
    RETURN_IF_ERROR(Read(by_agents || out.node_id.empty(), "read --node-id: it goes with --volumes agents"));
    RETURN_IF_ERROR(Read(!out.file_systems.all().empty(), "read --config: fileSystems names none to make volumes in"));
    out.config = words.config;
    out.kube = words.kube;
    return Status::Ok();
  });
  if (!parsed) return std::nullopt;
  return out;
}

}  // namespace moorfs::csi
