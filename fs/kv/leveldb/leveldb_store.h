// SPDX-License-Identifier: Apache-2.0
//
// The embedded engine: LevelDB 1.23 in a local directory, used by one process
// at a time. Commits reach the page cache before they are acknowledged, so they
// survive SIGKILL; Sync() makes them survive a power cut (durable_env.h says
// how, and why LevelDB alone does not). After ENOSPC or an I/O error reads go
// on, commits fail, and the first commit that finds room again reopens the
// engine by itself.

#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "fs/kv/kv.h"

namespace moorfs::kv {

class FileEnv;

struct LevelDbOptions {
  // Commits gather in memory up to this size before they become a table; twice
  // that may be held. Larger: fewer flushes, a longer open after a crash.
  size_t write_buffer_bytes = 4 << 20;
  // Uncompressed blocks of tables kept in memory.
  size_t block_cache_bytes = 8 << 20;
  // Bounds file descriptors, and the memory of tables' indexes and filters
  // (about 40 KB a table).
  int max_open_tables = 256;
  // Compress tables with Snappy.
  bool compress = true;
  // For tests: files go through this one, which outlives the store. Null: the
  // real file system.
  FileEnv* env = nullptr;
};

struct LevelDbStore {
  // ENOENT: missing and not to be created. EBUSY: open elsewhere, the message
  // says by whom. ENOTEMPTY: holds something else. EIO: damaged; the message
  // names file and remedy. Snapshots must go before the store does.
  // Options::read_only keeps transactions from writing; the open itself still
  // needs a writable directory, as LevelDB recovers its logs then.
  static Result<std::unique_ptr<KvStore>> Open(const std::string& dir, const Options& options,
                                               const LevelDbOptions& leveldb_options = {});
};

}  // namespace moorfs::kv
