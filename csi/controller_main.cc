// SPDX-License-Identifier: Apache-2.0
//
// `moorfs controller`: its parts, made and put together.

#include "common/log/log.h"
#include "csi/arguments.h"
#include "csi/cluster.h"
#include "csi/role.h"
#include "csi/roles.h"
#include "csi/services.h"
#include "csi/unix_server.h"

namespace moorfs::csi {
namespace {

constexpr char kSelf[] = "/proc/self/exe";
// Each call runs a process of the file system's commands, or waits for an agent.
constexpr int kThreads = 16;

// Volumes through the file system's own commands.
class AdminVolumes final : public Volumes {
 public:
  explicit AdminVolumes(std::string executable) : admin_(std::move(executable)) {}
  Result<mount::VolumeRecord> Create(const std::string& meta, const mount::VolumeRecord& wanted,
                                     int timeout_ms) override {
    return admin_.Create(meta, wanted, timeout_ms);
  }
  Status Delete(const std::string& meta, const std::string& name, int timeout_ms) override {
    return admin_.Delete(meta, name, timeout_ms);
  }
  Result<mount::VolumeRecord> Get(const std::string& meta, const std::string& name, int timeout_ms) override {
    return admin_.Get(meta, name, timeout_ms);
  }
  Result<std::vector<mount::VolumeRecord>> List(const std::string& meta, const std::string& after, size_t limit,
                                                int timeout_ms) override {
    return admin_.List(meta, after, limit, timeout_ms);
  }
  Result<mount::Capacity> GetCapacity(const std::string& meta, int timeout_ms) override {
    return admin_.GetCapacity(meta, timeout_ms);
  }

 private:
  mount::VolumeAdmin admin_;
};

// The volumes, and what stands behind them; ended from the last to the first.
struct Backend {
  std::unique_ptr<kube::Api> api;
  std::unique_ptr<mount::LeaseCaller> caller;
  std::unique_ptr<Volumes> volumes;
};

Result<Backend> OpenBackend(const ControllerArguments& arguments) {
  Backend out;
  if (arguments.volumes != kVolumesByAgents) {
    out.volumes = std::make_unique<AdminVolumes>(kSelf);
    return out;
  }
  const std::string& ns = arguments.config->mount_pods.ns;
  ASSIGN_OR_RETURN(out.api, OpenKube(arguments.kube));
  ASSIGN_OR_RETURN(out.caller, mount::LeaseCaller::Start(*out.api, {.ns = ns, .fallback_node = arguments.node_id}));
  out.volumes = MakeAgentVolumes(*out.caller);
  LOG_INFO("controller") << "volumes are made by agents, asked through leases in namespace " << ns;
  return out;
}

int Serve(const ControllerArguments& arguments) {
  Metrics metrics("controller", nullptr);
  const auto backend = OpenBackend(arguments);
  if (!backend) return Fail("controller", backend.error());
  const auto identity = MakeIdentityService(metrics);
  const auto controller = MakeControllerService(arguments.file_systems, *backend->volumes, metrics);
  // The provisioner beside us need not be root; the directory of the socket says who may come.
  auto server = UnixServer::Start({.path = arguments.csi_socket, .mode = 0660, .max_threads = kThreads},
                                  {identity.get(), controller.get()});
  if (!server) return Fail("controller", server.error());
  const auto self = [&]() {
    if ((*server)->NameIsOurs()) return Status::Ok();
    return Status(ENOENT, "somebody removed " + arguments.csi_socket + "; a restart brings it back");
  };
  auto http = StartHttp(arguments.http, {.health = self, .ready = self, .metrics = [&] { return metrics.Text(); }});
  if (!http) return Fail("controller", http.error());
  LOG_INFO("controller") << "serving CSI at " << arguments.csi_socket;
  WaitForStop();
  return 0;
}

}  // namespace

int ControllerMain(int argc, char** argv) {
  BeginRole("controller");
  int exit_code = 0;
  const auto arguments = ParseControllerArguments(argc, argv, &exit_code);
  return arguments ? Serve(*arguments) : exit_code;
}

}  // namespace moorfs::csi
