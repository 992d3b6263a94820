// SPDX-License-Identifier: Apache-2.0
//
// MetaImpl: the one implementation of Meta. The class is declared here whole;
// its operations live one per file under ops/ (name space) and data/ (data
// map), its shared helpers in meta_impl.cc and inode.cc.
//
// How a mutation runs. Mutate() takes the in-process locks of the inodes it
// names (in order, so that threads of one client wait for each other instead
// of failing each other's optimistic transactions), runs the body in a
// transaction, writes the replay record and the counters into it, and after
// the commit updates what is kept in memory. Bodies may run several times.

#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "fs/format/acl.h"
#include "fs/format/records.h"
#include "fs/meta/data/chunk_starts.h"
#include "fs/meta/meta.h"

namespace moorfs::meta {

// Locks of inodes inside this process, by stripe. Not what makes operations
// correct between hosts (transactions do), but what keeps one process from
// racing with itself, and what an open and an unlink are ordered by.
class InodeLocks {
 public:
  // A set of stripes, held until destruction. Ascending, so no two sets
  // deadlock.
  class Held {
   public:
    Held(InodeLocks& locks, std::span<const Ino> inodes);
    ~Held();
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    // Takes one more, out of order, only when that needs no waiting.
    bool TryAdd(Ino ino);

   private:
    static constexpr size_t kMax = 12;
    InodeLocks& locks_;
    std::array<uint16_t, kMax> stripes_;
    size_t count_ = 0;
  };

 private:
  static constexpr size_t kStripes = 1024;
  static uint16_t StripeOf(Ino ino) { return static_cast<uint16_t>((ino * 0x9e3779b97f4a7c15) >> 54); }
  std::array<std::mutex, kStripes> mutexes_;
};

// What a repeated request is answered from; becomes its replay record.
struct Outcome {
  Ino ino = 0;
  Ino other = 0;
  // The request had been committed by a previous client; the body did not run.
  bool replayed = false;
};

// Hours that may hold records of a time-bucketed family (trash).
struct HourSpan {
  uint64_t first = UINT64_MAX;
  uint64_t last = 0;
  bool contains(uint64_t hour) const { return first <= hour && hour <= last; }
};

struct QuotaCharge {
  Ino quota = 0;
  int64_t bytes = 0;
  int64_t inodes = 0;
};

// What this process knows of the quotas: limits, usage and what is promised
// (running transactions, unflushed data). On an exclusive engine that is the
// truth, so limits are exact; on a shared one usage is summed again after a
// second, and each other client may overshoot by what it adds in that time.
// Thread-safe.
class QuotaTable {
 public:
  struct State {
    QuotaRecord record;
    int64_t used_bytes = 0, used_inodes = 0;
    int64_t held_bytes = 0, held_inodes = 0;  // of transactions under way
    int64_t reserved_bytes = 0;
  };
  bool empty() const { return empty_; }
  // Admits the charges, or says which limit refuses; they are then held.
  Status Hold(const std::vector<QuotaCharge>& charges, bool enforce);
  // The transaction is over; `committed`: its charges count from now on.
  void Settle(const std::vector<QuotaCharge>& charges, bool committed);
  Status Reserve(Ino quota, int64_t bytes, bool enforce);
  void SetRecord(Ino quota, const QuotaRecord& record);
  void Erase(Ino quota);
  std::optional<State> Find(Ino quota);
  std::vector<std::pair<Ino, State>> All();
  std::optional<QuotaRoom> Room(Ino quota);
  // Replaces records and usage by what the engine says.
  void Load(const std::map<Ino, State>& states, int64_t now_ns);
  // Usage must be summed again.
  bool Stale(int64_t now_ns, int64_t max_age_ns);
  void Distrust() { distrusted_ = true; }

 private:
  // `quota` and those above it.
  template <typename Visit>
  void ForChain(Ino quota, const Visit& visit);

  std::mutex mutex_;
  std::map<Ino, State> states_;
  int64_t loaded_ns_ = 0;
  std::atomic<bool> empty_{true};
  std::atomic<bool> distrusted_{false};
};

// One attempt of one mutation, as its body sees it.
class Txn {
 public:
  kv::Transaction& kv;
  const OpContext& ctx;
  const Timestamp now;  // the same in every attempt
  Outcome* const outcome;
  const ChunkStarts& chunk_starts;

  // Into the volume's counters, in this transaction.
  void AddUsed(int64_t bytes, int64_t inodes) {
    used_bytes_ += bytes;
    used_inodes_ += inodes;
  }
  // Into the counters of `quota` and of all above it.
  void Charge(Ino quota, int64_t bytes, int64_t inodes) {
    if (quota == 0 || (bytes == 0 && inodes == 0)) return;
    charges_.push_back({quota, bytes, inodes});
  }
  void PutQuota(Ino quota, const QuotaRecord& record);
  // Nothing of this transaction is refused for want of room: it only records
  // what has been admitted, or what is there already.
  void AdmitAll() { enforce_ = false; }

  // Locks an inode that only the body could find out about. When another
  // thread holds it, the body must return the error at once; Mutate() then
  // starts over with the lock taken first.
  Status Lock(Ino ino);

 private:
  friend class MetaImpl;
  Txn(kv::Transaction& transaction, const OpContext& context, Timestamp time, Outcome* result,
      const ChunkStarts& starts, InodeLocks::Held* held)
      : kv(transaction), ctx(context), now(time), outcome(result), chunk_starts(starts), held_(held) {}

  InodeLocks::Held* held_;
  Ino wanted_ = 0;
  int64_t used_bytes_ = 0;
  int64_t used_inodes_ = 0;
  std::optional<HourSpan> trash_hours_;  // widened by this transaction
  std::vector<QuotaCharge> charges_;
  std::vector<std::pair<Ino, QuotaRecord>> quota_records_;  // written
  bool enforce_ = true;
};

class MetaImpl final : public Meta {
 public:
  MetaImpl(kv::KvStore& kv, VolumeFormat format, MetaOptions options);
  // Once, before the first operation: what is kept in memory is loaded.
  Status Prepare();

  // As it was when the volume was opened; SetTrashDays() does not change it.
  const VolumeFormat& format() const override { return format_; }
  Status SetTrashDays(uint32_t days) override;

  Status StartSession(const SessionInfo& info, bool resume) override;
  Status ReapSession(bool end) override;
  Result<std::vector<SessionInfo>> ListSessions() override;

  Result<Entry> Lookup(Ino parent, std::string_view name) override;
  Result<Attr> GetAttr(Ino ino) override;
  Result<Attr> SetAttr(const OpContext& ctx, Ino ino, const SetAttrRequest& request) override;
  Result<Entry> MakeNode(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                         uint32_t rdev) override;
  Result<Entry> MakeDir(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode) override;
  Result<Entry> MakeSymlink(const OpContext& ctx, Ino parent, std::string_view name,
                            std::string_view target) override;
  Result<std::string> ReadSymlink(Ino ino) override;
  Result<Entry> Link(const OpContext& ctx, Ino ino, Ino new_parent, std::string_view new_name) override;
  Result<Entry> Unlink(const OpContext& ctx, Ino parent, std::string_view name) override;
  Result<Entry> RemoveDir(const OpContext& ctx, Ino parent, std::string_view name) override;
  Result<Renamed> Rename(const OpContext& ctx, Ino parent, std::string_view name, Ino new_parent,
                         std::string_view new_name, uint32_t flags) override;
  Result<std::vector<DirEntry>> ReadDir(Ino dir, uint64_t after, size_t limit, bool with_attrs) override;
  Status ReleaseSustained(Ino ino) override;

  Result<std::string> GetXattr(Ino ino, std::string_view name) override;
  Status SetXattr(const OpContext& ctx, Ino ino, std::string_view name, std::string_view value,
                  XattrSet how) override;
  Result<std::vector<std::string>> ListXattr(Ino ino) override;
  Status RemoveXattr(const OpContext& ctx, Ino ino, std::string_view name) override;

  Result<StatFs> GetStatFs() override;
  bool HasQuotas() override;
  Result<QuotaInfo> SetQuota(Ino dir, std::optional<uint64_t> bytes, std::optional<uint64_t> inodes) override;
  Result<QuotaInfo> GetQuota(Ino dir) override;
  Result<std::vector<QuotaInfo>> ListQuotas() override;
  Result<std::optional<QuotaRoom>> GetQuotaRoom(Ino quota) override;
  Status Reserve(Ino quota, int64_t bytes, bool enforce) override;
  void DistrustQuotas() override { quotas_.Distrust(); }
  Result<CreatedVolume> CreateVolume(const VolumeSpec& spec) override;
  Result<std::optional<VolumeInfo>> DeleteVolume(const std::string& name) override;
  Result<VolumeInfo> GetVolume(const std::string& name) override;
  Result<std::vector<VolumeInfo>> ListVolumes(const std::string& after, size_t limit) override;
  Result<std::vector<std::string>> Paths(Ino ino) override;
  Result<Entry> Resolve(std::string_view path) override;

  Status ListTrash(const std::function<bool(const TrashEntry&)>& visit) override;
  Result<Entry> RestoreTrash(Ino ino, std::optional<std::string> path) override;
  Result<uint64_t> EmptyTrash(Timestamp before) override;

  kv::KvStore& kv() override { return kv_; }
  const keys::Schema& schema() const override { return schema_; }

  // Weakens the name hash to these bits, so that a test meets collisions.
  void set_name_hash_mask_for_test(uint64_t mask) { name_hash_mask_ = mask; }

  // ---- data map: fs/meta/data/ ----------------------------------------------
  Result<std::vector<Slice>> LoadSlices(Ino ino, uint32_t chunk) override;
  Result<std::string> LoadInline(Ino ino) override;
  Result<std::vector<FileUpdateResult>> Commit(const std::vector<NewObject>& objects,
                                               const std::vector<FileUpdate>& updates) override;
  Status MarkDurable(const std::vector<ObjectId>& objects) override;
  Result<std::vector<ObjectId>> UndurableObjects() override;
  Status DropLostObjects(const std::vector<ObjectId>& objects) override;
  Result<Attr> Truncate(const OpContext& ctx, Ino ino, uint64_t length, bool kill_suidgid) override;
  Result<Attr> Zero(const OpContext& ctx, Ino ino, uint64_t offset, uint64_t len, bool extend) override;
  Result<Attr> Extend(const OpContext& ctx, Ino ino, uint64_t length) override;
  Result<uint64_t> CopyRange(const OpContext& ctx, Ino src, uint64_t src_off, Ino dst, uint64_t dst_off,
                             uint64_t len) override;
  Status ReplaceSlices(Ino ino, uint32_t chunk, uint64_t up_to, size_t expected_count,
                       const std::vector<NewObject>& objects, const std::vector<SliceRecord>& with) override;
  Status KillPrivileges(Ino ino) override;
  Status SetAtime(Ino ino, Timestamp atime) override;
  // Removes everything left in the partitions of family D's inodes (slices,
  // xattrs, parents, deltas), then expired trash through EmptyTrash().
  Result<bool> Clean(Timestamp now, size_t max_steps) override;
  Result<std::vector<ObjectId>> DueObjects(Timestamp now, size_t limit) override;
  Status ForgetObjects(const std::vector<ObjectId>& objects) override;

 private:
  using Body = std::function<Status(Txn&)>;

  // ---- running transactions: meta_impl.cc ---------------------------------------
  // EROFS on a read-only mount. `outcome` may be null. With `ctx.unique`, a
  // replay record of `outcome` is written; with `ctx.resent` and a record of
  // this very request, the body does not run and `outcome->replayed` is set.
  Status Mutate(const OpContext& ctx, std::initializer_list<Ino> locks, Outcome* outcome, const Body& body);
  Result<bool> FindReplay(Txn& txn);
  // Counters and replay record, behind a body that succeeded.
  void Finish(Txn& txn);
  // A consistent read.
  Status Read(const kv::KvStore::Body& body) { return kv_.Transact(body); }
  // Answers a replayed request: the inode as it is now, nlink 0 when it is gone.
  Result<Entry> EntryNow(Ino ino);
  // An unused inode number; the allocator's record moves by a batch at a time,
  // so a crash wastes at most one.
  Result<Ino> NextIno();
  // The same for ids of any other kind (keys::Allocator(name)), inside `txn`.
  Result<uint64_t> NextId(Txn& txn, std::string_view name, uint64_t first);

  // ---- attributes: inode.cc -----------------------------------------------------
  // The inode with, for a directory, the deltas of all sessions. `missing` is
  // the errno when there is none: ESTALE for an inode the kernel holds, ENOENT
  // for a parent.
  Result<Attr> LoadAttr(kv::Transaction& kv, Ino ino, int missing = ESTALE);
  // The inode's own record alone: type, mode, owner, flags and ACLs are exact,
  // a directory's nlink, times and change are not on a shared engine.
  Result<Attr> LoadBase(kv::Transaction& kv, Ino ino, int missing = ESTALE);
  static Status AddDeltas(const std::vector<kv::Entry>& deltas, Attr* attr);
  // LoadBase's result written back.
  void StoreBase(kv::Transaction& kv, Ino ino, const Attr& attr);
  // LoadAttr's result written back. Folds a directory's deltas.
  Status StoreAttr(kv::Transaction& kv, Ino ino, const Attr& attr);
  // LoadBase of a directory in which a name is to be made or removed: ENOTDIR,
  // ENOENT when it is removed or in the trash.
  Result<Attr> LoadParent(kv::Transaction& kv, Ino ino);
  // Entries of `dir` changed: mtime, ctime and change, and `nlink` more
  // subdirectories. `base` is LoadParent's, and stays valid for another call.
  Status TouchDir(Txn& txn, Ino dir, Attr* base, int64_t nlink);
  // ctime and change; for every change of attributes.
  static void TouchAttr(const Txn& txn, Attr* attr) {
    attr->ctime = txn.now;
    ++attr->change;
  }
  // Set-user-id off; set-group-id off where the group may execute.
  static void DropSetId(Attr* attr);
  // Set-id bits and security.capability.
  static void KillPrivilegesIn(const keys::Schema& schema, Txn& txn, Ino ino, Attr* attr);

  // ---- directory entries: dentry.cc -----------------------------------------------
  struct FoundDentry {
    uint64_t pos = 0;
    Dentry dentry;
  };
  // A name's place in a directory: the entry, if it exists, and what an
  // insertion has to know of the other names with its hash.
  struct NameSlot {
    uint64_t hash = 0;
    std::optional<FoundDentry> found;
    std::optional<Dentry> head;  // ordinal 0
    std::bitset<128> used;       // ordinals; complete when head->chained
  };
  Result<NameSlot> FindName(kv::Transaction& kv, Ino dir, std::string_view name);
  // `slot` is FindName's, without an entry, of this transaction; entries of
  // the same hash must not have changed since.
  Status InsertDentry(Txn& txn, Ino dir, const NameSlot& slot, std::string_view name, FileType type, Ino ino);
  Status EraseDentry(Txn& txn, Ino dir, const FoundDentry& found);
  // Same name, other inode.
  void ReplaceDentry(Txn& txn, Ino dir, const FoundDentry& found, FileType type, Ino ino);
  Result<bool> IsEmptyDir(kv::Transaction& kv, Ino dir);
  // EINVAL, ENOENT or ENAMETOOLONG for what cannot be the name of an entry.
  static Status CheckName(std::string_view name);

  // ---- links: links.cc ----------------------------------------------------------------
  // One more link of a non-directory from `parent`; attr->nlink counts it already.
  Status AddParent(Txn& txn, Ino ino, Attr* attr, Ino parent);
  // One link less, attr->nlink (not 0) counts it already.
  Status DropParent(Txn& txn, Ino ino, Attr* attr, Ino parent);
  Status FollowLastName(Txn& txn, Attr* attr);
  // `attr`, not stored yet, counts in another quota from now on.
  static void Retag(Txn& txn, Attr* attr, Ino quota);
  Status MoveParent(Txn& txn, Ino ino, Attr* attr, Ino from, Ino to);
  Status CountParent(Txn& txn, Ino ino, Ino parent, int delta);
  // The name `name` in `parent` was erased; `attr` is the inode's. Lowers
  // nlink, or for the last link does what the volume asks for: trash, sustain
  // (open files), remove. Stores the attributes; `attr` is what they are then.
  Status DropLink(Txn& txn, Ino ino, Attr* attr, Ino parent, std::string_view name);
  // The last claim on an inode is gone: no name, not in the trash. Removes it
  // unless it is open, with a bounded number of operations: what is many
  // (slices, xattrs) is left to Clean() under a record of family D.
  Status DropLastClaim(Txn& txn, Ino ino, Attr* attr);
  Status RemoveInode(Txn& txn, Ino ino, const Attr& attr);
  Status MoveToTrash(Txn& txn, Ino ino, Attr* attr, Ino parent, std::string_view name);
  Status WidenTrashHours(Txn& txn, uint64_t hour);

  // ---- making inodes: ops/make.cc -------------------------------------------------------
  struct NewInode {
    FileType type;
    uint32_t mode;
    uint32_t rdev = 0;
    std::string_view symlink_target = {};
  };
  Result<Entry> Make(const OpContext& ctx, Ino parent, std::string_view name, const NewInode& what);
  // Group, set-group-id, umask or default ACL.
  Status InheritFrom(Txn& txn, const Attr& parent, uint32_t mode, Attr* attr);

  // ---- ACLs: acl_store.cc -----------------------------------------------------------------
  Result<Acl> LoadAcl(kv::Transaction& kv, uint32_t id);
  // The id of an equal list, or a new one. Lists are never deleted: a volume
  // has few different ones.
  Result<uint32_t> InternAcl(Txn& txn, const Acl& acl);
  Status SetAclXattr(const OpContext& ctx, Ino ino, bool is_default, std::string_view value, XattrSet how);
  Status RemoveAclXattr(const OpContext& ctx, Ino ino, bool is_default);

  // ---- rename: ops/rename.cc ----------------------------------------------------------------
  struct RenameCall;
  Status RenameBody(Txn& txn, RenameCall* call, Renamed* result);
  Status LoadRename(Txn& txn, RenameCall* call);
  Status CheckRename(Txn& txn, const RenameCall& call);
  Status CheckTag(Txn& txn, Ino ino, Attr* attr, Ino quota);
  Status ExchangeNames(Txn& txn, RenameCall* call);
  Status MoveName(Txn& txn, RenameCall* call);
  Status TouchRenamed(Txn& txn, RenameCall* call);
  // Serialises moves of directories between directories and refuses those that
  // would put `moved` below itself.
  Status CheckDirectoryMove(kv::Transaction& kv, Ino moved, Ino new_parent);

  // ---- other operations -----------------------------------------------------------------------
  Result<Entry> Remove(const OpContext& ctx, Ino parent, std::string_view name, bool want_dir);
  Status ChangeMode(Txn& txn, uint16_t mode, Attr* attr);
  Status AddAttrs(kv::Snapshot& snapshot, std::vector<DirEntry>* entries);
  Status FoldCounters();
  Status ClearRange(const kv::Range& range);

  // ---- trash: ops/trash.cc ----------------------------------------------------------------------
  Result<HourSpan> LoadTrashHours(kv::Transaction& kv);
  Result<Entry> RestoreOne(Ino ino, const std::optional<std::string>& path, int depth);
  // At most `limit` entries.
  Result<uint64_t> EmptyTrashSome(Timestamp before, uint64_t limit);
  // False: it was restored meanwhile.
  Result<bool> DropTrashEntry(Timestamp when, Ino ino);
  Result<Entry> PutBack(Ino ino, Ino parent, const std::string& name);
  // Records of family T up to `before`, oldest hour first, until `visit` says false.
  Status VisitTrash(Timestamp before, const std::function<Result<bool>(const kv::Entry&)>& visit);
  Result<std::string> TrashedName(Ino ino, const Attr& attr);
  Status RaiseFirstTrashHour(uint64_t hour);

  // ---- quotas: quota/ ------------------------------------------------------------------------------
  // The charges of the body with those of all quotas above, one each.
  Result<std::vector<QuotaCharge>> ChargeChains(Txn& txn);
  Status ChargeQuotas(Txn& txn, std::vector<QuotaCharge>* held);
  Status LoadQuotas();
  // Before usage is relied on.
  Status RefreshQuotas();
  Result<QuotaRecord> LoadQuota(kv::Transaction& kv, Ino quota);
  // The directory of a quota loses its last name.
  Status EndQuota(Txn& txn, Ino dir);
  // Records that there are quotas: older programs may then only read.
  Status MarkQuotasUsed(Txn& txn);
  Status TagTree(Ino quota);
  Status TagDirectory(Ino dir, Ino quota, Ino outer, std::vector<Ino>* below);
  Status TagEntries(const std::vector<Ino>& entries, Ino quota, Ino outer, std::vector<Ino>* below);
  Status MoveQuota(Txn& txn, Ino inner, Ino from, Ino to, QuotaRecord* moved);
  // Sum over sessions, as of this transaction.
  Result<QuotaCharge> SumQuota(kv::Transaction& kv, Ino quota);
  Status FinishTagging();
  Status ForgetGoneQuotas();
  static QuotaInfo InfoOf(Ino dir, const QuotaTable::State& state);
  Status CreateVolumeIn(Txn& txn, Ino volumes, Ino ino, const VolumeSpec& spec, VolumeRecord* record);
  Result<Ino> VolumesDir(bool make);
  VolumeInfo InfoOf(const std::string& name, const VolumeRecord& record);
  // ---- trees that go: data/remove_tree.cc ----------------------------------------------------------
  // Marks a directory whose name was just erased; Clean() takes its tree away.
  Status Doom(Txn& txn, Ino dir, Attr* attr);
  // True: the directory and its mark are gone.
  Result<bool> RemoveTreeStep(Ino dir);
  Status RemoveTrees(size_t& steps);

  // ---- statfs, paths ------------------------------------------------------------------------------
  struct Usage {
    int64_t bytes = 0, inodes = 0;
  };
  Result<Usage> SumUsage();
  // Names of `ino` in `parent`. O(entries): inodes do not know their names.
  Result<std::vector<std::string>> NamesIn(Ino parent, Ino ino);
  Result<std::vector<Ino>> ParentsOf(Ino ino, const Attr& attr);
  // "/a/b" of a directory; empty when it cannot be told.
  Result<std::string> DirPath(Ino dir);

  // ---- data map: data/ --------------------------------------------------------------------------
  // LoadBase of a regular file; EISDIR, EINVAL for others.
  Result<Attr> LoadFile(kv::Transaction& kv, Ino ino);
  // Mutate() of one file's data. A body that is about to grow a file with
  // kAttrTruncating sets `unfinished` and fails; it runs again once the
  // truncation is finished.
  using FileBody = std::function<Status(Txn&, bool& unfinished)>;
  Status MutateFile(const OpContext& ctx, Ino ino, Outcome* outcome, const FileBody& body);
  Status FinishTruncate(Ino ino);
  Status CommitOnce(Txn& txn, const std::vector<NewObject>& objects, const std::vector<FileUpdate>& updates,
                    std::vector<FileUpdateResult>& results, Ino& truncating);
  struct CopyJob;
  Status CopyStep(Txn& txn, const CopyJob& job, uint64_t& done, uint64_t& left, bool& unfinished);
  struct Replacement;
  Result<bool> ExamineChunk(Txn& txn, Replacement& r, std::optional<Attr>& attr);
  static std::vector<NewObject> UnusedObjects(const Replacement& r);
  Status ReplaceAtOnce(Replacement& r);
  Status PlaceSome(Replacement& r);
  Status RemoveReplaced(const Replacement& r, size_t begin, size_t end);
  Status ReplaceInSteps(Replacement& r);
  Status CleanInode(Ino ino, size_t& steps, bool& done);
  Result<uint64_t> FirstDeleteHour(kv::Transaction& kv, Timestamp now);
  // When an object that loses its last reference at `txn.now` may be deleted.
  Timestamp ObjectDeleteTime(const Txn& txn) const {
    return {txn.now.ns + int64_t{options_.object_delete_delay_s} * Timestamp::kNsPerSec};
  }

  bool shared() const { return !exclusive_; }
  uint64_t NameHash(std::string_view name) const;

  kv::KvStore& kv_;
  VolumeFormat format_;
  const MetaOptions options_;
  const keys::Schema schema_;
  const bool exclusive_;
  keys::SessionId session_;
  std::atomic<uint32_t> trash_days_;
  uint64_t name_hash_mask_ = ~uint64_t{0};
  InodeLocks locks_;
  ChunkStarts chunk_starts_;

  std::mutex ino_mutex_;
  Ino next_ino_ = 0, end_ino_ = 0;

  // GetStatFs() of an exclusive engine: summed when it was opened, then kept.
  // Not known any more after a commit of unknown outcome.
  std::atomic<bool> usage_known_{false};
  std::atomic<int64_t> used_bytes_{0}, used_inodes_{0};

  QuotaTable quotas_;
  std::mutex tagging_mutex_;  // one SetQuota() at a time

  std::mutex trash_mutex_;
  HourSpan trash_hours_;  // a part of what is recorded

  std::mutex due_mutex_;
  std::map<ObjectId, kv::Key> due_entries_;  // listed by DueObjects(), not forgotten yet

  std::shared_mutex acl_mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<const Acl>> acls_;  // immutable once interned
};

}  // namespace moorfs::meta
