// SPDX-License-Identifier: Apache-2.0
//
// csi.v1.Controller: a volume is a directory with a record and a quota. The
// service holds no state: the record in the file system is the truth, so that
// any number of repeats, restarts and overlapping calls give one volume.
//
// Expansion, snapshots and clones are not offered yet; their calls answer
// UNIMPLEMENTED as generated, and a content source is refused.

#include "csi/proto/csi.grpc.pb.h"
#include "csi/call.h"
#include "csi/capability.h"
#include "csi/in_flight.h"
#include "csi/services.h"
#include "csi/volume_text.h"

namespace moorfs::csi {
namespace {

namespace pb = ::csi::v1;

// The provisioner waits ten seconds by default; its deadline comes first.
constexpr int kCallMs = 60'000;
// Entries of one answer, whatever is asked for: gRPC's messages end at 4 MiB.
constexpr size_t kMaxEntries = 5'000;
constexpr char kSubdir[] = "subdir";
constexpr char kFs[] = "fs";

Status CheckCapabilities(const google::protobuf::RepeatedPtrField<pb::VolumeCapability>& capabilities) {
  if (capabilities.empty()) return Status(EINVAL, "read the request: volume_capabilities is missing");
  for (const pb::VolumeCapability& capability : capabilities) {
    RETURN_IF_ERROR(CheckCapability(capability));
    RETURN_IF_ERROR(CheckMountFlags(MountFlagsOf(capability)));
  }
  return Status::Ok();
}

struct Range {
  uint64_t required = 0;
  uint64_t limit = 0;  // 0: none
  bool Holds(uint64_t bytes) const { return bytes >= required && (limit == 0 || (bytes != 0 && bytes <= limit)); }
  uint64_t Wanted() const { return required != 0 ? required : limit; }
};

Result<Range> RangeOf(const pb::CapacityRange& range) {
  if (range.required_bytes() < 0 || range.limit_bytes() < 0) {
    return Error(ERANGE, "read capacity_range: a size is negative");
  }
  const Range out{static_cast<uint64_t>(range.required_bytes()), static_cast<uint64_t>(range.limit_bytes())};
  if (out.limit != 0 && out.required > out.limit) {
    return Error(ERANGE, "read capacity_range: required_bytes is more than limit_bytes");
  }
  return out;
}

void FillVolume(const std::string& fs, const mount::VolumeRecord& record, pb::Volume* volume) {
  volume->set_volume_id(FormatVolumeId({fs, record.name}));
  volume->set_capacity_bytes(static_cast<int64_t>(std::min<uint64_t>(record.bytes, INT64_MAX)));
  // What the node reads back: where the volume is, and the options of its class.
  auto& context = *volume->mutable_volume_context();
  for (const auto& [key, value] : record.parameters) context[key] = value;
  context[kFs] = fs;
  context[kSubdir] = record.directory;
}

// Where a listing goes on: behind the volume `after` of the file system `fs`.
// An id is such a place already.
using Place = VolumeId;

class ControllerService final : public pb::Controller::Service {
 public:
  ControllerService(const FileSystems& file_systems, Volumes& volumes, CallObserver& observer)
      : file_systems_(file_systems), volumes_(volumes), observer_(observer) {}

  grpc::Status ControllerGetCapabilities(grpc::ServerContext*, const pb::ControllerGetCapabilitiesRequest*,
                                         pb::ControllerGetCapabilitiesResponse* response) override {
    return RunCall(observer_, "ControllerGetCapabilities", [&] {
      using Rpc = pb::ControllerServiceCapability::RPC;
      for (const auto type :
           {Rpc::CREATE_DELETE_VOLUME, Rpc::LIST_VOLUMES, Rpc::GET_CAPACITY, Rpc::SINGLE_NODE_MULTI_WRITER}) {
        response->add_capabilities()->mutable_rpc()->set_type(type);
      }
      return Status::Ok();
    });
  }

  grpc::Status CreateVolume(grpc::ServerContext* context, const pb::CreateVolumeRequest* request,
                            pb::CreateVolumeResponse* response) override {
    return RunCall(observer_, "CreateVolume", [&] { return Create(*context, *request, response->mutable_volume()); });
  }
  grpc::Status DeleteVolume(grpc::ServerContext* context, const pb::DeleteVolumeRequest* request,
                            pb::DeleteVolumeResponse*) override {
    return RunCall(observer_, "DeleteVolume", [&] { return Delete(*context, *request); });
  }
  grpc::Status ValidateVolumeCapabilities(grpc::ServerContext* context,
                                          const pb::ValidateVolumeCapabilitiesRequest* request,
                                          pb::ValidateVolumeCapabilitiesResponse* response) override {
    return RunCall(observer_, "ValidateVolumeCapabilities", [&] { return Validate(*context, *request, response); });
  }
  grpc::Status ListVolumes(grpc::ServerContext* context, const pb::ListVolumesRequest* request,
                           pb::ListVolumesResponse* response) override {
    return RunCall(observer_, "ListVolumes", [&] { return List(*context, *request, response); });
  }
  grpc::Status GetCapacity(grpc::ServerContext* context, const pb::GetCapacityRequest* request,
                           pb::GetCapacityResponse* response) override {
    return RunCall(observer_, "GetCapacity", [&] { return Capacity(*context, *request, response); });
  }

 private:
  Status Create(const grpc::ServerContext& context, const pb::CreateVolumeRequest& request, pb::Volume* volume);
  Result<mount::VolumeRecord> CreateOrFind(const std::string& meta, const mount::VolumeRecord& wanted,
                                           const Range& range, int timeout_ms);
  Status Delete(const grpc::ServerContext& context, const pb::DeleteVolumeRequest& request);
  Status Validate(const grpc::ServerContext& context, const pb::ValidateVolumeCapabilitiesRequest& request,
                  pb::ValidateVolumeCapabilitiesResponse* response);
  Status List(const grpc::ServerContext& context, const pb::ListVolumesRequest& request,
              pb::ListVolumesResponse* response);
  Status Capacity(const grpc::ServerContext& context, const pb::GetCapacityRequest& request,
                  pb::GetCapacityResponse* response);

  const FileSystems& file_systems_;
  Volumes& volumes_;
  CallObserver& observer_;
  InFlight in_flight_;  // volume ids
};

Status ControllerService::Create(const grpc::ServerContext& context, const pb::CreateVolumeRequest& request,
                                 pb::Volume* volume) {
  RETURN_IF_ERROR(CheckText("name", request.name()));
  RETURN_IF_ERROR(CheckCapabilities(request.volume_capabilities()));
  if (request.has_volume_content_source()) {
    return Status(EINVAL, "create volume " + request.name() + ": making one from a snapshot or another volume is not "
                          "supported");
  }
  if (!request.mutable_parameters().empty()) {
    return Status(EINVAL, "create volume " + request.name() + ": mutable parameter '" +
                              request.mutable_parameters().begin()->first + "' is not known; there are none");
  }
  ASSIGN_OR_RETURN_STATUS(const Range range, RangeOf(request.capacity_range()));
  ASSIGN_OR_RETURN_STATUS(ClassParameters parameters, ParseClassParameters(ToMap(request.parameters()), file_systems_));
  ASSIGN_OR_RETURN_STATUS(const std::string meta, file_systems_.MetaOf(parameters.fs));
  ASSIGN_OR_RETURN_STATUS(const auto hold, in_flight_.Enter(FormatVolumeId({parameters.fs, request.name()}), "volume " + request.name()));
  const mount::VolumeRecord wanted{.name = request.name(),
                                   .bytes = range.Wanted(),
                                   .inodes = parameters.inodes,
                                   .parameters = std::move(parameters.options)};
  ASSIGN_OR_RETURN_STATUS(const mount::VolumeRecord record,
                          CreateOrFind(meta, wanted, range, BudgetMs(context, kCallMs)));
  FillVolume(parameters.fs, record, volume);
  return Status::Ok();
}

// The name may be taken by a volume that answers this request too: one of a
// size within the range and of the same class.
Result<mount::VolumeRecord> ControllerService::CreateOrFind(const std::string& meta, const mount::VolumeRecord& wanted,
                                                            const Range& range, int timeout_ms) {
  auto created = volumes_.Create(meta, wanted, timeout_ms);
  if (created || created.error().err() != EEXIST) return created;
  ASSIGN_OR_RETURN(mount::VolumeRecord there, volumes_.Get(meta, wanted.name, timeout_ms));
  const bool same_class = there.parameters == wanted.parameters && there.inodes == wanted.inodes;
  if (same_class && range.Holds(there.bytes)) return there;
  return created;
}

Status ControllerService::Delete(const grpc::ServerContext& context, const pb::DeleteVolumeRequest& request) {
  if (request.volume_id().empty()) return Status(EINVAL, "read the request: volume_id is missing");
  const auto id = ParseVolumeId(request.volume_id());
  // Never made by us, so there is nothing of ours to delete.
  if (!id || !CheckText("name", id->name).ok()) return Status::Ok();
  // One of ours whose file system we were not told of: "done" would leave its data behind for good.
  auto meta = file_systems_.MetaOf(id->fs);
  if (!meta) return Status(EBUSY, "delete volume " + request.volume_id() + ": " + meta.error().message());
  ASSIGN_OR_RETURN_STATUS(const auto hold, in_flight_.Enter(request.volume_id(), "volume " + request.volume_id()));
  const Status status = volumes_.Delete(*meta, id->name, BudgetMs(context, kCallMs));
  return status.err() == ENOENT ? Status::Ok() : status;
}

Status ControllerService::Validate(const grpc::ServerContext& context,
                                   const pb::ValidateVolumeCapabilitiesRequest& request,
                                   pb::ValidateVolumeCapabilitiesResponse* response) {
  RETURN_IF_ERROR(CheckText("volume_id", request.volume_id()));
  if (request.volume_capabilities().empty()) return Status(EINVAL, "read the request: volume_capabilities is missing");
  const auto id = ParseVolumeId(request.volume_id());
  if (!id || !file_systems_.Knows(id->fs)) {
    return Status(ENOENT, "look up volume " + request.volume_id() + ": there is no such volume");
  }
  ASSIGN_OR_RETURN_STATUS(const std::string meta, file_systems_.MetaOf(id->fs));
  ASSIGN_OR_RETURN_STATUS(const auto record, volumes_.Get(meta, id->name, BudgetMs(context, kCallMs)));
  const Status supported = CheckCapabilities(request.volume_capabilities());
  if (!supported.ok()) {
    response->set_message(supported.message());
    return Status::Ok();
  }
  *response->mutable_confirmed()->mutable_volume_capabilities() = request.volume_capabilities();
  *response->mutable_confirmed()->mutable_volume_context() = request.volume_context();
  *response->mutable_confirmed()->mutable_parameters() = request.parameters();
  return Status::Ok();
}

Status ControllerService::List(const grpc::ServerContext& context, const pb::ListVolumesRequest& request,
                               pb::ListVolumesResponse* response) {
  if (request.max_entries() < 0) return Status(EINVAL, "read the request: max_entries is negative");
  std::optional<Place> place;
  if (!request.starting_token().empty()) {
    place = ParseVolumeId(request.starting_token());
    if (!place || !file_systems_.Knows(place->fs)) {
      return Status(EAGAIN, "list volumes: this starting_token is none of ours; begin again without one");
    }
  }
  const size_t asked = request.max_entries() > 0 ? static_cast<size_t>(request.max_entries()) : kMaxEntries;
  size_t room = std::min(asked, kMaxEntries);
  for (auto fs = place ? file_systems_.all().find(place->fs) : file_systems_.all().begin();
       fs != file_systems_.all().end(); ++fs) {
    const std::string after = place && place->fs == fs->first ? place->name : "";
    // One more than there is room for tells whether this is the end.
    ASSIGN_OR_RETURN_STATUS(const auto records,
                            volumes_.List(fs->second, after, room + 1, BudgetMs(context, kCallMs)));
    for (const mount::VolumeRecord& record : records) {
      if (room == 0) {
        response->set_next_token(response->entries().rbegin()->volume().volume_id());
        return Status::Ok();
      }
      FillVolume(fs->first, record, response->add_entries()->mutable_volume());
      --room;
    }
  }
  return Status::Ok();
}

Status ControllerService::Capacity(const grpc::ServerContext& context, const pb::GetCapacityRequest& request,
                                   pb::GetCapacityResponse* response) {
  // Of something we cannot make there is none.
  for (const pb::VolumeCapability& capability : request.volume_capabilities()) {
    if (!CheckCapability(capability).ok()) return Status::Ok();
  }
  std::vector<std::string> metas;
  if (request.parameters().empty() && file_systems_.default_name().empty()) {
    for (const auto& [name, meta] : file_systems_.all()) metas.push_back(meta);
  } else {
    ASSIGN_OR_RETURN_STATUS(const auto parameters, ParseClassParameters(ToMap(request.parameters()), file_systems_));
    ASSIGN_OR_RETURN_STATUS(std::string meta, file_systems_.MetaOf(parameters.fs));
    metas.push_back(std::move(meta));
  }
  uint64_t available = 0;
  for (const std::string& meta : metas) {
    ASSIGN_OR_RETURN_STATUS(const auto capacity, volumes_.GetCapacity(meta, BudgetMs(context, kCallMs)));
    available += std::min<uint64_t>(capacity.available_bytes, INT64_MAX - available);
  }
  response->set_available_capacity(static_cast<int64_t>(available));
  return Status::Ok();
}

}  // namespace

std::unique_ptr<grpc::Service> MakeControllerService(const FileSystems& file_systems, Volumes& volumes,
                                                     CallObserver& observer) {
  return std::make_unique<ControllerService>(file_systems, volumes, observer);
}

}  // namespace moorfs::csi
