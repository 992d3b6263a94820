// SPDX-License-Identifier: Apache-2.0
//
// A volume as a whole: made, recognised, opened.

#include <bit>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

Status WriteVolume(kv::Transaction& kv, const VolumeFormat& format, uint32_t root_uid, uint32_t root_gid) {
  ASSIGN_OR_RETURN_STATUS(const auto present, kv.Get(keys::Format()));
  if (present) return Status(EEXIST, "formatting a volume: the engine holds one already");
  kv.Put(keys::Format(), EncodeVolumeFormat(format));
  kv.Put(keys::Allocator("inode"), EncodeLe64(kFirstIno));
  Attr root;
  root.type = FileType::kDirectory;
  root.mode = 0755;
  root.uid = root_uid;
  root.gid = root_gid;
  root.nlink = 2;
  root.length = 4096;
  root.generation = 1;
  root.parent = kRootIno;
  root.atime = root.mtime = root.ctime = root.btime = format.created;
  kv.Put(keys::Schema(format.key_hash_bytes).Attr(kRootIno), EncodeAttr(root));
  kv.Add(keys::CounterKey(keys::Counter::kUsedInodes, 0), 1);
  return Status::Ok();
}

std::string LowestBit(uint64_t bits) { return std::to_string(std::countr_zero(bits)); }

}  // namespace

Status Meta::FormatVolume(kv::KvStore& kv, const VolumeFormat& format, uint32_t root_uid, uint32_t root_gid) {
  bool has_volume = false, has_other = false;
  ASSIGN_OR_RETURN_STATUS(const auto snapshot, kv.NewSnapshot());
  ASSIGN_OR_RETURN_STATUS(const auto present, snapshot->Get(keys::Format()));
  has_volume = present.has_value();
  if (!has_volume) {
    const Status walked = snapshot->Walk("", [&](std::string_view, std::string_view) {
      has_other = true;
      return false;
    });
    // An engine that cannot be walked is the embedder's to check.
    if (!walked.ok() && walked.err() != ENOTSUP) return walked;
  }
  if (has_other) return Status(ENOTEMPTY, "formatting a volume: the engine holds something else");
  return kv.Transact([&](kv::Transaction& t) { return WriteVolume(t, format, root_uid, root_gid); });
}

Result<VolumeFormat> Meta::LoadFormat(kv::KvStore& kv) {
  std::optional<std::string> value;
  const Status done = kv.Transact([&](kv::Transaction& t) -> Status {
    ASSIGN_OR_RETURN_STATUS(value, t.Get(keys::Format()));
    return Status::Ok();
  });
  TRY_VOID(done);
  if (!value) return Error(ENOENT, "opening a volume: the engine holds none; make one with moorfs format");
  ASSIGN_OR_RETURN(const VolumeFormat format, DecodeVolumeFormat(*value));
  if (format.version > 1) {
    return Error(EPROTONOSUPPORT, "opening volume '" + format.name + "': its format is version " +
                                      std::to_string(format.version) + ", this moorfs knows up to 1");
  }
  if (const uint64_t unknown = format.incompat & ~kKnownIncompat; unknown != 0) {
    return Error(EPROTONOSUPPORT, "opening volume '" + format.name + "': it uses feature bit " + LowestBit(unknown) +
                                      ", which this moorfs does not know");
  }
  return format;
}

Result<std::unique_ptr<Meta>> Meta::Open(kv::KvStore& kv, MetaOptions options) {
  ASSIGN_OR_RETURN(VolumeFormat format, LoadFormat(kv));
  const uint64_t unknown = format.ro_compat & ~kKnownRoCompat;
  if (unknown != 0 && !options.read_only) {
    return Error(EROFS, "opening volume '" + format.name + "': it uses feature bit " + LowestBit(unknown) +
                            ", with which this moorfs can only read it; mount it with --read-only");
  }
  auto meta = std::make_unique<MetaImpl>(kv, std::move(format), std::move(options));
  TRY_VOID(meta->Prepare());
  return std::unique_ptr<Meta>(std::move(meta));
}

Status MetaImpl::Prepare() {
  if ((format_.ro_compat & kRoCompatQuotas) != 0 || shared()) RETURN_IF_ERROR(LoadQuotas());
  if (shared()) return Status::Ok();
  ASSIGN_OR_RETURN_STATUS(const Usage usage, SumUsage());
  used_bytes_ = usage.bytes;
  used_inodes_ = usage.inodes;
  usage_known_ = true;
  return Status::Ok();
}

Status MetaImpl::SetTrashDays(uint32_t days) {
  OpContext ctx;
  const Status done = Mutate(ctx, {}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(keys::Format()));
    if (!value) return Status(ENOENT, "setting trash days: the format record is gone");
    ASSIGN_OR_RETURN_STATUS(VolumeFormat format, DecodeVolumeFormat(*value));
    format.trash_days = days;
    txn.kv.Put(keys::Format(), EncodeVolumeFormat(format));
    return Status::Ok();
  });
  RETURN_IF_ERROR(done);
  trash_days_ = days;
  return Status::Ok();
}

}  // namespace moorfs::meta
