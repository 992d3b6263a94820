// SPDX-License-Identifier: Apache-2.0
//
// Sees to it that one client serves: starts it, hears it, replaces it when it
// ends. Shared by the keeper (a mount of this host) and the supervisor (a mount
// pod); what an end or a long outage means for the mount is theirs to decide.
// Lives in its owner's poll loop; it has no thread and waits for nothing.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/keeper/client_process.h"
#include "common/keeper/restart_policy.h"

namespace moorfs::keeper {

class ClientRunner {
 public:
  struct Config {
    ClientProgram program;
    ClientFds fds;            // owned by the caller, valid as long as this object
    std::string client_json;  // an object
    std::string keeper_json;  // an object, told the client as "keeper"; see ClientChannel
    std::string name;         // of the mount, for the log
    const char* component = "keeper";
    int start_timeout_s = 60;
    int abort_after_s = 300;
    // A predecessor elsewhere served this mount: applications wait for it, so a
    // client that cannot start is tried again, however often.
    bool takes_over = false;
  };

  enum class Phase { kStarting, kServing, kRestarting };
  struct Condition {
    Phase phase = Phase::kStarting;
    pid_t client_pid = 0;         // 0: none
    std::string details = "{}";   // of the last "ready", an object
    int64_t ready_ns = 0;
    uint64_t restarts = 0;
    std::string last_exit, last_error;
  };

  // Called from the owner's own calls below. The runner must not be destroyed
  // inside.
  class Observer {
   public:
    virtual void OnProgress(std::string_view text) = 0;
    virtual void OnCondition() = 0;  // condition() is another
    virtual void OnFirstReady() = 0;
    // The last word: no client serves, and none will be started.
    virtual void OnStartFailed(const Status& why) = 0;
    virtual void OnUnmounted() = 0;  // everything is stored, the client has ended
    virtual void OnStopped() = 0;    // after Stop(): the client has ended
    virtual void OnBroken(const Status& why) = 0;
    // Nobody serves since abort_after_s. Once, until a client serves again.
    virtual void OnOverdue() = 0;

   protected:
    ~Observer() = default;
  };

  ClientRunner(Config config, Observer& observer) : config_(std::move(config)), observer_(observer) {}

  void Start();
  // For poll: -1, or readable when Handle() has something to do.
  int channel_fd() const { return client_ ? client_->channel_fd() : -1; }
  int pidfd() const { return client_ ? client_->pidfd() : -1; }
  void Handle(bool channel, bool ended);
  // Call after every poll; the next time it needs a call is NextNs() (INT64_MAX:
  // at an event).
  void OnTime();
  int64_t NextNs() const;

  // No client is started any more. False: there is none now.
  bool Stop();
  Status Signal(int signal) { return client_->Signal(signal); }

  const Condition& condition() const { return condition_; }
  pid_t client_pid() const { return client_ ? client_->pid() : 0; }

 private:
  void StartClient();
  void OnMessages();
  void OnMessage(const ClientProcess::Message& message);
  void OnReady(const std::string& details);
  void OnEnd();
  void FailStart(const Status& why);
  std::string ClientText() const;

  const Config config_;
  Observer& observer_;
  Condition condition_;
  std::unique_ptr<ClientProcess> client_;
  RestartPolicy policy_;
  std::string uuid_;  // what the first client found; no other is served
  bool ever_ready_ = false;
  bool stopping_ = false;
  bool over_ = false;
  bool overdue_told_ = false;
  int64_t restart_at_ns_ = 0;      // with no client: when to start one
  int64_t unserved_since_ns_ = 0;  // 0 while a client serves
};

}  // namespace moorfs::keeper
