// SPDX-License-Identifier: Apache-2.0
//
// ObjectStore: where block objects live. `file:` is a local directory; `s3:`
// joins later behind the same contract. Objects are immutable: a name is put
// once and deleted once. Thread-safe; calls block the calling thread.

#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/base/units.h"
#include "fs/format/types.h"

namespace moorfs::object {

struct ObjectInfo {
  std::string name;
  uint64_t bytes = 0;
  Timestamp modified;
};

struct Space {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;
};

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  // Stores the concatenation of `pieces`; visible whole or not at all. Durable
  // only after Barrier. ENOSPC, EROFS, EIO leave nothing visible under `name`.
  virtual Status Put(std::string_view name, std::span<const iovec> pieces) = 0;
  // Objects put before the call, by any thread, are durable on return. One
  // call covers many objects; concurrent callers share work.
  virtual Status Barrier(std::span<const std::string> names) = 0;
  // Bytes [offset, offset+out.size()). The count read; short only at the
  // object's end. ENOENT: no such object.
  virtual Result<size_t> Get(std::string_view name, uint64_t offset, std::span<char> out) = 0;
  // The same into several buffers, one after the other, in one request where
  // the store can.
  virtual Result<size_t> GetV(std::string_view name, uint64_t offset, std::span<const iovec> out);
  // GetV that never waits for a disk or a network: EWOULDBLOCK unless every
  // byte up to the object's end is in memory already (then, or by default).
  virtual Result<size_t> TryGet(std::string_view name, uint64_t offset, std::span<const iovec> out);
  // Asks the store to bring a range near (a local store: into the kernel's page
  // cache). False: this store cannot; the caller may then fetch and keep it.
  virtual bool WillNeed(std::string_view name, uint64_t offset, uint64_t bytes);
  virtual Result<ObjectInfo> Head(std::string_view name) = 0;
  // OK when absent already.
  virtual Status Delete(std::string_view name) = 0;
  // Every object whose name starts with `prefix`, in no particular order;
  // stops early when `visit` returns false. Any error is returned: a partial
  // listing is never taken for a whole one.
  virtual Status List(std::string_view prefix, const std::function<bool(const ObjectInfo&)>& visit) = 0;
  // nullopt-like {0,0} when the store has no notion of it.
  virtual Result<Space> GetSpace() = 0;

  // Makes the empty store one of volume `uuid`; OK when it is already.
  // ENOTEMPTY: it holds another volume or other things; `force` takes over the
  // former, never the latter.
  virtual Status InitStore(const Uuid& uuid, bool force) = 0;
  // OK when the store belongs to volume `uuid`. ENOENT: it carries no mark
  // (vanished, not mounted, wrong place); EMEDIUMTYPE: another volume's.
  virtual Status CheckStore(const Uuid& uuid) = 0;
  // URL without secrets, for messages and `status`.
  virtual std::string Url() const = 0;
};

// Names are relative paths: components of 1..255 bytes that neither start with
// a dot nor hold a NUL, at least one slash (the top level belongs to the store).
Status ValidateObjectName(std::string_view name);

// Opens `file:DIR`. ENOENT when DIR is missing and `create` is false; EINVAL
// names an unknown scheme and lists the known ones.
Result<std::unique_ptr<ObjectStore>> OpenObjectStore(std::string_view url, bool create);

}  // namespace moorfs::object
