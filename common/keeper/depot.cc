// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/depot.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/control/line_socket.h"
#include "common/keeper/line_hub.h"
#include "common/log/log.h"
#include "common/os/file.h"

namespace moorfs::keeper {
namespace {

using Json = nlohmann::json;

constexpr int kProtocol = 1;
constexpr size_t kMaxCallers = 32;
constexpr size_t kMaxEntries = 1024;
constexpr size_t kMaxTextBytes = 64 << 10;
constexpr size_t kMaxNameBytes = 256;
constexpr int kFinishMs = 1'000;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

struct Entry {
  UniqueFd text;
  std::vector<UniqueFd> fds;
};

Result<UniqueFd> Seal(std::string_view text) {
  UniqueFd fd(memfd_create("moorfs-deposit", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error(Status::FromErrno("make a memory file"));
  if (write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return Error(Status::FromErrno("write a memory file"));
  }
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
    return Error(Status::FromErrno("seal a memory file"));
  }
  return fd;
}

Result<std::string> Unseal(int fd) {
  std::string text(kMaxTextBytes, '\0');
  const ssize_t n = pread(fd, text.data(), text.size(), 0);
  if (n < 0) return Error(Status::FromErrno("read a memory file"));
  text.resize(static_cast<size_t>(n));
  return text;
}

void Wipe(std::string* text) { explicit_bzero(text->data(), text->size()); }

// Names are shown, and all of them must fit into one answer.
Status CheckName(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  if (!name.empty() && name.size() <= kMaxNameBytes && plain) return Status::Ok();
  return Status(EINVAL, "keep a deposit: its name must have 1 to 256 visible ASCII characters");
}

class Depot {
 public:
  int Run(const std::string& socket_path);

 private:
  Status Prepare(const std::string& socket_path);
  void OnLine(LineHub::Id from, FdLine line);
  Result<Json> Do(const std::string& command, Json& request, FdLine& line, std::vector<UniqueFd>* out);
  Status Put(const std::string& name, std::string_view text, FdLine& line);
  Result<Json> Get(const std::string& name, std::vector<UniqueFd>* out);

  UniqueFd signals_;
  std::optional<LineHub> hub_;
  std::map<std::string, Entry> entries_;
};

Status Depot::Prepare(const std::string& socket_path) {
  // A dump would hold what passes through; and a holder must not fall first.
  prctl(PR_SET_DUMPABLE, 0);
  if (Status s = os::WriteExisting("/proc/self/oom_score_adj", "-900"); !s.ok()) {
    LOG_DEBUG("depot") << s.ToString();
  }
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
      LOG_WARNING("depot") << Status::FromErrno("raise the limit of open files").ToString();
    }
  }
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGTERM, SIGINT}) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // As PID 1 of its container it gets the orphans of whoever ran a command there.
  signal(SIGCHLD, SIG_IGN);
  signals_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return Status::FromErrno("watch for signals");
  const size_t slash = socket_path.rfind('/');
  if (slash != std::string::npos && slash > 0) RETURN_IF_ERROR(os::MakeDirs(socket_path.substr(0, slash), 0700));
  ASSIGN_OR_RETURN_STATUS(UniqueFd listener, control::ListenUnix(socket_path));
  hub_.emplace(std::move(listener), kMaxCallers,
               LineHub::Hooks{[](uid_t uid) { return uid == 0; },
                              [] {
                                return Dump({{"protocol", kProtocol}, {"version", MOORFS_VERSION}, {"pid", getpid()}});
                              },
                              [this](LineHub::Id id, FdLine line) { OnLine(id, std::move(line)); }});
  return Status::Ok();
}

Status Depot::Put(const std::string& name, std::string_view text, FdLine& line) {
  RETURN_IF_ERROR(CheckName(name));
  if (line.fds_lost) return Status(EDQUOT, "keep " + name + ": more than 4 descriptors, or too many open files");
  if (text.size() > kMaxTextBytes) return Status(EDQUOT, "keep " + name + ": its text is over 64 KiB");
  if (entries_.size() >= kMaxEntries && !entries_.contains(name)) {
    return Status(EDQUOT, "keep " + name + ": there are 1024 deposits already");
  }
  ASSIGN_OR_RETURN_STATUS(UniqueFd sealed, Seal(text));
  entries_[name] = Entry{std::move(sealed), std::move(line.fds)};
  return Status::Ok();
}

Result<Json> Depot::Get(const std::string& name, std::vector<UniqueFd>* out) {
  const auto it = entries_.find(name);
  if (it == entries_.end()) return Error(ENOENT, "get " + name + ": there is no such deposit");
  for (const UniqueFd& fd : it->second.fds) {
    out->emplace_back(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
    if (!out->back()) return Error(Status::FromErrno("get " + name));
  }
  ASSIGN_OR_RETURN(std::string text, Unseal(it->second.text.get()));
  return Json{{"text", std::move(text)}};
}

Result<Json> Depot::Do(const std::string& command, Json& request, FdLine& line, std::vector<UniqueFd>* out) {
  if (command == "list") {
    Json names = Json::array();
    for (const auto& [name, entry] : entries_) names.push_back(name);
    return Json{{"names", std::move(names)}};
  }
  if (command != "put" && command != "get" && command != "drop") {
    return Error(ENOSYS, "answer \"" + command.substr(0, 64) +
                             "\": this keeper has no such command; it is another version");
  }
  const std::string name = request.at("name");
  if (command == "get") return Get(name, out);
  if (command == "drop") {
    entries_.erase(name);
    return Json::object();
  }
  TRY_VOID(Put(name, request.at("text").get_ref<const std::string&>(), line));
  return Json::object();
}

void Depot::OnLine(LineHub::Id from, FdLine line) {
  Json request = Json::parse(line.text, nullptr, false);
  Wipe(&line.text);
  std::vector<UniqueFd> fds;
  Result<Json> result = Error(EPROTO, "read an order: it is no JSON object with a \"cmd\"");
  // Members of an unexpected type throw inside nlohmann's accessors.
  try {
    if (request.is_object() && request.contains("cmd")) {
      result = Do(request.at("cmd").get<std::string>(), request, line, &fds);
    }
  } catch (const Json::exception& e) {
    result = Error(EPROTO, std::string("read an order: ") + e.what());
  }
  if (request.is_object() && request.contains("text") && request["text"].is_string()) {
    Wipe(&request["text"].get_ref<std::string&>());
  }
  if (!result) {
    fds.clear();
    LOG_WARNING("depot") << result.error().ToString();
  }
  std::string answer = Dump(result ? Json{{"ok", *result}}
                                   : Json{{"error", {{"errno", result.error().err()},
                                                     {"message", result.error().message()}}}});
  hub_->Send(from, answer, std::move(fds));
  Wipe(&answer);
  if (result && result->contains("text")) Wipe(&(*result)["text"].get_ref<std::string&>());
}

int Depot::Run(const std::string& socket_path) {
  if (Status s = Prepare(socket_path); !s.ok()) {
    LOG_ERROR("depot") << s.ToString();
    return 1;
  }
  LOG_INFO("depot") << "keeping descriptors at " << socket_path;
  std::vector<pollfd> p;
  for (;;) {
    p.assign({{signals_.get(), POLLIN, 0}});
    hub_->AddTo(&p);
    if (poll(p.data(), p.size(), -1) < 0 && errno != EINTR) {
      LOG_ERROR("depot") << Status::FromErrno("wait for events").ToString();
      return 1;
    }
    if (p[0].revents) break;
    hub_->Handle(p.data() + 1, p.size() - 1);
  }
  hub_->Finish(kFinishMs);
  return 0;
}

}  // namespace

int RunDepot(const std::string& socket_path) {
  log::SetRole("keeper");
  return Depot().Run(socket_path);
}

}  // namespace moorfs::keeper
