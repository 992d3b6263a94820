// SPDX-License-Identifier: Apache-2.0
//
// Events are told to people, so losing one is a line in the log and no more.
// What is waiting and the same is sent once, with its count.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "common/kube/answers.h"
#include "common/kube/api.h"
#include "common/log/log.h"

namespace moorfs::kube {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kQueueLimit = 64;
constexpr size_t kRemembered = 128;
constexpr auto kSameFor = std::chrono::minutes(10);
constexpr auto kLastWords = std::chrono::seconds(1);  // for what waits at the end

std::string TimeNow() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  ::gmtime_r(&now, &utc);
  char text[32];
  (void)std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

struct Note {
  Json about;  // an ObjectReference
  std::string type, reason, message;
  int count = 1;

  bool SameAs(const Note& o) const {
    return type == o.type && reason == o.reason && message == o.message && about["kind"] == o.about["kind"] &&
           about["name"] == o.about["name"] && about["namespace"] == o.about["namespace"] &&
           about["uid"] == o.about["uid"];
  }
};

struct Sent {
  Note note;
  std::string path;
  int count = 0;
  Clock::time_point last;
};

class EventSenderImpl : public EventSender {
 public:
  EventSenderImpl(Api& api, std::string component, std::string host)
      : api_(api), component_(std::move(component)), host_(std::move(host)), thread_([this] { Run(); }) {}

  ~EventSenderImpl() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      end_ = Clock::now() + kLastWords;
    }
    wake_.notify_one();
    thread_.join();
  }

  void Send(const Json& object, bool warning, std::string_view reason, std::string_view message) override {
    Note note = {Reference(object), warning ? "Warning" : "Normal", std::string(reason), Quoted(message)};
    {
      std::lock_guard lock(mutex_);
      for (Note& waiting : queue_) {
        if (waiting.SameAs(note)) {
          ++waiting.count;
          return;
        }
      }
      if (queue_.size() < kQueueLimit) {
        queue_.push_back(std::move(note));
        wake_.notify_one();
        return;
      }
    }
    LOG_WARNING("kube") << "event " << reason << " is not sent, too many wait: " << message;
  }

 private:
  static Json Reference(const Json& object) {
    const Json& metadata = Member(object, "metadata");
    return {{"apiVersion", StringMember(object, "apiVersion")},
            {"kind", StringMember(object, "kind")},
            {"name", StringMember(metadata, "name")},
            {"namespace", StringMember(metadata, "namespace")},
            {"uid", StringMember(metadata, "uid")},
            {"resourceVersion", StringMember(metadata, "resourceVersion")}};
  }

  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      if (stopping_ && Clock::now() >= end_) {
        LOG_WARNING("kube") << queue_.size() << " events are not sent: the process ends";
        return;
      }
      const Note note = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      if (const Status status = Deliver(note); !status.ok()) {
        LOG_WARNING("kube") << "event " << note.reason << " is not sent (" << note.message << "): " << status.ToString();
      }
      lock.lock();
    }
  }

  Status Deliver(const Note& note) {
    Forget();
    for (Sent& sent : sent_) {
      if (!sent.note.SameAs(note)) continue;
      const int count = sent.count + note.count;
      const auto patched = api_.MergePatch(sent.path, {{"count", count}, {"lastTimestamp", TimeNow()}});
      if (patched) {
        sent.count = count;
        sent.last = Clock::now();
        return {};
      }
      if (patched.error().err() != ENOENT) return patched.error();
      sent.last = {};  // the API has forgotten it (an hour by default), or somebody removed it
      Forget();
      break;
    }
    return Make(note);
  }

  Status Make(const Note& note) {
    const std::string ns = note.about["namespace"].get_ref<const std::string&>();
    const std::string where = ns.empty() ? "default" : ns;
    const std::string name = Name(note.about["name"].get<std::string>());
    ASSIGN_OR_RETURN_STATUS(const std::string path, ObjectPath(EventsOf(where), name));
    const std::string now = TimeNow();
    const Json event = {{"apiVersion", "v1"},
                        {"kind", "Event"},
                        {"metadata", {{"name", name}, {"namespace", where}}},
                        {"involvedObject", note.about},
                        {"type", note.type},
                        {"reason", note.reason},
                        {"message", note.message},
                        {"source", {{"component", component_}, {"host", host_}}},
                        {"reportingComponent", component_},
                        {"reportingInstance", host_},
                        {"firstTimestamp", now},
                        {"lastTimestamp", now},
                        {"count", note.count}};
    const auto made = api_.Create(EventsOf(where), event);
    // The name is ours alone: it exists since an attempt was not answered.
    if (!made && made.error().err() != EEXIST) return made.error();
    sent_.push_back({note, path, note.count, Clock::now()});
    return {};
  }

  // As other components name them: the object's name and a number of our own.
  std::string Name(std::string object) {
    static constexpr char kHex[] = "0123456789abcdef";
    object.resize(std::min<size_t>(object.size(), 230));
    while (!object.empty() && (object.back() == '.' || object.back() == '-')) object.pop_back();
    std::string name = object.empty() ? "moorfs." : object + ".";
    for (uint64_t i = 0, bits = (uint64_t{random_()} << 32) | random_(); i < 16; ++i, bits >>= 4) name += kHex[bits & 15];
    return name;
  }

  void Forget() {
    const auto old = Clock::now() - kSameFor;
    std::erase_if(sent_, [&](const Sent& sent) { return sent.last < old; });
    if (sent_.size() > kRemembered) sent_.erase(sent_.begin());
  }

  Api& api_;
  const std::string component_, host_;
  std::random_device random_;
  std::vector<Sent> sent_;  // the thread's own; oldest first
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Note> queue_;
  bool stopping_ = false;
  Clock::time_point end_;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace

std::unique_ptr<EventSender> EventSender::Start(Api& api, std::string component, std::string host) {
  return std::make_unique<EventSenderImpl>(api, std::move(component), std::move(host));
}

}  // namespace moorfs::kube
