// SPDX-License-Identifier: Apache-2.0

#include "csi/http.h"

#include <Poco/Exception.h>
#include <Poco/Net/HTTPRequestHandler.h>
#include <Poco/Net/HTTPRequestHandlerFactory.h>
#include <Poco/Net/HTTPServer.h>
#include <Poco/Net/HTTPServerRequest.h>
#include <Poco/Net/HTTPServerResponse.h>
#include <Poco/Net/NetException.h>
#include <Poco/Net/ServerSocket.h>
#include <Poco/ThreadPool.h>

#include "common/log/log.h"

namespace moorfs::csi {
namespace {

using Poco::Net::HTTPResponse;

constexpr int kThreads = 2;
constexpr int kQueued = 16;
constexpr int kTimeoutSeconds = 5;

class Page final : public Poco::Net::HTTPRequestHandler {
 public:
  explicit Page(const HttpPages& pages) : pages_(pages) {}

  void handleRequest(Poco::Net::HTTPServerRequest& request, Poco::Net::HTTPServerResponse& response) override {
    const std::string path = request.getURI().substr(0, request.getURI().find('?'));
    if (request.getMethod() != "GET" && request.getMethod() != "HEAD") {
      Answer(response, HTTPResponse::HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    } else if (path == "/healthz") {
      Check(response, pages_.health());
    } else if (path == "/readyz") {
      Check(response, pages_.ready());
    } else if (path == "/metrics") {
      response.setContentType("text/plain; version=0.0.4; charset=utf-8");
      Answer(response, HTTPResponse::HTTP_OK, pages_.metrics());
    } else {
      Answer(response, HTTPResponse::HTTP_NOT_FOUND, "there are /healthz, /readyz and /metrics\n");
    }
  }

 private:
  static void Check(Poco::Net::HTTPServerResponse& response, const Status& status) {
    if (status.ok()) return Answer(response, HTTPResponse::HTTP_OK, "ok\n");
    Answer(response, HTTPResponse::HTTP_SERVICE_UNAVAILABLE, status.message() + "\n");
  }
  static void Answer(Poco::Net::HTTPServerResponse& response, HTTPResponse::HTTPStatus code, const std::string& text) {
    response.setStatusAndReason(code);
    if (response.getContentType() == HTTPResponse::UNKNOWN_CONTENT_TYPE) response.setContentType("text/plain");
    response.sendBuffer(text.data(), text.size());
  }
  const HttpPages& pages_;
};

class Pages final : public Poco::Net::HTTPRequestHandlerFactory {
 public:
  explicit Pages(const HttpPages& pages) : pages_(pages) {}
  Poco::Net::HTTPRequestHandler* createRequestHandler(const Poco::Net::HTTPServerRequest&) override {
    return new Page(pages_);
  }

 private:
  const HttpPages& pages_;
};

Poco::Net::HTTPServerParams::Ptr Parameters() {
  Poco::Net::HTTPServerParams::Ptr params(new Poco::Net::HTTPServerParams);
  params->setMaxThreads(kThreads);
  params->setMaxQueued(kQueued);
  // A connection holds a thread: one request each, and not for long.
  params->setKeepAlive(false);
  params->setTimeout(Poco::Timespan(kTimeoutSeconds, 0));
  params->setSoftwareVersion("moorfs");
  return params;
}

}  // namespace

struct HttpServer::Impl {
  Impl(HttpPages p, const Poco::Net::SocketAddress& address)
      : pages(std::move(p)), threads(1, kThreads) {
    // Not shared with whoever has the port already.
    socket.bind(address, /*reuseAddress=*/true, /*reusePort=*/false);
    socket.listen();
  }
  HttpPages pages;
  Poco::ThreadPool threads;
  Poco::Net::ServerSocket socket;
  std::unique_ptr<Poco::Net::HTTPServer> server;
};

Result<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address, HttpPages pages) {
  if (address.rfind(':') == std::string::npos) {
    return Error(EINVAL, "serve HTTP at " + address + ": this is not ADDRESS:PORT, for example 127.0.0.1:9808");
  }
  try {
    auto impl = std::make_unique<Impl>(std::move(pages), Poco::Net::SocketAddress(address));
    impl->server = std::make_unique<Poco::Net::HTTPServer>(new Pages(impl->pages), impl->threads, impl->socket,
                                                           Parameters());
    impl->server->start();
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
  } catch (const Poco::Net::NetException& e) {
    const int err = e.code() > 0 ? e.code() : EINVAL;
    return Error(err, "serve HTTP at " + address + ": " + e.displayText());
  } catch (const Poco::Exception& e) {
    return Error(EINVAL, "serve HTTP at " + address + ": " + e.displayText());
  }
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { impl_->server->stopAll(true); }
int HttpServer::port() const { return impl_->socket.address().port(); }

}  // namespace moorfs::csi
