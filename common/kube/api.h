// SPDX-License-Identifier: Apache-2.0
//
// The Kubernetes API as far as MoorFS uses it: one object by its path, with the
// answers turned into errno values that callers act on.
//
//   ENOENT          404
//   EEXIST          409 AlreadyExists: somebody made it before
//   kErrnoConflict  409 Conflict: a precondition (resourceVersion, uid) failed
//   ESTALE          410: the resourceVersion is too old to watch from
//   EINVAL          400, 422: the message is the server's, which names the field
//   EPERM           403; EKEYREJECTED 401 after the token was read again
//   EDQUOT          403 "exceeded quota"
//   EHOSTUNREACH    nobody answers, or answers 429 or 5xx, retries included
//   ETIMEDOUT       the deadline
//
// A request that failed without an answer, with 429, 500, 502, 503 or 504 is sent
// again with jitter until `timeout_ms` is over; a change may therefore be made
// although an attempt failed, and a later attempt then answers EEXIST or
// kErrnoConflict: callers look at what is there.
//
// Thread-safe. The token is read again when its file changes (kubelet rotates
// it), at the latest every minute and after a 401.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace moorfs::kube {

using Json = nlohmann::json;

struct ApiConfig {
  std::string server;      // "https://10.96.0.1:443"
  std::string ca_file;
  std::string token_file;
  int timeout_ms = 5'000;  // of a call with all its attempts
  // "http://host:port". Empty: none. HTTPS_PROXY is not asked: it is meant for
  // the internet, and a pod that inherits it would lose the API.
  std::string proxy;
};
// From KUBERNETES_SERVICE_HOST, …_PORT and the service account's directory.
// ENOENT says that this is no pod, and what to give instead.
Result<ApiConfig> InClusterConfig();

// What a watch reports. `object` is as the API has it.
struct Event {
  enum class Type { kSet, kGone } type = Type::kSet;
  Json object;
};

class Api {
 public:
  static Result<std::unique_ptr<Api>> Create(ApiConfig config);
  virtual ~Api() = default;

  // `path` as in the URL: "/api/v1/namespaces/moorfs-mounts/pods/x". Callers
  // build it with ObjectPath() or check names themselves.
  virtual Result<Json> Get(const std::string& path) = 0;
  virtual Result<Json> Create(const std::string& collection, const Json& object) = 0;
  // JSON merge patch (RFC 7396): null removes a key. With "resourceVersion" or
  // "uid" in "metadata" these are preconditions.
  virtual Result<Json> MergePatch(const std::string& path, const Json& patch) = 0;
  struct DeleteOptions {
    std::string uid;               // empty: any
    std::string resource_version;  // empty: any
    int grace_s = -1;              // -1: the object's own
  };
  // OK also when it is gone already (with a uid: when that one is).
  virtual Status Delete(const std::string& path, const DeleteOptions& options) = 0;

  // One LIST (in pages), then a WATCH with bookmarks, again and again, for the
  // life of the returned object, which the Api must outlive. After each list
  // `on_synced` is called with everything that is there: what is missing from it
  // is gone. Then events in order. Objects come without metadata.managedFields,
  // half of a pod's size. Callbacks run on the watch's own thread and must not block. A broken
  // watch goes on from its last resourceVersion, after 410 or an error of the
  // list it lists again; pauses grow from 0.2 to 10 s with jitter and are reset
  // by success. Destroying it ends the thread, within a second.
  class Watch {
   public:
    virtual ~Watch() = default;
    // Nothing was heard for a while or the last attempt failed.
    virtual bool Broken() const = 0;
  };
  struct WatchCallbacks {
    std::function<void(const std::vector<Json>&)> on_synced;
    std::function<void(const Event&)> on_event;
  };
  virtual std::unique_ptr<Watch> StartWatch(const std::string& collection, const std::string& label_selector,
                                            WatchCallbacks callbacks) = 0;

  struct Counters {
    uint64_t reads = 0, lists = 0, watches = 0, writes = 0, retries = 0, failures = 0;
  };
  virtual Counters GetCounters() const = 0;
};

// EINVAL for a name that is no DNS subdomain (it would change the path).
Result<std::string> ObjectPath(std::string_view collection, std::string_view name);
inline std::string PodsOf(std::string_view ns) { return "/api/v1/namespaces/" + std::string(ns) + "/pods"; }
inline std::string EventsOf(std::string_view ns) { return "/api/v1/namespaces/" + std::string(ns) + "/events"; }
inline std::string LeasesOf(std::string_view ns) {
  return "/apis/coordination.k8s.io/v1/namespaces/" + std::string(ns) + "/leases";
}

// Posts a core/v1 Event about `object` (apiVersion, kind, metadata); the same
// one again within ten minutes is counted up instead ("count", "lastTimestamp").
// Never waits: a queue of at most 64 that a thread empties; what does not fit or
// fails is logged.
class EventSender {
 public:
  static std::unique_ptr<EventSender> Start(Api& api, std::string component, std::string host);
  virtual ~EventSender() = default;
  virtual void Send(const Json& object, bool warning, std::string_view reason, std::string_view message) = 0;
};

}  // namespace moorfs::kube
