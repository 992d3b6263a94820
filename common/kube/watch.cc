// SPDX-License-Identifier: Apache-2.0
//
// List, watch, again. A watch is a stream of one JSON object per line; a line is
// parsed when it is whole, nothing else is kept. Bookmarks come about once a
// minute, so a stream that is silent for longer is dead, and the resourceVersion
// to go on from stays young enough also when our own objects do not change.

#include "common/kube/watch.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/kube/answers.h"
#include "common/kube/backoff.h"
#include "common/log/log.h"

namespace moorfs::kube {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSilenceMs = 100'000;
constexpr int kListSilenceMs = 10'000;
constexpr int kBeginMs = 15'000;
constexpr int kWatchSeconds = 300;  // and up to as much again
constexpr int kPageSize = 200;
constexpr size_t kLineLimit = 8 << 20;      // etcd takes objects of 1.5 MiB
constexpr size_t kListLimit = 64 << 20;     // of a page
constexpr size_t kKeptLineBytes = 64 << 10;
constexpr int kFirstPauseMs = 200;
constexpr int kLongestPauseMs = 10'000;

class WatchImpl : public Api::Watch {
 public:
  WatchImpl(Connection& connection, std::string collection, std::string selector, Api::WatchCallbacks callbacks)
      : connection_(connection),
        collection_(std::move(collection)),
        selector_(selector.empty() ? "" : "&labelSelector=" + QueryEscape(selector)),
        callbacks_(std::move(callbacks)),
        stop_(::eventfd(0, EFD_CLOEXEC)),
        unanswered_(kFirstPauseMs, kLongestPauseMs),
        fruitless_(kFirstPauseMs, kLongestPauseMs),
        heard_(Now()),
        thread_([this] { Run(); }) {}

  ~WatchImpl() override {
    stopping_ = true;
    const uint64_t one = 1;
    if (::write(stop_.get(), &one, sizeof one) != sizeof one) LOG_ERROR("kube") << "end a watch: the thread is not told";
    thread_.join();
  }

  bool Broken() const override { return failed_ || Now() - heard_ > kSilenceMs; }

 private:
  static int64_t Now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch()).count();
  }

  void Run() {
    while (!stopping_) {
      const bool listing = version_.empty();
      answered_ = followed_ = false;
      const Status status = listing ? List() : Follow();
      if (stopping_) return;
      Judge(status, listing);
    }
  }

  // No pause between a list and its watch. Attempts that nobody answers and
  // watches that bring nothing (broken at once, or 410 right after a list) each
  // have their own growing pauses.
  void Judge(const Status& status, bool was_list) {
    if (!status.ok()) {
      if (!failed_) LOG_WARNING("kube") << status.ToString() << "; will try again";
      failed_ = true;
      ++connection_.counters.retries;
    }
    if (answered_) unanswered_.Reset();
    if (followed_) fruitless_.Reset();
    if (was_list && status.ok()) return;
    Pause(was_list || !answered_ || followed_ ? unanswered_.NextMs() : fruitless_.NextMs());
  }

  void Pause(int ms) {
    pollfd wait = {stop_.get(), POLLIN, 0};
    (void)::poll(&wait, 1, ms);
  }

  void Heard() {
    heard_ = Now();
    answered_ = true;
    if (failed_.exchange(false)) LOG_INFO("kube") << "watch " << collection_ << ": works again";
  }

  // One GET, interruptible; the body of a 200 goes to `on_data`.
  Status Fetch(const std::string& target, int silence_ms, const std::function<bool(std::string_view)>& on_data) {
    http::Request request = connection_.Prepare("GET", target);
    request.timeout_ms = silence_ms;
    request.begin_timeout_ms = kBeginMs;
    http_status_ = 0;
    const auto response = connection_.http().Stream(request, stop_.get(), on_data);
    if (!response) return response.error().Annotate("watch " + collection_);
    http_status_ = response->status;
    if (response->status == 200 || stopping_) return {};
    if (response->status == 401) connection_.TokenRefused();
    if (response->retry_after_s > 0) Pause(std::min(response->retry_after_s * 1000, kLongestPauseMs));
    return StatusOf(*response, "watch " + collection_);
  }

  // ---- list -------------------------------------------------------------------
  Status List() {
    ++connection_.counters.lists;
    std::vector<Json> all;
    std::string next, version;
    do {
      RETURN_IF_ERROR(ListPage(next, &all, &next, &version));
      if (stopping_) return {};
    } while (!next.empty());
    if (version.empty()) return Status(EPROTO, "list " + collection_ + ": the answer has no resourceVersion");
    Heard();
    callbacks_.on_synced(all);
    version_ = version;
    return {};
  }

  Status ListPage(const std::string& from, std::vector<Json>* all, std::string* next, std::string* version) {
    std::string target = collection_ + "?limit=" + std::to_string(kPageSize) + selector_;
    if (!from.empty()) target += "&continue=" + QueryEscape(from);
    std::string body;
    bool too_long = false;
    RETURN_IF_ERROR(Fetch(target, kListSilenceMs, [&](std::string_view piece) {
      too_long = body.size() + piece.size() > kListLimit;
      if (!too_long) body.append(piece);
      return !too_long;
    }));
    if (stopping_) return {};
    if (too_long) return Status(EMSGSIZE, "list " + collection_ + ": a page is too long");
    Json page = Json::parse(body, nullptr, /*allow_exceptions=*/false);
    if (!page.is_object()) return Status(EPROTO, "list " + collection_ + ": the answer is no JSON object");
    const Json& items = Member(page, "items");
    if (!items.is_array() && !items.is_null()) return Status(EPROTO, "list " + collection_ + ": items is no list");
    *next = StringMember(Member(page, "metadata"), "continue");
    *version = StringMember(Member(page, "metadata"), "resourceVersion");
    if (items.is_array()) {
      const std::string version_of_kind = StringMember(page, "apiVersion");
      const std::string list_kind = StringMember(page, "kind");
      for (Json& item : page["items"]) {
        // Items of a list do not name their kind; those of a watch do.
        if (!item.is_object()) return Status(EPROTO, "list " + collection_ + ": an item is no JSON object");
        if (!item.contains("apiVersion")) item["apiVersion"] = version_of_kind;
        if (!item.contains("kind") && list_kind.size() > 4) item["kind"] = list_kind.substr(0, list_kind.size() - 4);
        all->push_back(Slim(std::move(item)));
      }
    }
    return {};
  }

  static Json Slim(Json object) {
    if (const auto metadata = object.find("metadata"); metadata != object.end() && metadata->is_object()) {
      metadata->erase("managedFields");
    }
    return object;
  }

  // ---- watch ------------------------------------------------------------------
  Status Follow() {
    ++connection_.counters.watches;
    line_.clear();
    event_status_ = {};
    const std::string target =
        collection_ + "?watch=1&allowWatchBookmarks=true&resourceVersion=" + QueryEscape(version_) +
        "&timeoutSeconds=" + std::to_string(kWatchSeconds + unanswered_.Below(kWatchSeconds)) + selector_;
    Status status = Fetch(target, kSilenceMs, [this](std::string_view piece) { return Take(piece); });
    if (status.ok()) status = event_status_;
    if (MustListAgain(status)) version_.clear();
    return status.err() == ESTALE ? Status() : status;  // part of the protocol
  }

  // 400 and 504: the server does not know a version as young as ours (its data
  // was restored from a copy). An error within the stream, likewise, is no
  // connection's fault.
  bool MustListAgain(const Status& status) const {
    return !event_status_.ok() || status.err() == ESTALE || status.err() == EINVAL || http_status_ == 504;
  }

  bool Take(std::string_view piece) {
    if (stopping_) return false;
    Heard();
    while (!piece.empty()) {
      const size_t end = piece.find('\n');
      line_.append(piece.substr(0, end));
      if (end == std::string_view::npos) break;
      piece.remove_prefix(end + 1);
      if (!TakeLine()) return false;
      line_.clear();
    }
    if (line_.size() > kLineLimit) {
      event_status_ = Status(EMSGSIZE, "watch " + collection_ + ": an event is too long");
      return false;
    }
    if (line_.empty() && line_.capacity() > kKeptLineBytes) line_.shrink_to_fit();
    return true;
  }

  bool Fail(int err, std::string_view what) {
    event_status_ = Status(err, "watch " + collection_ + ": " + std::string(what));
    return false;
  }

  bool TakeLine() {
    if (line_.empty()) return true;
    Json event = Json::parse(line_, nullptr, /*allow_exceptions=*/false);
    if (!event.is_object() || !Member(event, "object").is_object()) return Fail(EPROTO, "an event has an unknown shape");
    const std::string type = StringMember(event, "type");
    Json& object = event["object"];
    if (type == "ERROR") {
      const Json& code = Member(object, "code");
      if (code.is_number_integer() && code.get<int>() == 410) return Fail(ESTALE, "too old");
      return Fail(EPROTO, "the server reports: " + Quoted(StringMember(object, "message")));
    }
    const std::string version = StringMember(Member(object, "metadata"), "resourceVersion");
    if (version.empty()) return Fail(EPROTO, "an event has no resourceVersion");
    followed_ = true;
    if (type == "ADDED" || type == "MODIFIED" || type == "DELETED") {
      callbacks_.on_event({type == "DELETED" ? Event::Type::kGone : Event::Type::kSet, Slim(std::move(object))});
    } else if (type != "BOOKMARK") {
      return Fail(EPROTO, "an event has the unknown type " + Quoted(type));
    }
    version_ = version;
    return true;
  }

  Connection& connection_;
  const std::string collection_, selector_;
  const Api::WatchCallbacks callbacks_;
  const UniqueFd stop_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> failed_{false};
  // The thread's own:
  Backoff unanswered_, fruitless_;
  std::string version_;  // to go on from; empty: list
  std::string line_;     // an event that is not whole yet
  Status event_status_;
  bool answered_ = false;  // in this attempt: a list came, or a watch began
  bool followed_ = false;  // in this attempt: a watch brought something
  int http_status_ = 0;    // of the last answer
  std::atomic<int64_t> heard_;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace

std::unique_ptr<Api::Watch> StartWatch(Connection& connection, std::string collection, std::string label_selector,
                                       Api::WatchCallbacks callbacks) {
  return std::make_unique<WatchImpl>(connection, std::move(collection), std::move(label_selector),
                                     std::move(callbacks));
}

}  // namespace moorfs::kube
