// SPDX-License-Identifier: Apache-2.0

#include "common/mount/pods/pod_records.h"

#include <mutex>

#include "common/log/log.h"

namespace moorfs::mount {
namespace {

class Records final : public PodRecords {
 public:
  Records(NodePods& pods, RecordStore& copies) : pods_(pods), copies_(copies) {}

  Result<std::optional<ClientRecord>> Get(const std::string& mount_key) override { return copies_.Get(mount_key); }
  Result<std::vector<ClientRecord>> List() override { return copies_.List(); }

  Result<ClientRecord> Create(const ClientRecord& record) override {
    const std::lock_guard lock(mutex_);
    TRY_VOID(CheckSynced());
    // Its pod is made together with its client, with the record inside.
    return copies_.Create(record);
  }

  Result<ClientRecord> Update(const ClientRecord& record) override {
    const std::lock_guard lock(mutex_);
    ASSIGN_OR_RETURN(const ClientRecord before, Compare(record.mount_key, record.version));
    TRY_VOID(CheckSynced());
    if (pods_.Current(record.mount_key)) TRY_VOID(ChangePod(before, record));
    return copies_.Update(record);
  }

  Status Delete(const std::string& mount_key, const std::string& version) override {
    const std::lock_guard lock(mutex_);
    ASSIGN_OR_RETURN_STATUS(const ClientRecord before, Compare(mount_key, version));
    RETURN_IF_ERROR(CheckSynced());
    if (Status s = pods_.End(before); !s.ok()) {
      if (s.err() == kErrnoConflict) AdoptLocked(mount_key);
      return s;
    }
    return copies_.Delete(mount_key, version);
  }

  bool Adopt() override {
    const std::lock_guard lock(mutex_);
    bool changed = false;
    for (const std::string& key : pods_.MountKeys()) changed = AdoptLocked(key) || changed;
    return changed;
  }

  Result<kube::Pod> CreatePod(const std::string& mount_key, const std::string& image) override {
    const std::lock_guard lock(mutex_);
    ASSIGN_OR_RETURN(const auto record, copies_.Get(mount_key));
    if (!record) return Error(ENOENT, "make a mount pod for client " + mount_key + ": it has no record");
    return pods_.Create(*record, image);
  }

 private:
  // Not knowing which pods there are, none must be changed or made.
  Status CheckSynced() const {
    if (pods_.Synced()) return Status::Ok();
    return Status(EHOSTUNREACH, "change a client's record: the API server has not been reached since the agent was "
                                "started; it is tried again and again");
  }

  Result<ClientRecord> Compare(const std::string& mount_key, const std::string& version) {
    ASSIGN_OR_RETURN(auto now, copies_.Get(mount_key));
    if (now && now->version == version) return std::move(*now);
    return Error(kErrnoConflict, "change the record of client " + mount_key + ": somebody else changed it");
  }

  Status ChangePod(const ClientRecord& before, const ClientRecord& after) {
    const Status s = pods_.Change(&before, after);
    // Somebody edited the pod: the next attempt works on what it says now.
    if (s.err() == kErrnoConflict) AdoptLocked(before.mount_key);
    return s;
  }

  bool AdoptLocked(const std::string& mount_key) {
    const auto pod = pods_.Current(mount_key);
    const auto copy = copies_.Get(mount_key);
    if (!pod || !copy) return false;
    auto record = RecordOfPod(*pod);
    if (!record || !*record) {
      if (!record) LOG_ERROR("pods") << record.error().ToString();
      if (!*copy) return false;
      if (Status s = pods_.Change(nullptr, **copy); !s.ok()) {
        LOG_ERROR("pods") << s.ToString();
      } else {
        LOG_WARNING("pods") << "pod " << pod->name << " had no readable record; put it back";
      }
      return false;
    }
    if (*copy && AnnotationsOf(**copy) == RecordAnnotations(pod->annotations)) return false;
    Result<ClientRecord> written = tl::unexpected(Status());
    if (*copy) {
      (*record)->version = (*copy)->version;
      written = copies_.Update(**record);
    } else {
      written = copies_.Create(**record);
    }
    if (!written) {
      LOG_ERROR("pods") << "take over the record of pod " << pod->name << ": " << written.error().ToString();
      return false;
    }
    LOG_INFO("pods") << "took over the record in pod " << pod->name;
    return true;
  }

  NodePods& pods_;
  RecordStore& copies_;
  // A pod's successor is made with all references, or a change comes after it.
  std::mutex mutex_;
};

}  // namespace

std::unique_ptr<PodRecords> PodRecords::Over(NodePods& pods, RecordStore& copies) {
  return std::make_unique<Records>(pods, copies);
}

}  // namespace moorfs::mount
