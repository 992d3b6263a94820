// SPDX-License-Identifier: Apache-2.0
//
// The controller's side: gives a volume that nobody holds to the node that can
// serve it, and asks the holder.

#include <algorithm>
#include <set>

#include "common/config/cluster_config.h"
#include "common/config/quantity.h"
#include "common/control/json_line.h"
#include "common/log/log.h"
#include "common/mount/pods/lease_board.h"
#include "common/mount/pods/volume_leases.h"

namespace moorfs::mount {
namespace {

using kube::Json;

// News come by the watch; a broken one is helped out.
constexpr int kLookEveryMs = 2'000;
constexpr char kHostname[] = "kubernetes.io/hostname", kNodeName[] = "metadata.name";

Json Member(const Json& object, const char* pointer) {
  const Json::json_pointer at(pointer);
  return object.contains(at) ? object[at] : Json();
}
std::string Text(const Json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }

// Nodes that one term of a node affinity names; empty: it names none.
std::set<std::string> NodesOfTerm(const Json& term) {
  std::set<std::string> nodes;
  for (const char* list : {"/matchExpressions", "/matchFields"}) {
    for (const Json& expression : Member(term, list)) {
      const std::string key = Text(Member(expression, "/key"));
      if ((key != kHostname && key != kNodeName) || Text(Member(expression, "/operator")) != "In") continue;
      for (const Json& value : Member(expression, "/values")) nodes.insert(Text(value));
    }
  }
  return nodes;
}

std::set<std::string> NodesOfVolume(const Json& persistent_volume) {
  std::set<std::string> nodes;
  for (const Json& term : Member(persistent_volume, "/spec/nodeAffinity/required/nodeSelectorTerms")) {
    nodes.merge(NodesOfTerm(term));
  }
  return nodes;
}

class Caller final : public LeaseCaller {
 public:
  Caller(kube::Api& api, Config config) : api_(api), config_(std::move(config)), locks_(MakeNameLocks()) {
    LeaseBoard::Config board;
    board.ns = config_.ns;
    board.cleans = [](const VolumeLease&) { return true; };
    board_ = std::make_unique<LeaseBoard>(api, std::move(board));
  }

  Result<Json> Call(const std::string& mount_key, const std::string& meta, const Json& request,
                    int timeout_ms) override;

 private:
  struct Question {
    const std::string& mount_key;
    const std::string& meta;
    std::string id;
    std::string text;
    Deadline deadline;
  };
  Result<std::string> NodeFor(const std::string& meta);
  Result<VolumeLease> Put(const Question& question);
  Result<VolumeLease> PutOnce(const Question& question);
  Result<std::string> Await(const Question& question, std::string* node);
  void TakeBack(const Question& question, bool answered);
  Status NoAnswer(const Question& question, const std::string& node, int timeout_ms) const;

  kube::Api& api_;
  const Config config_;
  const std::unique_ptr<NameLocks> locks_;  // of our own writes to one lease
  std::unique_ptr<LeaseBoard> board_;
};

// ---- which node ------------------------------------------------------------------

Result<std::string> Caller::NodeFor(const std::string& meta) {
  ASSIGN_OR_RETURN(const std::string claim, config::ClaimOf(meta));
  std::set<std::string> nodes;
  if (!claim.empty()) {
    const std::string claims = "/api/v1/namespaces/" + config_.ns + "/persistentvolumeclaims/";
    auto found = api_.Get(claims + claim);
    if (!found && found.error().err() == ENOENT) {
      // Not ENOENT: that says that a volume in it does not exist.
      return Error(ENXIO, "find the node of volume " + meta + ": there is no PersistentVolumeClaim " + claim +
                               " in namespace " + config_.ns + "; create it, or correct the META");
    }
    if (!found) return Error(found.error().Annotate("find the node of volume " + meta));
    // Absent while no pod has asked for it.
    const std::string volume = Text(Member(*found, "/spec/volumeName"));
    if (config::IsDnsSubdomain(volume)) {
      auto bound = api_.Get("/api/v1/persistentvolumes/" + volume);
      if (!bound && bound.error().err() == ENOENT) {
        return Error(ENXIO, "find the node of volume " + meta + ": claim " + claim + " is bound to PersistentVolume " +
                                volume + ", which does not exist");
      }
      if (!bound) return Error(bound.error().Annotate("find the node of volume " + meta));
      nodes = NodesOfVolume(*bound);
    }
  }
  if (nodes.empty() ? !config_.fallback_node.empty() : nodes.contains(config_.fallback_node)) return config_.fallback_node;
  if (!nodes.empty()) return *nodes.begin();
  return Error(EINVAL, "find the node of volume " + meta + ": no node holds it, and its PersistentVolume is tied to none; "
                       "use it in a pod once, or start the controller with --node-id NODE");
}

// ---- asking ----------------------------------------------------------------------

// The lease with our ask in it, and somebody who holds it: at most one write.
Result<VolumeLease> Caller::PutOnce(const Question& q) {
  std::optional<VolumeLease> lease = board_->Cached(q.mount_key);
  if (!lease) {
    ASSIGN_OR_RETURN(lease, board_->Fetch(q.mount_key));
  }
  if (lease && !lease->holder.empty() && lease->asks.contains(q.id)) return *lease;
  std::optional<std::string> holder;
  if (!lease || lease->holder.empty()) {
    ASSIGN_OR_RETURN(holder, NodeFor(q.meta));
  }
  const Json annotations = {{AskKey(q.id), q.text}};
  if (!lease) return board_->Create(q.mount_key, q.meta, *holder, annotations);
  return board_->Change(*lease, holder, annotations);
}

Result<VolumeLease> Caller::Put(const Question& q) {
  const NameLock turn = NameLock::Wait(*locks_, q.mount_key, q.deadline);
  if (!turn) return Error(ETIMEDOUT, "ask about volume " + q.meta + ": earlier requests take too long");
  for (int conflicts = 0;; ++conflicts) {
    auto lease = PutOnce(q);
    if (lease) return lease;
    const int err = lease.error().err();
    if (!LeaseBoard::IsLostRace(err)) return lease;
    if (q.deadline.LeftMs() == 0 || !LeaseBoard::PauseAfterConflict(conflicts)) {
      return Error(EAGAIN, "ask about volume " + q.meta + ": " + lease.error().message() + ", again and again");
    }
    // What the watch shows is older than what is there.
    TRY_VOID([&]() -> Status {
      ASSIGN_OR_RETURN_STATUS(const auto newest, board_->Fetch(q.mount_key));
      static_cast<void>(newest);  // noted
      return Status::Ok();
    }());
  }
}

// The answer's text; empty: the deadline passed.
Result<std::string> Caller::Await(const Question& q, std::string* node) {
  for (;;) {
    const uint64_t news = board_->News();
    auto lease = board_->Cached(q.mount_key);
    if (!lease) {
      // The watch is behind, or the lease is gone.
      auto fetched = board_->Fetch(q.mount_key);
      if (fetched) lease = std::move(*fetched);
      if (!fetched && fetched.error().err() != EHOSTUNREACH && fetched.error().err() != ETIMEDOUT) {
        return Error(fetched.error());
      }
      if (!fetched) {
        if (q.deadline.LeftMs() == 0) return std::string();
        board_->WaitForNews(news, std::min(q.deadline.LeftMs(), kLookEveryMs));
        continue;
      }
    }
    if (lease) {
      if (const auto answer = lease->answers.find(q.id); answer != lease->answers.end()) return answer->second;
    }
    if (q.deadline.LeftMs() == 0) return std::string();
    if (!lease || lease->holder.empty() || !lease->asks.contains(q.id)) {
      // Released, deleted by an administrator, or cleaned away: ask again.
      ASSIGN_OR_RETURN(lease, Put(q));
    }
    *node = lease->holder;
    board_->WaitForNews(news, std::min(q.deadline.LeftMs(), kLookEveryMs));
  }
}

// Its failure is no failure of the call: what stays is removed when it is old.
void Caller::TakeBack(const Question& q, bool answered) {
  std::vector<std::string> names = {AskKey(q.id)};
  if (answered) names.push_back(AnswerKey(q.id));
  const Status removed = board_->Remove(q.mount_key, names);
  if (!removed.ok()) LOG_WARNING("leases") << "take back an ask about volume " << q.meta << ": " << removed.message();
}

Status Caller::NoAnswer(const Question& q, const std::string& node, int timeout_ms) const {
  return Status(ETIMEDOUT, "ask node " + node + " about volume " + q.meta + ": no answer within " +
                               std::to_string((timeout_ms + 999) / 1000) + " s; look at moorfs-node on that node, or, when the "
                               "node is gone for good, take the volume from it with `kubectl -n " + config_.ns +
                               " delete lease " + LeaseName(q.mount_key) + "`");
}

Result<Json> Caller::Call(const std::string& mount_key, const std::string& meta, const Json& request, int timeout_ms) {
  const Question q{mount_key, meta, NewAskId(), request.dump(-1, ' ', false, Json::error_handler_t::replace),
                   Deadline::In(timeout_ms)};
  ASSIGN_OR_RETURN(const VolumeLease lease, Put(q));
  std::string node = lease.holder;
  const auto text = Await(q, &node);
  // An answer that comes after the deadline is removed with the ask.
  TakeBack(q, true);
  if (!text) return Error(text.error());
  if (text->empty()) return Error(NoAnswer(q, node, timeout_ms));
  const Json answer = control::ParseLine(*text);
  if (answer.is_object() && answer.contains("ok")) return answer["ok"];
  const Json error = answer.is_object() ? answer.value("error", Json()) : Json();
  if (!error.is_object() || !error.value("errno", Json()).is_number_integer() || error["errno"].get<int>() <= 0) {
    return Error(EPROTO, "ask node " + node + " about volume " + meta + ": its answer has an unknown shape; is another "
                         "version of moorfs there?");
  }
  return Error(error["errno"].get<int>(), Text(error.value("message", Json())));
}

}  // namespace

Result<std::unique_ptr<LeaseCaller>> LeaseCaller::Start(kube::Api& api, Config config) {
  if (!config::IsDnsLabel(config.ns)) {
    return Error(EINVAL, "ask agents: \"" + config.ns + "\" is no namespace");
  }
  return std::unique_ptr<LeaseCaller>(std::make_unique<Caller>(api, std::move(config)));
}

}  // namespace moorfs::mount
