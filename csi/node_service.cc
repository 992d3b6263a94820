// SPDX-License-Identifier: Apache-2.0
//
// csi.v1.Node: kubelet's publish, unpublish and statistics, put before the
// mount manager. There is no staging: volumes of one file system share a client
// by its mount key, whoever asks first. There is no expansion on the node: a
// quota changes at the controller.

#include <limits>

#include "csi/proto/csi.grpc.pb.h"
#include "csi/call.h"
#include "csi/capability.h"
#include "csi/in_flight.h"
#include "csi/services.h"
#include "csi/volume_text.h"

namespace moorfs::csi {
namespace {

namespace pb = ::csi::v1;
using AccessMode = pb::VolumeCapability::AccessMode;

// kubelet waits two minutes for a call; an answer must come before.
constexpr int kPublishMs = 90'000;
constexpr int kUnpublishMs = 60'000;
constexpr int kStatsMs = 5'000;
// A volume that hangs must not take the threads that others need. Publishes of
// one file system, and of all; callers that wait for statistics. Further ones
// get the last numbers known, which takes a moment.
constexpr int kPublishesOfOne = 48;
constexpr int kPublishesOfAll = 80;
constexpr int kStatsWaiting = 8;
constexpr int kStatsAtOnceMs = 100;

bool IsReaderOnly(const pb::VolumeCapability& capability) {
  const auto mode = capability.access_mode().mode();
  return mode == AccessMode::SINGLE_NODE_READER_ONLY || mode == AccessMode::MULTI_NODE_READER_ONLY;
}

Status CheckPublish(const pb::NodePublishVolumeRequest& request) {
  RETURN_IF_ERROR(CheckText("volume_id", request.volume_id()));
  RETURN_IF_ERROR(CheckText("target_path", request.target_path()));
  if (!request.target_path().starts_with('/')) return Status(EINVAL, "read the request: target_path is not absolute");
  if (!request.has_volume_capability()) return Status(EINVAL, "read the request: volume_capability is missing");
  return CheckCapability(request.volume_capability());
}

// fsGroup, as kubelet's VOLUME_MOUNT_GROUP brings it: a decimal group id.
Result<std::optional<gid_t>> GroupOf(const pb::VolumeCapability& capability) {
  const std::string& text = capability.mount().volume_mount_group();
  if (text.empty()) return std::optional<gid_t>();
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9' || text.size() > 10) return Error(EINVAL, "read volume_mount_group: it is no group id");
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (value >= std::numeric_limits<gid_t>::max()) return Error(EINVAL, "read volume_mount_group: it is no group id");
  return std::optional<gid_t>(static_cast<gid_t>(value));
}

void SetUsage(pb::VolumeUsage::Unit unit, uint64_t total, uint64_t used, uint64_t available, pb::VolumeUsage* usage) {
  const auto clamp = [](uint64_t n) { return static_cast<int64_t>(std::min<uint64_t>(n, INT64_MAX)); };
  usage->set_unit(unit);
  usage->set_total(clamp(total));
  usage->set_used(clamp(used));
  usage->set_available(clamp(available));
}

class NodeService final : public pb::Node::Service {
 public:
  NodeService(NodeIdentity identity, const FileSystems& file_systems, mount::MountManager& manager,
              CallObserver& observer)
      : identity_(std::move(identity)), file_systems_(file_systems), manager_(manager), observer_(observer) {}

  grpc::Status NodeGetCapabilities(grpc::ServerContext*, const pb::NodeGetCapabilitiesRequest*,
                                   pb::NodeGetCapabilitiesResponse* response) override {
    return RunCall(observer_, "NodeGetCapabilities", [&] {
      using Rpc = pb::NodeServiceCapability::RPC;
      for (const auto type : {Rpc::GET_VOLUME_STATS, Rpc::VOLUME_CONDITION, Rpc::VOLUME_MOUNT_GROUP,
                              Rpc::SINGLE_NODE_MULTI_WRITER}) {
        response->add_capabilities()->mutable_rpc()->set_type(type);
      }
      return Status::Ok();
    });
  }

  grpc::Status NodeGetInfo(grpc::ServerContext*, const pb::NodeGetInfoRequest*,
                           pb::NodeGetInfoResponse* response) override {
    return RunCall(observer_, "NodeGetInfo", [&] {
      response->set_node_id(identity_.node_id);
      response->set_max_volumes_per_node(identity_.max_volumes);
      return Status::Ok();
    });
  }

  grpc::Status NodePublishVolume(grpc::ServerContext* context, const pb::NodePublishVolumeRequest* request,
                                 pb::NodePublishVolumeResponse*) override {
    return RunCall(observer_, "NodePublishVolume", [&] { return Publish(*context, *request); });
  }

  grpc::Status NodeUnpublishVolume(grpc::ServerContext* context, const pb::NodeUnpublishVolumeRequest* request,
                                   pb::NodeUnpublishVolumeResponse*) override {
    return RunCall(observer_, "NodeUnpublishVolume", [&] { return Unpublish(*context, *request); });
  }

  grpc::Status NodeGetVolumeStats(grpc::ServerContext* context, const pb::NodeGetVolumeStatsRequest* request,
                                  pb::NodeGetVolumeStatsResponse* response) override {
    return RunCall(observer_, "NodeGetVolumeStats", [&] { return Stats(*context, *request, response); });
  }

 private:
  Status Publish(const grpc::ServerContext& context, const pb::NodePublishVolumeRequest& request);
  Status PublishAlone(const grpc::ServerContext& context, mount::PublishRequest wanted);
  Status PublishAmongOthers(const grpc::ServerContext& context, mount::PublishRequest wanted);
  Status Unpublish(const grpc::ServerContext& context, const pb::NodeUnpublishVolumeRequest& request);
  Status Stats(const grpc::ServerContext& context, const pb::NodeGetVolumeStatsRequest& request,
               pb::NodeGetVolumeStatsResponse* response);
  Status RefuseSecondTarget(const mount::PublishRequest& wanted);
  // How long the manager may take; ETIMEDOUT when the caller has left already.
  static Status Budget(const grpc::ServerContext& context, int longest, int* timeout_ms);

  const NodeIdentity identity_;
  const FileSystems& file_systems_;
  mount::MountManager& manager_;
  CallObserver& observer_;
  InFlight single_writers_;  // volume ids that are being published to their only target
  InFlight publishes_of_one_{kPublishesOfOne};  // by META
  InFlight publishes_of_all_{kPublishesOfAll};
  InFlight stats_{kStatsWaiting};
};

Status NodeService::Budget(const grpc::ServerContext& context, int longest, int* timeout_ms) {
  *timeout_ms = BudgetMs(context, longest);
  if (*timeout_ms > 0) return Status::Ok();
  return Status(ETIMEDOUT, "begin the call: the caller's deadline has passed; nothing was done");
}

Status NodeService::Publish(const grpc::ServerContext& context, const pb::NodePublishVolumeRequest& request) {
  RETURN_IF_ERROR(CheckPublish(request));
  const pb::VolumeCapability& capability = request.volume_capability();
  mount::PublishRequest wanted;
  wanted.target = request.target_path();
  wanted.volume_id = request.volume_id();
  ASSIGN_OR_RETURN_STATUS(wanted.group, GroupOf(capability));
  ASSIGN_OR_RETURN_STATUS(
      wanted.options,
      ParseVolumeText({.volume_id = request.volume_id(),
                       .context = ToMap(request.volume_context()),
                       .secrets = ToMap(request.secrets()),
                       .mount_flags = MountFlagsOf(capability),
                       .read_only = request.readonly() || IsReaderOnly(capability)},
                      file_systems_));
  if (capability.access_mode().mode() == AccessMode::SINGLE_NODE_SINGLE_WRITER) {
    return PublishAlone(context, std::move(wanted));
  }
  return PublishAmongOthers(context, std::move(wanted));
}

Status NodeService::PublishAmongOthers(const grpc::ServerContext& context, mount::PublishRequest wanted) {
  ASSIGN_OR_RETURN_STATUS(const InFlight::Hold one, publishes_of_one_.Enter(wanted.options.meta, "this file system"));
  ASSIGN_OR_RETURN_STATUS(const InFlight::Hold all, publishes_of_all_.Enter("", "this node's volumes"));
  RETURN_IF_ERROR(Budget(context, kPublishMs, &wanted.timeout_ms));
  auto published = manager_.Publish(wanted);
  return published ? Status::Ok() : published.error();
}

// ReadWriteOncePod: one target of the volume on this node, also when two
// callers come at once.
Status NodeService::PublishAlone(const grpc::ServerContext& context, mount::PublishRequest wanted) {
  ASSIGN_OR_RETURN_STATUS(const InFlight::Hold hold, single_writers_.Enter(wanted.volume_id, "volume " + wanted.volume_id));
  RETURN_IF_ERROR(RefuseSecondTarget(wanted));
  return PublishAmongOthers(context, std::move(wanted));
}

Status NodeService::RefuseSecondTarget(const mount::PublishRequest& wanted) {
  for (const mount::ClientInfo& client : manager_.List()) {
    for (const mount::TargetInfo& target : client.targets) {
      if (target.volume_id == wanted.volume_id && target.target != wanted.target) {
        return Status(EBUSY, "publish volume " + wanted.volume_id + ": it is for a single pod and published already at " +
                                 target.target);
      }
    }
  }
  return Status::Ok();
}

Status NodeService::Unpublish(const grpc::ServerContext& context, const pb::NodeUnpublishVolumeRequest& request) {
  RETURN_IF_ERROR(CheckText("volume_id", request.volume_id()));
  RETURN_IF_ERROR(CheckText("target_path", request.target_path()));
  if (!request.target_path().starts_with('/')) return Status(EINVAL, "read the request: target_path is not absolute");
  // A late repeat for one volume must not take another's mount from the same path.
  const auto there = manager_.FindTarget(request.target_path());
  if (there && !there->volume_id.empty() && there->volume_id != request.volume_id()) {
    return Status(ENOENT, "unpublish volume " + request.volume_id() + " from " + request.target_path() +
                              ": another volume, " + there->volume_id + ", is published there");
  }
  mount::UnpublishRequest wanted{.target = request.target_path()};
  RETURN_IF_ERROR(Budget(context, kUnpublishMs, &wanted.timeout_ms));
  return manager_.Unpublish(wanted);
}

Status NodeService::Stats(const grpc::ServerContext& context, const pb::NodeGetVolumeStatsRequest& request,
                          pb::NodeGetVolumeStatsResponse* response) {
  RETURN_IF_ERROR(CheckText("volume_id", request.volume_id()));
  RETURN_IF_ERROR(CheckText("volume_path", request.volume_path()));
  const auto there = manager_.FindTarget(request.volume_path());
  if (!there || there->volume_id != request.volume_id()) {
    return Status(ENOENT, "read statistics of volume " + request.volume_id() + ": it is not published at " +
                              request.volume_path());
  }
  const auto waiting = stats_.Enter("", "statistics");
  int timeout_ms = 0;
  RETURN_IF_ERROR(Budget(context, waiting ? kStatsMs : kStatsAtOnceMs, &timeout_ms));
  ASSIGN_OR_RETURN_STATUS(const mount::VolumeStats stats, manager_.Stats(request.volume_path(), timeout_ms));
  SetUsage(pb::VolumeUsage::BYTES, stats.total_bytes, stats.used_bytes, stats.available_bytes, response->add_usage());
  SetUsage(pb::VolumeUsage::INODES, stats.total_inodes, stats.used_inodes, stats.available_inodes,
           response->add_usage());
  response->mutable_volume_condition()->set_abnormal(stats.abnormal);
  response->mutable_volume_condition()->set_message(stats.condition.empty() ? "healthy" : stats.condition);
  return Status::Ok();
}

}  // namespace

std::unique_ptr<grpc::Service> MakeNodeService(NodeIdentity identity, const FileSystems& file_systems,
                                               mount::MountManager& manager, CallObserver& observer) {
  return std::make_unique<NodeService>(std::move(identity), file_systems, manager, observer);
}

}  // namespace moorfs::csi
