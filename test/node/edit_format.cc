// SPDX-License-Identifier: Apache-2.0
//
// edit_format META KEY NUMBER: changes a number in a volume's format record,
// to make a volume of a version that does not exist yet.

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "fs/format/keys.h"
#include "fs/kv/open.h"

using namespace moorfs;

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  auto kv = kv::OpenKvStore(argv[1], {});
  if (!kv) {
    std::fprintf(stderr, "%s\n", kv.error().ToString().c_str());
    return 1;
  }
  const Status s = (*kv)->Transact([&](kv::Transaction& t) -> Status {
    ASSIGN_OR_RETURN_STATUS(const auto value, t.Get(keys::Format()));
    if (!value) return Status(ENOENT, "there is no format record");
    auto json = nlohmann::json::parse(*value);
    if (!json.contains(argv[2])) return Status(ENOENT, "the format record has no such member");
    json[argv[2]] = std::strtoull(argv[3], nullptr, 10);
    t.Put(keys::Format(), json.dump());
    return Status::Ok();
  });
  if (s.ok()) return 0;
  std::fprintf(stderr, "%s\n", s.ToString().c_str());
  return 1;
}
