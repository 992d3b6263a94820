// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/fuse_server.h"

#include "fs/fuse/core.h"

namespace moorfs::fuse {

FuseServer::FuseServer(std::shared_ptr<Core> core) : core_(std::move(core)) {}
FuseServer::~FuseServer() = default;

Result<std::unique_ptr<FuseServer>> FuseServer::Create(UniqueFd fuse_fd, vfs::Arena& arena, FuseOptions options) {
  ASSIGN_OR_RETURN(auto core, Core::Create(std::move(fuse_fd), arena, std::move(options)));
  return std::unique_ptr<FuseServer>(new FuseServer(std::move(core)));
}

vfs::Invalidator& FuseServer::invalidator() { return core_->invalidator(); }
Result<Outcome> FuseServer::Run(vfs::FileSystem& fs) { return core_->Run(fs); }
void FuseServer::Stop() { core_->Stop(); }
bool FuseServer::drained() const { return core_->drained(); }
FuseStats FuseServer::stats() const { return core_->stats(); }

}  // namespace moorfs::fuse
