// SPDX-License-Identifier: Apache-2.0
//
// One function per FUSE operation: arguments from libfuse (or from the raw
// request where libfuse drops something), a call of vfs::FileSystem, the
// reply. No state, no policy beyond time-outs and open flags.

#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>

#include "fs/fuse/attr_convert.h"
#include "fs/fuse/core.h"
#include "fs/fuse/errno_map.h"

namespace moorfs::fuse {
namespace {

using vfs::Handle;

// Newer than libfuse 3.14, ignored by kernels that do not know it: direct
// writes to one file run side by side.
constexpr uint32_t kOpenParallelDirectWrites = 1u << 6;

Call& Begin(fuse_req_t req) {
  Call& call = Core::Current();
  call.req = req;
  return call;
}

// ---- replies -----------------------------------------------------------------

void ReplyError(Call& call, const Status& status) {
  fuse_reply_err(call.req, AnswerErrno(OpcodeName(call.opcode), call.ino, status));
}

void ReplyStatus(Call& call, const Status& status) {
  if (status.ok()) {
    fuse_reply_err(call.req, 0);
  } else {
    ReplyError(call, status);
  }
}

fuse_entry_param ToEntryParam(const Call& call, Ino ino, const Attr& attr) {
  fuse_entry_param e{};
  e.ino = ino;
  e.generation = attr.generation;
  e.attr = ToStat(ino, attr);
  e.attr_timeout = call.core->options().attr_ttl_s;
  e.entry_timeout = call.core->options().entry_ttl_s;
  return e;
}

void ReplyEntry(Call& call, const Result<vfs::Entry>& entry) {
  if (!entry) return ReplyError(call, entry.error());
  const fuse_entry_param e = ToEntryParam(call, entry->ino, entry->attr);
  fuse_reply_entry(call.req, &e);
}

void ReplyAttr(Call& call, Ino ino, const Result<Attr>& attr) {
  if (!attr) return ReplyError(call, attr.error());
  const struct stat st = ToStat(ino, *attr);
  fuse_reply_attr(call.req, &st, call.core->options().attr_ttl_s);
}

fuse_open_out ToOpenOut(const vfs::Opened& opened, uint32_t flags) {
  fuse_open_out out{};
  out.fh = opened.handle;
  out.open_flags = flags;
  if (opened.keep_cache) out.open_flags |= FOPEN_KEEP_CACHE;
  if (opened.direct_io) out.open_flags |= FOPEN_DIRECT_IO;
  return out;
}

void ReplyOpen(Call& call, Ino ino, const Result<vfs::Opened>& opened) {
  if (!opened) return ReplyError(call, opened.error());
  const fuse_open_out out = ToOpenOut(*opened, kOpenParallelDirectWrites);
  // Nobody took the handle: there will be no RELEASE.
  if (fuse_reply_buf(call.req, reinterpret_cast<const char*>(&out), sizeof out) == -ENOENT) {
    call.core->fs().Release(ino, opened->handle);
  }
}

void SplitSeconds(double seconds, uint64_t* sec, uint32_t* nsec) {
  *sec = static_cast<uint64_t>(seconds);
  *nsec = static_cast<uint32_t>((seconds - static_cast<double>(*sec)) * 1e9);
}

fuse_attr ToKernelAttr(const struct stat& st) {
  fuse_attr a{};
  a.ino = st.st_ino;
  a.size = static_cast<uint64_t>(st.st_size);
  a.blocks = static_cast<uint64_t>(st.st_blocks);
  a.atime = static_cast<uint64_t>(st.st_atim.tv_sec);
  a.mtime = static_cast<uint64_t>(st.st_mtim.tv_sec);
  a.ctime = static_cast<uint64_t>(st.st_ctim.tv_sec);
  a.atimensec = static_cast<uint32_t>(st.st_atim.tv_nsec);
  a.mtimensec = static_cast<uint32_t>(st.st_mtim.tv_nsec);
  a.ctimensec = static_cast<uint32_t>(st.st_ctim.tv_nsec);
  a.mode = st.st_mode;
  a.nlink = static_cast<uint32_t>(st.st_nlink);
  a.uid = st.st_uid;
  a.gid = st.st_gid;
  a.rdev = static_cast<uint32_t>(st.st_rdev);
  a.blksize = static_cast<uint32_t>(st.st_blksize);
  return a;
}

// ---- names and attributes -----------------------------------------------------

// "." and "..": the kernel looks up a node it has only a file handle of (NFS
// export, open_by_handle_at).
Result<vfs::Entry> LookupSelfOrParent(Call& call, const vfs::OpContext& ctx, Ino ino, bool parent) {
  vfs::FileSystem& fs = call.core->fs();
  ASSIGN_OR_RETURN(Attr attr, fs.GetAttr(ctx, ino));
  if (!parent) return vfs::Entry{ino, attr};
  const Ino up = attr.parent != 0 ? attr.parent : ino;
  ASSIGN_OR_RETURN(Attr up_attr, fs.GetAttr(ctx, up));
  return vfs::Entry{up, up_attr};
}

void Lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Call& call = Begin(req);
  const vfs::OpContext ctx = call.core->Context(call);
  const std::string_view text = name;
  const bool self = text == ".", up = text == "..";
  const auto entry =
      self || up ? LookupSelfOrParent(call, ctx, parent, up) : call.core->fs().Lookup(ctx, parent, text);
  const double negative_ttl = call.core->options().negative_ttl_s;
  if (!entry && entry.error().err() == ENOENT && negative_ttl > 0) {
    fuse_entry_param nothing{};  // node 0: "remember that there is none"
    nothing.entry_timeout = negative_ttl;
    fuse_reply_entry(req, &nothing);
    return;
  }
  ReplyEntry(call, entry);
}

void GetAttr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  Call& call = Begin(req);
  ReplyAttr(call, ino, call.core->fs().GetAttr(call.core->Context(call), ino));
}

vfs::SetAttr ToSetAttr(const fuse_setattr_in& in) {
  const auto time = [](uint64_t sec, uint32_t nsec) { return Timestamp::FromParts(static_cast<int64_t>(sec), nsec); };
  vfs::SetAttr out;
  if (in.valid & FATTR_MODE) out.valid |= meta::kSetMode;
  if (in.valid & FATTR_UID) out.valid |= meta::kSetUid;
  if (in.valid & FATTR_GID) out.valid |= meta::kSetGid;
  if (in.valid & FATTR_ATIME) out.valid |= meta::kSetAtime;
  if (in.valid & FATTR_MTIME) out.valid |= meta::kSetMtime;
  if (in.valid & FATTR_CTIME) out.valid |= meta::kSetCtime;
  out.mode = in.mode & 07777;
  out.uid = in.uid;
  out.gid = in.gid;
  out.atime = in.valid & FATTR_ATIME_NOW ? Timestamp::Now() : time(in.atime, in.atimensec);
  out.mtime = in.valid & FATTR_MTIME_NOW ? Timestamp::Now() : time(in.mtime, in.mtimensec);
  out.ctime = time(in.ctime, in.ctimensec);
  out.kill_suidgid = in.valid & FATTR_KILL_SUIDGID;
  if (in.valid & FATTR_SIZE) out.length = in.size;
  if (in.valid & FATTR_FH) out.handle = in.fh;
  return out;
}

void SetAttribute(fuse_req_t req, fuse_ino_t ino, struct stat*, int, fuse_file_info*) {
  Call& call = Begin(req);
  const vfs::SetAttr request = ToSetAttr(call.core->Argument<fuse_setattr_in>(call));
  const auto work = [ino, request](Call& c) {
    ReplyAttr(c, ino, c.core->fs().SetAttribute(c.core->Context(c), ino, request));
  };
  if (request.length) {
    call.core->RunBlocking(call, false, work);
  } else {
    work(call);
  }
}

void ReadLink(fuse_req_t req, fuse_ino_t ino) {
  Call& call = Begin(req);
  const auto target = call.core->fs().ReadLink(call.core->Context(call), ino);
  if (!target) return ReplyError(call, target.error());
  fuse_reply_readlink(req, target->c_str());
}

void MakeNode(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  Call& call = Begin(req);
  ReplyEntry(call, call.core->fs().MakeNode(call.core->Context(call), parent, name, mode, static_cast<uint32_t>(rdev)));
}

void MakeDir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  Call& call = Begin(req);
  ReplyEntry(call, call.core->fs().MakeDir(call.core->Context(call), parent, name, mode));
}

void MakeSymlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  Call& call = Begin(req);
  ReplyEntry(call, call.core->fs().MakeSymlink(call.core->Context(call), parent, name, target));
}

void Link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
  Call& call = Begin(req);
  ReplyEntry(call, call.core->fs().Link(call.core->Context(call), ino, new_parent, new_name));
}

void Unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Call& call = Begin(req);
  ReplyStatus(call, call.core->fs().Unlink(call.core->Context(call), parent, name));
}

void RemoveDir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Call& call = Begin(req);
  ReplyStatus(call, call.core->fs().RemoveDir(call.core->Context(call), parent, name));
}

void Rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags) {
  Call& call = Begin(req);
  ReplyStatus(call,
              call.core->fs().Rename(call.core->Context(call), parent, name, new_parent, new_name, flags));
}

// ---- files -------------------------------------------------------------------------

void Open(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  Call& call = Begin(req);
  const auto in = call.core->Argument<fuse_open_in>(call);
  ReplyOpen(call, ino, call.core->fs().Open(call.core->Context(call), ino, static_cast<int>(in.flags)));
}

void Create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* fi) {
  Call& call = Begin(req);
  vfs::FileSystem& fs = call.core->fs();
  const auto created = fs.Create(call.core->Context(call), parent, name, mode, fi->flags);
  if (!created) return ReplyError(call, created.error());
  struct {
    fuse_entry_out entry;
    fuse_open_out open;
  } out{};
  const Ino ino = created->entry.ino;
  out.entry.nodeid = ino;
  out.entry.generation = created->entry.attr.generation;
  SplitSeconds(call.core->options().entry_ttl_s, &out.entry.entry_valid, &out.entry.entry_valid_nsec);
  SplitSeconds(call.core->options().attr_ttl_s, &out.entry.attr_valid, &out.entry.attr_valid_nsec);
  out.entry.attr = ToKernelAttr(ToStat(ino, created->entry.attr));
  out.open = ToOpenOut(created->opened, kOpenParallelDirectWrites);
  if (fuse_reply_buf(req, reinterpret_cast<const char*>(&out), sizeof out) == -ENOENT) {
    fs.Release(ino, created->opened.handle);
  }
}

// True when answered; false when the file system would have to wait.
bool ReplyRead(Call& call, Ino ino, Handle handle, uint64_t offset, size_t size, bool may_wait) {
  Core& core = *call.core;
  BufferPool::Lease buffer(core.buffers());
  const std::span<char> out(buffer.data(), std::min(size, core.buffers().bytes()));
  const vfs::OpContext ctx = core.Context(call);
  const auto n = may_wait ? core.fs().Read(ctx, ino, handle, offset, out)
                          : core.fs().TryRead(ctx, ino, handle, offset, out);
  if (!n) {
    if (!may_wait && n.error().err() == EWOULDBLOCK) return false;
    ReplyError(call, n.error());
    return true;
  }
  core.CountBytes(true, *n);
  fuse_reply_buf(call.req, buffer.data(), *n);
  return true;
}

void Read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, fuse_file_info* fi) {
  Call& call = Begin(req);
  const auto offset = static_cast<uint64_t>(off);
  if (ReplyRead(call, ino, fi->fh, offset, size, false)) return;
  call.core->RunBlocking(call, true, [ino, handle = fi->fh, offset, size](Call& c) {
    ReplyRead(c, ino, handle, offset, size, true);
  });
}

void ReplyWrite(Call& call, const Status& status, size_t size) {
  if (!status.ok()) return ReplyError(call, status);
  call.core->CountBytes(false, size);
  fuse_reply_write(call.req, size);
}

void Write(fuse_req_t req, fuse_ino_t ino, const char* bytes, size_t size, off_t off, fuse_file_info* fi) {
  Call& call = Begin(req);
  Core& core = *call.core;
  const std::string_view request = core.Bytes(call);
  if (bytes < request.data() || size > request.size() || bytes + size > request.data() + request.size()) {
    return ReplyError(call, Status(EINVAL, "write: the request is shorter than the data it announces"));
  }
  const std::span<const char> data(bytes, size);
  const auto offset = static_cast<uint64_t>(off);
  const bool kill = core.Argument<fuse_write_in>(call).write_flags & FUSE_WRITE_KILL_SUIDGID;
  const Status status = core.fs().TryWrite(core.Context(call), ino, fi->fh, offset, data, kill);
  if (status.err() != EWOULDBLOCK) return ReplyWrite(call, status, size);
  // The data stays in the slot until then.
  core.RunBlocking(call, false, [ino, handle = fi->fh, offset, data, kill](Call& c) {
    ReplyWrite(c, c.core->fs().Write(c.core->Context(c), ino, handle, offset, data, kill), data.size());
  });
}

void Flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  Call& call = Begin(req);
  ReplyStatus(call, call.core->fs().Flush(call.core->Context(call), ino, fi->fh, fi->lock_owner));
}

void Release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  Call& call = Begin(req);
  call.core->fs().Release(ino, fi->fh);
  ReplyStatus(call, Status::Ok());
}

void Fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* fi) {
  Call& call = Begin(req);
  call.core->RunBlocking(call, true, [ino, handle = fi->fh, data_only](Call& c) {
    ReplyStatus(c, c.core->fs().Fsync(c.core->Context(c), ino, handle, data_only != 0));
  });
}

void Fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* fi) {
  Call& call = Begin(req);
  call.core->RunBlocking(call, false, [ino, handle = fi->fh, mode, offset, length](Call& c) {
    ReplyStatus(c, c.core->fs().Fallocate(c.core->Context(c), ino, handle, mode, static_cast<uint64_t>(offset),
                                          static_cast<uint64_t>(length)));
  });
}

void CopyFileRange(fuse_req_t req, fuse_ino_t src, off_t src_off, fuse_file_info* src_fi, fuse_ino_t dst,
                   off_t dst_off, fuse_file_info* dst_fi, size_t len, int) {
  Call& call = Begin(req);
  // The reply has 32 bits.
  constexpr size_t kMaxCopy = size_t{1} << 30;
  const size_t bytes = std::min(len, kMaxCopy);
  call.core->RunBlocking(call, false, [=, src_fh = src_fi->fh, dst_fh = dst_fi->fh](Call& c) {
    const auto n = c.core->fs().CopyFileRange(c.core->Context(c), src, src_fh, static_cast<uint64_t>(src_off), dst,
                                              dst_fh, static_cast<uint64_t>(dst_off), bytes);
    if (!n) return ReplyError(c, n.error());
    fuse_reply_write(c.req, *n);
  });
}

void Seek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, fuse_file_info* fi) {
  Call& call = Begin(req);
  if (whence != SEEK_DATA && whence != SEEK_HOLE) {
    return ReplyError(call, Status(EINVAL, "lseek: unknown whence " + std::to_string(whence)));
  }
  const auto what = whence == SEEK_DATA ? vfs::Whence::kData : vfs::Whence::kHole;
  call.core->RunBlocking(call, true, [ino, handle = fi->fh, off, what](Call& c) {
    const auto at = c.core->fs().Seek(c.core->Context(c), ino, handle, static_cast<uint64_t>(off), what);
    if (!at) return ReplyError(c, at.error());
    fuse_reply_lseek(c.req, static_cast<off_t>(*at));
  });
}

// ---- directories ----------------------------------------------------------------------

void OpenDir(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  Call& call = Begin(req);
  const auto opened = call.core->fs().OpenDir(call.core->Context(call), ino);
  if (!opened) return ReplyError(call, opened.error());
  const fuse_open_out out = ToOpenOut(*opened, call.core->options().cache_directories ? FOPEN_CACHE_DIR : 0);
  if (fuse_reply_buf(req, reinterpret_cast<const char*>(&out), sizeof out) == -ENOENT) {
    call.core->fs().ReleaseDir(ino, opened->handle);
  }
}

// Bytes used in `at`; more than `room` when the entry does not fit.
size_t AddEntry(Call& call, char* at, size_t room, const vfs::DirEntry& entry, bool plus) {
  const auto next = static_cast<off_t>(entry.position);
  if (!plus) {
    struct stat st {};
    st.st_ino = entry.ino;
    st.st_mode = ToModeBits(entry.type);
    return fuse_add_direntry(call.req, at, room, entry.name.c_str(), &st, next);
  }
  fuse_entry_param e{};
  if (entry.name == "." || entry.name == "..") {
    // Node 0: an entry without a lookup.
    e.attr.st_ino = entry.ino;
    e.attr.st_mode = ToModeBits(entry.type);
  } else {
    e = ToEntryParam(call, entry.ino, entry.attr);
  }
  return fuse_add_direntry_plus(call.req, at, room, entry.name.c_str(), &e, next);
}

void ReplyDirectory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t position, fuse_file_info* fi, bool plus) {
  Call& call = Begin(req);
  Core& core = *call.core;
  size = std::min(size, core.buffers().bytes());
  // A name of 12 bytes makes an entry of 40, or 168 with attributes.
  const size_t limit = size / (plus ? 168 : 40) + 2;
  const auto entries =
      core.fs().ReadDir(core.Context(call), ino, fi->fh, static_cast<uint64_t>(position), limit, plus);
  if (!entries) return ReplyError(call, entries.error());
  BufferPool::Lease buffer(core.buffers());
  size_t used = 0;
  for (const vfs::DirEntry& entry : *entries) {
    const size_t n = AddEntry(call, buffer.data() + used, size - used, entry, plus);
    if (n > size - used) break;
    used += n;
  }
  fuse_reply_buf(req, buffer.data(), used);
}

void ReadDir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t position, fuse_file_info* fi) {
  ReplyDirectory(req, ino, size, position, fi, false);
}

void ReadDirPlus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t position, fuse_file_info* fi) {
  ReplyDirectory(req, ino, size, position, fi, true);
}

void ReleaseDir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  Call& call = Begin(req);
  call.core->fs().ReleaseDir(ino, fi->fh);
  ReplyStatus(call, Status::Ok());
}

void FsyncDir(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
  Call& call = Begin(req);
  call.core->RunBlocking(call, true,
                         [ino](Call& c) { ReplyStatus(c, c.core->fs().FsyncDir(c.core->Context(c), ino)); });
}

void StatFs(fuse_req_t req, fuse_ino_t ino) {
  Call& call = Begin(req);
  const auto reply = call.core->fs().StatFsOf(call.core->Context(call), ino);
  if (!reply) return ReplyError(call, reply.error());
  constexpr uint64_t kBlock = 4096;
  struct statvfs st {};
  st.f_bsize = kBlock;
  st.f_frsize = kBlock;
  st.f_blocks = reply->total_bytes / kBlock;
  st.f_bfree = st.f_bavail = reply->free_bytes / kBlock;
  st.f_files = reply->total_inodes;
  st.f_ffree = st.f_favail = reply->free_inodes;
  st.f_namemax = kMaxNameBytes;
  fuse_reply_statfs(req, &st);
}

// ---- extended attributes ------------------------------------------------------------------

// `size` 0 asks how large the value is.
void ReplyXattr(Call& call, std::string_view value, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(call.req, value.size());
  } else if (value.size() > size) {
    fuse_reply_err(call.req, ERANGE);
  } else {
    fuse_reply_buf(call.req, value.data(), value.size());
  }
}

void GetXattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  Call& call = Begin(req);
  const auto value = call.core->fs().GetXattr(call.core->Context(call), ino, name);
  if (!value) return ReplyError(call, value.error());
  ReplyXattr(call, *value, size);
}

void ListXattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  Call& call = Begin(req);
  const auto names = call.core->fs().ListXattr(call.core->Context(call), ino);
  if (!names) return ReplyError(call, names.error());
  std::string joined;
  for (const std::string& name : *names) joined.append(name).push_back('\0');
  ReplyXattr(call, joined, size);
}

struct XattrArguments {
  std::string_view name, value;
  uint32_t flags = 0;
  bool clear_setgid = false;
};

// From the raw request: libfuse 3.14 knows only the short form of the header.
bool ParseSetXattr(std::string_view request, bool extended, XattrArguments* out) {
  constexpr size_t kShortHeader = 8;
  const size_t header = extended ? sizeof(fuse_setxattr_in) : kShortHeader;
  if (request.size() < sizeof(fuse_in_header) + header) return false;
  request.remove_prefix(sizeof(fuse_in_header));
  fuse_setxattr_in in{};
  std::memcpy(&in, request.data(), header);
  request.remove_prefix(header);
  const size_t end = request.find('\0');
  if (end == std::string_view::npos || request.size() - end - 1 < in.size) return false;
  out->name = request.substr(0, end);
  out->value = request.substr(end + 1, in.size);
  out->flags = in.flags;
  constexpr uint32_t kAclKillSgid = 1;
  out->clear_setgid = extended && (in.setxattr_flags & kAclKillSgid);
  return true;
}

void SetXattr(fuse_req_t req, fuse_ino_t ino, const char*, const char*, size_t, int) {
  Call& call = Begin(req);
  vfs::FileSystem& fs = call.core->fs();
  XattrArguments args;
  if (!ParseSetXattr(call.core->Bytes(call), call.core->extended_setxattr(), &args)) {
    return ReplyError(call, Status(EINVAL, "setxattr: the request is cut short"));
  }
  const auto how = args.flags & XATTR_CREATE    ? meta::XattrSet::kCreate
                   : args.flags & XATTR_REPLACE ? meta::XattrSet::kReplace
                                                : meta::XattrSet::kEither;
  vfs::OpContext ctx = call.core->Context(call);
  Status status = fs.SetXattr(ctx, ino, args.name, args.value, how);
  // Without the extended header the kernel names one group of the caller only:
  // membership by another one loses the bit.
  const bool extended = call.core->extended_setxattr();
  const bool ask = extended ? args.clear_setgid : args.name == "system.posix_acl_access" && ctx.uid != 0;
  if (status.ok() && ask) {
    // The caller may not keep S_ISGID when it sets this ACL. A step of its
    // own, which can be repeated: no replay record.
    ctx.unique = 0;
    const auto attr = fs.GetAttr(ctx, ino);
    if (attr && (attr->mode & S_ISGID) && (extended || attr->gid != ctx.gid)) {
      vfs::SetAttr clear;
      clear.valid = meta::kSetMode;
      clear.mode = attr->mode & ~S_ISGID;
      const auto done = fs.SetAttribute(ctx, ino, clear);
      if (!done) status = done.error();
    }
  }
  ReplyStatus(call, status);
}

void RemoveXattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  Call& call = Begin(req);
  ReplyStatus(call, call.core->fs().RemoveXattr(call.core->Context(call), ino, name));
}

// ---- locks ---------------------------------------------------------------------------------

vfs::Lock ToLock(const fuse_lk_in& in) {
  vfs::Lock lock;
  lock.type = in.lk.type == F_RDLCK   ? vfs::Lock::Type::kRead
              : in.lk.type == F_WRLCK ? vfs::Lock::Type::kWrite
                                      : vfs::Lock::Type::kUnlock;
  lock.start = in.lk.start;
  lock.end = in.lk.end;
  lock.owner = in.owner;
  lock.pid = static_cast<int32_t>(in.lk.pid);
  return lock;
}

void GetLock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, struct flock*) {
  Call& call = Begin(req);
  const auto in = call.core->Argument<fuse_lk_in>(call);
  const auto found = call.core->fs().GetLock(call.core->Context(call), ino, fi->fh, ToLock(in));
  if (!found) return ReplyError(call, found.error());
  struct flock out {};
  out.l_type = found->type == vfs::Lock::Type::kUnlock  ? F_UNLCK
               : found->type == vfs::Lock::Type::kWrite ? F_WRLCK
                                                        : F_RDLCK;
  out.l_whence = SEEK_SET;
  out.l_start = static_cast<off_t>(found->start);
  constexpr uint64_t kEndOfFile = INT64_MAX;
  out.l_len = found->end >= kEndOfFile ? 0 : static_cast<off_t>(found->end - found->start + 1);
  out.l_pid = found->pid;
  fuse_reply_lock(req, &out);
}

void StartLock(fuse_req_t req, fuse_ino_t ino, uint64_t handle, bool wait) {
  Call& call = Begin(req);
  Core& core = *call.core;
  const auto in = core.Argument<fuse_lk_in>(call);
  // flock(LOCK_UN) says "wait" too, but nothing will.
  if (in.lk.type == F_UNLCK) wait = false;
  // A lock may be waited for as long as anybody likes.
  if (wait) core.TryPark(call);
  call.deferred = true;
  const uint64_t unique = call.unique;
  core.fs().SetLock(core.Context(call), ino, handle, ToLock(in), (in.lk_flags & FUSE_LK_FLOCK) != 0, wait,
                    [self = core.shared_from_this(), unique, copy = call](const Status& status) {
                      // A file system that is closed because we step back ends its
                      // waiters; they wait on, at the successor.
                      if (status.err() == EINTR && self->stopping() && !self->slots().IsInterrupted(unique)) return;
                      self->Answer(copy, [&](Call& c) { ReplyStatus(c, status); });
                    });
  // The interrupt may have been faster than the lock's registration.
  if (wait && core.slots().IsInterrupted(unique)) core.fs().CancelLock(unique);
}

void SetLock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, struct flock*, int sleep) {
  StartLock(req, ino, fi->fh, sleep != 0);
}

void FlockLock(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi, int op) {
  StartLock(req, ino, fi->fh, (op & LOCK_NB) == 0);
}

void Init(void* core, fuse_conn_info* conn) { static_cast<Core*>(core)->NegotiateCapabilities(conn); }

}  // namespace

const fuse_lowlevel_ops kOperations = [] {
  fuse_lowlevel_ops ops{};
  ops.init = Init;
  ops.lookup = Lookup;
  ops.getattr = GetAttr;
  ops.setattr = SetAttribute;
  ops.readlink = ReadLink;
  ops.mknod = MakeNode;
  ops.mkdir = MakeDir;
  ops.unlink = Unlink;
  ops.rmdir = RemoveDir;
  ops.symlink = MakeSymlink;
  ops.rename = Rename;
  ops.link = Link;
  ops.open = Open;
  ops.read = Read;
  ops.write = Write;
  ops.flush = Flush;
  ops.release = Release;
  ops.fsync = Fsync;
  ops.opendir = OpenDir;
  ops.readdir = ReadDir;
  ops.readdirplus = ReadDirPlus;
  ops.releasedir = ReleaseDir;
  ops.fsyncdir = FsyncDir;
  ops.statfs = StatFs;
  ops.setxattr = SetXattr;
  ops.getxattr = GetXattr;
  ops.listxattr = ListXattr;
  ops.removexattr = RemoveXattr;
  ops.create = Create;
  ops.getlk = GetLock;
  ops.setlk = SetLock;
  ops.flock = FlockLock;
  ops.fallocate = Fallocate;
  ops.copy_file_range = CopyFileRange;
  ops.lseek = Seek;
  return ops;
}();

}  // namespace moorfs::fuse
