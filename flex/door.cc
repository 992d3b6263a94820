// SPDX-License-Identifier: Apache-2.0

#include "flex/door.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "common/agent/protocol.h"
#include "flex/agent_call.h"
#include "flex/answer.h"
#include "flex/call.h"
#include "flex/explain.h"
#include "flex/options.h"
#include "flex/process.h"

namespace moorfs::flex {
namespace {

using Json = nlohmann::json;

// A little longer than the agent works (common/mount/agent_server.cc): what it
// cannot finish it takes back and says so itself.
constexpr int kMountMs = 105'000;
constexpr int kUnmountMs = 65'000;

class Door {
 public:
  Door(Call call, const char* full_program) : call_(std::move(call)), full_program_(full_program) {}
  Answer Run();

 private:
  Answer Mount();
  Answer Unmount();
  Answer ExpandVolume() const;
  Answer List() const;
  // The agent, or with --standalone the full program (which then answers).
  Status Ask(Json request, int timeout_ms) const;
  Status Standalone(Json request) const;

  const Call call_;
  const char* const full_program_;
};

Answer Door::Run() {
  const std::string& verb = call_.verb;
  if (verb == "init") return Capabilities();
  if (verb == "mount") return Mount();
  if (verb == "unmount") return Unmount();
  // There is no device to grow: the file system is as big as its store.
  if (verb == "expandfs") return Success();
  if (verb == "expandvolume") return ExpandVolume();
  if (verb == "explain") {
    if (call_.arguments.size() == 1) return Explain(call_, call_.arguments[0]);
    return Failure(Status(EINVAL, "usage: moorfs flex explain JSON"));
  }
  if (verb == "list") return List();
  if (verb == "version") return Version();
  // Nothing is attached, so nothing of this is ever needed: getvolumename,
  // attach, waitforattach, isattached, mountdevice, unmountdevice, detach,
  // waitfordetach, and what newer kubelets may ask.
  return NotSupported();
}

Answer Door::Mount() {
  if (call_.arguments.size() != 2) return Failure(Status(EINVAL, "usage: mount DIR JSON"));
  if (const Status s = CheckTarget(call_.arguments[0]); !s.ok()) return Failure(s);
  auto options = ParseOptions(call_.arguments[1]);
  if (!options) return Failure(options.error());
  agent::FlexPublish& publish = options->publish;
  publish.target = call_.arguments[0];
  // Kubelet does not say who wrote the options. An operator at a shell, who is
  // root, may.
  publish.from_pod = !call_.trusted && !call_.standalone;
  const Status done = Ask(agent::EncodePublish(publish), kMountMs);
  return done.ok() ? Success() : Failure(done, publish.secrets);
}

Answer Door::Unmount() {
  // Kubelet sends the directory alone, whatever its documentation says.
  if (call_.arguments.empty()) return Failure(Status(EINVAL, "usage: unmount DIR"));
  if (const Status s = CheckTarget(call_.arguments[0]); !s.ok()) return Failure(s);
  const Status done = Ask(agent::EncodeUnpublish(call_.arguments[0]), kUnmountMs);
  return done.ok() ? Success() : Failure(done);
}

// expandvolume JSON DEVICE_MOUNT_PATH NEW_BYTES OLD_BYTES. A volume seen
// through this door has no quota of its own, so it holds the new size already.
Answer Door::ExpandVolume() const {
  uint64_t bytes = 0;
  if (call_.arguments.size() >= 3) {
    const std::string& text = call_.arguments[2];
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
    if (error == std::errc() && end == text.data() + text.size() && bytes <= INT64_MAX) return Resized(bytes);
  }
  return Failure(Status(EINVAL, "usage: expandvolume JSON DIR NEW_BYTES OLD_BYTES"));
}

// For people: what the agent has published.
Answer Door::List() const {
  const auto answer = AskAgent({{"cmd", "list"}, {"protocol", agent::kProtocol}}, kUnmountMs);
  if (!answer) return Failure(answer.error());
  Json out = {{"status", "Success"}};
  out.update(*answer);
  return {out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n", 0};
}

Status Door::Ask(Json request, int timeout_ms) const {
  if (call_.standalone) return Standalone(std::move(request));
  const auto answer = AskAgent(request, call_.timeout_ms > 0 ? call_.timeout_ms : timeout_ms);
  return answer ? Status::Ok() : answer.error();
}

Status Door::Standalone(Json request) const {
  std::string program;
  if (full_program_ != nullptr) {
    program = full_program_;
  } else {
    ASSIGN_OR_RETURN_STATUS(program, FindFullProgram());
  }
  request["fs"] = call_.fs_names;
  return BecomeProgram(program, "flex-standalone", request.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace

int DoorMain(int argc, char** argv, const char* full_program) {
  std::vector<std::string> words = TakeArguments(argc, argv);
  CleanProcess();
  // `moorfs flex VERB` and `moorfs-flex VERB` are the same.
  const std::string name = words.empty() ? "" : words[0].substr(words[0].rfind('/') + 1);
  const size_t skip = words.size() > 1 && words[1] == "flex" && name != "moorfs-flex" ? 2 : 1;
  words.erase(words.begin(), words.begin() + static_cast<long>(std::min(skip, words.size())));
  auto call = ParseCall(words);
  const Answer answer = call ? Door(std::move(*call), full_program).Run() : Failure(call.error());
  WriteStdout(answer.json);
  return answer.exit_code;
}

}  // namespace moorfs::flex
