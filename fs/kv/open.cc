// SPDX-License-Identifier: Apache-2.0
//
// See open.h.

#include "fs/kv/open.h"

#include "fs/kv/leveldb/leveldb_store.h"
#include "fs/kv/mem/mem_store.h"

namespace moorfs::kv {

Result<std::unique_ptr<KvStore>> OpenKvStore(std::string_view url, const Options& options) {
  const size_t colon = url.find(':');
  const std::string_view scheme = url.substr(0, colon);
  const std::string_view rest = colon == std::string_view::npos ? std::string_view{} : url.substr(colon + 1);
  if (colon != std::string_view::npos && scheme == "leveldb") {
    if (rest.empty()) return Error(EINVAL, "open leveldb: no directory given; write leveldb:DIR");
    return LevelDbStore::Open(std::string(rest), options);
  }
  if (colon != std::string_view::npos && scheme == "mem") {
    if (!rest.empty()) return Error(EINVAL, "open " + std::string(url) + ": mem: takes nothing after the colon");
    return NewMemStore(options);
  }
  return Error(EINVAL, "open '" + std::string(url) + "': unknown metadata engine; known are leveldb:DIR and mem:");
}

}  // namespace moorfs::kv
