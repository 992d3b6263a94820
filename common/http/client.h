// SPDX-License-Identifier: Apache-2.0
//
// Outgoing HTTP(S), over libcurl. Whatever happens is bounded: by a deadline for
// a request, by silence for a stream. Bodies never reach the log, header values
// neither (they hold tokens).
//
// Thread-safe; connections are kept and used again.

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs::http {

struct ClientConfig {
  std::string ca_file;     // empty: the system's authorities
  std::string user_agent = "moorfs";
  int connect_timeout_ms = 3'000;
  size_t max_body_bytes = 64 << 20;
  // "http://host:port". Empty: none, whatever HTTPS_PROXY and the like say:
  // somebody must have meant this client.
  std::string proxy;
};

struct Request {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::string body;
  int timeout_ms = 10'000;  // of the whole exchange; of silence in Stream()
  int begin_timeout_ms = 0;  // Stream(): of silence before the body begins; 0: timeout_ms
};

struct Response {
  int status = 0;
  std::string body;
  int retry_after_s = -1;  // of the header, -1: none
};

class Client {
 public:
  static Result<std::unique_ptr<Client>> Create(ClientConfig config);
  virtual ~Client() = default;
  // Any status is a Response. Errors: EHOSTUNREACH (name, route, refused
  // connection, TLS), ETIMEDOUT, EPIPE (the answer ended too early: it may have
  // been acted on), EMSGSIZE.
  virtual Result<Response> Do(const Request& request) = 0;
  // Gives pieces of a 200's body to `on_data` as they come (an empty one when it
  // begins, though no data may follow for long), until it returns
  // false, `stop` becomes readable (a descriptor; -1: never), or the stream
  // ends. Another status is returned with its body.
  virtual Result<Response> Stream(const Request& request, int stop,
                                  const std::function<bool(std::string_view)>& on_data) = 0;
};

}  // namespace moorfs::http
