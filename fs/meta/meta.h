// SPDX-License-Identifier: Apache-2.0
//
// Meta: the name space and the data map of a volume, as transactions over a
// KvStore. Every public operation is one transaction unless its comment says
// otherwise, is thread-safe, and answers a Status whose errno is what a
// syscall would return.
//
// Permission checks are the kernel's (default_permissions with POSIX ACLs);
// Meta does what only a server can: inheriting modes and ACLs, clearing set-id
// bits, sticky-independent link counts, times, the trash, and exactly-once
// results for requests that the kernel resends to a new client.
//
// Meta knows nothing of dirty data: lengths and times here are the committed
// ones, fs/vfs lays the unflushed on top.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "fs/format/keys.h"
#include "fs/format/types.h"
#include "fs/kv/kv.h"

namespace moorfs::meta {

// Who asks, and under which request. `unique` identifies the request on its
// mount (0 = no replay record is kept: admin tools). `epoch` is the mount's
// random number. With `resent`, an operation that the previous client already
// committed answers its recorded result instead of running again.
struct OpContext {
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t umask = 0;
  uint64_t epoch = 0;
  uint64_t unique = 0;
  uint32_t slot = 0;
  bool resent = false;
};

struct Entry {
  Ino ino = 0;
  Attr attr;
};

struct DirEntry {
  uint64_t position = 0;  // pass as `after` to go on behind this entry
  Ino ino = 0;
  FileType type = FileType::kFile;
  std::string name;
  Attr attr;  // only from ReadDirPlus
};

// Which fields of SetAttrRequest count.
inline constexpr uint32_t kSetMode = 1, kSetUid = 2, kSetGid = 4, kSetAtime = 8, kSetMtime = 16,
                          kSetCtime = 32;
struct SetAttrRequest {
  uint32_t valid = 0;
  uint32_t mode = 0;
  uint32_t uid = 0, gid = 0;
  Timestamp atime, mtime, ctime;
  // The kernel asks (KILLPRIV_V2): drop set-id bits and security.capability.
  bool kill_suidgid = false;
  // The caller has no CAP_FSETID over the file and isn't in its group; derived by the kernel, which
  // clears S_ISGID itself on chmod; chown of a regular file always drops set-id bits and capability.
};

// New data of one file, committed by fs/vfs after its blocks are stored.
struct FileUpdate {
  Ino ino = 0;
  struct Piece {
    uint32_t chunk = 0;
    SliceRecord record;
  };
  // In order: a later piece lies over an earlier one.
  std::vector<Piece> pieces;
  // Length becomes max(length, grow_to).
  uint64_t grow_to = 0;
  // Replaces the inline bytes (must be <= kMaxInlineBytes and the file must
  // have no slices); leaves them alone when absent.
  std::optional<std::string> inline_bytes;
  // mtime and ctime of the newest write; not applied when 0.
  Timestamp mtime;
};
struct FileUpdateResult {
  bool gone = false;         // the inode no longer exists; pieces were dropped
  uint64_t first_seq = 0;    // pieces got first_seq, first_seq+1, ...
  uint64_t length = 0;       // committed length
};
struct NewObject {
  ObjectId id;
  uint32_t raw_bytes = 0;
};

struct StatFs {
  uint64_t used_bytes = 0;
  uint64_t used_inodes = 0;
};

// A directory's quota and what counts in it: the directory itself, everything
// below it, and open files that were unlinked there; not what is in the trash.
struct QuotaInfo {
  Ino dir = 0;
  Ino parent = 0;                     // the next quota above
  uint64_t bytes = 0, inodes = 0;     // limits, 0 = none
  uint64_t used_bytes = 0, used_inodes = 0;
  uint64_t reserved_bytes = 0;        // of unflushed data (Reserve)
  bool gone = false;                  // the directory is removed
  bool tagging = false;               // older contents are still being counted
};
// What somebody who writes under a quota has, all quotas above it considered.
struct QuotaRoom {
  std::optional<uint64_t> total_bytes, total_inodes;  // nullopt: no limit anywhere
  uint64_t used_bytes = 0, used_inodes = 0;           // unflushed data included
};

struct VolumeSpec {
  std::string name;                // 1 to 128 bytes of UTF-8 without control characters
  uint64_t bytes = 0, inodes = 0;  // limits, 0 = none
  std::map<std::string, std::string> parameters;
};
struct VolumeInfo {
  VolumeSpec spec;        // limits as they are now
  std::string directory;  // "volumes/x"
  Ino ino = 0, parent = 0;  // of the directory and of /volumes
  Timestamp created;
  uint64_t used_bytes = 0, used_inodes = 0;
};

inline constexpr uint32_t kRenameNoReplace = 1, kRenameExchange = 2;
enum class XattrSet { kEither, kCreate, kReplace };

struct TrashEntry {
  Ino ino = 0;
  Ino parent = 0;
  std::string name;
  FileType type = FileType::kFile;
  Timestamp deleted;
  uint64_t length = 0;
  std::string path;  // where it was: its directory's path of today and its name; empty when that is gone
};

struct SessionInfo {
  keys::SessionId id = 0;
  std::string host, mountpoint, version;
  int64_t pid = 0;
  Timestamp started;
};

struct MetaOptions {
  // Tells whether fs/vfs has the inode open here: its data then outlives its
  // last link (a sustained record is written in the unlinking transaction).
  std::function<bool(Ino)> is_open;
  bool read_only = false;
  // Deleted blocks stay in the store this long: longer than any read lease.
  uint32_t object_delete_delay_s = 60;
};

class Meta {
 public:
  // Writes the format record and the root directory. EEXIST when the engine
  // holds a volume, ENOTEMPTY when it holds something else.
  static Status FormatVolume(kv::KvStore& kv, const VolumeFormat& format, uint32_t root_uid, uint32_t root_gid);
  // ENOENT: not a volume. EPROTONOSUPPORT: a newer format, naming the bits.
  static Result<VolumeFormat> LoadFormat(kv::KvStore& kv);
  // `kv` outlives the result.
  static Result<std::unique_ptr<Meta>> Open(kv::KvStore& kv, MetaOptions options);

  virtual ~Meta() = default;
  virtual const VolumeFormat& format() const = 0;
  virtual Status SetTrashDays(uint32_t days) = 0;

  // ---- sessions -----------------------------------------------------------
  // Starts or resumes. On an exclusive engine the id is always 1, so that its
  // counters need no folding. A resumed session keeps its sustained inodes.
  virtual Status StartSession(const SessionInfo& info, bool resume) = 0;
  // Deletes sustained inodes that `is_open` denies and, when `end`, the session.
  virtual Status ReapSession(bool end) = 0;
  virtual Result<std::vector<SessionInfo>> ListSessions() = 0;

  // ---- name space -----------------------------------------------------------
  virtual Result<Entry> Lookup(Ino parent, std::string_view name) = 0;
  // ESTALE/ENOENT: no such inode.
  virtual Result<Attr> GetAttr(Ino ino) = 0;
  virtual Result<Attr> SetAttr(const OpContext& ctx, Ino ino, const SetAttrRequest& request) = 0;
  // Regular files, fifos, sockets, devices. `mode` holds type and permission
  // bits as given; umask and default ACL are applied here. EEXIST.
  virtual Result<Entry> MakeNode(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode,
                                 uint32_t rdev) = 0;
  virtual Result<Entry> MakeDir(const OpContext& ctx, Ino parent, std::string_view name, uint32_t mode) = 0;
  virtual Result<Entry> MakeSymlink(const OpContext& ctx, Ino parent, std::string_view name,
                                    std::string_view target) = 0;
  virtual Result<std::string> ReadSymlink(Ino ino) = 0;
  virtual Result<Entry> Link(const OpContext& ctx, Ino ino, Ino new_parent, std::string_view new_name) = 0;
  // The inode that lost a link, with its attributes afterwards (nlink 0: gone
  // or sustained or trashed).
  virtual Result<Entry> Unlink(const OpContext& ctx, Ino parent, std::string_view name) = 0;
  virtual Result<Entry> RemoveDir(const OpContext& ctx, Ino parent, std::string_view name) = 0;
  struct Renamed {
    Entry moved;
    std::optional<Entry> replaced;  // overwritten or exchanged victim, attributes afterwards
  };
  virtual Result<Renamed> Rename(const OpContext& ctx, Ino parent, std::string_view name, Ino new_parent,
                                 std::string_view new_name, uint32_t flags) = 0;
  // Entries with position > after, at most `limit`; "." and ".." excluded.
  // Fewer than `limit` means the end. Deleting while listing skips nothing.
  virtual Result<std::vector<DirEntry>> ReadDir(Ino dir, uint64_t after, size_t limit, bool with_attrs) = 0;
  // The last handle of an unlinked inode is gone: removes it. OK when absent.
  virtual Status ReleaseSustained(Ino ino) = 0;

  virtual Result<std::string> GetXattr(Ino ino, std::string_view name) = 0;
  virtual Status SetXattr(const OpContext& ctx, Ino ino, std::string_view name, std::string_view value,
                          XattrSet how) = 0;
  virtual Result<std::vector<std::string>> ListXattr(Ino ino) = 0;
  virtual Status RemoveXattr(const OpContext& ctx, Ino ino, std::string_view name) = 0;

  virtual Result<StatFs> GetStatFs() = 0;

  // ---- quotas ------------------------------------------------------------------
  // Every change of an inode charges the quota it is tagged with (Attr::quota)
  // and all above it, in the change's own transaction. What would exceed a
  // limit fails with EDQUOT; Commit() never does: fs/vfs reserves room before
  // it acknowledges a write. Between directories of different quotas rename and
  // link answer EXDEV, so applications copy.
  virtual bool HasQuotas() = 0;
  // Makes or changes a directory's quota; an absent limit stays as it is (0 for
  // a new one). Several transactions when the directory has contents: first the
  // record, then each directory's tag, then the tags of what a look at the
  // directory after that finds. Whatever is made meanwhile in a directory that
  // has its tag is born with it, and a file that moves takes the tag of where it
  // goes (a directory that has not got its own yet stays, EXDEV). A crash leaves
  // the record marked; calling again, or Clean(), finishes.
  virtual Result<QuotaInfo> SetQuota(Ino dir, std::optional<uint64_t> bytes, std::optional<uint64_t> inodes) = 0;
  // The quota of exactly this directory. ENODATA: it has none.
  virtual Result<QuotaInfo> GetQuota(Ino dir) = 0;
  virtual Result<std::vector<QuotaInfo>> ListQuotas() = 0;
  // nullopt: no such quota.
  virtual Result<std::optional<QuotaRoom>> GetQuotaRoom(Ino quota) = 0;
  // `bytes` more of unflushed data (or less) may come to count in `quota`.
  // EDQUOT, with `enforce`, when that might exceed a limit. In memory.
  virtual Status Reserve(Ino quota, int64_t bytes, bool enforce) = 0;
  // Records or counters were mended in the engine (fs/meta/check): what is
  // known of them is read anew.
  virtual void DistrustQuotas() = 0;

  // ---- volumes -----------------------------------------------------------------
  // A directory below /volumes with record and quota, in one transaction (but
  // for /volumes itself). Repeating is OK; EEXIST names what differs.
  struct CreatedVolume {
    VolumeInfo volume;
    bool created = false;
  };
  virtual Result<CreatedVolume> CreateVolume(const VolumeSpec& spec) = 0;
  // Takes name and record away and leaves the tree to Clean(), past the trash.
  // nullopt: there is none.
  virtual Result<std::optional<VolumeInfo>> DeleteVolume(const std::string& name) = 0;
  virtual Result<VolumeInfo> GetVolume(const std::string& name) = 0;  // ENOENT
  virtual Result<std::vector<VolumeInfo>> ListVolumes(const std::string& after, size_t limit) = 0;
  // "/a/b" of an inode, best effort; every path of a hard-linked one.
  virtual Result<std::vector<std::string>> Paths(Ino ino) = 0;
  virtual Result<Entry> Resolve(std::string_view path) = 0;

  // ---- data map ----------------------------------------------------------------
  virtual Result<std::vector<Slice>> LoadSlices(Ino ino, uint32_t chunk) = 0;
  virtual Result<std::string> LoadInline(Ino ino) = 0;
  // One transaction for all of `updates` (the caller keeps within the caps):
  // records objects with their reference counts, adds slices, grows lengths.
  // An object none of whose pieces was applied goes to delayed deletion.
  virtual Result<std::vector<FileUpdateResult>> Commit(const std::vector<NewObject>& objects,
                                                       const std::vector<FileUpdate>& updates) = 0;
  // The objects are on stable storage: a power cut can no longer take them.
  virtual Status MarkDurable(const std::vector<ObjectId>& objects) = 0;
  // Objects that were committed but not marked durable when the machine may
  // have gone down, oldest first.
  virtual Result<std::vector<ObjectId>> UndurableObjects() = 0;
  // Takes back what a power cut destroyed: removes the slices that point at
  // these objects, so that the bytes below (older data, or zeros) show again.
  virtual Status DropLostObjects(const std::vector<ObjectId>& objects) = 0;
  // Sets the length (ftruncate, O_TRUNC). Data beyond is never seen again, not
  // even after a crash in between and a later extension. May take several
  // transactions.
  virtual Result<Attr> Truncate(const OpContext& ctx, Ino ino, uint64_t length, bool kill_suidgid) = 0;
  // Zeros in [offset, offset+len), clipped to the length unless `extend`;
  // with `extend` the length grows to offset+len (fallocate ZERO_RANGE).
  virtual Result<Attr> Zero(const OpContext& ctx, Ino ino, uint64_t offset, uint64_t len, bool extend) = 0;
  // fallocate mode 0: length = max(length, offset+len).
  virtual Result<Attr> Extend(const OpContext& ctx, Ino ino, uint64_t length) = 0;
  // Shares [src_off, src_off+len) of the committed data with `dst`; no data
  // is copied except inline bytes' remainder. Returns the bytes copied (short
  // at the source's end). Source and target may be one inode if the ranges do
  // not overlap. May take several transactions; a prefix is then done.
  virtual Result<uint64_t> CopyRange(const OpContext& ctx, Ino src, uint64_t src_off, Ino dst, uint64_t dst_off,
                                     uint64_t len) = 0;
  // Compaction: replaces all records of the chunk with seq <= up_to by `with`
  // (which get the highest orders of those they replace). kErrnoConflict
  // when the records with seq <= up_to are not what `expected_count` says.
  virtual Status ReplaceSlices(Ino ino, uint32_t chunk, uint64_t up_to, size_t expected_count,
                               const std::vector<NewObject>& objects, const std::vector<SliceRecord>& with) = 0;
  // Drops set-id bits and security.capability after a write (KILLPRIV_V2).
  virtual Status KillPrivileges(Ino ino) = 0;
  virtual Status SetAtime(Ino ino, Timestamp atime) = 0;

  // ---- trash and cleaning ----------------------------------------------------------
  virtual Status ListTrash(const std::function<bool(const TrashEntry&)>& visit) = 0;
  // Puts an entry back: at its old parent and name, or at `path`. Missing
  // parents come back from the trash with it. EEXIST.
  virtual Result<Entry> RestoreTrash(Ino ino, std::optional<std::string> path) = 0;
  // Deletes entries older than `before`. Returns how many.
  virtual Result<uint64_t> EmptyTrash(Timestamp before) = 0;
  // Background work, bounded: removes the trees of deleted volumes, data of
  // deleted inodes (at most `max_steps` transactions) and expired trash, and
  // finishes SetQuota()s that were cut short. True: more is waiting.
  virtual Result<bool> Clean(Timestamp now, size_t max_steps) = 0;
  // Objects whose delay is over, at most `limit`. The caller deletes them from
  // the store and then calls ForgetObjects. An error of either aborts the phase.
  virtual Result<std::vector<ObjectId>> DueObjects(Timestamp now, size_t limit) = 0;
  virtual Status ForgetObjects(const std::vector<ObjectId>& objects) = 0;

  virtual kv::KvStore& kv() = 0;
  virtual const keys::Schema& schema() const = 0;
};

}  // namespace moorfs::meta
