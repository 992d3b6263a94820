// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/lost_blocks.h"

#include <memory>

#include "common/base/coding.h"
#include "common/log/log.h"

namespace moorfs::vfs {
namespace {

enum class State { kWhole, kLost, kUnused };

// Absence is asked for by name: a store that cannot answer must not pass for
// one that has lost the block.
Result<State> StateOf(kv::Snapshot& snapshot, chunk::BlockStore& blocks, const ObjectId& object) {
  ASSIGN_OR_RETURN(const std::optional<std::string> size, snapshot.Get(keys::ObjectBytes(object)));
  // Nothing points at it any more; it may be deleted already.
  if (!size) return State::kUnused;
  const uint32_t bytes = ValueReader(*size).Le32();
  Result<object::ObjectInfo> info = blocks.store().Head(blocks.NameOf(object));
  if (!info && info.error().err() == ENOENT) return State::kLost;
  if (!info) return Error(std::move(info).error());
  auto raw = std::make_unique<char[]>(bytes);
  Status status = blocks.Read(object, 0, {raw.get(), bytes});
  if (status.ok()) return State::kWhole;
  if (status.err() == EIO) return State::kLost;
  return Error(std::move(status));
}

}  // namespace

Result<LostBlocks> DropLostBlocks(meta::Meta& meta, chunk::BlockStore& blocks) {
  LostBlocks result;
  ASSIGN_OR_RETURN(const std::vector<ObjectId> objects, meta.UndurableObjects());
  if (objects.empty()) return result;
  ASSIGN_OR_RETURN(const std::unique_ptr<kv::Snapshot> snapshot, meta.kv().NewSnapshot());
  std::vector<ObjectId> whole;
  std::vector<ObjectId> lost;
  std::vector<ObjectId> unused;
  for (const ObjectId& object : objects) {
    ASSIGN_OR_RETURN(const State state, StateOf(*snapshot, blocks, object));
    (state == State::kWhole ? whole : state == State::kLost ? lost : unused).push_back(object);
    ++result.checked;
  }
  result.lost = lost.size();
  TRY_VOID(meta.DropLostObjects(lost));
  if (!whole.empty()) {
    TRY_VOID(blocks.Barrier(whole));
    TRY_VOID(meta.MarkDurable(whole));
  }
  TRY_VOID(meta.MarkDurable(unused));
  TRY_VOID(meta.kv().Sync());
  if (result.lost != 0) {
    LOG_WARNING("vfs") << "the machine went down before " << result.lost << " of " << result.checked
                       << " recent blocks reached the disk; what they held was never fsynced, older data shows again";
  }
  return result;
}

}  // namespace moorfs::vfs
