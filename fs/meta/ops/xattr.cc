// SPDX-License-Identifier: Apache-2.0
//
// Extended attributes, and the two that are ACLs in disguise.

#include <sys/stat.h>

#include <optional>

#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr std::string_view kAccessAcl = "system.posix_acl_access";
constexpr std::string_view kDefaultAcl = "system.posix_acl_default";
constexpr std::string_view kCapability = "security.capability";
constexpr size_t kPage = 1024;

bool IsAcl(std::string_view name) { return name == kAccessAcl || name == kDefaultAcl; }

Status CheckXattrName(std::string_view name) {
  for (const std::string_view space : {"user.", "trusted.", "security."}) {
    if (!name.starts_with(space)) continue;
    if (name.size() == space.size()) return Status(EINVAL, "an extended attribute's name is empty");
    if (name.size() > kMaxNameBytes) return Status(ERANGE, "an extended attribute's name has more than 255 bytes");
    return Status::Ok();
  }
  return Status(EOPNOTSUPP, "extended attribute '" + std::string(name) +
                                "': only user., trusted., security. and POSIX ACLs are kept");
}

Status NoData(Ino ino, std::string_view name) {
  return Status(ENODATA, "inode " + std::to_string(ino) + " has no attribute '" + std::string(name) + "'");
}

Status CheckHow(Ino ino, std::string_view name, bool exists, XattrSet how) {
  if (how == XattrSet::kCreate && exists) {
    return Status(EEXIST, "inode " + std::to_string(ino) + " has an attribute '" + std::string(name) + "' already");
  }
  if (how == XattrSet::kReplace && !exists) return NoData(ino, name);
  return Status::Ok();
}

}  // namespace

Result<std::string> MetaImpl::GetXattr(Ino ino, std::string_view name) {
  if (!IsAcl(name)) TRY_VOID(CheckXattrName(name));
  std::string out;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    if (!IsAcl(name)) {
      ASSIGN_OR_RETURN_STATUS(auto value, kv.Get(schema_.Xattr(ino, name)));
      if (!value) return NoData(ino, name);
      out = std::move(*value);
      return Status::Ok();
    }
    ASSIGN_OR_RETURN_STATUS(const Attr attr, LoadBase(kv, ino));
    const uint32_t id = name == kAccessAcl ? attr.access_acl : attr.default_acl;
    if (id == 0) return NoData(ino, name);
    ASSIGN_OR_RETURN_STATUS(const Acl acl, LoadAcl(kv, id));
    out = EncodeAclXattr(acl);
    return Status::Ok();
  });
  TRY_VOID(done);
  return out;
}

Status MetaImpl::SetXattr(const OpContext& ctx, Ino ino, std::string_view name, std::string_view value,
                          XattrSet how) {
  if (IsAcl(name)) return SetAclXattr(ctx, ino, name == kDefaultAcl, value, how);
  RETURN_IF_ERROR(CheckXattrName(name));
  if (value.size() > kMaxXattrBytes) return Status(E2BIG, "an extended attribute has more than 64 KiB");
  return Mutate(ctx, {ino}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadBase(txn.kv, ino));
    const kv::Key key = schema_.Xattr(ino, name);
    if (how != XattrSet::kEither) {
      ASSIGN_OR_RETURN_STATUS(const auto present, txn.kv.Get(key));
      RETURN_IF_ERROR(CheckHow(ino, name, present.has_value(), how));
    }
    txn.kv.Put(key, value);
    attr.flags |= kAttrHasXattr;
    if (name == kCapability) attr.flags |= kAttrHasCapability;
    TouchAttr(txn, &attr);
    StoreBase(txn.kv, ino, attr);
    return Status::Ok();
  });
}

Result<std::vector<std::string>> MetaImpl::ListXattr(Ino ino) {
  std::vector<std::string> names;
  const Status done = Read([&](kv::Transaction& kv) -> Status {
    names.clear();
    ASSIGN_OR_RETURN_STATUS(const Attr attr, LoadBase(kv, ino));
    if (attr.access_acl != 0) names.emplace_back(kAccessAcl);
    if (attr.default_acl != 0) names.emplace_back(kDefaultAcl);
    if (!(attr.flags & kAttrHasXattr)) return Status::Ok();
    kv::Range range = schema_.Xattrs(ino);
    for (;;) {
      ASSIGN_OR_RETURN_STATUS(const auto page, kv.Scan(range, kPage));
      for (const kv::Entry& entry : page) {
        if (const auto name = keys::ParseXattrSuffix(entry.suffix)) names.emplace_back(*name);
      }
      if (page.size() < kPage) return Status::Ok();
      range.begin = page.back().suffix + '\0';
    }
  });
  TRY_VOID(done);
  return names;
}

Status MetaImpl::RemoveXattr(const OpContext& ctx, Ino ino, std::string_view name) {
  if (IsAcl(name)) return RemoveAclXattr(ctx, ino, name == kDefaultAcl);
  RETURN_IF_ERROR(CheckXattrName(name));
  return Mutate(ctx, {ino}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadBase(txn.kv, ino));
    const kv::Key key = schema_.Xattr(ino, name);
    ASSIGN_OR_RETURN_STATUS(const auto present, txn.kv.Get(key));
    if (!present) return NoData(ino, name);
    txn.kv.Delete(key);
    if (name == kCapability) attr.flags &= ~kAttrHasCapability;
    TouchAttr(txn, &attr);
    StoreBase(txn.kv, ino, attr);
    return Status::Ok();
  });
}

Status MetaImpl::SetAclXattr(const OpContext& ctx, Ino ino, bool is_default, std::string_view value, XattrSet how) {
  ASSIGN_OR_RETURN_STATUS(const Acl acl, DecodeAclXattr(value));
  if (acl.rules.empty()) return RemoveAclXattr(ctx, ino, is_default);
  return Mutate(ctx, {ino}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadBase(txn.kv, ino));
    if (attr.type == FileType::kSymlink) return Status(EOPNOTSUPP, "setting an ACL on a symlink");
    if (is_default && attr.type != FileType::kDirectory) {
      return Status(EACCES, "setting a default ACL on what is no directory");
    }
    uint32_t* const id = is_default ? &attr.default_acl : &attr.access_acl;
    RETURN_IF_ERROR(CheckHow(ino, is_default ? kDefaultAcl : kAccessAcl, *id != 0, how));
    // Whether the caller may keep S_ISGID only the kernel knows; fs/fuse is told.
    if (!is_default) attr.mode = ModeFromAcl(acl, attr.mode);
    if (!is_default && IsEquivalentToMode(acl)) {
      *id = 0;
    } else {
      ASSIGN_OR_RETURN_STATUS(*id, InternAcl(txn, acl));
    }
    TouchAttr(txn, &attr);
    StoreBase(txn.kv, ino, attr);
    return Status::Ok();
  });
}

Status MetaImpl::RemoveAclXattr(const OpContext& ctx, Ino ino, bool is_default) {
  return Mutate(ctx, {ino}, nullptr, [&](Txn& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(Attr attr, LoadBase(txn.kv, ino));
    uint32_t* const id = is_default ? &attr.default_acl : &attr.access_acl;
    // As Linux has it: removing an ACL that is not there is no error.
    if (*id == 0) return Status::Ok();
    *id = 0;
    TouchAttr(txn, &attr);
    StoreBase(txn.kv, ino, attr);
    return Status::Ok();
  });
}

}  // namespace moorfs::meta
