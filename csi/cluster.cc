// SPDX-License-Identifier: Apache-2.0

#include "csi/cluster.h"

#include <algorithm>

#include "common/config/volume_options.h"
#include "common/mount/name_locks.h"
#include "common/mount/record.h"

namespace moorfs::csi {
namespace {

using kube::Json;

// An answer is an annotation, and shares 256 KiB with others: a record is a few
// hundred bytes.
constexpr size_t kPage = 100;

// Requests as `moorfs volume` sends them to a client.
class AgentVolumes final : public Volumes {
 public:
  explicit AgentVolumes(mount::LeaseCaller& caller) : caller_(caller) {}

  Result<mount::VolumeRecord> Create(const std::string& meta, const mount::VolumeRecord& wanted,
                                     int timeout_ms) override {
    Json request = {{"cmd", "volume-create"}, {"name", wanted.name}, {"parameters", wanted.parameters}};
    if (wanted.bytes > 0) request["bytes"] = wanted.bytes;
    if (wanted.inodes > 0) request["inodes"] = wanted.inodes;
    ASSIGN_OR_RETURN(const Json answer, Ask(meta, request, timeout_ms));
    return mount::DecodeVolume(answer);
  }
  Status Delete(const std::string& meta, const std::string& name, int timeout_ms) override {
    auto answer = Ask(meta, {{"cmd", "volume-delete"}, {"name", name}}, timeout_ms);
    return answer ? Status::Ok() : answer.error();
  }
  Result<mount::VolumeRecord> Get(const std::string& meta, const std::string& name, int timeout_ms) override {
    ASSIGN_OR_RETURN(const Json answer, Ask(meta, {{"cmd", "volume-show"}, {"name", name}}, timeout_ms));
    return mount::DecodeVolume(answer);
  }
  Result<std::vector<mount::VolumeRecord>> List(const std::string& meta, const std::string& after, size_t limit,
                                                int timeout_ms) override;
  Result<mount::Capacity> GetCapacity(const std::string& meta, int timeout_ms) override {
    ASSIGN_OR_RETURN(const Json answer, Ask(meta, {{"cmd", "volume-capacity"}}, timeout_ms));
    return mount::DecodeCapacity(answer);
  }

 private:
  Result<Json> Ask(const std::string& meta, const Json& request, int timeout_ms) {
    config::VolumeOptions options;
    options.meta = meta;
    return caller_.Call(mount::MountKeyOf(config::MountKeyText(options)), meta, request, timeout_ms);
  }

  mount::LeaseCaller& caller_;
};

Result<std::vector<mount::VolumeRecord>> AgentVolumes::List(const std::string& meta, const std::string& after,
                                                            size_t limit, int timeout_ms) {
  const auto deadline = mount::Deadline::In(timeout_ms);
  std::vector<mount::VolumeRecord> out;
  size_t page = kPage;
  while (out.size() < limit) {
    const size_t wanted = std::min(page, limit - out.size());
    const std::string& last = out.empty() ? after : out.back().name;
    auto answer = Ask(meta, {{"cmd", "volume-list"}, {"after", last}, {"limit", wanted}}, deadline.LeftMs());
    if (!answer && answer.error().err() == EMSGSIZE && wanted > 1) {
      // Records of many parameters.
      page = wanted / 2;
      continue;
    }
    if (!answer) return Error(answer.error());
    ASSIGN_OR_RETURN(std::vector<mount::VolumeRecord> some, mount::DecodeVolumes(*answer));
    const bool end = some.size() < wanted;
    if (!some.empty() && some.front().name <= last && !last.empty()) {
      return Error(EPROTO, "list volumes: the answer does not go on behind \"" + last + "\"");
    }
    std::move(some.begin(), some.end(), std::back_inserter(out));
    if (end) break;
  }
  return out;
}

}  // namespace

Result<kube::ApiConfig> KubeConfigOf(const KubeArguments& arguments) {
  // A pod's own certificate and token, also where another address is given.
  auto config = kube::InClusterConfig();
  if (!config && arguments.server.empty()) return config;
  kube::ApiConfig out = config ? std::move(*config) : kube::ApiConfig();
  if (!arguments.server.empty()) out.server = arguments.server;
  if (!arguments.ca_file.empty()) out.ca_file = arguments.ca_file;
  if (!arguments.token_file.empty()) out.token_file = arguments.token_file;
  return out;
}

Result<std::unique_ptr<kube::Api>> OpenKube(const KubeArguments& arguments) {
  ASSIGN_OR_RETURN(kube::ApiConfig config, KubeConfigOf(arguments));
  return kube::Api::Create(std::move(config));
}

std::unique_ptr<Volumes> MakeAgentVolumes(mount::LeaseCaller& caller) { return std::make_unique<AgentVolumes>(caller); }

}  // namespace moorfs::csi
