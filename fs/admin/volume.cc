// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/volume.h"

#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/control/client.h"
#include "common/os/host.h"
#include "fs/kv/open.h"
#include "fs/vfs/lost_blocks.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

class OutputReply final : public control::Reply {
 public:
  OutputReply(Output& out, const std::function<Status(std::string_view)>& on_line) : out_(out), on_line_(on_line) {}
  Status Progress(std::string_view text) override {
    out_.Progress(text);
    return Status::Ok();
  }
  Status Line(std::string_view text) override {
    if (on_line_) return on_line_(text);
    out_.Line(text);
    return Status::Ok();
  }
  bool Cancelled() override { return false; }

 private:
  Output& out_;
  const std::function<Status(std::string_view)>& on_line_;
};

Result<Json> CallClient(const keeper::RuntimePaths& paths, const Json& request, Output& out,
                        const std::function<Status(std::string_view)>& on_line) {
  Status line_error;
  control::CallOptions options;
  options.timeout_ms = 3'600'000;  // checks are long, and a client between two lives queues its callers
  options.on_progress = [&](std::string_view text) { out.Progress(text); };
  options.on_line = [&](std::string_view text) {
    if (!on_line) {
      out.Line(text);
    } else if (line_error.ok()) {
      line_error = on_line(text);
    }
  };
  auto result = control::Call(paths.ClientSocket(), request, options);
  if (!line_error.ok()) return Error(line_error);
  return result;
}

}  // namespace

Result<os::LockFile> LockVolume(const MetaUrl& meta, const std::string& command) {
  struct stat st;
  if (stat(meta.directory.c_str(), &st) != 0) {
    const int err = errno;
    return Error(err, "open " + meta.Shown() + ": " + (err == ENOENT ? "there is no such directory; `moorfs format` "
                                                                      "makes a volume, or correct the path"
                                                                    : Status::FromErrno("", err).message()));
  }
  // No lock file in a directory of somebody else's.
  if (access((meta.directory + "/CURRENT").c_str(), F_OK) != 0 && access(meta.lock_path.c_str(), F_OK) != 0) {
    return Error(ENOENT, "open " + meta.Shown() + ": there is no volume in that directory; `moorfs format` makes one, "
                         "or correct the path");
  }
  auto lock = os::LockFile::Acquire(meta.lock_path);
  if (!lock) {
    if (lock.error().err() != EBUSY) return Error(lock.error());
    const auto holder = FindHolder(meta);
    if (!holder) return Error(holder.error());
    const std::string who = *holder ? (*holder)->description : "in use by a process that just ended; try again";
    const bool mounted = *holder && !(*holder)->mountpoint.empty();
    return Error(EBUSY, "open " + meta.Shown() + ": it is " + who +
                            (mounted ? "; a volume of this kind has one mount at a time: use that one, or `moorfs umount " +
                                           (*holder)->mountpoint + "` first"
                                     : ""));
  }
  TRY_VOID(lock->SetContent(Json{{"pid", getpid()}, {"host", os::HostName()}, {"command", "moorfs " + command}}.dump()));
  return lock;
}

Result<OfflineVolume> OpenOffline(const MetaUrl& meta, const std::string& command) {
  OfflineVolume v;
  ASSIGN_OR_RETURN(v.lock, LockVolume(meta, command));
  ASSIGN_OR_RETURN(v.kv, kv::OpenKvStore(meta.url, {}));
  ASSIGN_OR_RETURN(v.format, meta::Meta::LoadFormat(*v.kv));
  ASSIGN_OR_RETURN(v.store, object::OpenObjectStore(v.format.store, false));
  TRY_VOID(v.store->CheckStore(v.format.uuid));
  chunk::BlockStoreOptions options;
  options.volume = v.format.uuid;
  options.codec = v.format.codec;
  ASSIGN_OR_RETURN(v.blocks, chunk::BlockStore::Create(*v.store, options));
  meta::MetaOptions meta_options;
  meta_options.is_open = [](Ino) { return false; };
  ASSIGN_OR_RETURN(v.meta, meta::Meta::Open(*v.kv, meta_options));
  // As a mount does: what a power cut took is no damage to report.
  ASSIGN_OR_RETURN(const vfs::LostBlocks lost, vfs::DropLostBlocks(*v.meta, *v.blocks));
  static_cast<void>(lost);  // logged
  return v;
}

Result<Json> CallVolume(const std::string& target, const Json& request, Output& out,
                        const std::function<Status(std::string_view)>& on_line) {
  if (!LooksLikeMeta(target)) {
    ASSIGN_OR_RETURN(const LiveMount mount, LocateMount(target));
    return CallClient(mount.paths, request, out, on_line);
  }
  ASSIGN_OR_RETURN(const MetaUrl meta, ParseMeta(target));
  ASSIGN_OR_RETURN(const auto holder, FindHolder(meta));
  if (holder && !holder->paths.directory.empty()) return CallClient(holder->paths, request, out, on_line);
  ASSIGN_OR_RETURN(OfflineVolume volume, OpenOffline(meta, request.value("cmd", "command")));
  OutputReply reply(out, on_line);
  VolumeHandles handles{*volume.kv, *volume.meta, *volume.blocks, nullptr, nullptr};
  return RunVolumeOp(request, handles, reply);
}

}  // namespace moorfs::admin
