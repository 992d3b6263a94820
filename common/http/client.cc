// SPDX-License-Identifier: Apache-2.0
//
// libcurl's easy interface for requests, one handle (with its connection) per
// request in flight, kept for the next one; its multi interface for streams,
// which must hear a stop. HTTP/1.1: without multiplexing HTTP/2 would only cost
// memory here. Sockets are made by us: libcurl's would be inherited by every
// process that the agent starts.

#include "common/http/client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <mutex>

#include "common/http/curl_library.h"

namespace moorfs::http {
namespace {

using Clock = std::chrono::steady_clock;

// More requests at once than this work, their connections are not kept.
constexpr size_t kKeptHandles = 4;
// A peer that does not acknowledge for so long is gone.
constexpr unsigned kUnacknowledgedMs = 20'000;

struct EasyCleanup {
  void operator()(CURL* easy) const { Curl().easy_cleanup(easy); }
};
using Easy = std::unique_ptr<CURL, EasyCleanup>;
struct HeadersCleanup {
  void operator()(curl_slist* list) const { Curl().slist_free_all(list); }
};
using Headers = std::unique_ptr<curl_slist, HeadersCleanup>;
struct MultiCleanup {
  void operator()(CURLM* multi) const { Curl().multi_cleanup(multi); }
};
using Multi = std::unique_ptr<CURLM, MultiCleanup>;

curl_socket_t OpenSocket(void*, curlsocktype, curl_sockaddr* address) {
  const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd >= 0) {
    // Best effort: without it a dead peer is noticed later, by the deadline.
    (void)::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMs, sizeof kUnacknowledgedMs);
  }
  return fd < 0 ? CURL_SOCKET_BAD : fd;
}

// One exchange under way: what its callbacks write to.
struct Exchange {
  CURL* easy = nullptr;
  size_t limit = 0;
  bool too_long = false;
  bool stopped = false;
  bool announced = false;
  Response response;
  Clock::time_point last_heard = Clock::now();
  const std::function<bool(std::string_view)>* on_data = nullptr;

  int StatusCode() const {
    long code = 0;
    Curl().easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
    return static_cast<int>(code);
  }
  bool Tell(std::string_view piece) {
    stopped = stopped || !(*on_data)(piece);
    return !stopped;
  }
};

size_t OnBody(char* data, size_t, size_t size, void* context) {
  auto& x = *static_cast<Exchange*>(context);
  x.last_heard = Clock::now();
  if (x.on_data != nullptr && x.StatusCode() == 200) return x.Tell({data, size}) ? size : 0;
  if (x.response.body.size() + size > x.limit) {
    x.too_long = true;
    return 0;
  }
  x.response.body.append(data, size);
  return size;
}

// Only streams listen to headers: the empty line says that a 200 has begun.
size_t OnHeader(char* data, size_t, size_t size, void* context) {
  auto& x = *static_cast<Exchange*>(context);
  x.last_heard = Clock::now();
  const std::string_view line(data, size);
  if ((line == "\r\n" || line == "\n") && !x.announced && x.StatusCode() == 200) {
    x.announced = true;
    return x.Tell({}) ? size : 0;
  }
  return size;
}

// Scheme, host and path: queries may hold what is nobody's business.
std::string Shown(const Request& request) {
  return request.method + " " + request.url.substr(0, request.url.find('?'));
}

int ErrnoOf(CURLcode code, bool connected) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
      return connected ? ETIMEDOUT : EHOSTUNREACH;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_PROXY:
    case CURLE_INTERFACE_FAILED:
      return EHOSTUNREACH;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_FUNCTION_ARGUMENT:
      return EINVAL;
    case CURLE_OUT_OF_MEMORY:
      return ENOMEM;
    default:
      return EPIPE;
  }
}

class CurlClient : public Client {
 public:
  explicit CurlClient(ClientConfig config) : config_(std::move(config)) {}

  Result<Response> Do(const Request& request) override {
    ASSIGN_OR_RETURN(Easy easy, Take());
    Exchange x;
    Headers headers;
    char error[CURL_ERROR_SIZE] = "";
    TRY_VOID(Prepare(request, easy.get(), error, &x, &headers));
    Curl().easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout_ms));
    const CURLcode code = Curl().easy_perform(easy.get());
    auto result = Finish(request, code, error, x);
    // What failed may have left its connection in an unknown state.
    if (code == CURLE_OK) Keep(std::move(easy));
    return result;
  }

  Result<Response> Stream(const Request& request, int stop,
                          const std::function<bool(std::string_view)>& on_data) override {
    Easy easy(Curl().easy_init());
    Multi multi(Curl().multi_init());
    if (!easy || !multi) return Error(ENOMEM, "open " + Shown(request) + ": libcurl gives no handle");
    Exchange x;
    x.on_data = &on_data;
    Headers headers;
    char error[CURL_ERROR_SIZE] = "";
    TRY_VOID(Prepare(request, easy.get(), error, &x, &headers));
    Curl().easy_setopt(easy.get(), CURLOPT_HEADERFUNCTION, OnHeader);
    Curl().easy_setopt(easy.get(), CURLOPT_HEADERDATA, &x);
    // A name server that does not answer must not hold up the stop.
    Curl().easy_setopt(easy.get(), CURLOPT_QUICK_EXIT, 1L);
    Curl().multi_add_handle(multi.get(), easy.get());
    auto result = Run(request, stop, multi.get(), error, &x);
    Curl().multi_remove_handle(multi.get(), easy.get());
    return result;
  }

 private:
  Result<Easy> Take() {
    {
      std::lock_guard lock(mutex_);
      if (!kept_.empty()) {
        Easy easy = std::move(kept_.back());
        kept_.pop_back();
        return easy;
      }
    }
    Easy easy(Curl().easy_init());
    if (!easy) return Error(ENOMEM, "make a request: libcurl gives no handle");
    return easy;
  }

  void Keep(Easy easy) {
    Curl().easy_reset(easy.get());  // the connection stays
    std::lock_guard lock(mutex_);
    if (kept_.size() < kKeptHandles) kept_.push_back(std::move(easy));
  }

  Status SetHeaders(const Request& request, CURL* easy, Headers* headers) {
    // No "100 Continue" round trip, and no invented content type.
    std::vector<std::string> all = {"Expect:"};
    const bool typed = std::any_of(request.headers.begin(), request.headers.end(), [](const std::string& h) {
      return ::strncasecmp(h.c_str(), "content-type:", 13) == 0;
    });
    if (!typed) all.push_back("Content-Type:");
    all.insert(all.end(), request.headers.begin(), request.headers.end());
    for (const std::string& each : all) {
      if (each.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
        return Status(EINVAL, "prepare " + Shown(request) + ": a header holds a line break");
      }
      curl_slist* longer = Curl().slist_append(headers->get(), each.c_str());
      if (longer == nullptr) return Status(ENOMEM, "prepare " + Shown(request) + ": no memory");
      (void)headers->release();
      headers->reset(longer);
    }
    Curl().easy_setopt(easy, CURLOPT_HTTPHEADER, headers->get());
    return {};
  }

  void SetMethod(const Request& request, CURL* easy) {
    if (!request.body.empty() || request.method == "POST") {
      Curl().easy_setopt(easy, CURLOPT_POST, 1L);
      Curl().easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
      Curl().easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    }
    if (request.method == "HEAD") Curl().easy_setopt(easy, CURLOPT_NOBODY, 1L);
    Curl().easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }

  Status Prepare(const Request& request, CURL* easy, char* error, Exchange* x, Headers* headers) {
    x->easy = easy;
    x->limit = config_.max_body_bytes;
    Curl().easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
    Curl().easy_setopt(easy, CURLOPT_URL, request.url.c_str());
    Curl().easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    Curl().easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    // Set, also to nothing: libcurl would otherwise ask the environment.
    Curl().easy_setopt(easy, CURLOPT_PROXY, config_.proxy.c_str());
    Curl().easy_setopt(easy, CURLOPT_NOPROXY, "");
    Curl().easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    Curl().easy_setopt(easy, CURLOPT_MAXCONNECTS, 1L);
    Curl().easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    Curl().easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 15L);
    Curl().easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 5L);
    Curl().easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(config_.connect_timeout_ms));
    Curl().easy_setopt(easy, CURLOPT_USERAGENT, config_.user_agent.c_str());
    Curl().easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, OpenSocket);
    Curl().easy_setopt(easy, CURLOPT_WRITEFUNCTION, OnBody);
    Curl().easy_setopt(easy, CURLOPT_WRITEDATA, x);
    if (!config_.ca_file.empty()) {
      Curl().easy_setopt(easy, CURLOPT_CAINFO, config_.ca_file.c_str());
      Curl().easy_setopt(easy, CURLOPT_CAPATH, nullptr);  // these authorities and no others
    }
    SetMethod(request, easy);
    return SetHeaders(request, easy, headers);
  }

  Result<Response> Finish(const Request& request, CURLcode code, const char* error, Exchange& x) {
    if (code == CURLE_OK || x.stopped) {
      x.response.status = x.StatusCode();
      curl_off_t retry_after = 0;
      Curl().easy_getinfo(x.easy, CURLINFO_RETRY_AFTER, &retry_after);
      if (retry_after > 0) x.response.retry_after_s = static_cast<int>(std::min<curl_off_t>(retry_after, 86'400));
      return std::move(x.response);
    }
    if (x.too_long) {
      return Error(EMSGSIZE, Shown(request) + ": the answer is longer than " + std::to_string(x.limit) + " bytes");
    }
    curl_off_t connected = 0;
    Curl().easy_getinfo(x.easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    return Error(ErrnoOf(code, connected > 0),
                 Shown(request) + ": " + (error[0] != '\0' ? error : Curl().easy_strerror(code)));
  }

  Result<Response> Run(const Request& request, int stop, CURLM* multi, const char* error, Exchange* x) {
    for (;;) {
      const bool waits = !x->announced && request.begin_timeout_ms > 0;
      const std::chrono::milliseconds silence(waits ? request.begin_timeout_ms : request.timeout_ms);
      int running = 0;
      if (const CURLMcode m = Curl().multi_perform(multi, &running); m != CURLM_OK) {
        return Error(EPIPE, Shown(request) + ": " + Curl().multi_strerror(m));
      }
      if (running == 0) {
        int left = 0;
        const CURLMsg* done = Curl().multi_info_read(multi, &left);
        return Finish(request, done != nullptr ? done->data.result : CURLE_RECV_ERROR, error, *x);
      }
      const auto quiet = Clock::now() - x->last_heard;
      if (quiet >= silence) {
        return Error(ETIMEDOUT, Shown(request) + ": nothing came for " + std::to_string(silence.count()) + " ms");
      }
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(silence - quiet).count() + 1;
      curl_waitfd extra = {stop, CURL_WAIT_POLLIN, 0};
      Curl().multi_poll(multi, stop >= 0 ? &extra : nullptr, stop >= 0 ? 1 : 0, static_cast<int>(left), nullptr);
      if (stop >= 0 && extra.revents != 0) {
        x->stopped = true;
        return Finish(request, CURLE_OK, error, *x);
      }
    }
  }

  const ClientConfig config_;
  std::mutex mutex_;
  std::vector<Easy> kept_;  // used last is taken first: the others' connections time out
};

}  // namespace

Result<std::unique_ptr<Client>> Client::Create(ClientConfig config) {
  TRY_VOID(LoadCurl());
  return std::make_unique<CurlClient>(std::move(config));
}

}  // namespace moorfs::http
