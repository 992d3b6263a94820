// SPDX-License-Identifier: Apache-2.0
//
// POSIX.1e access control lists as arithmetic: the xattr form that Linux uses
// for system.posix_acl_*, the canonical form that is interned, and the rules
// that tie a list to the nine permission bits. No storage, no I/O.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs {

enum class AclTag : uint16_t {
  kUserObj = 0x01,
  kUser = 0x02,
  kGroupObj = 0x04,
  kGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20,
};

struct AclRule {
  AclTag tag = AclTag::kOther;
  uint16_t perm = 0;  // rwx = 4, 2, 1
  uint32_t id = 0;    // of kUser and kGroup, else 0
  friend bool operator==(const AclRule&, const AclRule&) = default;
};

// Valid and in canonical order: by tag, then by id.
struct Acl {
  std::vector<AclRule> rules;
  friend bool operator==(const Acl&, const Acl&) = default;
};

// Linux's form: le32 version 2, then le16 tag, le16 perm, le32 id each.
// EINVAL: not a list, or one that POSIX.1e forbids (a base entry missing, two
// of one kind, named entries without a mask). An empty list decodes to no rules.
Result<Acl> DecodeAclXattr(std::string_view value);
std::string EncodeAclXattr(const Acl& acl);

// Stored form (family L): the rules without the version. EIO when damaged.
std::string EncodeAcl(const Acl& acl);
Result<Acl> DecodeAcl(std::string_view value);
// Of the stored form; finds lists that may be equal.
uint64_t HashAcl(std::string_view stored);

// The list says no more than the mode: only the three base entries.
bool IsEquivalentToMode(const Acl& acl);
// `mode` with its nine bits replaced by what the list grants owner, group class
// (the mask if there is one) and others.
uint16_t ModeFromAcl(const Acl& acl, uint16_t mode);
// chmod on an inode with a list: owner, mask (or group) and others follow `mode`.
void ApplyModeToAcl(uint16_t mode, Acl* acl);
// A new inode under a default list: `acl` is the list it starts with, reduced
// to what `mode` asks for; returns the mode that results.
uint16_t InheritAcl(uint16_t mode, Acl* acl);

}  // namespace moorfs
