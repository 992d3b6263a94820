// SPDX-License-Identifier: Apache-2.0
//
// Interned ACLs: a volume has few different lists and many inodes that carry
// them, so an inode holds a number. A list never changes once it has one.

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {

Result<Acl> MetaImpl::LoadAcl(kv::Transaction& kv, uint32_t id) {
  {
    std::shared_lock lock(acl_mutex_);
    const auto it = acls_.find(id);
    if (it != acls_.end()) return *it->second;
  }
  ASSIGN_OR_RETURN(const auto value, kv.Get(keys::AclById(id)));
  if (!value) return Error(EIO, "ACL " + std::to_string(id) + ": it does not exist; run moorfs fsck");
  ASSIGN_OR_RETURN(Acl acl, DecodeAcl(*value));
  std::unique_lock lock(acl_mutex_);
  acls_.emplace(id, std::make_shared<const Acl>(acl));
  return acl;
}

Result<uint32_t> MetaImpl::InternAcl(Txn& txn, const Acl& acl) {
  const std::string stored = EncodeAcl(acl);
  const kv::Key by_hash = keys::AclsByHash(HashAcl(stored));
  ASSIGN_OR_RETURN(const auto known, txn.kv.Get(by_hash));
  std::string ids = known.value_or(std::string());
  for (size_t at = 0; at + 4 <= ids.size(); at += 4) {
    const uint32_t id = DecodeLe32(std::string_view(ids).substr(at, 4));
    // Not through LoadAcl: what this transaction may have written is not yet true.
    ASSIGN_OR_RETURN(const auto other, txn.kv.Get(keys::AclById(id)));
    if (other && *other == stored) return id;
  }
  ASSIGN_OR_RETURN(const uint64_t id, NextId(txn, "acl", 1));
  if (id > UINT32_MAX) return Error(ENOSPC, "setting an ACL: the volume has used up its ACL numbers");
  txn.kv.Put(keys::AclById(static_cast<uint32_t>(id)), stored);
  txn.kv.Put(by_hash, ids + EncodeLe32(static_cast<uint32_t>(id)));
  return static_cast<uint32_t>(id);
}

}  // namespace moorfs::meta
