// SPDX-License-Identifier: Apache-2.0
//
// The small HTTP server of a role: /healthz, /readyz and /metrics, for probes
// and Prometheus. Three threads and a short queue, whoever asks.

#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/status.h"

namespace moorfs::csi {

struct HttpPages {
  // OK or why not, in a sentence.
  std::function<Status()> health;  // only ourselves: a failure means "restart me"
  std::function<Status()> ready;
  std::function<std::string()> metrics;
};

class HttpServer {
 public:
  // "127.0.0.1:9808"; port 0 takes a free one. EINVAL names the text;
  // EADDRINUSE and others as bind(2) says.
  static Result<std::unique_ptr<HttpServer>> Start(const std::string& address, HttpPages pages);
  ~HttpServer();
  int port() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moorfs::csi
