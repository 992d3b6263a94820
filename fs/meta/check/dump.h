// SPDX-License-Identifier: Apache-2.0
//
// Dump and load: a volume's metadata as one stream of bytes, consistent (from
// a snapshot, so also of a mounted volume), checksummed and versioned. The
// bytes are described in docs/formats/dump.md. Files, pipes and progress are
// the caller's.

#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "fs/format/types.h"
#include "fs/kv/kv.h"

namespace moorfs::meta {

struct DumpStats {
  uint64_t records = 0;
  uint64_t bytes = 0;  // of the stream
};

// Takes the next bytes of the stream.
using DumpSink = std::function<Status(std::string_view)>;
// Fills up to `size` bytes; 0 at the end.
using DumpSource = std::function<Result<size_t>(char* out, size_t size)>;

Result<DumpStats> Dump(kv::KvStore& kv, const DumpSink& sink);

// Reads a whole dump without keeping anything. EIO names the offset of the
// first damage; EPROTONOSUPPORT: made by a newer version.
struct DumpSummary {
  VolumeFormat format;
  DumpStats stats;
};
Result<DumpSummary> VerifyDump(const DumpSource& source);

// Writes a dump into an empty engine. The format record, which makes it a
// volume, is written last, when every checksum was right. A load that failed
// leaves a mark, by which the next one knows that it may clear the rest away.
// EEXIST: the engine holds a volume; ENOTEMPTY: it holds something else.
Result<DumpStats> Load(kv::KvStore& kv, const DumpSource& source);

}  // namespace moorfs::meta
