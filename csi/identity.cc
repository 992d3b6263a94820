// SPDX-License-Identifier: Apache-2.0
//
// csi.v1.Identity.

#include "csi/proto/csi.grpc.pb.h"
#include "csi/call.h"
#include "csi/services.h"

namespace moorfs::csi {
namespace {

namespace pb = ::csi::v1;

class IdentityService final : public pb::Identity::Service {
 public:
  explicit IdentityService(CallObserver& observer) : observer_(observer) {}

  grpc::Status GetPluginInfo(grpc::ServerContext*, const pb::GetPluginInfoRequest*,
                             pb::GetPluginInfoResponse* response) override {
    return RunCall(observer_, "GetPluginInfo", [&] {
      response->set_name(kDriverName);
      response->set_vendor_version(MOORFS_VERSION);
      return Status::Ok();
    });
  }

  grpc::Status GetPluginCapabilities(grpc::ServerContext*, const pb::GetPluginCapabilitiesRequest*,
                                     pb::GetPluginCapabilitiesResponse* response) override {
    return RunCall(observer_, "GetPluginCapabilities", [&] {
      response->add_capabilities()->mutable_service()->set_type(pb::PluginCapability::Service::CONTROLLER_SERVICE);
      return Status::Ok();
    });
  }

  grpc::Status Probe(grpc::ServerContext*, const pb::ProbeRequest*, pb::ProbeResponse* response) override {
    return RunCall(observer_, "Probe", [&] {
      response->mutable_ready()->set_value(true);
      return Status::Ok();
    });
  }

 private:
  CallObserver& observer_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeIdentityService(CallObserver& observer) {
  return std::make_unique<IdentityService>(observer);
}

}  // namespace moorfs::csi
