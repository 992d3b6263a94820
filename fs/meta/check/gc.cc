// SPDX-License-Identifier: Apache-2.0
//
// FindLeaked, DeleteLeaked.

#include "fs/meta/check/gc.h"

#include <algorithm>

#include "common/base/coding.h"
#include "fs/format/keys.h"
#include "fs/meta/check/split_key.h"

namespace moorfs::meta {

namespace {

// The object that a record speaks of: counted, queued for deletion, or pointed
// at by a slice (also when the count is wrong).
Result<std::optional<ObjectId>> ObjectOf(const kv::Key& key, std::string_view value) {
  const std::string_view suffix = key.suffix();
  switch (key.partition()[0]) {
    case 'O':
      if (suffix.size() < 16) return Error(EIO, "collecting garbage: malformed object record");
      return ObjectId{GetBe64(suffix.data()), GetBe64(suffix.data() + 8)};
    case 'Z':
      if (suffix.size() != 24) return Error(EIO, "collecting garbage: malformed deletion record");
      return ObjectId{GetBe64(suffix.data() + 8), GetBe64(suffix.data() + 16)};
    case 'I': {
      if (!keys::ParseSliceSuffix(suffix)) return std::nullopt;
      ASSIGN_OR_RETURN(const SliceRecord slice, DecodeSlice(value));
      return slice.object;
    }
    default: return std::nullopt;
  }
}

}  // namespace

Result<GcReport> FindLeaked(kv::KvStore& kv, const ListObjects& list, Timestamp now, int64_t safety_age_ns) {
  GcReport report;
  std::vector<StoredObject> old;
  TRY_VOID(list([&](const StoredObject& object) {
    ++report.listed;
    report.listed_bytes += object.bytes;
    if (object.modified.ns > now.ns - safety_age_ns) {
      ++report.young;
    } else {
      old.push_back(object);
    }
    return true;
  }));
  const auto by_id = [](const StoredObject& a, const StoredObject& b) { return a.id < b.id; };
  std::sort(old.begin(), old.end(), by_id);

  std::vector<bool> known(old.size(), false);
  ASSIGN_OR_RETURN(const auto snapshot, kv.NewSnapshot());
  ASSIGN_OR_RETURN(const auto format_json, snapshot->Get(keys::Format()));
  if (!format_json) return Error(ENOENT, "collecting garbage: the engine holds no volume");
  ASSIGN_OR_RETURN(const VolumeFormat format, DecodeVolumeFormat(*format_json));
  Status damage;
  TRY_VOID(snapshot->Walk({}, [&](std::string_view bytes, std::string_view value) {
    const auto key = SplitKey(bytes, format.key_hash_bytes);
    if (!key) {
      damage = Status(EIO, "collecting garbage: metadata holds a record this version does not know");
      return false;
    }
    const auto object = ObjectOf(*key, value);
    if (!object) {
      damage = object.error();
      return false;
    }
    if (!*object) return true;
    const auto found = std::lower_bound(old.begin(), old.end(), StoredObject{**object, 0, {}}, by_id);
    if (found != old.end() && found->id == **object) known[static_cast<size_t>(found - old.begin())] = true;
    return true;
  }));
  TRY_VOID(damage);
  for (size_t i = 0; i < old.size(); ++i) {
    if (known[i]) continue;
    report.leaked_bytes += old[i].bytes;
    report.leaked.push_back(old[i]);
  }
  return report;
}

Result<uint64_t> DeleteLeaked(kv::KvStore& kv, const std::vector<StoredObject>& leaked,
                              const std::function<Status(const ObjectId&)>& remove) {
  uint64_t deleted = 0;
  for (const StoredObject& object : leaked) {
    bool known = false;
    TRY_VOID(kv.Transact([&](kv::Transaction& txn) -> Status {
      ASSIGN_OR_RETURN_STATUS(const auto refs, txn.Get(keys::ObjectRefs(object.id)));
      known = refs.has_value();
      return Status::Ok();
    }));
    if (known) continue;
    TRY_VOID(remove(object.id));
    ++deleted;
  }
  return deleted;
}

}  // namespace moorfs::meta
