// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/client_runner.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/base/units.h"
#include "common/keeper/protocol.h"
#include "common/log/log.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerSec = 1'000'000'000;

Json Object(const std::string& text) {
  Json j = Json::parse(text, nullptr, false);
  return j.is_object() ? j : Json::object();
}

}  // namespace

void ClientRunner::Start() {
  unserved_since_ns_ = MonotonicNs();
  StartClient();
}

std::string ClientRunner::ClientText() const {
  Json config = Object(config_.client_json);
  Json keeper = Object(config_.keeper_json);
  keeper["restarts"] = condition_.restarts + (config_.takes_over ? 1 : 0);
  if (!uuid_.empty()) keeper["uuid"] = uuid_;
  config["keeper"] = std::move(keeper);
  return config.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void ClientRunner::StartClient() {
  restart_at_ns_ = 0;
  policy_.Started(MonotonicNs());
  auto client = ClientProcess::Start(config_.program, config_.fds, ClientText());
  if (!client) {
    const Status why = client.error().Annotate("start the client");
    LOG_ERROR(config_.component) << why.ToString();
    if (!ever_ready_ && !config_.takes_over) return FailStart(why);
    condition_.last_error = why.message();
    restart_at_ns_ = MonotonicNs() + policy_.AfterEnd(MonotonicNs(), false) * kNsPerMs;
  } else {
    client_ = std::move(*client);
    condition_.client_pid = client_->pid();
  }
  observer_.OnCondition();
}

void ClientRunner::Handle(bool channel, bool ended) {
  if (channel && client_ && !over_) OnMessages();
  if (ended && client_ && !over_) OnEnd();
}

void ClientRunner::OnMessages() {
  while (auto message = client_->TakeMessage()) {
    OnMessage(*message);
    if (over_) return;
  }
}

void ClientRunner::OnReady(const std::string& details) {
  policy_.Ready();
  condition_.phase = Phase::kServing;
  condition_.details = details;
  condition_.ready_ns = MonotonicNs();
  condition_.last_error.clear();
  const Json told = Object(details);
  if (uuid_.empty() && told.contains("uuid") && told["uuid"].is_string()) uuid_ = told["uuid"];
  const bool first = !ever_ready_;
  if (!first) {
    LOG_INFO(config_.component) << "client " << client_->pid() << " serves after "
                                << (MonotonicNs() - unserved_since_ns_) / kNsPerMs << " ms without one";
  }
  unserved_since_ns_ = 0;
  overdue_told_ = false;
  ever_ready_ = true;
  observer_.OnCondition();
  if (first) observer_.OnFirstReady();
}

void ClientRunner::OnMessage(const ClientProcess::Message& message) {
  using Kind = ClientProcess::Message::Kind;
  switch (message.kind) {
    case Kind::kProgress:
      return observer_.OnProgress(message.text);
    case Kind::kReady:
      return OnReady(message.text);
    case Kind::kFailed:
      LOG_ERROR(config_.component) << "client " << client_->pid()
                                   << " cannot serve: " << message.failure.ToString();
      if (!ever_ready_ && !config_.takes_over) return FailStart(message.failure);
      condition_.last_error = message.failure.message();
      return observer_.OnCondition();
  }
}

void ClientRunner::OnEnd() {
  // What it said before it ended is still in the channel.
  OnMessages();
  if (over_) return;
  auto ended = client_->Reap();
  if (!ended) {
    over_ = true;
    return observer_.OnBroken(ended.error());
  }
  const pid_t pid = client_->pid();
  client_.reset();
  condition_.client_pid = 0;
  if (!ended->signaled && ended->code == kExitUnmounted) {
    over_ = true;
    return observer_.OnUnmounted();
  }
  const std::string how = "client " + std::to_string(pid) + " " + ended->Describe();
  condition_.last_exit = how;
  if (stopping_) {
    over_ = true;
    return observer_.OnStopped();
  }
  if (!ever_ready_ && !config_.takes_over) {
    return FailStart(Status(EIO, "start the client: " + how + "; see the log"));
  }
  condition_.phase = Phase::kRestarting;
  ++condition_.restarts;
  const int64_t now = MonotonicNs();
  if (unserved_since_ns_ == 0) unserved_since_ns_ = now;
  const bool incompatible = !ended->signaled && ended->code == kExitIncompatible;
  const int delay = policy_.AfterEnd(now, incompatible);
  const std::string next = delay ? " in " + std::to_string(delay) + " ms" : " now";
  if (!ended->signaled && ended->code == kExitRestart) {
    LOG_INFO(config_.component) << "client " << pid << " stepped back; starting its successor" << next;
  } else {
    LOG_WARNING(config_.component) << how << "; starting its successor" << next;
  }
  observer_.OnCondition();
  if (delay == 0) return StartClient();
  restart_at_ns_ = now + delay * kNsPerMs;
}

void ClientRunner::OnTime() {
  const int64_t now = MonotonicNs();
  if (!over_ && !stopping_ && !client_ && restart_at_ns_ != 0 && now >= restart_at_ns_) StartClient();
  if (over_ || stopping_ || unserved_since_ns_ == 0) return;
  if (!ever_ready_ && !config_.takes_over) {
    if (now - unserved_since_ns_ < config_.start_timeout_s * kNsPerSec) return;
    return FailStart(Status(ETIMEDOUT, "start the client: it was not ready within " +
                                           std::to_string(config_.start_timeout_s) +
                                           " s; look at its log and at the store"));
  }
  if (overdue_told_ || now - unserved_since_ns_ < config_.abort_after_s * kNsPerSec) return;
  overdue_told_ = true;
  observer_.OnOverdue();
}

int64_t ClientRunner::NextNs() const {
  int64_t next = INT64_MAX;
  if (over_ || stopping_) return next;
  if (!client_ && restart_at_ns_ != 0) next = restart_at_ns_;
  if (unserved_since_ns_ != 0 && !overdue_told_) {
    const bool first = !ever_ready_ && !config_.takes_over;
    const int limit = first ? config_.start_timeout_s : config_.abort_after_s;
    next = std::min(next, unserved_since_ns_ + limit * kNsPerSec);
  }
  return next;
}

bool ClientRunner::Stop() {
  stopping_ = true;
  return client_ != nullptr;
}

void ClientRunner::FailStart(const Status& why) {
  over_ = true;
  observer_.OnStartFailed(why);
}

}  // namespace moorfs::keeper
