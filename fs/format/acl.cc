// SPDX-License-Identifier: Apache-2.0
//
// ACL arithmetic of fs/format/acl.h.

#include "fs/format/acl.h"

#include <algorithm>

#include "common/base/coding.h"

namespace moorfs {
namespace {

constexpr uint32_t kXattrVersion = 2;
constexpr uint32_t kNoId = 0xffffffff;  // what Linux writes for entries without an id
constexpr size_t kRuleBytes = 8;
// As many as fit an xattr of 64 KiB.
constexpr size_t kMaxRules = (64 << 10) / kRuleBytes;

bool IsNamed(AclTag tag) { return tag == AclTag::kUser || tag == AclTag::kGroup; }

void PutRule(std::string* out, const AclRule& rule, uint32_t unnamed_id) {
  PutLe16(out, static_cast<uint16_t>(rule.tag));
  PutLe16(out, rule.perm);
  PutLe32(out, IsNamed(rule.tag) ? rule.id : unnamed_id);
}

bool KnownTag(uint16_t tag) {
  return tag != 0 && tag <= 0x20 && (tag & (tag - 1)) == 0;
}

// False when the bytes are no rules at all.
bool ParseRules(std::string_view bytes, Acl* acl) {
  if (bytes.size() % kRuleBytes != 0 || bytes.size() / kRuleBytes > kMaxRules) return false;
  ValueReader in(bytes);
  for (size_t n = bytes.size() / kRuleBytes; n > 0; --n) {
    const uint16_t tag = in.Le16();
    AclRule rule;
    rule.perm = in.Le16();
    rule.id = in.Le32();
    if (!KnownTag(tag) || rule.perm > 7) return false;
    rule.tag = static_cast<AclTag>(tag);
    if (!IsNamed(rule.tag)) rule.id = 0;
    acl->rules.push_back(rule);
  }
  return true;
}

void Canonicalize(Acl* acl) {
  std::sort(acl->rules.begin(), acl->rules.end(), [](const AclRule& a, const AclRule& b) {
    return std::pair(a.tag, a.id) < std::pair(b.tag, b.id);
  });
}

bool IsValid(const Acl& acl) {
  bool seen[0x21] = {};
  for (size_t i = 0; i < acl.rules.size(); ++i) {
    const AclRule& rule = acl.rules[i];
    seen[static_cast<size_t>(rule.tag)] = true;
    if (i > 0 && acl.rules[i - 1].tag == rule.tag && acl.rules[i - 1].id == rule.id) return false;
  }
  const auto has = [&](AclTag tag) { return seen[static_cast<size_t>(tag)]; };
  if (!has(AclTag::kUserObj) || !has(AclTag::kGroupObj) || !has(AclTag::kOther)) return false;
  return has(AclTag::kMask) || (!has(AclTag::kUser) && !has(AclTag::kGroup));
}

AclRule* Find(Acl* acl, AclTag tag) {
  for (AclRule& rule : acl->rules) {
    if (rule.tag == tag) return &rule;
  }
  return nullptr;
}

// The entry that the group bits of a mode stand for.
AclRule* GroupClass(Acl* acl) {
  AclRule* mask = Find(acl, AclTag::kMask);
  return mask != nullptr ? mask : Find(acl, AclTag::kGroupObj);
}

}  // namespace

Result<Acl> DecodeAclXattr(std::string_view value) {
  const auto bad = [] { return Error(EINVAL, "setting an ACL: the list is malformed"); };
  ValueReader in(value);
  if (in.Le32() != kXattrVersion || in.exhausted()) return bad();
  Acl acl;
  if (!ParseRules(in.rest(), &acl)) return bad();
  if (acl.rules.empty()) return acl;
  Canonicalize(&acl);
  if (!IsValid(acl)) return bad();
  return acl;
}

std::string EncodeAclXattr(const Acl& acl) {
  std::string out;
  out.reserve(4 + acl.rules.size() * kRuleBytes);
  PutLe32(&out, kXattrVersion);
  for (const AclRule& rule : acl.rules) PutRule(&out, rule, kNoId);
  return out;
}

std::string EncodeAcl(const Acl& acl) {
  std::string out;
  out.reserve(acl.rules.size() * kRuleBytes);
  for (const AclRule& rule : acl.rules) PutRule(&out, rule, 0);
  return out;
}

Result<Acl> DecodeAcl(std::string_view value) {
  Acl acl;
  if (!ParseRules(value, &acl) || !IsValid(acl)) {
    return Error(EIO, "reading an ACL from metadata: the value is damaged; run moorfs fsck");
  }
  return acl;
}

// FNV-1a with a final mix: equal lists are told apart by their bytes, so the
// hash only has to spread.
uint64_t HashAcl(std::string_view stored) {
  uint64_t h = 0xcbf29ce484222325;
  for (const char c : stored) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return h ^ (h >> 29);
}

bool IsEquivalentToMode(const Acl& acl) { return acl.rules.size() <= 3; }

uint16_t ModeFromAcl(const Acl& acl, uint16_t mode) {
  Acl copy = acl;
  mode = static_cast<uint16_t>(mode & ~0777);
  if (const AclRule* r = Find(&copy, AclTag::kUserObj)) mode = static_cast<uint16_t>(mode | r->perm << 6);
  if (const AclRule* r = GroupClass(&copy)) mode = static_cast<uint16_t>(mode | r->perm << 3);
  if (const AclRule* r = Find(&copy, AclTag::kOther)) mode = static_cast<uint16_t>(mode | r->perm);
  return mode;
}

void ApplyModeToAcl(uint16_t mode, Acl* acl) {
  if (AclRule* r = Find(acl, AclTag::kUserObj)) r->perm = mode >> 6 & 7;
  if (AclRule* r = GroupClass(acl)) r->perm = mode >> 3 & 7;
  if (AclRule* r = Find(acl, AclTag::kOther)) r->perm = mode & 7;
}

uint16_t InheritAcl(uint16_t mode, Acl* acl) {
  if (AclRule* r = Find(acl, AclTag::kUserObj)) r->perm &= mode >> 6 & 7;
  if (AclRule* r = GroupClass(acl)) r->perm &= mode >> 3 & 7;
  if (AclRule* r = Find(acl, AclTag::kOther)) r->perm &= mode & 7;
  return ModeFromAcl(*acl, mode);
}

}  // namespace moorfs
