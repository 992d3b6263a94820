// SPDX-License-Identifier: Apache-2.0

#include "fs/vfs/arena.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "fs/format/types.h"
#include "fs/vfs/arena_layout.h"

namespace moorfs::vfs {
namespace {

constexpr uint64_t kMagic = 0x31414e4552414f4dULL;  // "MOARENA1", little-endian
constexpr uint32_t kHeaderVersion = 1;
constexpr uint64_t kPage = 4096;
constexpr size_t kMaxSections = 16;

struct SectionEntry {
  uint32_t id;
  uint32_t version;
  uint64_t offset;
  uint64_t bytes;
};

// Byte 0 of the file is the record lock's; it is part of `magic`, which is
// written once before the memfd is handed to anyone.
struct Header {
  uint64_t magic;
  uint32_t version;
  uint32_t section_count;
  uint64_t total_bytes;
  uint64_t epoch;
  ArenaGeometry geometry;
  SectionEntry sections[kMaxSections];
};
static_assert(sizeof(Header) <= kPage);

uint64_t RoundUp(uint64_t n) { return (n + kPage - 1) / kPage * kPage; }

struct Plan {
  std::array<SectionEntry, 7> sections;
  uint64_t total_bytes;
};

Plan MakePlan(const ArenaGeometry& g) {
  const auto section = [](SectionId id, uint32_t version, uint64_t bytes) {
    return SectionEntry{static_cast<uint32_t>(id), version, 0, RoundUp(bytes)};
  };
  Plan plan;
  plan.sections = {
      section(SectionId::kInit, 1, 64 << 10),
      // Room for each slot's own header page beside its buffer.
      section(SectionId::kSlots, 1, (uint64_t{g.slot_bytes} + kPage) * g.slot_count + (1 << 20)),
      section(SectionId::kHandles, kHandlesVersion, sizeof(HandleRecord) * uint64_t{g.handle_count}),
      section(SectionId::kLocks, kLocksVersion, sizeof(LockRecord) * uint64_t{g.lock_count}),
      section(SectionId::kInodes, kInodesVersion, sizeof(DirtyInodeRecord) * DirtyInodeCount(g)),
      section(SectionId::kSegments, kSegmentsVersion, sizeof(SegmentRecord) * SegmentCount(g)),
      section(SectionId::kPages, 1, g.data_bytes),
  };
  uint64_t offset = kPage;
  for (SectionEntry& s : plan.sections) {
    s.offset = offset;
    offset += s.bytes;
  }
  plan.total_bytes = offset;
  return plan;
}

}  // namespace

Result<UniqueFd> Arena::CreateMemfd(const ArenaGeometry& geometry) {
  const Plan plan = MakePlan(geometry);
  UniqueFd fd(memfd_create("moorfs-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error(Status::FromErrno("create the arena's memfd"));
  if (ftruncate(fd.get(), static_cast<off_t>(plan.total_bytes)) != 0) {
    return Error(Status::FromErrno("size the arena to " + FormatBytes(plan.total_bytes)));
  }
  Header header{};
  header.magic = kMagic;
  header.version = kHeaderVersion;
  header.section_count = plan.sections.size();
  header.total_bytes = plan.total_bytes;
  header.epoch = RandomU64() | 1;
  header.geometry = geometry;
  std::copy(plan.sections.begin(), plan.sections.end(), header.sections);
  if (pwrite(fd.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header)) {
    return Error(Status::FromErrno("write the arena's header"));
  }
  // A hostile client must not be able to shrink the file under its holder.
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Error(Status::FromErrno("seal the arena"));
  }
  return fd;
}

Result<std::unique_ptr<Arena>> Arena::Map(UniqueFd fd) {
  const auto bad = [](const std::string& what) {
    return Error(EPROTO, "map the arena: " + what + "; it was made by another version of moorfs or is damaged");
  };
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return Error(Status::FromErrno("look at the arena"));
  Header header;
  if (pread(fd.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header)) {
    return bad("its header cannot be read");
  }
  if (header.magic != kMagic) return bad("no magic number");
  if (header.version != kHeaderVersion) return bad("header version " + std::to_string(header.version));
  if (header.total_bytes != static_cast<uint64_t>(st.st_size)) return bad("its size is not what the header says");
  const ArenaGeometry& g = header.geometry;
  if (g.slot_count == 0 || g.slot_count > 4096 || g.slot_bytes < 8192 || g.slot_bytes > (64u << 20) ||
      g.handle_count == 0 || g.handle_count > (1u << 24) || g.lock_count > (1u << 24) || g.data_bytes == 0 ||
      g.data_bytes > (uint64_t{1} << 40)) {
    return bad("its geometry is out of bounds");
  }
  const Plan plan = MakePlan(g);
  if (header.section_count != plan.sections.size() || plan.total_bytes != header.total_bytes ||
      !std::equal(plan.sections.begin(), plan.sections.end(), header.sections,
                  [](const SectionEntry& a, const SectionEntry& b) {
                    return a.id == b.id && a.version == b.version && a.offset == b.offset && a.bytes == b.bytes;
                  })) {
    return bad("its section table differs from this version's");
  }
  void* base = mmap(nullptr, header.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return Error(Status::FromErrno("map the arena"));
  madvise(base, header.total_bytes, MADV_DONTDUMP);
  auto arena = std::unique_ptr<Arena>(new Arena());
  arena->fd_ = std::move(fd);
  arena->base_ = static_cast<char*>(base);
  arena->bytes_ = header.total_bytes;
  arena->geometry_ = g;
  return arena;
}

Arena::~Arena() {
  if (base_) munmap(base_, bytes_);
}

Status Arena::BecomeActive(int timeout_ms) {
  const int64_t deadline = MonotonicNs() + int64_t{timeout_ms} * 1'000'000;
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 0;
  lock.l_len = 1;
  while (fcntl(fd_.get(), F_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) return Status::FromErrno("lock the arena");
    if (MonotonicNs() > deadline) {
      return Status(ETIMEDOUT, "lock the arena: another client still serves this mount");
    }
    // The kernel drops a dead holder's lock while it tears its memory down,
    // some milliseconds after it was reaped.
    const timespec pause{0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  return Status::Ok();
}

Arena::Section Arena::section(SectionId id) const {
  // The table in shared memory was compared with this version's at Map();
  // recompute it, so that nothing later depends on foreign bytes.
  const Plan plan = MakePlan(geometry_);
  for (const SectionEntry& s : plan.sections) {
    if (s.id == static_cast<uint32_t>(id)) return {base_ + s.offset, s.bytes, s.version};
  }
  return {};
}

uint64_t Arena::epoch() const { return reinterpret_cast<const Header*>(base_)->epoch; }

void Arena::Punch(char* p, uint64_t bytes) {
  const uint64_t begin = RoundUp(static_cast<uint64_t>(p - base_));
  const uint64_t end = (static_cast<uint64_t>(p - base_) + bytes) / kPage * kPage;
  if (end <= begin) return;
  fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(begin),
            static_cast<off_t>(end - begin));
}

}  // namespace moorfs::vfs
