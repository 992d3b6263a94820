// SPDX-License-Identifier: Apache-2.0

#include "csi/registration.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/base/text.h"
#include "common/log/log.h"
#include "csi/proto/csi.grpc.pb.h"
#include "csi/services.h"
#include "csi/unix_server.h"
#include "csi/proto/pluginregistration.grpc.pb.h"

namespace moorfs::csi {
namespace {

namespace reg = ::pluginregistration;

// kubelet asks one thing after the other.
constexpr int kThreads = 4;
constexpr std::chrono::milliseconds kAskTimeout{5'000};
constexpr std::chrono::milliseconds kAskAgain{500};

}  // namespace

struct Registration::Impl final : public reg::Registration::Service {
  explicit Impl(const RegistrationConfig& c)
      : config(c), path(c.directory + "/" + kDriverName + "-reg.sock") {}

  const RegistrationConfig config;
  const std::string path;
  std::unique_ptr<UnixServer> server;  // the thread's own

  mutable std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;
  bool refused = false;
  Status state{EAGAIN, "kubelet has not registered the driver yet"};
  std::thread thread;

  grpc::Status GetInfo(grpc::ServerContext*, const reg::InfoRequest*, reg::PluginInfo* info) override;
  grpc::Status NotifyRegistrationStatus(grpc::ServerContext*, const reg::RegistrationStatus* status,
                                        reg::RegistrationStatusResponse*) override;
  void Run();
  void Offer();
  void SetState(Status status);
  // True when it is time to stop.
  bool Sleep(std::chrono::milliseconds duration);
  bool Refused();
};

grpc::Status Registration::Impl::GetInfo(grpc::ServerContext*, const reg::InfoRequest*, reg::PluginInfo* info) {
  info->set_type("CSIPlugin");
  info->set_name(kDriverName);
  info->set_endpoint(config.endpoint);
  info->add_supported_versions("1.0.0");
  return grpc::Status::OK;
}

grpc::Status Registration::Impl::NotifyRegistrationStatus(grpc::ServerContext*, const reg::RegistrationStatus* status,
                                                          reg::RegistrationStatusResponse*) {
  std::lock_guard lock(mutex);
  if (status->plugin_registered()) {
    if (!state.ok()) LOG_INFO("registration") << "kubelet registered " << kDriverName << " at " << config.endpoint;
    state = Status::Ok();
  } else {
    state = Status(ECONNREFUSED, "kubelet refused the driver: " + Printable(status->error()));
    LOG_WARNING("registration") << state.message();
    refused = true;
    wake.notify_all();
  }
  return grpc::Status::OK;
}

void Registration::Impl::SetState(Status status) {
  std::lock_guard lock(mutex);
  state = std::move(status);
}

bool Registration::Impl::Sleep(std::chrono::milliseconds duration) {
  std::unique_lock lock(mutex);
  wake.wait_for(lock, duration, [&] { return stopping || refused; });
  return stopping;
}

bool Registration::Impl::Refused() {
  std::lock_guard lock(mutex);
  return std::exchange(refused, false);
}

// Puts the socket where kubelet looks, once the driver itself answers.
void Registration::Impl::Offer() {
  Status status = AskNodeInfo(config.csi_socket, kAskTimeout);
  if (status.ok()) {
    auto started = UnixServer::Start({.path = path, .mode = 0600, .max_threads = kThreads}, {this});
    if (started) {
      server = std::move(*started);
      return;
    }
    status = started.error();
  }
  status = status.Annotate("offer the driver to kubelet");
  LOG_WARNING("registration") << status.message() << " errno=" << ErrnoName(status.err());
  SetState(status);
}

void Registration::Impl::Run() {
  for (;;) {
    if (server && !server->NameIsOurs()) {
      LOG_WARNING("registration") << "somebody removed " << path << "; making it again";
      server.reset();
      SetState(Status(EAGAIN, "kubelet has not registered the driver again yet"));
    }
    if (!server) Offer();
    if (Sleep(server ? config.check_interval : kAskAgain)) break;
    if (Refused()) {
      server.reset();
      if (Sleep(config.retry_delay)) break;
    }
  }
  server.reset();
}

std::unique_ptr<Registration> Registration::Start(const RegistrationConfig& config) {
  auto impl = std::make_unique<Impl>(config);
  impl->thread = std::thread([p = impl.get()] { p->Run(); });
  return std::unique_ptr<Registration>(new Registration(std::move(impl)));
}

Registration::Registration(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Registration::~Registration() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    impl_->wake.notify_all();
  }
  impl_->thread.join();
}

Status Registration::State() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->state;
}

Status AskNodeInfo(const std::string& csi_socket, std::chrono::milliseconds timeout) {
  grpc::ChannelArguments arguments;
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  // A channel of its own, that is gone with it.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel = grpc::CreateCustomChannel("unix:" + csi_socket, grpc::InsecureChannelCredentials(), arguments);
  const auto stub = ::csi::v1::Node::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  ::csi::v1::NodeGetInfoResponse response;
  const grpc::Status status = stub->NodeGetInfo(&context, {}, &response);
  if (!status.ok()) return Status(ECONNREFUSED, "ask " + csi_socket + " for its node: " + Printable(status.error_message()));
  if (response.node_id().empty()) return Status(EINVAL, "ask " + csi_socket + " for its node: it has no name");
  return Status::Ok();
}

}  // namespace moorfs::csi
