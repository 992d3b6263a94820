// SPDX-License-Identifier: Apache-2.0
//
// Directory entries by name. A name's position is its keyed hash and an
// ordinal; ordinal 0 speaks for the whole hash (fs/format/records.h), so that
// finding a name, or finding that it is free, is one point get.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr size_t kOrdinals = 128;

uint64_t OrdinalOf(uint64_t pos) { return pos & (kOrdinals - 1); }

}  // namespace

Status MetaImpl::CheckName(std::string_view name) {
  if (name.empty()) return Status(ENOENT, "a name is empty");
  if (name.size() > kMaxNameBytes) {
    return Status(ENAMETOOLONG, "a name has " + std::to_string(name.size()) + " bytes, the most are 255");
  }
  if (name == "." || name == "..") return Status(EINVAL, "'" + std::string(name) + "' cannot be made or removed");
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
    return Status(EINVAL, "a name holds a slash or a zero byte");
  }
  return Status::Ok();
}

Result<MetaImpl::NameSlot> MetaImpl::FindName(kv::Transaction& kv, Ino dir, std::string_view name) {
  NameSlot slot;
  slot.hash = NameHash(name);
  const uint64_t first = slot.hash << 7;
  ASSIGN_OR_RETURN(const auto value, kv.Get(schema_.Dentry(dir, first)));
  if (!value) return slot;
  ASSIGN_OR_RETURN(slot.head, DecodeDentry(*value));
  slot.used.set(0);
  if (!slot.head->tombstone && slot.head->name == name) slot.found = FoundDentry{first, *slot.head};
  if (slot.found || !slot.head->chained) return slot;
  ASSIGN_OR_RETURN(const auto entries, kv.Scan(schema_.DentriesOfHash(dir, slot.hash), kOrdinals));
  for (const kv::Entry& entry : entries) {
    const auto pos = keys::ParseDentrySuffix(entry.suffix);
    if (!pos) return Error(EIO, "directory " + std::to_string(dir) + ": an entry's key is damaged; run moorfs fsck");
    slot.used.set(OrdinalOf(*pos));
    ASSIGN_OR_RETURN(Dentry dentry, DecodeDentry(entry.value));
    if (!dentry.tombstone && dentry.name == name) slot.found = FoundDentry{*pos, std::move(dentry)};
  }
  return slot;
}

Status MetaImpl::InsertDentry(Txn& txn, Ino dir, const NameSlot& slot, std::string_view name, FileType type,
                              Ino ino) {
  Dentry dentry;
  dentry.type = type;
  dentry.ino = ino;
  dentry.name = std::string(name);
  const uint64_t first = slot.hash << 7;
  if (!slot.head || slot.head->tombstone) {
    dentry.chained = slot.head.has_value();
    txn.kv.Put(schema_.Dentry(dir, first), EncodeDentry(dentry));
    return Status::Ok();
  }
  uint64_t ordinal = 1;
  while (ordinal < kOrdinals && slot.used.test(ordinal)) ++ordinal;
  if (ordinal == kOrdinals) {
    return Status(ENOSPC, "directory " + std::to_string(dir) + ": more than 128 names share one hash");
  }
  txn.kv.Put(schema_.Dentry(dir, first | ordinal), EncodeDentry(dentry));
  if (!slot.head->chained) {
    Dentry head = *slot.head;
    head.chained = true;
    txn.kv.Put(schema_.Dentry(dir, first), EncodeDentry(head));
  }
  return Status::Ok();
}

Status MetaImpl::EraseDentry(Txn& txn, Ino dir, const FoundDentry& found) {
  const uint64_t ordinal = OrdinalOf(found.pos);
  if (ordinal == 0 && !found.dentry.chained) {
    txn.kv.Delete(schema_.Dentry(dir, found.pos));
    return Status::Ok();
  }
  const uint64_t hash = found.pos >> 7;
  ASSIGN_OR_RETURN_STATUS(const auto entries, txn.kv.Scan(schema_.DentriesOfHash(dir, hash), kOrdinals));
  if (ordinal == 0) {
    if (entries.size() == 1) {
      txn.kv.Delete(schema_.Dentry(dir, found.pos));
    } else {
      Dentry tombstone;
      tombstone.tombstone = tombstone.chained = true;
      txn.kv.Put(schema_.Dentry(dir, found.pos), EncodeDentry(tombstone));
    }
    return Status::Ok();
  }
  txn.kv.Delete(schema_.Dentry(dir, found.pos));
  if (entries.size() == 2) {
    ASSIGN_OR_RETURN_STATUS(const Dentry head, DecodeDentry(entries.front().value));
    if (head.tombstone) txn.kv.Delete(schema_.Dentry(dir, hash << 7));
  }
  return Status::Ok();
}

void MetaImpl::ReplaceDentry(Txn& txn, Ino dir, const FoundDentry& found, FileType type, Ino ino) {
  Dentry dentry = found.dentry;
  dentry.type = type;
  dentry.ino = ino;
  txn.kv.Put(schema_.Dentry(dir, found.pos), EncodeDentry(dentry));
}

Result<bool> MetaImpl::IsEmptyDir(kv::Transaction& kv, Ino dir) {
  // A tombstone stands only beside live entries, so one record decides.
  ASSIGN_OR_RETURN(const auto entries, kv.Scan(schema_.DentriesAfter(dir, 0), 1));
  return entries.empty();
}

}  // namespace moorfs::meta
