// SPDX-License-Identifier: Apache-2.0

#include "common/mount/stats.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/base/units.h"
#include "common/control/line_socket.h"

namespace moorfs::mount {
namespace {

using Json = nlohmann::json;

// After it did not answer, a client is left in peace for so long: callers that
// ask in a row do not each wait out their deadline.
constexpr int64_t kQuietNs = 1'000'000'000;

Result<VolumeStats> Decode(const std::string& line) {
  const Json answer = Json::parse(line, nullptr, false);
  if (answer.is_object() && answer.contains("error") && answer["error"].is_object()) {
    return Error(answer["error"].value("errno", EIO), answer["error"].value("message", "unknown error"));
  }
  const Json ok = answer.is_object() && answer.contains("ok") ? answer["ok"] : Json();
  if (!ok.is_object()) return Error(EPROTO, "read a client's numbers: the answer has an unknown shape");
  VolumeStats stats;
  const std::pair<const char*, uint64_t*> members[] = {
      {"total_bytes", &stats.total_bytes},         {"used_bytes", &stats.used_bytes},
      {"available_bytes", &stats.available_bytes}, {"total_inodes", &stats.total_inodes},
      {"used_inodes", &stats.used_inodes},         {"available_inodes", &stats.available_inodes}};
  for (const auto& [name, value] : members) {
    if (!ok.contains(name) || !ok[name].is_number_unsigned()) {
      return Error(EPROTO, std::string("read a client's numbers: member \"") + name + "\" is missing or wrong");
    }
    *value = ok[name].get<uint64_t>();
  }
  stats.condition = "healthy";
  return stats;
}

}  // namespace

struct StatsProber::Client {
  std::timed_mutex turn;
  // Below: under `turn`.
  std::optional<control::LineSocket> open;  // an unanswered question
  std::string open_device, open_root;
  // Below: under `mutex`, so that nobody needs a turn to read them.
  std::mutex mutex;
  std::map<std::string, VolumeStats> last;  // by root
  int64_t quiet_until_ns = 0;
  std::string trouble;
};

std::shared_ptr<StatsProber::Client> StatsProber::ClientOf(const std::string& mount_key) {
  const std::lock_guard lock(mutex_);
  auto& client = clients_[mount_key];
  if (!client) client = std::make_shared<Client>();
  return client;
}

void StatsProber::Keep(const std::set<std::string>& mount_keys) {
  const std::lock_guard lock(mutex_);
  std::erase_if(clients_, [&](const auto& entry) { return !mount_keys.count(entry.first); });
}

Result<VolumeStats> StatsProber::Ask(const ClientRecord& record, const std::string& root, Deadline deadline) {
  const auto client = ClientOf(record.mount_key);
  const std::string& device = record.device;
  // The last numbers with what is wrong; under the client's mutex.
  const auto abnormal = [&](const std::string& condition) {
    VolumeStats stats;
    if (const auto it = client->last.find(root); it != client->last.end()) stats = it->second;
    stats.abnormal = true;
    stats.condition = condition;
    return stats;
  };
  const auto old_numbers = [&](const std::string& trouble) {
    const std::lock_guard lock(client->mutex);
    if (!trouble.empty()) {
      client->trouble = trouble;
      client->quiet_until_ns = MonotonicNs() + kQuietNs;
    }
    return abnormal(client->trouble.empty() ? "its client does not answer" : client->trouble);
  };
  // What was found out a moment ago is not asked again.
  const auto known_trouble = [&]() -> std::optional<VolumeStats> {
    const std::lock_guard lock(client->mutex);
    if (MonotonicNs() >= client->quiet_until_ns) return std::nullopt;
    return abnormal(client->trouble);
  };
  if (auto stats = known_trouble()) return *stats;
  const std::unique_lock turn(client->turn, std::chrono::milliseconds(deadline.LeftMs()));
  if (!turn) return old_numbers("");
  // The one before us may have found out.
  if (auto stats = known_trouble()) return *stats;
  for (;;) {
    if (client->open && client->open_device != device) client->open.reset();
    if (!client->open) {
      auto socket = launcher_.ConnectClient(record, deadline.LeftMs());
      if (!socket) return old_numbers("its client cannot be reached: " + socket.error().message());
      const Json request = {{"cmd", "volume-stat"}, {"directory", root}};
      if (Status s = socket->Send(request.dump(-1, ' ', false, Json::error_handler_t::replace), deadline.LeftMs());
          !s.ok()) {
        return old_numbers("its client takes no questions: " + s.message());
      }
      client->open = std::move(*socket);
      client->open_device = device;
      client->open_root = root;
    }
    const auto line = client->open->Receive(deadline.LeftMs());
    if (!line && line.error().err() == ETIMEDOUT) return old_numbers("its client does not answer");
    client->open.reset();
    // A client that died over it has a successor, but this caller has its
    // answer now.
    if (!line) return old_numbers("its client ended before it answered");
    auto stats = Decode(*line);
    if (stats) {
      const std::lock_guard lock(client->mutex);
      client->last[client->open_root] = *stats;
      client->trouble.clear();
    }
    // An old question may have been about another directory.
    if (client->open_root == root) return stats;
  }
}

}  // namespace moorfs::mount
