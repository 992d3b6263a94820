// SPDX-License-Identifier: Apache-2.0
//
// The token is looked at (stat) before each request: kubelet replaces the link
// to its directory when it rotates it. A file that cannot be read at the moment
// leaves the last token in use; the server decides whether it is still good.

#include "common/kube/connection.h"

#include <stdlib.h>

#include <algorithm>

#include "common/kube/answers.h"
#include "common/log/log.h"
#include "common/os/file.h"

namespace moorfs::kube {
namespace {

constexpr char kAccount[] = "/var/run/secrets/kubernetes.io/serviceaccount";
constexpr size_t kTokenLimit = 64 << 10;
constexpr auto kTokenAge = std::chrono::seconds(60);

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

std::string Trimmed(std::string text) {
  const size_t end = text.find_last_not_of(" \t\r\n");
  text.resize(end == std::string::npos ? 0 : end + 1);
  return text;
}

}  // namespace

Result<ApiConfig> InClusterConfig() {
  const char* host = ::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = ::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || *host == '\0') {
    return Error(ENOENT, "find the Kubernetes API: KUBERNETES_SERVICE_HOST is not set, so this is no pod; "
                         "give --kube-server, --kube-ca and --kube-token");
  }
  const std::string name = host;
  ApiConfig config;
  config.server = "https://" + (name.find(':') == std::string::npos ? name : "[" + name + "]") + ":" +
                  (port == nullptr || *port == '\0' ? "443" : port);
  config.ca_file = std::string(kAccount) + "/ca.crt";
  config.token_file = std::string(kAccount) + "/token";
  return config;
}

Result<std::unique_ptr<Connection>> Connection::Create(ApiConfig config) {
  // A token must not cross a network that everybody reads.
  if (config.server.rfind("https://", 0) != 0) {
    return Error(EINVAL, "use the Kubernetes API at \"" + Quoted(config.server) + "\": its URL must begin with https://");
  }
  while (config.server.back() == '/') config.server.pop_back();
  std::unique_ptr<Connection> made(new Connection(std::move(config)));
  http::ClientConfig http;
  http.ca_file = made->config_.ca_file;
  http.proxy = made->config_.proxy;
  http.user_agent = "moorfs/" MOORFS_VERSION;
  http.connect_timeout_ms = std::min(http.connect_timeout_ms, std::max(1, made->config_.timeout_ms / 2));
  ASSIGN_OR_RETURN(made->http_, http::Client::Create(std::move(http)));
  TRY_VOID(made->ReadToken());
  return made;
}

// Called with mutex_ held, or before anybody else has the object.
Status Connection::ReadToken() {
  struct stat now = {};
  if (::stat(config_.token_file.c_str(), &now) != 0) {
    return Status::FromErrno("read the Kubernetes token " + config_.token_file);
  }
  ASSIGN_OR_RETURN_STATUS(std::string text, os::ReadFile(config_.token_file, kTokenLimit));
  text = Trimmed(std::move(text));
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (text.empty() || !plain) {
    return Status(EINVAL, "read the Kubernetes token " + config_.token_file + ": the file holds no token");
  }
  token_ = std::move(text);
  token_stat_ = now;
  token_read_ = std::chrono::steady_clock::now();
  token_refused_ = false;
  return {};
}

std::string Connection::Token() {
  std::lock_guard lock(mutex_);
  struct stat now = {};
  const bool there = ::stat(config_.token_file.c_str(), &now) == 0;
  const bool old = std::chrono::steady_clock::now() - token_read_ >= kTokenAge;
  if (token_refused_ || old || (there && !SameFile(now, token_stat_))) {
    if (const Status status = ReadToken(); !status.ok()) {
      LOG_WARNING("kube") << status.ToString() << "; the last one stays in use";
      token_read_ = std::chrono::steady_clock::now();  // not a line per request
      token_refused_ = false;
      token_stat_ = now;
    }
  }
  return token_;
}

void Connection::TokenRefused() {
  std::lock_guard lock(mutex_);
  token_refused_ = true;
}

http::Request Connection::Prepare(std::string_view method, std::string_view target) {
  http::Request request;
  request.method = method;
  request.url = config_.server + std::string(target);
  request.headers = {"Authorization: Bearer " + Token(), "Accept: application/json"};
  return request;
}

}  // namespace moorfs::kube
