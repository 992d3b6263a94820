// SPDX-License-Identifier: Apache-2.0

#include "fs/admin/client_control.h"

#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/base/units.h"
#include "fs/admin/volume_ops.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

// Tells a caller every second how much is left, while another thread works.
class DrainProgress {
 public:
  DrainProgress(vfs::Vfs& vfs, control::Reply& reply) : vfs_(vfs), reply_(reply), thread_([this] { Loop(); }) {}
  ~DrainProgress() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void Loop() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, 1s, [this] { return done_; })) {
      // A caller that left is noticed by the answer at the end.
      if (!reply_.Progress("storing " + FormatBytes(vfs_.Stats().dirty_bytes)).ok()) return;
    }
  }
  vfs::Vfs& vfs_;
  control::Reply& reply_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

Result<Json> Drain(ClientParts& parts, control::Reply& reply) {
  const DrainProgress progress(parts.vfs, reply);
  if (Status s = parts.vfs.Drain(); !s.ok()) {
    const uint64_t left = parts.vfs.Stats().dirty_bytes;
    return Error(s.err(), FormatBytes(left) + " are not stored: " + s.message());
  }
  return Json::object();
}

Json StatusOf(ClientParts& parts) {
  const vfs::VfsStats v = parts.vfs.Stats();
  const chunk::BlockStoreStats b = parts.blocks.Stats();
  const int64_t up_ns = MonotonicNs() - parts.started_ns;
  std::string problem = v.last_error.empty() ? parts.maintenance.last_error() : v.last_error;
  Json out = {{"client_pid", getpid()},
              {"version", MOORFS_VERSION},
              {"client_uptime_s", up_ns / 1'000'000'000},
              {"dirty_bytes", v.dirty_bytes},
              {"dirty_budget_bytes", v.dirty_budget_bytes},
              {"open_files", v.open_files},
              {"locks", v.locks},
              {"cache_memory_bytes", b.memory_used_bytes},
              {"cache_disk_bytes", b.disk_used_bytes},
              {"cache_hits", b.memory_hits + b.disk_hits},
              {"cache_misses", b.misses},
              {"flush_errors", v.flush_errors},
              {"read_errors", v.read_errors},
              {"damaged_blocks", b.damaged},
              {"last_error", problem}};
  if (parts.draining) out["state"] = "storing";
  return out;
}

Json Stats(ClientParts& parts) {
  const vfs::VfsStats v = parts.vfs.Stats();
  const chunk::BlockStoreStats b = parts.blocks.Stats();
  const fuse::FuseStats f = parts.server.stats();
  uint64_t requests = 0, request_ns = 0;
  Json ops = Json::object();
  for (const fuse::OpStats& op : f.ops) {
    requests += op.count;
    request_ns += op.total_ns;
    ops[op.name] = {{"count", op.count}, {"errors", op.errors}, {"total_ns", op.total_ns}};
  }
  Json out = StatusOf(parts);
  out.update({{"requests", requests},
              {"request_ns", request_ns},
              {"operations", ops},
              {"read_bytes", v.read_bytes},
              {"written_bytes", v.written_bytes},
              {"flushed_bytes", v.flushed_bytes},
              {"flushes", v.flushes},
              {"compactions", v.compactions},
              {"inodes", v.inodes},
              {"map_bytes", v.map_bytes},
              {"store_puts", b.puts},
              {"store_put_bytes", b.put_bytes},
              {"store_gets", b.gets},
              {"store_get_bytes", b.get_bytes},
              {"store_deletes", b.deletes},
              {"reader_threads", f.reader_threads},
              {"executor_threads", f.executor_threads},
              {"executor_queued", f.executor_queued},
              {"slots_used", f.slots_used},
              {"slots_total", f.slots_total},
              {"parked", f.parked},
              {"resent", f.resent},
              {"repeated_replies", f.repeated_replies},
              {"took_over", f.took_over},
              {"engine", parts.kv.Stats()}});
  return out;
}

}  // namespace

Result<Json> AnswerClient(ClientParts& parts, const Json& request, control::Reply& reply) {
  const std::string command = request.at("cmd");
  if (command == "status") return StatusOf(parts);
  if (command == "stats") return Stats(parts);
  if (command == "drain") return Drain(parts, reply);
  VolumeHandles volume{parts.kv, parts.meta, parts.blocks, &parts.vfs, &parts.server.invalidator()};
  auto result = RunVolumeOp(request, volume, reply);
  // Inodes that the operation asked about may be opened again.
  parts.inodes.FinishUnlink();
  return result;
}

}  // namespace moorfs::admin
