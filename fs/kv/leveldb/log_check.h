// SPDX-License-Identifier: Apache-2.0
//
// Looks at a LevelDB directory before LevelDB does, and decides what LevelDB
// leaves to luck: whether a write-ahead log merely ends in a torn record
// (normal after a power cut; cut off here) or is damaged (refused, because
// LevelDB would drop acknowledged changes in silence). Also tells an empty or
// half-created directory from one that belongs to something else.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "fs/kv/leveldb/file_env.h"

namespace moorfs::kv {

enum class DirContent { kMissing, kFresh, kStore };

// kFresh: empty, or a creation that was interrupted. ENOTEMPTY when foreign.
Result<DirContent> LookAtDir(FileEnv* env, const std::string& dir);

// EIO names file, place and remedy. Needs the lock on the directory.
Status CheckLogs(FileEnv* env, const std::string& dir);

// "DIR/000012.log" -> "DIR/000012.synced", and one record of such a file: that
// `bytes` of the log were durable. The last whole record counts.
std::string MarkerNameOf(const std::string& log_name);
std::string EncodeMarker(uint64_t bytes);

// What one log holds.
struct LogScan {
  // End of the last whole record, and of the last intact piece of a record.
  uint64_t records_end = 0;
  uint64_t pieces_end = 0;
  std::string problem;            // why it stopped; empty at a clean end
  uint64_t first_sequence = 0;    // 0: no record
  uint64_t next_sequence = 0;     // after the last whole record
  bool sequence_broken = false;   // a record does not follow its predecessor
  bool intact_after = false;      // an intact record stands behind the problem
};
LogScan ScanLog(std::string_view bytes);

}  // namespace moorfs::kv
