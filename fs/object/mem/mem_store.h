// SPDX-License-Identifier: Apache-2.0
//
// MemStore: objects in memory, for tests. It knows which objects a Barrier has
// covered, so a test can take the others away as a power cut would, and it lets
// a test damage an object.

#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "fs/object/object_store.h"

namespace moorfs::object {

class MemStore final : public ObjectStore {
 public:
  Status Put(std::string_view name, std::span<const iovec> pieces) override;
  Status Barrier(std::span<const std::string> names) override;
  Result<size_t> Get(std::string_view name, uint64_t offset, std::span<char> out) override;
  Result<ObjectInfo> Head(std::string_view name) override;
  Status Delete(std::string_view name) override;
  Status List(std::string_view prefix, const std::function<bool(const ObjectInfo&)>& visit) override;
  Result<Space> GetSpace() override { return Space{}; }
  Status InitStore(const Uuid& uuid, bool force) override;
  Status CheckStore(const Uuid& uuid) override;
  std::string Url() const override { return "mem:"; }

  // Forgets every object that no Barrier has covered.
  void DropUnsynced();
  // Replaces an object's bytes; makes the object when there is none.
  void Overwrite(const std::string& name, std::string bytes);
  std::optional<std::string> Bytes(const std::string& name) const;
  uint64_t gets() const;

 private:
  struct Object {
    std::string bytes;
    Timestamp modified;
    bool durable = false;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Object, std::less<>> objects_;
  std::optional<Uuid> volume_;
  uint64_t gets_ = 0;
};

}  // namespace moorfs::object
