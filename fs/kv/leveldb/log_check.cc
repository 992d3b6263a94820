// SPDX-License-Identifier: Apache-2.0
//
// See log_check.h. The log format is LevelDB's (doc/log_format.md there):
// blocks of 32 KiB; pieces of crc32c, 16-bit length, type, payload; a record is
// one FULL piece or FIRST, MIDDLE..., LAST. A record of a write-ahead log
// starts with 64-bit sequence and 32-bit count; the next record's sequence is
// their sum.

#include "fs/kv/leveldb/log_check.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "common/base/coding.h"
#include "common/log/log.h"
#include "fs/kv/leveldb/crc32c.h"

namespace moorfs::kv {
namespace {

constexpr uint64_t kBlockBytes = 32768;
constexpr uint64_t kHeaderBytes = 7;
constexpr size_t kBatchHeaderBytes = 12;
constexpr size_t kMarkerBytes = 12;
constexpr char kComparator[] = "leveldb.BytewiseComparator";
constexpr char kRemedy[] =
    "; keep a copy of the directory, then restore it from a backup or load the last dump, and run fsck";

enum PieceType : uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

struct Piece {
  uint8_t type = 0;
  std::string_view payload;
  uint64_t end = 0;
};

// The piece at `at`, or nullopt and a reason.
std::optional<Piece> PieceAt(std::string_view bytes, uint64_t at, std::string* problem) {
  const uint64_t left_in_block = kBlockBytes - at % kBlockBytes;
  if (at + kHeaderBytes > bytes.size()) {
    *problem = "torn record header";
    return std::nullopt;
  }
  ValueReader header(bytes.substr(at, kHeaderBytes));
  const uint32_t crc = header.Le32();
  const uint16_t length = header.Le16();
  Piece piece;
  piece.type = header.Le8();
  piece.end = at + kHeaderBytes + length;
  if (left_in_block < kHeaderBytes + length || piece.type < kFull || piece.type > kLast) {
    *problem = "impossible record header";
    return std::nullopt;
  }
  if (piece.end > bytes.size()) {
    *problem = "torn record";
    return std::nullopt;
  }
  piece.payload = bytes.substr(at + kHeaderBytes, length);
  if (MaskCrc(Crc32c(0, bytes.substr(at + kHeaderBytes - 1, length + 1u))) != crc) {
    *problem = "checksum mismatch";
    return std::nullopt;
  }
  return piece;
}

struct RecordsEnd {
  uint64_t records = 0;
  uint64_t pieces = 0;
  uint64_t stopped_at = 0;
  std::string problem;
};

// Feeds whole records to `visit` (which may stop the walk) until the first problem.
RecordsEnd ForEachRecord(std::string_view bytes, const std::function<bool(std::string_view record)>& visit) {
  RecordsEnd end;
  std::string whole;
  bool inside = false;
  uint64_t at = 0;
  for (;;) {
    const uint64_t left_in_block = kBlockBytes - at % kBlockBytes;
    if (left_in_block < kHeaderBytes) at += left_in_block;
    end.stopped_at = at;
    if (at >= bytes.size()) {
      if (inside) end.problem = "torn record";
      return end;
    }
    const std::optional<Piece> piece = PieceAt(bytes, at, &end.problem);
    if (!piece) return end;
    const bool starts = piece->type == kFull || piece->type == kFirst;
    if (starts == inside) {
      end.problem = "record out of order";
      return end;
    }
    end.pieces = at = piece->end;
    std::string_view record = piece->payload;
    if (piece->type != kFull) {
      if (starts) whole.clear();
      whole.append(piece->payload);
      record = whole;
    }
    inside = piece->type == kFirst || piece->type == kMiddle;
    if (inside) continue;
    if (!visit(record)) return end;
    end.records = at;
  }
}

// True when, somewhere behind a problem, a record starts that could follow
// `next_sequence`. Every byte of the block is tried (a length may be what is
// damaged), then the start of each later block and what follows it.
bool IntactRecordBehind(std::string_view bytes, uint64_t problem_at, uint64_t next_sequence) {
  constexpr uint64_t kNear = uint64_t{1} << 32;
  const auto plausible = [&](uint64_t at) {
    std::string ignored;
    const std::optional<Piece> piece = PieceAt(bytes, at, &ignored);
    if (!piece || (piece->type != kFull && piece->type != kFirst)) return false;
    if (piece->payload.size() < kBatchHeaderBytes) return false;
    const uint64_t sequence = ValueReader(piece->payload).Le64();
    return sequence >= next_sequence && sequence - next_sequence < kNear;
  };
  const uint64_t block_end = (problem_at / kBlockBytes + 1) * kBlockBytes;
  for (uint64_t at = problem_at + 1; at < std::min<uint64_t>(block_end, bytes.size()); ++at) {
    if (plausible(at)) return true;
  }
  for (uint64_t block = block_end; block < bytes.size(); block += kBlockBytes) {
    std::string ignored;
    uint64_t at = block;
    while (const std::optional<Piece> piece = PieceAt(bytes, at, &ignored)) {
      if (plausible(at)) return true;
      at = piece->end;
      if (kBlockBytes - at % kBlockBytes < kHeaderBytes || at % kBlockBytes == 0) break;
    }
  }
  return false;
}

bool ReadVarint(std::string_view* in, uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift <= 63 && !in->empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(in->front());
    in->remove_prefix(1);
    *value |= uint64_t{byte & 0x7fu} << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

bool ReadLengthPrefixed(std::string_view* in, std::string_view* out) {
  uint64_t size = 0;
  if (!ReadVarint(in, &size) || size > in->size()) return false;
  *out = in->substr(0, size);
  in->remove_prefix(size);
  return true;
}

struct ManifestFacts {
  std::string comparator;
  uint64_t log_number = 0;       // logs from this number on are replayed,
  uint64_t prev_log_number = 0;  // and this one
};

// One version edit; false when it is not one.
bool ReadEdit(std::string_view in, ManifestFacts* facts) {
  uint64_t tag = 0;
  uint64_t number = 0;
  std::string_view text;
  while (!in.empty()) {
    if (!ReadVarint(&in, &tag)) return false;
    bool good = true;
    switch (tag) {
      case 1:  // comparator
        good = ReadLengthPrefixed(&in, &text);
        facts->comparator = text;
        break;
      case 2:  // log number
        good = ReadVarint(&in, &facts->log_number);
        break;
      case 9:  // previous log number
        good = ReadVarint(&in, &facts->prev_log_number);
        break;
      case 3:  // next file number
      case 4:  // last sequence
        good = ReadVarint(&in, &number);
        break;
      case 5:  // compaction pointer: level, key
        good = ReadVarint(&in, &number) && ReadLengthPrefixed(&in, &text);
        break;
      case 6:  // deleted file: level, number
        good = ReadVarint(&in, &number) && ReadVarint(&in, &number);
        break;
      case 7:  // new file: level, number, size, smallest, largest
        good = ReadVarint(&in, &number) && ReadVarint(&in, &number) && ReadVarint(&in, &number) &&
               ReadLengthPrefixed(&in, &text) && ReadLengthPrefixed(&in, &text);
        break;
      default:
        good = false;
    }
    if (!good) return false;
  }
  return true;
}

Status Damaged(const std::string& file, const std::string& what) {
  return Status(EIO, "open " + file + ": " + what + kRemedy);
}

Result<std::string> ReadWhole(FileEnv* env, const std::string& name) {
  std::string bytes;
  const leveldb::Status status = leveldb::ReadFileToString(env, name, &bytes);
  if (!status.ok()) return Error(ErrnoOf(status), "read " + name + ": " + status.ToString());
  return bytes;
}

// A torn last record is cut off: more will be appended behind it.
Result<ManifestFacts> ReadManifest(FileEnv* env, const std::string& dir) {
  ASSIGN_OR_RETURN(std::string current, ReadWhole(env, dir + "/CURRENT"));
  if (!current.starts_with("MANIFEST-") || current.back() != '\n') {
    return Error(Damaged(dir + "/CURRENT", "it does not name a manifest"));
  }
  current.pop_back();
  const std::string name = dir + "/" + current;
  if (!env->FileExists(name)) return Error(Damaged(name, "CURRENT names it, but it is missing"));
  ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(env, name));
  ManifestFacts facts;
  bool readable = true;
  const RecordsEnd end = ForEachRecord(bytes, [&](std::string_view record) {
    readable = ReadEdit(record, &facts);
    return readable;
  });
  if (!readable) return Error(Damaged(name, "it holds a record of an unknown kind"));
  if (!end.problem.empty() && end.problem != "torn record" && end.problem != "torn record header") {
    return Error(Damaged(name, end.problem + " at byte " + std::to_string(end.stopped_at)));
  }
  if (!end.problem.empty()) {
    const leveldb::Status status = env->Truncate(name, end.records);
    if (!status.ok()) return Error(ErrnoOf(status), "cut the torn end of " + name + ": " + status.ToString());
  }
  if (facts.comparator != kComparator) {
    return Error(ENOTEMPTY, "open " + dir + ": it holds a LevelDB of something else (comparator '" + facts.comparator +
                                "'); give another directory");
  }
  return facts;
}

// The number in "000012.log" and the like; nullopt for other names.
std::optional<uint64_t> NumberOf(std::string_view file, std::string_view extension) {
  if (!file.ends_with(extension)) return std::nullopt;
  file.remove_suffix(extension.size());
  if (file.empty() || file.size() > 18) return std::nullopt;
  uint64_t number = 0;
  for (char c : file) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  return number;
}

struct LiveLog {
  std::string name;  // empty: only its marker exists
  std::string bytes;
  LogScan scan;
  uint64_t durable = 0;  // as its marker says
};

Result<uint64_t> ReadMarker(FileEnv* env, const std::string& name) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(env, name));
  const size_t whole = bytes.size() / kMarkerBytes * kMarkerBytes;
  if (whole == 0) return uint64_t{0};
  ValueReader reader(std::string_view(bytes).substr(whole - kMarkerBytes, kMarkerBytes));
  const uint64_t durable = reader.Le64();
  if (EncodeMarker(durable) != std::string_view(bytes).substr(whole - kMarkerBytes, kMarkerBytes)) {
    LOG_WARNING("leveldb") << name << " is damaged and not used";
    return uint64_t{0};
  }
  return durable;
}

// Logs that LevelDB will replay, by number. Markers of others are removed.
Result<std::map<uint64_t, LiveLog>> FindLiveLogs(FileEnv* env, const std::string& dir, const ManifestFacts& facts) {
  std::vector<std::string> files;
  const leveldb::Status status = env->GetChildren(dir, &files);
  if (!status.ok()) return Error(ErrnoOf(status), "list " + dir + ": " + status.ToString());
  std::map<uint64_t, LiveLog> logs;
  for (const std::string& file : files) {
    const auto log = NumberOf(file, ".log");
    const auto marker = NumberOf(file, ".synced");
    if (!log && !marker) continue;
    const uint64_t number = log ? *log : *marker;
    const std::string path = dir + "/" + file;
    if (number < facts.log_number && number != facts.prev_log_number) {
      if (marker) (void)env->RemoveFile(path);  // litter; the next open tries again
      continue;
    }
    LiveLog& live = logs[number];
    if (log) {
      live.name = path;
      ASSIGN_OR_RETURN(live.bytes, ReadWhole(env, path));
      live.scan = ScanLog(live.bytes);
    } else {
      ASSIGN_OR_RETURN(live.durable, ReadMarker(env, path));
    }
  }
  return logs;
}

Status CheckLog(const LiveLog& log, const std::string& name, bool newest, uint64_t expected_sequence) {
  const LogScan& scan = log.scan;
  if (log.durable > scan.pieces_end) {
    return Damaged(name, "log cut short or damaged: " + std::to_string(log.durable) + " bytes of it were durable, " +
                             std::to_string(scan.pieces_end) + " are intact");
  }
  const std::string place = " at byte " + std::to_string(scan.records_end);
  if (scan.sequence_broken) return Damaged(name, "log damaged" + place + ": changes are missing there");
  if (expected_sequence != 0 && scan.first_sequence != 0 && scan.first_sequence != expected_sequence) {
    return Damaged(name, "changes are missing between this log and the one before it");
  }
  if (!scan.problem.empty() && scan.intact_after) {
    return Damaged(name, "log damaged" + place + " (" + scan.problem + "), and intact changes follow it");
  }
  if (!scan.problem.empty() && !newest) {
    return Damaged(name, "log damaged" + place + " (" + scan.problem + "), and a newer log follows it");
  }
  return {};
}

// Cuts the torn end off, so that LevelDB's strict reader meets none and nothing
// is appended behind it. Needs no sync: should a power cut bring the torn bytes
// back, they are cut again. The marker may count a piece of the torn record and
// has to go first.
Status CutTornEnd(FileEnv* env, const std::string& dir, const LiveLog& log) {
  LOG_WARNING("leveldb") << log.name << " ends in a torn record, as after a power cut: dropping "
                         << log.bytes.size() - log.scan.records_end << " unsynced bytes";
  const std::string marker = MarkerNameOf(log.name);
  leveldb::Status status;
  if (env->FileExists(marker)) {
    status = env->RemoveFile(marker);
    if (status.ok()) status = env->SyncDir(dir);
  }
  if (status.ok()) status = env->Truncate(log.name, log.scan.records_end);
  if (!status.ok()) return Status(ErrnoOf(status), "cut the torn end of " + log.name + ": " + status.ToString());
  return {};
}

}  // namespace

std::string MarkerNameOf(const std::string& log_name) {
  return log_name.substr(0, log_name.size() - std::string_view(".log").size()) + ".synced";
}

std::string EncodeMarker(uint64_t bytes) {
  std::string out;
  PutLe64(&out, bytes);
  PutLe32(&out, Crc32c(0, out));
  return out;
}

LogScan ScanLog(std::string_view bytes) {
  LogScan scan;
  const RecordsEnd end = ForEachRecord(bytes, [&](std::string_view record) {
    if (record.size() < kBatchHeaderBytes) {
      scan.problem = "record too small";
      return false;
    }
    ValueReader header(record);
    const uint64_t sequence = header.Le64();
    const uint32_t count = header.Le32();
    if (scan.next_sequence != 0 && sequence != scan.next_sequence) {
      scan.sequence_broken = true;
      return false;
    }
    if (scan.first_sequence == 0) scan.first_sequence = sequence;
    scan.next_sequence = sequence + count;
    return true;
  });
  scan.records_end = end.records;
  scan.pieces_end = end.pieces;
  if (scan.problem.empty()) scan.problem = end.problem;
  if (!scan.problem.empty()) scan.intact_after = IntactRecordBehind(bytes, end.stopped_at, scan.next_sequence);
  return scan;
}

Result<DirContent> LookAtDir(FileEnv* env, const std::string& dir) {
  if (!env->FileExists(dir)) return DirContent::kMissing;
  if (env->FileExists(dir + "/CURRENT")) return DirContent::kStore;
  std::vector<std::string> files;
  const leveldb::Status status = env->GetChildren(dir, &files);
  if (!status.ok()) return Error(ErrnoOf(status), "list " + dir + ": " + status.ToString());
  for (const std::string& file : files) {
    // What a creation leaves when it is cut short, and a mount point's own.
    const bool known = file == "." || file == ".." || file == "LOCK" || file == "lost+found" ||
                       file.starts_with("MANIFEST-") || NumberOf(file, ".dbtmp");
    if (!known) {
      return Error(ENOTEMPTY, "open " + dir + ": it holds '" + file +
                                  "' and no metadata (no file CURRENT); give an empty or new directory, or restore "
                                  "this one from a backup");
    }
  }
  return DirContent::kFresh;
}

Status CheckLogs(FileEnv* env, const std::string& dir) {
  ASSIGN_OR_RETURN_STATUS(const ManifestFacts facts, ReadManifest(env, dir));
  ASSIGN_OR_RETURN_STATUS(const auto logs, FindLiveLogs(env, dir, facts));
  uint64_t newest = 0;
  for (const auto& [number, log] : logs) {
    if (!log.bytes.empty()) newest = number;
  }
  const auto first = logs.find(facts.log_number);
  if (facts.log_number != 0 && newest > facts.log_number && (first == logs.end() || first->second.name.empty())) {
    return Damaged(dir, "log number " + std::to_string(facts.log_number) + " is missing and newer ones exist");
  }
  // The first change of a store has sequence 1; log number 0 means that no log
  // was ever dropped.
  uint64_t expected_sequence = facts.log_number == 0 ? 1 : 0;
  for (const auto& [number, log] : logs) {
    const std::string name = log.name.empty() ? dir + " (log " + std::to_string(number) + ", missing)" : log.name;
    RETURN_IF_ERROR(CheckLog(log, name, number >= newest, expected_sequence));
    if (log.scan.next_sequence != 0) expected_sequence = log.scan.next_sequence;
    if (!log.scan.problem.empty()) RETURN_IF_ERROR(CutTornEnd(env, dir, log));
  }
  return {};
}

}  // namespace moorfs::kv
