// SPDX-License-Identifier: Apache-2.0
//
// `moorfs node`: its parts, made and put together. They start in the order in
// which they may be asked for, and end in the other: kubelet hears first that
// we go, calls in flight end, and no mount is touched.

#include <ctime>

#include "common/base/units.h"
#include "common/log/log.h"
#include "common/mount/agent_server.h"
#include "common/mount/mount_manager.h"
#include "common/mount/pods/pod_manager.h"
#include "csi/arguments.h"
#include "csi/cluster.h"
#include "csi/registration.h"
#include "csi/role.h"
#include "csi/roles.h"
#include "csi/services.h"
#include "csi/unix_server.h"

namespace moorfs::csi {
namespace {

// Room for all publishes that may wait (node_service.cc), and the rest beside them.
// An idle server has two.
constexpr int kThreads = 128;
// The reconciler's last pass: older means that it is stuck.
constexpr int64_t kStaleReconcileNs = int64_t{180} * 1'000'000'000;

double Age(const mount::MountManager::Counters& counters) {
  return static_cast<double>(MonotonicNs() - counters.last_reconcile_ns) / 1e9;
}

std::vector<Gauge> NodeGauges(mount::MountManager& manager) {
  const auto c = manager.GetCounters();
  const auto number = [](auto n) { return static_cast<double>(n); };
  return {
      {"moorfs_node_publishes_total", "Targets that were published, repeats included", true, number(c.publishes)},
      {"moorfs_node_publish_failures_total", "Publishes that failed", true, number(c.publish_failures)},
      {"moorfs_node_unpublishes_total", "Targets that were unpublished", true, number(c.unpublishes)},
      {"moorfs_node_unpublish_failures_total", "Unpublishes that failed", true, number(c.unpublish_failures)},
      {"moorfs_node_repairs_total", "What the reconciler put right", true, number(c.repairs)},
      {"moorfs_node_clients", "Clients on this node", false, number(c.clients)},
      {"moorfs_node_targets", "Published targets on this node", false, number(c.targets)},
      {"moorfs_node_last_reconcile_age_seconds", "Time since the reconciler's last pass", false, Age(c)},
  };
}

class Node {
 public:
  explicit Node(const NodeArguments& arguments) : arguments_(arguments) {}
  Status Start();

 private:
  Status StartManager();
  Status StartServices();
  Status StartDoors();
  Status Healthy() const;
  Status Ready() const;

  const NodeArguments& arguments_;
  // Ended from the last to the first.
  std::unique_ptr<mount::MountManager> manager_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<grpc::Service> identity_, node_;
  std::unique_ptr<mount::AgentServer> agent_;
  std::unique_ptr<UnixServer> server_;
  std::unique_ptr<Registration> registration_;
  std::unique_ptr<HttpServer> http_;
};

Status Node::Start() {
  RETURN_IF_ERROR(StartManager());
  RETURN_IF_ERROR(StartServices());
  return StartDoors();
}

Status Node::StartManager() {
  mount::ManagerConfig config;
  config.state_root = arguments_.state_root;
  config.kubelet_root = arguments_.kubelet_root;
  if (arguments_.mounts == kMountsInPods) {
    mount::PodManagerConfig pods;
    pods.manager = config;
    pods.node = arguments_.node_id;
    pods.keeper_socket = arguments_.keeper_socket;
    pods.pods = arguments_.config->mount_pods;
    ASSIGN_OR_RETURN_STATUS(pods.api, KubeConfigOf(arguments_.kube));
    ASSIGN_OR_RETURN_STATUS(manager_, mount::StartPodManager(pods));
    LOG_INFO("node") << "clients run in mount pods in namespace " << pods.pods.ns;
  } else {
    ASSIGN_OR_RETURN_STATUS(manager_, mount::MountManager::Start(config));
  }
  metrics_ = std::make_unique<Metrics>("node", [this] { return NodeGauges(*manager_); });
  return Status::Ok();
}

Status Node::StartServices() {
  identity_ = MakeIdentityService(*metrics_);
  node_ = MakeNodeService({.node_id = arguments_.node_id, .max_volumes = arguments_.max_volumes},
                          arguments_.file_systems, *manager_, *metrics_);
  ASSIGN_OR_RETURN_STATUS(server_, UnixServer::Start({.path = arguments_.csi_socket, .max_threads = kThreads},
                                                     {identity_.get(), node_.get()}));
  LOG_INFO("node") << "serving CSI at " << arguments_.csi_socket << " as node " << arguments_.node_id;
  return Status::Ok();
}

Status Node::StartDoors() {
  if (!arguments_.agent_socket.empty()) {
    ASSIGN_OR_RETURN_STATUS(agent_, mount::AgentServer::Start(*manager_, {.socket_path = arguments_.agent_socket,
                                                                          .fs_names = arguments_.file_systems.all(),
                                                                          .pod_fs = arguments_.file_systems.open_to_pods(),
                                                                          .flex_trust = arguments_.flex_trust}));
  }
  if (!arguments_.registration_dir.empty()) {
    registration_ = Registration::Start({.directory = arguments_.registration_dir,
                                         .csi_socket = arguments_.csi_socket,
                                         .endpoint = arguments_.kubelet_endpoint});
  }
  ASSIGN_OR_RETURN_STATUS(http_, StartHttp(arguments_.http, {.health = [this] { return Healthy(); },
                                                             .ready = [this] { return Ready(); },
                                                             .metrics = [this] { return metrics_->Text(); }}));
  return Status::Ok();
}

// What a restart of this process would cure, and nothing else.
Status Node::Healthy() const {
  if (server_->NameIsOurs()) return Status::Ok();
  return Status(ENOENT, "somebody removed " + arguments_.csi_socket + "; a restart brings it back");
}

Status Node::Ready() const {
  RETURN_IF_ERROR(Healthy());
  if (registration_) RETURN_IF_ERROR(registration_->State());
  const auto counters = manager_->GetCounters();
  if (MonotonicNs() - counters.last_reconcile_ns > kStaleReconcileNs) {
    return Status(ETIMEDOUT, "the reconciler's last pass is " + std::to_string(static_cast<int>(Age(counters))) +
                                 " seconds old");
  }
  return Status::Ok();
}

}  // namespace

int NodeMain(int argc, char** argv) {
  BeginRole("node");
  int exit_code = 0;
  const auto arguments = ParseNodeArguments(argc, argv, &exit_code);
  if (!arguments) return exit_code;
  Node node(*arguments);
  if (const Status status = node.Start(); !status.ok()) return Fail("node", status);
  WaitForStop();
  return 0;
}

}  // namespace moorfs::csi
