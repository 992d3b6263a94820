// SPDX-License-Identifier: Apache-2.0
//
// Fsck's mends: small transactions that read again what they change.



#include <algorithm>

#include "fs/meta/check/fsck_impl.h"

namespace moorfs::meta::fsck {

namespace {

constexpr size_t kPage = 1000;
constexpr int64_t kDeleteDelayNs = int64_t{3600} * Timestamp::kNsPerSec;

// Calls `visit` for the dentries of `dir`.
Status ForEachName(kv::Transaction& txn, const keys::Schema& schema, Ino dir,
                   const std::function<Status(uint64_t pos, const Dentry&)>& visit) {
  kv::Range range = schema.DentriesAfter(dir, 0);
  while (true) {
    ASSIGN_OR_RETURN_STATUS(const auto entries, txn.Scan(range, kPage));
    for (const kv::Entry& entry : entries) {
      const auto pos = keys::ParseDentrySuffix(entry.suffix);
      const auto dentry = DecodeDentry(entry.value);
      if (pos && dentry && !dentry->tombstone) RETURN_IF_ERROR(visit(*pos, *dentry));
    }
    if (entries.size() < kPage) return Status::Ok();
    range.begin = entries.back().suffix + '\0';
  }
}

// Ordinal 0 stays as a tombstone when others of its hash may live.
void EraseAt(kv::Transaction& txn, const keys::Schema& schema, Ino dir, uint64_t pos, const Dentry& dentry) {
  if (pos % 128 == 0 && dentry.chained) {
    Dentry tombstone;
    tombstone.tombstone = tombstone.chained = true;
    txn.Put(schema.Dentry(dir, pos), EncodeDentry(tombstone));
  } else {
    txn.Delete(schema.Dentry(dir, pos));
  }
}

// At ordinal 0 of the name's hash, if that is free.
Result<bool> InsertName(kv::Transaction& txn, const Survey& survey, Ino dir, const std::string& name,
                        FileType type, Ino ino) {
  const uint64_t pos = keys::NameHash56(survey.format.name_hash_key, name) << 7;
  ASSIGN_OR_RETURN(const auto taken, txn.Get(survey.schema.Dentry(dir, pos)));
  if (taken) return false;
  Dentry dentry;
  dentry.type = type;
  dentry.ino = ino;
  dentry.name = name;
  txn.Put(survey.schema.Dentry(dir, pos), EncodeDentry(dentry));
  return true;
}

Result<Ino> LostAndFound(kv::Transaction& txn, const Survey& survey) {
  const std::string name = "lost+found";
  const uint64_t pos = keys::NameHash56(survey.format.name_hash_key, name) << 7;
  ASSIGN_OR_RETURN(const auto value, txn.Get(survey.schema.Dentry(kRootIno, pos)));
  if (value) {
    ASSIGN_OR_RETURN(const Dentry dentry, DecodeDentry(*value));
    if (!dentry.tombstone && dentry.name == name && dentry.type == FileType::kDirectory) return dentry.ino;
    return Error(ENOTDIR, "mending: /lost+found is in the way; rename it");
  }
  const kv::Key allocator = keys::Allocator("inode");
  ASSIGN_OR_RETURN(const auto next, txn.Get(allocator));
  const Ino ino = next ? DecodeLe64(*next) : kFirstIno;
  txn.Put(allocator, EncodeLe64(ino + 1));
  Attr attr;
  attr.type = FileType::kDirectory;
  attr.mode = 0700;
  attr.nlink = 2;
  attr.length = 4096;
  attr.parent = kRootIno;
  attr.atime = attr.mtime = attr.ctime = attr.btime = Timestamp::Now();
  txn.Put(survey.schema.Attr(ino), EncodeAttr(attr));
  txn.Add(keys::CounterKey(keys::Counter::kUsedInodes, 0), 1);
  ASSIGN_OR_RETURN(const bool inserted, InsertName(txn, survey, kRootIno, name, FileType::kDirectory, ino));
  if (!inserted) return Error(EEXIST, "mending: /lost+found cannot be made");
  return ino;
}

}  // namespace

Mend MendAttr(const keys::Schema& schema, Ino ino, std::function<void(Attr&)> change) {
  return [schema, ino, change](kv::Transaction& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.Get(schema.Attr(ino)));
    if (!value) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(Attr attr, DecodeAttr(*value));
    change(attr);
    ++attr.change;
    txn.Put(schema.Attr(ino), EncodeAttr(attr));
    return Status::Ok();
  };
}

Mend EraseNames(const keys::Schema& schema, Ino dir, uint64_t pos, Ino ino) {
  return [schema, dir, pos, ino](kv::Transaction& txn) -> Status {
    return ForEachName(txn, schema, dir, [&](uint64_t at, const Dentry& dentry) {
      if (dentry.ino == ino && (pos == 0 || pos == at)) EraseAt(txn, schema, dir, at, dentry);
      return Status::Ok();
    });
  };
}

Mend RetypeNames(const keys::Schema& schema, Ino dir, Ino ino, FileType type) {
  return [schema, dir, ino, type](kv::Transaction& txn) -> Status {
    return ForEachName(txn, schema, dir, [&](uint64_t at, const Dentry& dentry) {
      if (dentry.ino == ino) {
        Dentry right = dentry;
        right.type = type;
        txn.Put(schema.Dentry(dir, at), EncodeDentry(right));
      }
      return Status::Ok();
    });
  };
}

Mend Adopt(const Survey& survey, Ino ino, FileType type) {
  return [&survey, ino, type](kv::Transaction& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.Get(survey.schema.Attr(ino)));
    if (!value) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(Attr attr, DecodeAttr(*value));
    ASSIGN_OR_RETURN_STATUS(const Ino home, LostAndFound(txn, survey));
    std::string name = "#" + std::to_string(ino);
    while (true) {
      ASSIGN_OR_RETURN_STATUS(const bool named, InsertName(txn, survey, home, name, type, ino));
      if (named) break;
      name += "_";
      if (name.size() > kMaxNameBytes) return Status(EEXIST, "mending: no free name in /lost+found");
    }
    // Links of directories inside it are counted in the next round.
    attr.parent = home;
    attr.nlink = type == FileType::kDirectory ? std::max<uint32_t>(attr.nlink, 2) : 1;
    attr.flags &= ~kAttrManyParents;
    ++attr.change;
    txn.Put(survey.schema.Attr(ino), EncodeAttr(attr));
    ASSIGN_OR_RETURN_STATUS(const auto parents, txn.Scan(survey.schema.Parents(ino), kPage));
    const std::string partition = survey.schema.InodePartition(ino);
    for (const kv::Entry& entry : parents) txn.Delete(kv::Key(partition, entry.suffix));
    return Status::Ok();
  };
}

Mend SetParents(const keys::Schema& schema, Ino ino, std::vector<Ino> dirs) {
  return [schema, ino, dirs](kv::Transaction& txn) -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto value, txn.Get(schema.Attr(ino)));
    if (!value) return Status::Ok();
    ASSIGN_OR_RETURN_STATUS(Attr attr, DecodeAttr(*value));
    ASSIGN_OR_RETURN_STATUS(const auto old, txn.Scan(schema.Parents(ino), kPage));
    const std::string partition = schema.InodePartition(ino);
    for (const kv::Entry& entry : old) txn.Delete(kv::Key(partition, entry.suffix));
    if (dirs.size() == 1) {
      attr.flags &= ~kAttrManyParents;
      attr.parent = dirs.front();
    } else {
      attr.flags |= kAttrManyParents;
      attr.parent = 0;
      for (size_t i = 0; i < dirs.size();) {
        const size_t first = i;
        while (i < dirs.size() && dirs[i] == dirs[first]) ++i;
        txn.Put(schema.Parent(ino, dirs[first]), EncodeLe32(static_cast<uint32_t>(i - first)));
      }
    }
    txn.Put(schema.Attr(ino), EncodeAttr(attr));
    return Status::Ok();
  };
}

Mend SetReferences(const ObjectId& object, int64_t count) {
  return [object, count](kv::Transaction& txn) {
    if (count > 0) {
      txn.Put(keys::ObjectRefs(object), EncodeLe64(static_cast<uint64_t>(count)));
    } else {
      txn.Delete(keys::ObjectRefs(object));
      txn.Delete(keys::ObjectBytes(object));
      txn.Put(keys::ObjectDelete({Timestamp::Now().ns + kDeleteDelayNs}, object), {});
    }
    return Status::Ok();
  };
}

}  // namespace moorfs::meta::fsck
