// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/flusher.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

#include "common/log/log.h"

namespace moorfs::vfs {
namespace {

// One round takes at most this much: enough to fill blocks, little enough
// that memory comes back steadily.
constexpr uint64_t kRoundBytes = 16_MiB;
#ifdef __SANITIZE_THREAD__
constexpr size_t kRoundInodes = 24;  // the detector follows at most 64 locks of a thread
#else
constexpr size_t kRoundInodes = 1024;
#endif
constexpr size_t kRoundPieces = 6000;
// Slices per object and per transaction; well below the engine's caps.
constexpr size_t kPackPieces = 1024;
constexpr size_t kCommitPieces = 1200;
constexpr size_t kCommitInodes = 400;
constexpr int64_t kRetryNs = 500'000'000;
// Compaction looks at a chunk whenever its file has gained this many slices.
constexpr uint64_t kCompactEvery = 256;
// An extent this large stays where it is when its chunk is compacted.
constexpr uint32_t kKeepExtentBytes = 256 << 10;
// Rewriting may cost at most about twice what was written since: a chunk is
// worth it once its records, at this size each, add up to its live bytes.
constexpr uint64_t kBytesPerRecord = 8 << 10;

int64_t Ms(int64_t ms) { return ms * 1'000'000; }

}  // namespace

// A visible run of frozen bytes.
struct Flusher::Item {
  size_t inode;  // index into Round::inodes
  uint64_t offset;
  uint64_t len;
  Segment* segment;
  uint32_t segment_offset;
};

struct Flusher::Round {
  struct Object {
    ObjectId id;
    std::vector<iovec> raw;
    uint64_t bytes = 0;
    struct Piece {
      size_t inode;
      meta::FileUpdate::Piece piece;
      uint64_t end;  // in the file
    };
    std::vector<Piece> pieces;
  };
  struct PerInode {
    InodePtr inode;
    std::vector<Segment*> frozen;
    std::optional<std::string> inline_bytes;
    std::vector<ObjectId> objects;
    std::vector<std::pair<uint64_t, meta::FileUpdate::Piece>> committed;  // with sequence numbers
    bool gone = false;
    bool done = false;  // wholly committed
  };
  std::vector<PerInode> inodes;
  std::vector<Item> items;
  std::vector<Object> objects;
  uint64_t bytes = 0;
};

Flusher::Flusher(Vfs& vfs) : vfs_(vfs), nonce_(RandomU64() | 1) {}

Flusher::~Flusher() { Stop(); }

void Flusher::Start() {
  if (vfs_.options_.read_only) return;
  for (unsigned i = 0; i < vfs_.options_.flush_threads; ++i) threads_.emplace_back([this] { WorkerLoop(); });
  threads_.emplace_back([this] { MaintenanceLoop(); });
}

void Flusher::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  maintain_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

ObjectId Flusher::NewObjectId() { return {nonce_, next_object_.fetch_add(1, std::memory_order_relaxed)}; }

void Flusher::Enqueue(const InodePtr& inode) {
  std::lock_guard lock(mutex_);
  if (inode->queued) return;
  inode->queued = true;
  queue_.push_back({inode, MonotonicNs()});
}

void Flusher::Kick() {
  {
    std::lock_guard lock(mutex_);
    if (kicked_) return;
    kicked_ = true;
  }
  wake_.notify_one();
}

void Flusher::QueueAtime(Ino ino, Timestamp atime) {
  std::lock_guard lock(mutex_);
  if (atimes_.size() < 100'000) atimes_[ino] = atime;
}

void Flusher::DropAtime(Ino ino) {
  std::lock_guard lock(mutex_);
  atimes_.erase(ino);
}

void Flusher::QueueCompaction(Ino ino, uint32_t chunk) {
  {
    std::lock_guard lock(mutex_);
    const std::pair<Ino, uint32_t> item{ino, chunk};
    if (compact_.size() >= 4096 || std::find(compact_.begin(), compact_.end(), item) != compact_.end()) return;
    compact_.push_back(item);
  }
  maintain_.notify_one();
}

Status Flusher::last_error() {
  std::lock_guard lock(mutex_);
  return last_error_;
}

// ---- choosing --------------------------------------------------------------

std::vector<InodePtr> Flusher::Pick() {
  std::vector<InodePtr> picked;
  const int64_t now = MonotonicNs();
  if (now < retry_at_ns_) return picked;
  const bool pressure = vfs_.dirty_.used_bytes() * 3 > vfs_.dirty_.budget_bytes();
  const int64_t due = now - Ms(vfs_.options_.flush_age_ms);
  uint64_t bytes = 0;
  for (auto it = queue_.begin(); it != queue_.end() && picked.size() < kRoundInodes && bytes < kRoundBytes;) {
    if (!pressure && it->since_ns > due) break;
    bytes += std::max<uint64_t>(4096, it->inode->dirty.bytes());
    it->inode->queued = false;
    picked.push_back(std::move(it->inode));
    it = queue_.erase(it);
  }
  return picked;
}

void Flusher::WorkerLoop() {
  while (true) {
    std::vector<InodePtr> picked;
    {
      std::unique_lock lock(mutex_);
      while (true) {
        if (stopping_) return;
        kicked_ = false;
        picked = Pick();
        if (!picked.empty()) {
          busy_.insert(picked.begin(), picked.end());
          break;
        }
        wake_.wait_for(lock, std::chrono::milliseconds(200), [&] { return stopping_ || kicked_; });
      }
    }
    // Inodes that somebody else flushes or truncates are left to them.
    std::vector<InodePtr> mine;
    std::vector<std::unique_lock<std::mutex>> held;
    for (InodePtr& inode : picked) {
      std::unique_lock<std::mutex> data(inode->data_mutex, std::try_to_lock);
      if (!data) continue;
      held.push_back(std::move(data));
      mine.push_back(inode);
    }
    const int64_t started = MonotonicNs();
    const bool none = mine.empty();
    std::set<const Inode*> whole;
    // A failure is kept in last_error_; the data stays and is tried again.
    if (!none && RunRound(mine, kRoundBytes).ok()) {
      for (const InodePtr& inode : mine) {
        if (!inode->left_over) whole.insert(inode.get());
      }
    }
    held.clear();
    mine.clear();  // Settle() below forgets only what nobody else holds
    for (InodePtr& inode : picked) {
      {
        std::lock_guard lock(mutex_);
        busy_.erase(busy_.find(inode));
      }
      bool dirty;
      {
        std::shared_lock lock(inode->mutex);
        dirty = inode->pending.index != 0;
      }
      if (dirty) {
        std::lock_guard lock(mutex_);
        if (inode->queued) continue;
        inode->queued = true;
        // Only written since then: it ages anew. Else to the front.
        if (whole.contains(inode.get())) queue_.push_back({inode, started});
        else queue_.push_front({inode, 0});
      } else {
        vfs_.inodes_.Settle(std::move(inode));
      }
    }
    if (none) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// ---- one round ---------------------------------------------------------------

void Flusher::Freeze(const InodePtr& inode, uint64_t budget_bytes, Round* round) {
  std::unique_lock lock(inode->mutex);
  inode->left_over = false;
  inode->frozen_up_to = 0;
  if (inode->pending.index == 0) return;
  const size_t index = round->inodes.size();
  Round::PerInode& per = round->inodes.emplace_back();
  per.inode = inode;
  const uint64_t length = inode->pending.length;

  // Oldest first. A segment may hide a part of an older one; were it freed
  // first, a crash would bring those stale bytes back to light.
  std::vector<Segment*> by_age;
  for (const DirtyPiece& piece : inode->dirty.All()) by_age.push_back(piece.segment);
  std::sort(by_age.begin(), by_age.end(), [](const Segment* a, const Segment* b) { return a->seq < b->seq; });
  by_age.erase(std::unique(by_age.begin(), by_age.end()), by_age.end());
  uint64_t taken = 0;
  for (Segment* segment : by_age) {
    if (taken >= budget_bytes || round->items.size() + per.frozen.size() >= kRoundPieces) {
      inode->left_over = true;
      break;
    }
    segment->frozen = true;
    per.frozen.push_back(segment);
    taken += segment->visible;
    inode->frozen_up_to = segment->seq;
  }
  const size_t first_item = round->items.size();
  for (Segment* segment : per.frozen) {
    std::vector<DirtyPiece> visible;
    inode->dirty.Find(segment->offset, segment->len, &visible);
    for (const DirtyPiece& piece : visible) {
      if (piece.segment != segment || piece.offset >= length) continue;
      const uint64_t len = std::min(piece.len, length - piece.offset);
      round->items.push_back({index, piece.offset, len, segment, piece.segment_offset});
    }
  }
  std::sort(round->items.begin() + static_cast<ptrdiff_t>(first_item), round->items.end(),
            [](const Item& a, const Item& b) { return a.offset < b.offset; });
  round->bytes += taken;
  if (TryInline(inode, round, first_item)) round->items.resize(first_item);
}

// A small file without slices is stored beside its attributes. `mutex` held.
bool Flusher::TryInline(const InodePtr& inode, Round* round, size_t first_item) {
  const uint64_t length = inode->pending.length;
  if (length > vfs_.options_.inline_bytes) return false;
  if (!vfs_.LoadAttr(*inode).ok() || inode->attr->slice_seq != 0) return false;
  std::string bytes;
  if ((inode->attr->flags & kAttrInline) != 0) {
    Result<std::string> old = vfs_.meta_.LoadInline(inode->ino);
    if (!old) return false;
    bytes = std::move(*old);
  }
  bytes.resize(length, '\0');
  for (size_t i = first_item; i < round->items.size(); ++i) {
    const Item& item = round->items[i];
    std::memcpy(bytes.data() + item.offset, item.segment->data + item.segment_offset, item.len);
  }
  round->inodes.back().inline_bytes = std::move(bytes);
  return true;
}

Status Flusher::StoreObjects(Round* round) {
  const uint64_t block = vfs_.meta_.format().block_bytes;
  Round::Object* object = nullptr;
  for (const Item& item : round->items) {
    uint64_t done = 0;
    while (done < item.len) {
      if (object == nullptr || object->bytes == block || object->pieces.size() >= kPackPieces) {
        object = &round->objects.emplace_back();
        object->id = NewObjectId();
      }
      const uint64_t at = item.offset + done;
      const uint64_t chunk_left = kChunkBytes - at % kChunkBytes;
      const uint64_t n = std::min({item.len - done, chunk_left, block - object->bytes});
      char* data = item.segment->data + item.segment_offset + done;
      const auto chunk = static_cast<uint32_t>(at / kChunkBytes);
      const auto pos = static_cast<uint32_t>(at % kChunkBytes);
      // A neighbour of the piece before it in file and object makes it longer.
      Round::Object::Piece* last = object->pieces.empty() ? nullptr : &object->pieces.back();
      if (last != nullptr && last->inode == item.inode && last->end == at && last->piece.chunk == chunk && pos != 0) {
        last->piece.record.len += static_cast<uint32_t>(n);
        last->end += n;
      } else {
        SliceRecord record{pos, static_cast<uint32_t>(n), object->id, static_cast<uint32_t>(object->bytes)};
        object->pieces.push_back({item.inode, {chunk, record}, at + n});
      }
      if (!object->raw.empty() &&
          static_cast<char*>(object->raw.back().iov_base) + object->raw.back().iov_len == data) {
        object->raw.back().iov_len += n;
      } else {
        object->raw.push_back({data, n});
      }
      object->bytes += n;
      done += n;
    }
  }
  for (const Round::Object& o : round->objects) RETURN_IF_ERROR(vfs_.blocks_.Put(o.id, o.raw));
  return Status::Ok();
}

Status Flusher::Commit(Round* round) {
  // Whole objects per transaction, so that an object's references are counted
  // in the transaction that makes it known.
  size_t next_object = 0;
  size_t next_inline = 0;
  std::vector<size_t> last_use(round->inodes.size(), 0);
  for (size_t o = 0; o < round->objects.size(); ++o) {
    for (const auto& piece : round->objects[o].pieces) last_use[piece.inode] = o;
  }
  while (next_object < round->objects.size() || next_inline < round->inodes.size()) {
    std::vector<meta::NewObject> objects;
    std::vector<meta::FileUpdate> updates;
    std::vector<size_t> owners;
    size_t pieces = 0;
    while (next_object < round->objects.size() &&
           (pieces == 0 || pieces + round->objects[next_object].pieces.size() <= kCommitPieces)) {
      const Round::Object& object = round->objects[next_object];
      objects.push_back({object.id, static_cast<uint32_t>(object.bytes)});
      for (const auto& piece : object.pieces) {
        if (owners.empty() || owners.back() != piece.inode) {
          owners.push_back(piece.inode);
          meta::FileUpdate& update = updates.emplace_back();
          update.ino = round->inodes[piece.inode].inode->ino;
        }
        updates.back().pieces.push_back(piece.piece);
        updates.back().grow_to = std::max(updates.back().grow_to, piece.end);
        ++pieces;
      }
      ++next_object;
    }
    for (; next_inline < round->inodes.size() && updates.size() < kCommitInodes; ++next_inline) {
      Round::PerInode& per = round->inodes[next_inline];
      if (!per.inline_bytes) continue;
      owners.push_back(next_inline);
      meta::FileUpdate& update = updates.emplace_back();
      update.ino = per.inode->ino;
      update.grow_to = per.inline_bytes->size();
      update.inline_bytes = *per.inline_bytes;
    }
    if (updates.empty()) continue;
    Result<std::vector<meta::FileUpdateResult>> results = [&] {
      // Held over the commit: a time that somebody sets now (utimensat) must
      // come after that of the writes, not be replaced by it.
      std::vector<Inode*> involved;
      for (size_t owner : owners) involved.push_back(round->inodes[owner].inode.get());
      std::sort(involved.begin(), involved.end(), [](const Inode* a, const Inode* b) { return a->ino < b->ino; });
      std::vector<std::shared_lock<std::shared_mutex>> held;
      for (Inode* inode : involved) held.emplace_back(inode->mutex);
      for (size_t i = 0; i < updates.size(); ++i) {
        updates[i].mtime = round->inodes[owners[i]].inode->pending.mtime;
      }
      return vfs_.meta_.Commit(objects, updates);
    }();
    if (!results) return std::move(results).error();
    for (size_t i = 0; i < updates.size(); ++i) {
      Round::PerInode& per = round->inodes[owners[i]];
      const meta::FileUpdateResult& result = (*results)[i];
      per.gone = per.gone || result.gone;
      if (per.inline_bytes || last_use[owners[i]] < next_object) per.done = true;
      if (result.gone) continue;
      for (size_t p = 0; p < updates[i].pieces.size(); ++p) {
        const meta::FileUpdate::Piece& piece = updates[i].pieces[p];
        per.committed.emplace_back(result.first_seq + p, piece);
        if (per.objects.empty() || per.objects.back() != piece.record.object) {
          per.objects.push_back(piece.record.object);
        }
      }
    }
    std::lock_guard lock(mutex_);
    for (const meta::NewObject& object : objects) unsynced_.insert(object.id);
  }
  // Frozen segments whose bytes all lay beyond the length had no piece.
  std::vector<bool> has_items(round->inodes.size());
  for (const Item& item : round->items) has_items[item.inode] = true;
  for (size_t i = 0; i < round->inodes.size(); ++i) {
    if (!has_items[i]) round->inodes[i].done = true;
  }
  return Status::Ok();
}

void Flusher::Finish(Round* round, const Status& status) {
  for (Round::PerInode& per : round->inodes) {
    Inode& inode = *per.inode;
    std::set<uint32_t> chunks;
    bool crossed = false;
    {
      std::unique_lock lock(inode.mutex);
      {
        std::lock_guard maps(inode.maps_mutex);
        for (const auto& [seq, piece] : per.committed) {
          chunks.insert(piece.chunk);
          crossed = crossed || seq % kCompactEvery == kCompactEvery - 1;
          const auto it = inode.maps.find(piece.chunk);
          if (it == inode.maps.end()) continue;
          const auto before = static_cast<int64_t>(it->second->MemoryBytes());
          it->second->Add(seq, piece.record);
          vfs_.inodes_.AddMapBytes(static_cast<int64_t>(it->second->MemoryBytes()) - before);
        }
      }
      if (!per.committed.empty() || per.inline_bytes) {
        inode.attr.reset();
        inode.inline_bytes.reset();
      }
      inode.unsynced.insert(per.objects.begin(), per.objects.end());
      if (inode.unsynced.size() > 1024) {
        std::lock_guard guard(mutex_);
        std::erase_if(inode.unsynced, [&](const ObjectId& id) { return !unsynced_.contains(id); });
      }
      if (!per.done) {
        for (Segment* segment : per.frozen) {
          segment->frozen = false;
          // Overwritten while it was being read: nothing else would free it.
          if (segment->visible == 0) vfs_.dirty_.Free(segment);
        }
        if (!status.ok()) inode.write_error = status;
        vfs_.SettleQuota(inode);
        continue;
      }
      inode.write_error = Status::Ok();
      std::vector<Segment*> covered;
      for (Segment* segment : per.frozen) {
        std::vector<DirtyPiece> visible;
        inode.dirty.Find(segment->offset, segment->len, &visible);
        for (const DirtyPiece& piece : visible) {
          if (piece.segment == segment) inode.dirty.Erase(piece.offset, piece.len, &covered);
        }
      }
      for (Segment* segment : per.frozen) vfs_.dirty_.Free(segment);  // oldest first
      if (inode.dirty.empty()) vfs_.dirty_.ClearPending(&inode.pending);
      inode.written = inode.dirty.bytes();
      vfs_.SettleQuota(inode);
    }
    if (crossed) {
      for (uint32_t chunk : chunks) QueueCompaction(inode.ino, chunk);
    }
  }
}

Status Flusher::RunRound(const std::vector<InodePtr>& inodes, uint64_t budget_bytes) {
  Round round;
  round.inodes.reserve(inodes.size());
  for (const InodePtr& inode : inodes) inode->left_over = true;  // until it had its turn
  for (const InodePtr& inode : inodes) {
    if (round.bytes >= budget_bytes || round.items.size() >= kRoundPieces) break;
    Freeze(inode, budget_bytes - round.bytes, &round);
  }
  Status status = StoreObjects(&round);
  if (status.ok()) status = Commit(&round);
  Finish(&round, status);

  flushes.fetch_add(1, std::memory_order_relaxed);
  rounds_done_.fetch_add(1, std::memory_order_relaxed);
  std::lock_guard lock(mutex_);
  if (status.ok()) {
    flushed_bytes.fetch_add(round.bytes, std::memory_order_relaxed);
    retry_at_ns_ = 0;
  } else {
    if (last_error_.message() != status.message()) {
      LOG_ERROR("flush") << status.ToString() << "; the data stays in memory and is tried again";
    }
    flush_errors.fetch_add(1, std::memory_order_relaxed);
    retry_at_ns_ = MonotonicNs() + kRetryNs;
  }
  last_error_ = status;
  return status;
}

// ---- flushing on demand --------------------------------------------------------

Status Flusher::FlushInode(const InodePtr& inode) {
  std::lock_guard data(inode->data_mutex);
  return FlushInodeLocked(inode);
}

Status Flusher::FlushInodeLocked(const InodePtr& inode) {
  // Rounds go by age. What is dirty now is committed once they have passed the
  // newest segment of now: later writes go into these segments or, over frozen
  // ones, into newer ones, which need not be waited for.
  uint64_t newest = 0;
  {
    std::shared_lock lock(inode->mutex);
    if (inode->pending.index == 0) return Status::Ok();
    for (const DirtyPiece& piece : inode->dirty.All()) newest = std::max(newest, piece.segment->seq);
  }
  do {
    RETURN_IF_ERROR(RunRound({inode}, kRoundBytes));
  } while (inode->left_over && inode->frozen_up_to < newest);
  return Status::Ok();
}

Status Flusher::FlushAll() {
  std::vector<InodePtr> all;
  {
    std::lock_guard lock(mutex_);
    for (const Queued& queued : queue_) all.push_back(queued.inode);
    for (Queued& queued : queue_) queued.inode->queued = false;
    queue_.clear();
    all.insert(all.end(), busy_.begin(), busy_.end());
    // An inode may be queued and busy at once, and busy twice.
    std::sort(all.begin(), all.end(), [](const InodePtr& a, const InodePtr& b) { return a->ino < b->ino; });
    all.erase(std::unique(all.begin(), all.end()), all.end());
    // Another FlushAll() meanwhile must not take them for clean.
    busy_.insert(all.begin(), all.end());
  }
  Status first;
  std::vector<InodePtr> batch;
  const auto flush = [&] {
    std::vector<std::unique_lock<std::mutex>> held;
    for (const InodePtr& inode : batch) held.emplace_back(inode->data_mutex);
    Status status = RunRound(batch, UINT64_MAX);
    if (first.ok()) first = std::move(status);
    batch.clear();
  };
  for (const InodePtr& inode : all) {
    batch.push_back(inode);
    if (batch.size() == std::min<size_t>(64, kRoundInodes)) flush();
  }
  if (!batch.empty()) flush();
  // What a round's size left over, and what a worker had taken meanwhile.
  for (InodePtr& inode : all) {
    Status status = FlushInode(inode);
    if (first.ok()) first = std::move(status);
    {
      std::lock_guard lock(mutex_);
      busy_.erase(busy_.find(inode));
    }
    bool dirty;
    {
      std::shared_lock lock(inode->mutex);
      dirty = inode->pending.index != 0;
    }
    if (dirty) Enqueue(inode);
    vfs_.inodes_.Settle(std::move(inode));
  }
  return first;
}

Status Flusher::MakeDurable(std::vector<ObjectId> objects) {
  {
    std::lock_guard lock(mutex_);
    objects.insert(objects.end(), inherited_.begin(), inherited_.end());
    std::erase_if(objects, [&](const ObjectId& id) { return !unsynced_.contains(id); });
  }
  std::sort(objects.begin(), objects.end());
  objects.erase(std::unique(objects.begin(), objects.end()), objects.end());
  if (objects.empty()) return Status::Ok();
  Status status = vfs_.blocks_.Barrier(objects);
  if (!status.ok()) {
    // One that nothing points at any more may be deleted already.
    ASSIGN_OR_RETURN_STATUS(std::vector<ObjectId> referenced, Referenced(objects));
    if (referenced.size() == objects.size()) return status;
    if (!referenced.empty()) RETURN_IF_ERROR(vfs_.blocks_.Barrier(referenced));
  }
  RETURN_IF_ERROR(vfs_.meta_.MarkDurable(objects));
  std::lock_guard lock(mutex_);
  for (const ObjectId& id : objects) unsynced_.erase(id);
  std::erase_if(inherited_, [&](const ObjectId& id) { return !unsynced_.contains(id); });
  return Status::Ok();
}

Result<std::vector<ObjectId>> Flusher::Referenced(const std::vector<ObjectId>& objects) {
  ASSIGN_OR_RETURN(const std::unique_ptr<kv::Snapshot> snapshot, vfs_.meta_.kv().NewSnapshot());
  std::vector<ObjectId> referenced;
  for (const ObjectId& object : objects) {
    ASSIGN_OR_RETURN(const std::optional<std::string> record, snapshot->Get(keys::ObjectBytes(object)));
    if (record) referenced.push_back(object);
  }
  return referenced;
}

void Flusher::Inherit(std::vector<ObjectId> objects) {
  std::lock_guard lock(mutex_);
  unsynced_.insert(objects.begin(), objects.end());
  inherited_ = std::move(objects);
}

void Flusher::SettleDurable() {
  vfs_.inodes_.VisitAll([this](Inode& inode) {
    std::unique_lock lock(inode.mutex);
    if (inode.unsynced.empty()) return;
    std::lock_guard guard(mutex_);
    std::erase_if(inode.unsynced, [&](const ObjectId& id) { return !unsynced_.contains(id); });
  });
}

Status Flusher::MakeAllDurable() {
  std::vector<ObjectId> objects;
  {
    std::lock_guard lock(mutex_);
    objects.assign(unsynced_.begin(), unsynced_.end());
  }
  return MakeDurable(std::move(objects));
}

// ---- background ------------------------------------------------------------------

void Flusher::WriteAtimes() {
  std::unordered_map<Ino, Timestamp> atimes;
  {
    std::lock_guard lock(mutex_);
    atimes.swap(atimes_);
  }
  for (const auto& [ino, atime] : atimes) {
    // An access time that cannot be written is not worth an error.
    if (!vfs_.meta_.SetAtime(ino, atime).ok()) continue;
    if (InodePtr inode = vfs_.inodes_.Find(ino)) {
      std::unique_lock lock(inode->mutex);
      if (inode->attr) inode->attr->atime = atime;
    }
  }
}

void Flusher::MaintenanceLoop() {
  int64_t last_sync = MonotonicNs();
  uint64_t rounds_seen = 0;
  while (true) {
    std::pair<Ino, uint32_t> compact{0, 0};
    {
      std::unique_lock lock(mutex_);
      maintain_.wait_for(lock, std::chrono::milliseconds(1000), [&] { return stopping_ || !compact_.empty(); });
      if (stopping_) return;
      if (!compact_.empty()) {
        compact = compact_.front();
        compact_.pop_front();
      }
    }
    if (compact.first != 0) {
      InodePtr inode = vfs_.inodes_.Get(compact.first);
      Status status = CompactChunk(inode, compact.second);
      if (!status.ok() && status.err() != ENOENT && status.err() != kErrnoConflict) {
        LOG_WARNING("flush") << "compact chunk " << compact.second << " of inode " << compact.first << ": "
                             << status.ToString();
      }
      vfs_.inodes_.Settle(std::move(inode));
    }
    WriteAtimes();
    const int64_t now = MonotonicNs();
    if (now - last_sync >= Ms(vfs_.options_.sync_age_ms)) {
      last_sync = now;
      vfs_.RefreshSpace();
      Status status = MakeAllDurable();
      SettleDurable();
      if (!status.ok()) LOG_WARNING("flush") << "make stored blocks durable: " << status.ToString();
      const uint64_t rounds = rounds_done_;
      if (rounds == rounds_seen) vfs_.dirty_.Trim();
      rounds_seen = rounds;
    }
  }
}

// Small extents are copied together into new blocks, large ones stay. The
// inode's data_mutex keeps commits out meanwhile; writers and readers go on.
Status Flusher::CompactChunk(const InodePtr& inode, uint32_t chunk) {
  std::lock_guard data(inode->data_mutex);
  ASSIGN_OR_RETURN_STATUS(std::vector<Slice> slices, vfs_.meta_.LoadSlices(inode->ino, chunk));
  if (slices.size() < kCompactEvery) return Status::Ok();
  const chunk::ChunkMap map(slices);
  const std::vector<chunk::Extent> extents = map.Extents();
  uint64_t live = 0;
  uint64_t up_to = 0;
  for (const chunk::Extent& extent : extents) live += extent.object.is_hole() ? 0 : extent.len;
  for (const Slice& slice : slices) up_to = std::max(up_to, slice.seq);
  if (slices.size() * kBytesPerRecord < live && slices.size() < 2 * extents.size()) return Status::Ok();

  const uint64_t block = vfs_.meta_.format().block_bytes;
  std::vector<SliceRecord> records;
  std::vector<meta::NewObject> objects;
  std::vector<ObjectId> fresh;
  auto buffer = std::make_unique<char[]>(block);
  uint64_t used = 0;
  ObjectId id;
  const auto seal = [&]() -> Status {
    if (used == 0) return Status::Ok();
    const iovec raw{buffer.get(), used};
    RETURN_IF_ERROR(vfs_.blocks_.Put(id, {&raw, 1}));
    objects.push_back({id, static_cast<uint32_t>(used)});
    fresh.push_back(id);
    used = 0;
    return Status::Ok();
  };
  for (const chunk::Extent& extent : extents) {
    if (extent.object.is_hole()) {
      // Holes matter only above inline bytes; elsewhere no record is a hole.
      if (chunk == 0 && extent.pos < kMaxInlineBytes) records.push_back({extent.pos, extent.len, {}, 0});
      continue;
    }
    if (extent.len >= kKeepExtentBytes) {
      records.push_back({extent.pos, extent.len, extent.object, extent.offset});
      continue;
    }
    uint32_t done = 0;
    while (done < extent.len) {
      if (used == block) RETURN_IF_ERROR(seal());
      if (used == 0) id = NewObjectId();
      const auto n = static_cast<uint32_t>(std::min<uint64_t>(extent.len - done, block - used));
      RETURN_IF_ERROR(vfs_.blocks_.Read(extent.object, extent.offset + done, {buffer.get() + used, n}));
      const uint32_t pos = extent.pos + done;
      SliceRecord* last = records.empty() ? nullptr : &records.back();
      if (last != nullptr && last->object == id && last->pos + last->len == pos) {
        last->len += n;
      } else {
        records.push_back({pos, n, id, static_cast<uint32_t>(used)});
      }
      used += n;
      done += n;
    }
  }
  RETURN_IF_ERROR(seal());
  if (records.size() >= slices.size()) return Status::Ok();
  // The old objects may be deleted once metadata says so: the new ones must
  // not be lost to a power cut after that.
  RETURN_IF_ERROR(vfs_.blocks_.Barrier(fresh));
  RETURN_IF_ERROR(vfs_.meta_.ReplaceSlices(inode->ino, chunk, up_to, slices.size(), objects, records));
  std::unique_lock lock(inode->mutex);
  inode->attr.reset();
  vfs_.SettleQuota(*inode);
  std::lock_guard maps(inode->maps_mutex);
  const auto it = inode->maps.find(chunk);
  if (it != inode->maps.end()) {
    vfs_.inodes_.AddMapBytes(-static_cast<int64_t>(it->second->MemoryBytes()));
    inode->maps.erase(it);
  }
  compactions.fetch_add(1, std::memory_order_relaxed);
  return Status::Ok();
}

}  // namespace moorfs::vfs
