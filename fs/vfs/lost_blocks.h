// SPDX-License-Identifier: Apache-2.0
//
// After a power cut the engine may remember commits whose blocks never
// reached the disk. Like a journal replay, this runs once before a volume is
// used: every block that was not known durable is read and verified; slices
// of one that is lost are dropped, so that the bytes below show again. Only
// data that was never fsynced can be concerned.

#pragma once

#include <cstdint>

#include "fs/chunk/block_store.h"
#include "fs/meta/meta.h"

namespace moorfs::vfs {

struct LostBlocks {
  uint64_t checked = 0;
  uint64_t lost = 0;
};

// Needs the volume for itself. An error of the store other than "this block is
// not there or damaged" ends it with nothing dropped for that block.
Result<LostBlocks> DropLostBlocks(meta::Meta& meta, chunk::BlockStore& blocks);

}  // namespace moorfs::vfs
