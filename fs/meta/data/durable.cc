// SPDX-License-Identifier: Apache-2.0
//
// What a power cut may take. A commit can reach the disk before the blocks it
// points at do: the engine's log is written back whenever the kernel likes.
// So every commit notes its new objects (family Q) with the chunks that point
// at them, and the note goes when the objects are durable. After a power cut
// the noted objects are checked; slices of one that is lost are removed, and
// older data, or zeros, shows again, as after a power cut on a local file
// system. Nothing that was fsynced is ever in that state.

#include <set>

#include "common/base/coding.h"
#include "fs/meta/data/file_edit.h"
#include "fs/meta/meta_impl.h"

namespace moorfs::meta {
namespace {

constexpr size_t kObjectsPerStep = 1000;

}  // namespace

void RecordUndurable(kv::Transaction& txn, const std::vector<NewObject>& objects,
                     const std::vector<FileUpdate>& updates) {
  if (objects.empty()) return;
  std::map<ObjectId, std::set<std::pair<Ino, uint32_t>>> chunks;
  for (const NewObject& object : objects) chunks[object.id];
  for (const FileUpdate& update : updates) {
    for (const FileUpdate::Piece& piece : update.pieces) {
      const auto it = chunks.find(piece.record.object);
      if (it != chunks.end()) it->second.emplace(update.ino, piece.chunk);
    }
  }
  for (const auto& [object, places] : chunks) {
    std::string value;
    value.reserve(places.size() * 12);
    for (const auto& [ino, chunk] : places) {
      PutLe64(&value, ino);
      PutLe32(&value, chunk);
    }
    txn.Put(keys::Undurable(object), value);
  }
}

Status MetaImpl::MarkDurable(const std::vector<ObjectId>& objects) {
  for (size_t at = 0; at < objects.size(); at += kObjectsPerStep) {
    const size_t end = std::min(objects.size(), at + kObjectsPerStep);
    RETURN_IF_ERROR(Mutate({}, {}, nullptr, [&](Txn& txn) {
      for (size_t i = at; i < end; ++i) txn.kv.Delete(keys::Undurable(objects[i]));
      return Status::Ok();
    }));
  }
  return Status::Ok();
}

Result<std::vector<ObjectId>> MetaImpl::UndurableObjects() {
  ASSIGN_OR_RETURN(std::unique_ptr<kv::Snapshot> snapshot, kv_.NewSnapshot());
  std::vector<ObjectId> objects;
  kv::Range range = keys::Undurables();
  while (true) {
    ASSIGN_OR_RETURN(std::vector<kv::Entry> entries, snapshot->Scan(range, kObjectsPerStep));
    for (const kv::Entry& entry : entries) {
      if (const auto id = keys::TrailingObject(entry.suffix)) objects.push_back(*id);
    }
    if (entries.size() < kObjectsPerStep) return objects;
    range.begin = entries.back().suffix + '\0';
  }
}

Status MetaImpl::DropLostObjects(const std::vector<ObjectId>& objects) {
  for (const ObjectId& object : objects) {
    std::set<std::pair<Ino, uint32_t>> places;
    RETURN_IF_ERROR(Read([&](kv::Transaction& txn) -> Status {
      places.clear();
      ASSIGN_OR_RETURN_STATUS(const auto value, txn.Get(keys::Undurable(object)));
      if (!value) return Status::Ok();
      for (ValueReader reader(*value); !reader.rest().empty();) {
        const Ino ino = reader.Le64();
        const uint32_t chunk = reader.Le32();
        if (!reader.exhausted()) places.emplace(ino, chunk);
      }
      return Status::Ok();
    }));
    // One transaction per chunk; the note goes last, so that a crash in
    // between repeats what is left.
    for (const auto& [ino, chunk] : places) {
      RETURN_IF_ERROR(Mutate({}, {ino}, nullptr, [&, ino = ino, chunk = chunk](Txn& txn) -> Status {
        ASSIGN_OR_RETURN_STATUS(const auto value, txn.kv.Get(schema_.Attr(ino)));
        if (!value) return Status::Ok();
        ASSIGN_OR_RETURN_STATUS(Attr attr, DecodeAttr(*value));
        ASSIGN_OR_RETURN_STATUS(const auto slices, ScanChunk(txn.kv, schema_, ino, chunk, 0));
        RefChanges refs;
        FileEdit edit(txn, schema_, ino, attr, refs);
        for (const Slice& slice : slices) {
          if (slice.record.object == object) edit.Remove(chunk, slice);
        }
        edit.FinishChange();
        return refs.Settle(txn.kv, ObjectDeleteTime(txn));
      }));
    }
    RETURN_IF_ERROR(MarkDurable({object}));
  }
  return Status::Ok();
}

}  // namespace moorfs::meta
