// SPDX-License-Identifier: Apache-2.0
//
// Volumes: directories below /volumes with a record and a quota. Made and
// unmade in one transaction each, so that whoever asks again after a crash
// finds all of it or nothing.

#include <algorithm>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr char kVolumes[] = "volumes";
constexpr size_t kMaxVolumeNameBytes = 128;
constexpr size_t kMaxPlainNameBytes = 63;
constexpr size_t kPrefixBytes = 32;
constexpr size_t kMaxParameterBytes = 64 << 10;
// Others cannot pass /volumes on a mount of the whole file system; inside a
// volume its users, whoever they are in their pods, decide.
constexpr uint16_t kVolumesMode = 0700, kVolumeMode = 0777;

bool IsPlain(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

// The code point at `text`; its length goes to `bytes`, 0 when it is no UTF-8.
uint32_t CodePoint(std::string_view text, size_t* bytes) {
  *bytes = 0;
  const auto first = static_cast<uint8_t>(text[0]);
  const size_t n = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : (first & 0xf0) == 0xe0 ? 3
                   : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  if (n == 0 || n > text.size()) return 0;
  uint32_t point = n == 1 ? first : first & (0xffu >> (n + 1));
  for (size_t i = 1; i < n; ++i) {
    const auto next = static_cast<uint8_t>(text[i]);
    if ((next & 0xc0) != 0x80) return 0;
    point = point << 6 | (next & 0x3fu);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (point < kLeast[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return 0;
  *bytes = n;
  return point;
}

Status CheckVolumeName(const std::string& name) {
  if (name.empty() || name.size() > kMaxVolumeNameBytes) {
    return Status(EINVAL, "a volume's name has 1 to 128 bytes, this one has " + std::to_string(name.size()));
  }
  for (std::string_view rest = name; !rest.empty();) {
    size_t bytes = 0;
    const uint32_t point = CodePoint(rest, &bytes);
    if (bytes == 0) return Status(EINVAL, "a volume's name must be UTF-8");
    if (point < 0x20 || (point >= 0x7f && point < 0xa0)) {
      return Status(EINVAL, "a volume's name must not hold control characters");
    }
    rest.remove_prefix(bytes);
  }
  return Status::Ok();
}

// The name itself where it can be one, else a readable prefix, '~' (which no
// plain name has) and 112 bits of hash.
std::string DirectoryOf(const std::string& name) {
  const bool plain = name.size() <= kMaxPlainNameBytes && std::all_of(name.begin(), name.end(), IsPlain);
  if (plain && name != "." && name != "..") return name;
  std::string out;
  for (const char c : name) {
    if (out.size() == kPrefixBytes) break;
    if ((static_cast<uint8_t>(c) & 0xc0) == 0x80) continue;  // inside a character
    out.push_back(IsPlain(c) ? c : '_');
  }
  out.push_back('~');
  for (const uint8_t half : {1, 2}) {
    constexpr char kHex[] = "0123456789abcdef";
    const uint64_t hash = keys::NameHash56({half}, name);
    for (int shift = 52; shift >= 0; shift -= 4) out.push_back(kHex[hash >> shift & 15]);
  }
  return out;
}

Status CheckSpec(const VolumeSpec& spec) {
  RETURN_IF_ERROR(CheckVolumeName(spec.name));
  size_t bytes = 0;
  for (const auto& [key, value] : spec.parameters) bytes += key.size() + value.size() + 8;
  if (bytes > kMaxParameterBytes) return Status(EINVAL, "a volume's parameters have more than 64 KiB");
  return Status::Ok();
}

// What a repeated creation asks for against what there is; `now` are the
// limits of today, which may have been changed since.
Status Compare(const VolumeSpec& spec, const VolumeRecord& record, const QuotaRecord& now) {
  const std::string what = "make volume '" + spec.name + "': it exists with ";
  if (spec.bytes != record.bytes && spec.bytes != now.bytes) {
    return Status(EEXIST, what + std::to_string(now.bytes) + " bytes, not " + std::to_string(spec.bytes));
  }
  if (spec.inodes != record.inodes && spec.inodes != now.inodes) {
    return Status(EEXIST, what + std::to_string(now.inodes) + " inodes, not " + std::to_string(spec.inodes));
  }
  std::map<std::string, std::string> there(record.parameters.begin(), record.parameters.end());
  for (const auto& [key, value] : spec.parameters) {
    const auto found = there.find(key);
    if (found == there.end()) return Status(EEXIST, what + "no parameter '" + key + "'");
    if (found->second != value) return Status(EEXIST, what + "another value of parameter '" + key + "'");
    there.erase(found);
  }
  if (there.empty()) return Status::Ok();
  return Status(EEXIST, what + "parameter '" + there.begin()->first + "', which is not asked for");
}

}  // namespace

VolumeInfo MetaImpl::InfoOf(const std::string& name, const VolumeRecord& record) {
  VolumeInfo info;
  info.spec.name = name;
  info.spec.bytes = record.bytes;
  info.spec.inodes = record.inodes;
  info.spec.parameters.insert(record.parameters.begin(), record.parameters.end());
  info.directory = std::string(kVolumes) + "/" + record.directory;
  info.ino = record.ino;
  info.created = record.created;
  if (const auto state = quotas_.Find(record.ino); state && !(state->record.flags & kQuotaGone)) {
    const QuotaInfo quota = InfoOf(record.ino, *state);
    info.spec.bytes = quota.bytes;
    info.spec.inodes = quota.inodes;
    info.used_bytes = quota.used_bytes + quota.reserved_bytes;
    info.used_inodes = quota.used_inodes;
  }
  return info;
}

Result<Ino> MetaImpl::VolumesDir(bool make) {
  for (int attempt = 0;; ++attempt) {
    const auto found = Lookup(kRootIno, kVolumes);
    if (found && found->attr.type != FileType::kDirectory) {
      return Error(ENOTDIR, "/volumes is no directory; rename it, volumes lie there");
    }
    if (found) return found->ino;
    if (found.error().err() != ENOENT || !make) return Error(found.error());
    const auto made = MakeDir({}, kRootIno, kVolumes, kVolumesMode);
    if (made) return made->ino;
    // Somebody else made it meanwhile.
    if (made.error().err() != EEXIST || attempt > 0) return Error(made.error());
  }
}

Status MetaImpl::CreateVolumeIn(Txn& txn, Ino volumes, Ino ino, const VolumeSpec& spec, VolumeRecord* record) {
  const std::string directory = DirectoryOf(spec.name);
  ASSIGN_OR_RETURN_STATUS(Attr dir, LoadParent(txn.kv, volumes));
  ASSIGN_OR_RETURN_STATUS(const NameSlot slot, FindName(txn.kv, volumes, directory));
  if (slot.found) {
    return Status(EEXIST, "make volume '" + spec.name + "': /volumes/" + directory + " exists and is no volume");
  }
  if (dir.nlink >= kMaxNlink) return Status(EMLINK, "make volume '" + spec.name + "': /volumes is full");
  Attr attr;
  attr.type = FileType::kDirectory;
  attr.mode = kVolumeMode;
  attr.nlink = 2;
  attr.length = 4096;
  attr.generation = 1;
  attr.parent = volumes;
  attr.quota = ino;
  attr.atime = attr.mtime = attr.ctime = attr.btime = txn.now;
  StoreBase(txn.kv, ino, attr);
  RETURN_IF_ERROR(InsertDentry(txn, volumes, slot, directory, attr.type, ino));
  RETURN_IF_ERROR(TouchDir(txn, volumes, &dir, 1));
  RETURN_IF_ERROR(MarkQuotasUsed(txn));
  txn.PutQuota(ino, {spec.bytes, spec.inodes, dir.quota, 0});
  txn.AddUsed(0, 1);
  txn.Charge(ino, 0, 1);
  *record = {ino, directory, spec.bytes, spec.inodes, txn.now, {spec.parameters.begin(), spec.parameters.end()}};
  txn.kv.Put(keys::Volume(spec.name), EncodeVolume(*record));
  return Status::Ok();
}

Result<Meta::CreatedVolume> MetaImpl::CreateVolume(const VolumeSpec& spec) {
  TRY_VOID(CheckSpec(spec));
  ASSIGN_OR_RETURN(const Ino volumes, VolumesDir(true));
  ASSIGN_OR_RETURN(const Ino ino, NextIno());
  CreatedVolume out;
  VolumeRecord record;
  const Status done = Mutate({}, {volumes}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(keys::Volume(spec.name)));
    out.created = !value;
    if (!value) return CreateVolumeIn(txn, volumes, ino, spec, &record);
    ASSIGN_OR_RETURN_STATUS(record, DecodeVolume(*value));
    const auto quota = LoadQuota(txn.kv, record.ino);
    if (!quota && quota.error().err() != ENODATA) return quota.error();
    const bool gone = !quota || (quota->flags & kQuotaGone);
    RETURN_IF_ERROR(Compare(spec, record, gone ? QuotaRecord{record.bytes, record.inodes, 0, 0} : *quota));
    // Whoever asks for a volume gets one, also where somebody removed its directory.
    ASSIGN_OR_RETURN_STATUS(const NameSlot slot, FindName(txn.kv, volumes, record.directory));
    if (slot.found && slot.found->dentry.ino == record.ino) return Status::Ok();
    out.created = true;
    return CreateVolumeIn(txn, volumes, ino, spec, &record);
  });
  TRY_VOID(done);
  out.volume = InfoOf(spec.name, record);
  out.volume.parent = volumes;
  return out;
}

Result<std::optional<VolumeInfo>> MetaImpl::DeleteVolume(const std::string& name) {
  if (name.empty() || name.size() > kMaxVolumeNameBytes) return std::nullopt;
  const auto volumes = VolumesDir(false);
  if (!volumes && volumes.error().err() != ENOENT && volumes.error().err() != ENOTDIR) return Error(volumes.error());
  const Ino parent = volumes ? *volumes : 0;
  std::optional<VolumeInfo> out;
  const Status done = Mutate({}, {parent}, nullptr, [&](Txn& txn) -> Status {
    out.reset();
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(keys::Volume(name)));
    if (!value) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(const VolumeRecord record, DecodeVolume(*value));
    txn.kv.Delete(keys::Volume(name));
    out = InfoOf(name, record);
    out->parent = parent;
    if (parent == 0) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(const NameSlot slot, FindName(txn.kv, parent, record.directory));
    // Gone or moved by hand: then that is how it shall be.
    if (!slot.found || slot.found->dentry.ino != record.ino) return Status::Ok();
    RETURN_IF_ERROR(txn.Lock(record.ino));
    ASSIGN_OR_RETURN_STATUS(Attr dir, LoadParent(txn.kv, parent));
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadAttr(txn.kv, record.ino, EIO));
    RETURN_IF_ERROR(EraseDentry(txn, parent, *slot.found));
    RETURN_IF_ERROR(TouchDir(txn, parent, &dir, -1));
    return Doom(txn, record.ino, &attr);
  });
  TRY_VOID(done);
  return out;
}

Result<VolumeInfo> MetaImpl::GetVolume(const std::string& name) {
  TRY_VOID(RefreshQuotas());
  std::optional<VolumeRecord> record;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    record.reset();
    if (name.empty() || name.size() > kMaxVolumeNameBytes) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(const auto value, kv.Get(keys::Volume(name)));
    if (!value) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(record, DecodeVolume(*value));
    return Status::Ok();
  });
  TRY_VOID(done);
  if (!record) return Error(ENOENT, "there is no volume '" + name + "'");
  return InfoOf(name, *record);
}

Result<std::vector<VolumeInfo>> MetaImpl::ListVolumes(const std::string& after, size_t limit) {
  constexpr size_t kPage = 1024;
  TRY_VOID(RefreshQuotas());
  std::vector<VolumeInfo> out;
  if (after.size() > kMaxVolumeNameBytes) return Error(EINVAL, "listing volumes: no name is that long");
  ASSIGN_OR_RETURN(const auto snapshot, kv_.NewSnapshot());
  kv::Range range = keys::VolumesAfter(after);
  while (out.size() < limit) {
    const size_t want = std::min(limit - out.size(), kPage);
    ASSIGN_OR_RETURN(const auto page, snapshot->Scan(range, want));
    for (const kv::Entry& entry : page) {
      ASSIGN_OR_RETURN(const VolumeRecord record, DecodeVolume(entry.value));
      out.push_back(InfoOf(entry.suffix, record));
    }
    if (page.size() < want) break;
    range.begin = page.back().suffix + '\0';
  }
  return out;
}

}  // namespace moorfs::meta
