// SPDX-License-Identifier: Apache-2.0
//
// One call: attempts until the deadline. The first one may use two thirds of the
// time, so that a connection which died without a word (the server's address has
// moved) leaves time for a new one.

#include "common/kube/api.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/kube/answers.h"
#include "common/kube/backoff.h"
#include "common/kube/connection.h"
#include "common/kube/watch.h"

namespace moorfs::kube {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kFirstPauseMs = 50;
constexpr int kLongestPauseMs = 1'000;

struct Call {
  const char* verb;  // for messages
  const char* method;
  const std::string& path;
  const char* content_type = nullptr;
  std::string body;
};

Status CheckPath(const Call& call) {
  const bool plain =
      std::all_of(call.path.begin(), call.path.end(), [](char c) { return c > ' ' && c < 0x7f && c != '#'; });
  if (plain && !call.path.empty() && call.path[0] == '/') return {};
  return Status(EINVAL, std::string(call.verb) + " \"" + Quoted(call.path) + "\": this is no path of the API");
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Did the server name the uid as what is wrong with a patch?
bool IsAboutUid(const http::Response& response) {
  const Json body = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  const Json& causes = Member(Member(body, "details"), "causes");
  return causes.is_array() && std::any_of(causes.begin(), causes.end(), [](const Json& cause) {
           return StringMember(cause, "field") == "metadata.uid";
         });
}

class ApiImpl : public Api {
 public:
  explicit ApiImpl(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}

  Result<Json> Get(const std::string& path) override {
    ++connection_->counters.reads;
    return Run({"get", "GET", path});
  }

  Result<Json> Create(const std::string& collection, const Json& object) override {
    ++connection_->counters.writes;
    return Run({"create in", "POST", collection, "application/json", Dump(object)});
  }

  Result<Json> MergePatch(const std::string& path, const Json& patch) override {
    ++connection_->counters.writes;
    return Run({"patch", "PATCH", path, "application/merge-patch+json", Dump(patch)});
  }

  Status Delete(const std::string& path, const DeleteOptions& options) override {
    ++connection_->counters.writes;
    Json body = {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}};
    if (!options.uid.empty()) body["preconditions"]["uid"] = options.uid;
    if (!options.resource_version.empty()) body["preconditions"]["resourceVersion"] = options.resource_version;
    if (options.grace_s >= 0) body["gracePeriodSeconds"] = options.grace_s;
    const auto gone = Run({"delete", "DELETE", path, "application/json", Dump(body)});
    if (gone || gone.error().err() == ENOENT) return {};
    if (gone.error().err() != kErrnoConflict || options.uid.empty()) return gone.error();
    // Which precondition was it? Another object by this name says that ours is gone.
    const auto present = Get(path);
    if (!present) return present.error().err() == ENOENT ? Status() : gone.error();
    const bool ours = StringMember(Member(*present, "metadata"), "uid") == options.uid;
    return ours ? gone.error() : Status();
  }

  std::unique_ptr<Watch> StartWatch(const std::string& collection, const std::string& label_selector,
                                    WatchCallbacks callbacks) override {
    return kube::StartWatch(*connection_, collection, label_selector, std::move(callbacks));
  }

  Counters GetCounters() const override {
    const auto& c = connection_->counters;
    return {c.reads, c.lists, c.watches, c.writes, c.retries, c.failures};
  }

 private:
  Result<Json> Run(const Call& call) {
    TRY_VOID(CheckPath(call));
    auto result = Attempts(call);
    if (!result && (result.error().err() == EHOSTUNREACH || result.error().err() == ETIMEDOUT)) {
      ++connection_->counters.failures;
    }
    return result;
  }

  http::Request Prepare(const Call& call) {
    http::Request request = connection_->Prepare(call.method, call.path);
    if (call.content_type != nullptr) request.headers.push_back(std::string("Content-Type: ") + call.content_type);
    request.body = call.body;
    return request;
  }

  Result<Json> Attempts(const Call& call) {
    const std::string what = std::string(call.verb) + " " + call.path;
    const int whole_ms = connection_->config().timeout_ms;
    const Clock::time_point deadline = Clock::now() + milliseconds(whole_ms);
    Backoff backoff(kFirstPauseMs, kLongestPauseMs);
    bool refused = false;
    for (int left_ms = whole_ms * 2 / 3;;) {
      http::Request request = Prepare(call);
      request.timeout_ms = std::max(1, left_ms);
      const auto response = connection_->http().Do(request);
      if (response && response->status == 401 && !refused) {
        refused = true;
        connection_->TokenRefused();
      } else {
        if (response && !IsPassing(response->status)) return Decode(*response, what, call);
        const Status failed = response ? StatusOf(*response, what) : Unanswered(response.error(), what);
        if (failed.err() != EHOSTUNREACH && failed.err() != ETIMEDOUT) return Error(failed);
        milliseconds pause(backoff.NextMs());
        if (response && response->retry_after_s > 0) pause += std::chrono::seconds(response->retry_after_s);
        if (Clock::now() + pause >= deadline) return Error(failed);
        std::this_thread::sleep_for(pause);
      }
      ++connection_->counters.retries;
      left_ms = static_cast<int>(std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count());
    }
  }

  // What the HTTP client could not do, in this interface's words.
  static Status Unanswered(const Status& status, const std::string& what) {
    const int err = status.err() == EPIPE ? EHOSTUNREACH : status.err();
    return Status(err, what + ": the API server did not answer: " + Quoted(status.message()));
  }

  static Result<Json> Decode(const http::Response& response, const std::string& what, const Call& call) {
    if (response.status == 422 && call.method == std::string_view("PATCH") && IsAboutUid(response)) {
      return Error(kErrnoConflict, StatusOf(response, what).message());
    }
    if (response.status < 200 || response.status > 299) return Error(StatusOf(response, what));
    Json object = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) return Error(EPROTO, what + ": the answer is no JSON object");
    return object;
  }

  const std::unique_ptr<Connection> connection_;
};

}  // namespace

Result<std::unique_ptr<Api>> Api::Create(ApiConfig config) {
  ASSIGN_OR_RETURN(auto connection, Connection::Create(std::move(config)));
  return std::make_unique<ApiImpl>(std::move(connection));
}

}  // namespace moorfs::kube
