// SPDX-License-Identifier: Apache-2.0
//
// A mount manager and volumes that remember instead of mounting, and the
// services over a real unix socket in front of them.

#pragma once

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <nlohmann/json.hpp>

#include "csi/proto/csi.grpc.pb.h"
#include "csi/services.h"
#include "csi/unix_server.h"
#include "test/support/temp_dir.h"

namespace moorfs::csi::test {

namespace pb = ::csi::v1;

class FakeManager final : public mount::MountManager {
 public:
  Result<mount::Published> Publish(const mount::PublishRequest& request) override {
    std::unique_lock lock(mutex_);
    ++publishes;
    last = request;
    if (hold_publishes) changed_.wait(lock, [&] { return !hold_publishes; });
    if (!next_error.ok()) return Error(std::exchange(next_error, Status::Ok()));
    auto& target = targets[request.target];
    mount::Published out{.mount_key = "key", .device = "0:57", .already = !target.target.empty()};
    target = {request.target, request.volume_id, request.options.subdir, request.options.read_only, true};
    return out;
  }
  Status Unpublish(const mount::UnpublishRequest& request) override {
    std::lock_guard lock(mutex_);
    ++unpublishes;
    if (!next_error.ok()) return std::exchange(next_error, Status::Ok());
    targets.erase(request.target);
    return Status::Ok();
  }
  std::optional<mount::TargetInfo> FindTarget(std::string_view target) override {
    std::lock_guard lock(mutex_);
    const auto found = targets.find(target);
    if (found == targets.end()) return std::nullopt;
    return found->second;
  }
  std::vector<mount::ClientInfo> List() override {
    std::lock_guard lock(mutex_);
    mount::ClientInfo client{.mount_key = "key"};
    for (const auto& [path, target] : targets) client.targets.push_back(target);
    return {client};
  }
  Result<mount::VolumeStats> Stats(std::string_view, int timeout_ms) override {
    last_timeout_ms = timeout_ms;
    if (hang_stats) std::this_thread::sleep_for(std::chrono::milliseconds(timeout_ms));
    return stats;
  }
  Result<control::Json> AskVolume(const std::string&, const control::Json&, int) override {
    return Error(ENOSYS, "nobody asks volumes here");
  }
  std::vector<std::string> Reconcile() override { return {}; }
  Counters GetCounters() override { return {}; }

  void Release() {
    std::lock_guard lock(mutex_);
    hold_publishes = false;
    changed_.notify_all();
  }

  std::atomic<int> publishes = 0, unpublishes = 0, last_timeout_ms = 0;
  mount::PublishRequest last;
  Status next_error;
  bool hold_publishes = false;
  std::atomic<bool> hang_stats = false;
  mount::VolumeStats stats;
  std::map<std::string, mount::TargetInfo, std::less<>> targets;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

// As common/mount/volume_admin.h says, per META.
class FakeVolumes final : public Volumes {
 public:
  Result<mount::VolumeRecord> Create(const std::string& meta, const mount::VolumeRecord& wanted, int) override {
    std::lock_guard lock(mutex_);
    const auto [it, fresh] = volumes[meta].try_emplace(wanted.name, wanted);
    if (fresh) it->second.directory = "volumes/" + wanted.name;
    const auto& there = it->second;
    if (there.bytes != wanted.bytes || there.inodes != wanted.inodes || there.parameters != wanted.parameters) {
      return Error(EEXIST, "create volume " + wanted.name + ": it exists with another size or other parameters");
    }
    return there;
  }
  Status Delete(const std::string& meta, const std::string& name, int) override {
    std::lock_guard lock(mutex_);
    volumes[meta].erase(name);
    return Status::Ok();
  }
  Result<mount::VolumeRecord> Get(const std::string& meta, const std::string& name, int) override {
    std::lock_guard lock(mutex_);
    const auto found = volumes[meta].find(name);
    if (found == volumes[meta].end()) return Error(ENOENT, "look up volume " + name + ": there is no such volume");
    return found->second;
  }
  Result<std::vector<mount::VolumeRecord>> List(const std::string& meta, const std::string& after, size_t limit,
                                                int) override {
    std::lock_guard lock(mutex_);
    std::vector<mount::VolumeRecord> out;
    for (auto it = volumes[meta].upper_bound(after); it != volumes[meta].end() && out.size() < limit; ++it) {
      out.push_back(it->second);
    }
    return out;
  }
  Result<mount::Capacity> GetCapacity(const std::string&, int) override {
    return mount::Capacity{.available_bytes = 70, .total_bytes = 100};
  }
  std::map<std::string, std::map<std::string, mount::VolumeRecord>> volumes;

 private:
  std::mutex mutex_;
};

class NobodyWatches final : public CallObserver {
 public:
  void Observe(const char*, const char*, double) override {}
};

inline std::shared_ptr<grpc::Channel> Dial(const std::string& path, const std::string& authority = "localhost") {
  grpc::ChannelArguments arguments;
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, authority);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel("unix:" + path, grpc::InsecureChannelCredentials(), arguments);
}

// Both roles' services on one socket, with the file systems `main` and `other`.
struct Served {
  explicit Served(int max_threads = 32) {
    auto parsed = FileSystems::Parse({"main=leveldb:/srv/main", "other=leveldb:/srv/other"}, "main", {"main"});
    REQUIRE(parsed);
    file_systems = std::move(*parsed);
    identity = MakeIdentityService(observer);
    node = MakeNodeService({.node_id = "node-7", .max_volumes = 11}, file_systems, manager, observer);
    controller = MakeControllerService(file_systems, volumes, observer);
    auto started = UnixServer::Start({.path = path, .max_threads = max_threads},
                                     {identity.get(), node.get(), controller.get()});
    REQUIRE(started);
    server = std::move(*started);
    channel = Dial(path);
  }
  std::unique_ptr<pb::Node::Stub> NodeStub() { return pb::Node::NewStub(channel); }
  std::unique_ptr<pb::Controller::Stub> ControllerStub() { return pb::Controller::NewStub(channel); }

  moorfs::test::TempDir dir;
  std::string path = dir / "csi.sock";
  FileSystems file_systems;
  FakeManager manager;
  FakeVolumes volumes;
  NobodyWatches observer;
  std::unique_ptr<grpc::Service> identity, node, controller;
  std::unique_ptr<UnixServer> server;
  std::shared_ptr<grpc::Channel> channel;
};

inline pb::VolumeCapability MountCapability(
    pb::VolumeCapability::AccessMode::Mode mode = pb::VolumeCapability::AccessMode::MULTI_NODE_MULTI_WRITER) {
  pb::VolumeCapability out;
  out.mutable_mount();
  out.mutable_access_mode()->set_mode(mode);
  return out;
}

// `stub.METHOD(request)` under a deadline: code, message and response.
template <typename Response, typename Stub, typename Request>
grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*), Stub& stub,
                  const Request& request, Response* response, int timeout_ms = 20'000) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_ms));
  return (stub.*method)(&context, request, response);
}

}  // namespace moorfs::csi::test
