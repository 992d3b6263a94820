// SPDX-License-Identifier: Apache-2.0
//
// What calls and watches share: the server's address, the token as it is now,
// the HTTP client and the counters. Thread-safe.

#pragma once

#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "common/http/client.h"
#include "common/kube/api.h"

namespace moorfs::kube {

class Connection {
 public:
  static Result<std::unique_ptr<Connection>> Create(ApiConfig config);

  // A request with the token; `target` is path and query.
  http::Request Prepare(std::string_view method, std::string_view target);
  // The server did not accept the token: the next request reads it again.
  void TokenRefused();

  http::Client& http() { return *http_; }
  const ApiConfig& config() const { return config_; }

  struct {
    std::atomic<uint64_t> reads{0}, lists{0}, watches{0}, writes{0}, retries{0}, failures{0};
  } counters;

 private:
  explicit Connection(ApiConfig config) : config_(std::move(config)) {}
  Status ReadToken();
  std::string Token();

  const ApiConfig config_;
  std::unique_ptr<http::Client> http_;
  std::mutex mutex_;
  std::string token_;
  struct stat token_stat_ = {};
  std::chrono::steady_clock::time_point token_read_;
  bool token_refused_ = false;
};

}  // namespace moorfs::kube
