// SPDX-License-Identifier: Apache-2.0
//
// The agent's side: holds leases, hears asks and answers them.

#include "common/mount/pods/volume_leases.h"

#include <unistd.h>

#include <set>

#include "common/control/json_line.h"
#include "common/log/log.h"
#include "common/mount/pods/lease_board.h"

namespace moorfs::mount {
namespace {

using kube::Json;

// All annotations of an object share 256 KiB: more would keep others from being
// answered.
constexpr size_t kMaxAnswerBytes = 64 << 10;

// The API client has tried for seconds already.
constexpr int kMostTries = 3;
constexpr useconds_t kPauseUs = 200'000;
bool IsAway(const Status& status) { return status.err() == EHOSTUNREACH || status.err() == ETIMEDOUT; }

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
Json ErrorAnswer(int err, const std::string& message) {
  return {{"error", {{"errno", err}, {"message", message}}}};
}

// What is no request becomes one that no client knows, which is answered as such.
Json RequestOf(const std::string& text) {
  Json request = control::ParseLine(text);
  const bool is_one = request.is_object() && request.contains("cmd") && request["cmd"].is_string();
  return is_one ? request : Json{{"cmd", ""}};
}

class Leases final : public VolumeLeases {
 public:
  Leases(kube::Api& api, Config config) : config_(std::move(config)), locks_(MakeNameLocks()) {
    LeaseBoard::Config board;
    board.ns = config_.ns;
    board.on_change = [this](const VolumeLease& lease) { Hear(lease); };
    board.on_gone = [this](const std::string& key) { Forget(key); };
    board.cleans = [this](const VolumeLease& lease) { return lease.holder == config_.node; };
    // Callbacks may come before the constructor is through: they use what is above.
    board_ = std::make_unique<LeaseBoard>(api, std::move(board));
  }

  Status Acquire(const std::string& mount_key, const std::string& meta) override;
  Status Release(const std::string& mount_key) override;
  Status Answer(const std::string& mount_key, const std::string& id, const Json& answer) override;

 private:
  void Hear(const VolumeLease& lease);
  void Forget(const std::string& mount_key);
  Status Held(const VolumeLease& lease, const std::string& meta) const;
  Status Write(const std::string& mount_key, const std::string& id, const std::string& answer);

  const Config config_;
  const std::unique_ptr<NameLocks> locks_;  // of our own writes to one lease
  std::mutex mutex_;
  std::map<std::string, std::set<std::string>> heard_;  // ids, by mount key
  std::unique_ptr<LeaseBoard> board_;
};

Status Leases::Held(const VolumeLease& lease, const std::string& meta) const {
  return Status(EBUSY, "volume " + meta + " is held by node " + lease.holder +
                           ": a volume with an embedded engine is served by one node at a time; run its pods on that "
                           "node, or, when the node is gone for good, take the volume from it with `kubectl -n " +
                           config_.ns + " delete lease " + LeaseName(lease.mount_key) + "`");
}

Status Leases::Acquire(const std::string& mount_key, const std::string& meta) {
  if (const auto cached = board_->Cached(mount_key); cached && cached->holder == config_.node) return Status::Ok();
  for (int conflicts = 0;; ++conflicts) {
    // What the watch shows of another holder may be over.
    ASSIGN_OR_RETURN_STATUS(const auto lease, board_->Fetch(mount_key));
    if (lease && lease->holder == config_.node) return Status::Ok();
    if (lease && !lease->holder.empty()) return Held(*lease, meta);
    const auto taken = lease ? board_->Change(*lease, config_.node, nullptr)
                             : board_->Create(mount_key, meta, config_.node, nullptr);
    if (taken) {
      LOG_INFO("leases") << "this node, " << config_.node << ", holds volume " << meta;
      return Status::Ok();
    }
    if (!LeaseBoard::IsLostRace(taken.error().err())) return taken.error().Annotate("take volume " + meta);
    if (!LeaseBoard::PauseAfterConflict(conflicts)) {
      return Status(EAGAIN, "take volume " + meta + ": " + taken.error().message() + ", again and again");
    }
  }
}

Status Leases::Release(const std::string& mount_key) {
  auto lease = board_->Cached(mount_key);
  for (int conflicts = 0;; ++conflicts) {
    if (!lease || lease->holder != config_.node) {
      ASSIGN_OR_RETURN_STATUS(lease, board_->Fetch(mount_key));
    }
    if (!lease || lease->holder != config_.node) return Status::Ok();
    const auto released = board_->Change(*lease, "", nullptr);
    if (released) {
      LOG_INFO("leases") << "this node, " << config_.node << ", let go of volume " << lease->meta;
      return Status::Ok();
    }
    const int err = released.error().err();
    if (err == ENOENT) return Status::Ok();
    if (err != kErrnoConflict) return released.error().Annotate("let go of volume " + lease->meta);
    if (!LeaseBoard::PauseAfterConflict(conflicts)) {
      return Status(EAGAIN, "let go of volume " + lease->meta + ": " + released.error().message() + ", again and again");
    }
    lease.reset();
  }
}

// ---- asks ------------------------------------------------------------------------

void Leases::Hear(const VolumeLease& lease) {
  std::vector<Ask> fresh;
  {
    std::lock_guard lock(mutex_);
    std::set<std::string>& heard = heard_[lease.mount_key];
    std::erase_if(heard, [&](const std::string& id) { return !lease.asks.contains(id); });
    if (lease.holder == config_.node && config_.on_ask) {
      for (const auto& [id, text] : lease.asks) {
        if (lease.answers.contains(id) || IsStaleAsk(id) || !heard.insert(id).second) continue;
        fresh.push_back({lease.mount_key, lease.meta, id, RequestOf(text)});
      }
    }
    if (heard.empty()) heard_.erase(lease.mount_key);
  }
  for (Ask& ask : fresh) config_.on_ask(std::move(ask));
}

void Leases::Forget(const std::string& mount_key) {
  std::lock_guard lock(mutex_);
  heard_.erase(mount_key);
}

Status Leases::Answer(const std::string& mount_key, const std::string& id, const Json& answer) {
  std::string text = Dump(answer);
  if (text.size() > kMaxAnswerBytes) {
    text = Dump(ErrorAnswer(EMSGSIZE, "answer through the lease: " + std::to_string(text.size()) +
                                          " bytes are too many, ask for less"));
  }
  Status written = Write(mount_key, id, text);
  for (int tries = 1; tries < kMostTries && IsAway(written); ++tries) {
    usleep(kPauseUs * static_cast<useconds_t>(tries));
    written = Write(mount_key, id, text);
  }
  if (written.err() == EINVAL) {
    // The other annotations left no room.
    written = Write(mount_key, id, Dump(ErrorAnswer(EAGAIN, "answer through the lease: there is no room left, ask again")));
  }
  if (!written.ok() && written.err() != ENOENT) {
    // The next news of the lease bring the ask again.
    std::lock_guard lock(mutex_);
    if (const auto heard = heard_.find(mount_key); heard != heard_.end()) heard->second.erase(id);
  }
  return written;
}

// With the ask in place only: an answer that nobody awaits would stay.
Status Leases::Write(const std::string& mount_key, const std::string& id, const std::string& answer) {
  constexpr int kTurnMs = 30'000;
  const NameLock turn = NameLock::Wait(*locks_, mount_key, Deadline::In(kTurnMs));
  if (!turn) return Status(ETIMEDOUT, "answer " + id + ": earlier answers take too long");
  auto lease = board_->Cached(mount_key);
  for (int conflicts = 0;; ++conflicts) {
    if (!lease || !lease->asks.contains(id)) {
      ASSIGN_OR_RETURN_STATUS(lease, board_->Fetch(mount_key));
    }
    if (!lease || !lease->asks.contains(id)) return Status(ENOENT, "answer " + id + ": nobody waits for it any more");
    const auto written = board_->Change(*lease, std::nullopt, {{AnswerKey(id), answer}});
    if (written) return Status::Ok();
    if (!LeaseBoard::IsLostRace(written.error().err())) return written.error().Annotate("answer " + id);
    if (!LeaseBoard::PauseAfterConflict(conflicts)) {
      return Status(EAGAIN, "answer " + id + ": " + written.error().message() + ", again and again");
    }
    lease.reset();
  }
}

}  // namespace

std::unique_ptr<VolumeLeases> VolumeLeases::Start(kube::Api& api, Config config) {
  return std::make_unique<Leases>(api, std::move(config));
}

}  // namespace moorfs::mount
