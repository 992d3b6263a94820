// SPDX-License-Identifier: Apache-2.0

#include "csi/unix_server.h"

#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "common/log/log.h"
#include "common/os/file.h"

namespace moorfs::csi {
namespace {

constexpr int kMaxRequestBytes = 1 << 20;
constexpr size_t kMaxSocketPath = sizeof(sockaddr_un{}.sun_path) - 1;

// A server that was killed between binding and renaming left its directory.
void RemoveStale(const std::string& parent, const std::string& prefix) {
  std::error_code ec;
  for (const auto& each : std::filesystem::directory_iterator(parent, ec)) {
    if (!each.path().filename().string().starts_with(prefix)) continue;
    (void)unlink((each.path() / "s").c_str());
    (void)rmdir(each.path().c_str());
  }
}

// Room in the directory of `path` for a socket that nobody else can reach.
Result<std::string> PrivateDirectoryBeside(const std::string& path) {
  const std::filesystem::path whole(path);
  const std::string parent = whole.parent_path().string();
  TRY_VOID(os::MakeDirs(parent, 0750));
  // A leading dot: kubelet ignores such names in its registration directory.
  const std::string prefix = "." + whole.filename().string() + "-";
  RemoveStale(parent, prefix);
  std::string name = parent + "/" + prefix + "XXXXXX";
  if (mkdtemp(name.data()) == nullptr) return Error(Status::FromErrno("make a directory in " + parent));
  return name;
}

Status RefuseWhatIsNoSocket(const std::string& path) {
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) {
    return errno == ENOENT ? Status::Ok() : Status::FromErrno("look at " + path);
  }
  if (S_ISSOCK(st.st_mode)) return Status::Ok();
  return Status(EEXIST, "serve " + path + ": something is there that is no socket; move it away");
}

}  // namespace

Result<std::string> SocketPathOf(const std::string& endpoint) {
  std::string path = endpoint;
  if (path.starts_with("unix://")) {
    path.erase(0, 7);
  } else if (path.starts_with("unix:")) {
    path.erase(0, 5);
  }
  if (!path.starts_with('/') || path.ends_with('/')) {
    return Error(EINVAL, "read the endpoint " + endpoint + ": expected unix:///absolute/path.sock");
  }
  return path;
}

struct UnixServer::Impl {
  std::string path;
  dev_t dev = 0;
  ino_t ino = 0;
  std::unique_ptr<grpc::Server> server;

  Status Bind(const Config& config, const std::string& at, const std::vector<grpc::Service*>& services);
  Status Publish(const Config& config, const std::string& at);
};

Status UnixServer::Impl::Bind(const Config& config, const std::string& at,
                              const std::vector<grpc::Service*>& services) {
  if (at.size() > kMaxSocketPath) {
    return Status(ENAMETOOLONG, "serve " + path + ": a socket's path holds " + std::to_string(kMaxSocketPath) +
                                    " bytes, and it is bound at " + at + " first; use a shorter one");
  }
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(grpc::ResourceQuota("moorfs").SetMaxThreads(config.max_threads));
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  // Another server on the same name is a mistake, not a share of the load.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort("unix:" + at, grpc::InsecureServerCredentials());
  for (grpc::Service* service : services) builder.RegisterService(service);
  server = builder.BuildAndStart();
  if (!server) return Status(EADDRNOTAVAIL, "serve " + path + ": gRPC cannot bind or start; its own lines say why");
  return Status::Ok();
}

// The bound socket gets its mode and its name.
Status UnixServer::Impl::Publish(const Config& config, const std::string& at) {
  struct stat st;
  if (chmod(at.c_str(), config.mode) != 0 || lstat(at.c_str(), &st) != 0) {
    return Status::FromErrno("set the mode of the socket for " + path);
  }
  dev = st.st_dev;
  ino = st.st_ino;
  if (rename(at.c_str(), path.c_str()) != 0) return Status::FromErrno("put a socket at " + path);
  return Status::Ok();
}

Result<std::unique_ptr<UnixServer>> UnixServer::Start(const Config& config,
                                                      const std::vector<grpc::Service*>& services) {
  TRY_VOID(RefuseWhatIsNoSocket(config.path));
  ASSIGN_OR_RETURN(const std::string directory, PrivateDirectoryBeside(config.path));
  auto impl = std::make_unique<Impl>();
  impl->path = config.path;
  Status status = impl->Bind(config, directory + "/s", services);
  if (status.ok()) status = impl->Publish(config, directory + "/s");
  if (!status.ok() && impl->server) impl->server->Shutdown();
  (void)unlink((directory + "/s").c_str());
  if (rmdir(directory.c_str()) != 0) LOG_WARNING("csi") << "cannot remove " << directory << " errno=" << ErrnoName(errno);
  if (!status.ok()) return Error(status);
  return std::unique_ptr<UnixServer>(new UnixServer(std::move(impl)));
}

UnixServer::UnixServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

UnixServer::~UnixServer() {
  Unlink();
  impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(kDrainMs));
  impl_->server->Wait();
}

bool UnixServer::NameIsOurs() const {
  struct stat st;
  return lstat(impl_->path.c_str(), &st) == 0 && st.st_dev == impl_->dev && st.st_ino == impl_->ino;
}

void UnixServer::Unlink() {
  if (NameIsOurs()) (void)unlink(impl_->path.c_str());
}

}  // namespace moorfs::csi
