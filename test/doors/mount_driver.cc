// SPDX-License-Identifier: Apache-2.0
//
// The mount manager as a program, for scripts that kill it: it reads commands
// from stdin, a line each, and answers each with one line.
//   publish TARGET META [subdir=DIR] [ro] [create] [id=ID] [gid=N] [timeout=MS]
//   unpublish TARGET
//   stats TARGET MS
//   find TARGET
//   list          one line per client and target, then "end"
//   reconcile     one line per repair, then "end"
//   threads       number of threads of this process
//   storm SEED THREADS ROUNDS META KUBELET   concurrent calls on THREADS targets
// Arguments: STATE KUBELET_ROOT MOORFS [--no-confine] [--no-openat2]. Says "started" first, or
// "failed ERRNO MESSAGE".

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <iterator>
#include <mutex>
#include <random>
#include <sstream>
#include <thread>

#include "common/base/units.h"
#include "common/log/log.h"
#include "common/mount/mount_manager.h"
#include "common/os/file.h"

using namespace moorfs;
using namespace moorfs::mount;

namespace {

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}
void Say(const Status& s) { Say(s.ok() ? "ok" : "error " + ErrnoName(s.err()) + " " + s.message()); }

// "%41" for what a line cannot hold.
std::string Unquote(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

PublishRequest ReadPublish(std::istringstream& in) {
  PublishRequest r;
  std::string word;
  in >> word;
  r.target = Unquote(word);
  in >> word;
  r.options.meta = Unquote(word);
  while (in >> word) {
    const std::string value = Unquote(word.substr(word.find('=') + 1));
    if (word == "ro") r.options.read_only = true;
    if (word == "create") r.options.create_subdir = true;
    if (word.starts_with("subdir=")) r.options.subdir = value;
    if (word.starts_with("id=")) r.volume_id = value;
    if (word.starts_with("gid=")) r.group = static_cast<gid_t>(std::stoul(value));
    if (word.starts_with("timeout=")) r.timeout_ms = std::stoi(value);
  }
  return r;
}

void List(MountManager& manager) {
  for (const ClientInfo& c : manager.List()) {
    Say("client " + c.mount_key + " " + c.state + " " + c.source + " client_pid=" + std::to_string(c.client_pid) +
        " keeper_pid=" + std::to_string(c.keeper_pid) + " targets=" + std::to_string(c.targets.size()));
    for (const TargetInfo& t : c.targets) {
      Say("target " + t.target + (t.mounted ? " mounted" : " unmounted") + (t.read_only ? " ro" : " rw") +
          " subdir=" + t.subdir + " id=" + t.volume_id);
    }
  }
  Say("end");
}

int CountThreads() {
  const auto status = os::ReadFile("/proc/self/status", 1 << 16);
  const size_t at = status ? status->find("Threads:") : std::string::npos;
  return at == std::string::npos ? -1 : std::atoi(status->c_str() + at + 8);
}

// Every thread publishes and unpublishes its own target at random; one extra
// target is fought over by all. Ends with all unpublished or published at
// random: the script compares records and mounts.
void Storm(MountManager& manager, std::istringstream& in) {
  unsigned seed = 0, threads = 0, rounds = 0;
  std::string meta, kubelet;
  in >> seed >> threads >> rounds >> meta >> kubelet;
  std::atomic<unsigned> ok{0}, maybe{0}, failed{0};
  std::vector<std::thread> pool;
  std::mutex mutex;
  std::string first_failure;
  for (unsigned t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      std::mt19937 random(seed * 1000 + t);
      for (unsigned i = 0; i < rounds; ++i) {
        const unsigned name = random() % 10 == 0 ? 0 : t + 1;
        const std::string target = kubelet + "/pods/p" + std::to_string(name) + "/volumes/v/mount";
        Status s;
        if (random() % 2 == 0) {
          PublishRequest r;
          r.target = target;
          r.options.meta = meta;
          r.volume_id = "storm";
          auto published = manager.Publish(r);
          if (!published) s = published.error();
        } else {
          s = manager.Unpublish({target});
        }
        if (s.ok()) {
          ++ok;
        } else if (s.err() == EAGAIN || s.err() == ETIMEDOUT) {
          ++maybe;
        } else {
          ++failed;
          const std::lock_guard lock(mutex);
          if (first_failure.empty()) first_failure = s.ToString();
        }
      }
    });
  }
  for (std::thread& t : pool) t.join();
  Say("storm ok=" + std::to_string(ok) + " maybe=" + std::to_string(maybe) + " failed=" + std::to_string(failed) +
      " " + first_failure);
}

void Answer(MountManager& manager, const std::string& line) {
  std::istringstream in(line);
  std::string command, word;
  in >> command;
  if (command == "publish") {
    const PublishRequest request = ReadPublish(in);
    const int64_t begin = MonotonicNs();
    auto published = manager.Publish(request);
    const std::string took = " us=" + std::to_string((MonotonicNs() - begin) / 1000);
    if (!published) return Say(published.error());
    return Say("ok " + published->device + (published->already ? " already" : " new") + " " + published->mount_key +
               took);
  }
  if (command == "unpublish") {
    in >> word;
    UnpublishRequest request{Unquote(word)};
    if (in >> word) request.timeout_ms = std::stoi(word);
    return Say(manager.Unpublish(request));
  }
  if (command == "stats") {
    int ms = 0;
    in >> word >> ms;
    const int64_t begin = MonotonicNs();
    auto stats = manager.Stats(Unquote(word), ms);
    if (!stats) return Say(stats.error());
    return Say("stats total=" + std::to_string(stats->total_bytes) + " used=" + std::to_string(stats->used_bytes) +
               " abnormal=" + std::to_string(stats->abnormal) + " ms=" +
               std::to_string((MonotonicNs() - begin) / 1'000'000) + " " + stats->condition);
  }
  if (command == "find") {
    in >> word;
    const auto info = manager.FindTarget(Unquote(word));
    return Say(info ? "found " + info->volume_id + (info->mounted ? " mounted" : " unmounted") : "absent");
  }
  if (command == "list") return List(manager);
  if (command == "reconcile") {
    for (const std::string& sentence : manager.Reconcile()) Say("repaired " + sentence);
    return Say("end");
  }
  if (command == "threads") return Say("threads " + std::to_string(CountThreads()));
  if (command == "storm") return Storm(manager, in);
  Say("error EINVAL no such command");
}

// As an older kernel: openat2(2) is not known.
bool ForbidOpenat2() {
  sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program{std::size(code), code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    return false;
  }
  return syscall(SYS_openat2, AT_FDCWD, "/", nullptr, 0) == -1 && errno == ENOSYS;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  log::SetRole("driver");
  ManagerConfig config;
  config.state_root = argv[1];
  config.kubelet_root = argv[2];
  config.executable = argv[3];
  for (int i = 4; i < argc; ++i) {
    if (std::strcmp(argv[i], "--no-confine") == 0) config.confine_targets = false;
    if (std::strcmp(argv[i], "--no-openat2") == 0 && !ForbidOpenat2()) {
      Say("failed ENOTSUP cannot hide openat2");
      return 1;
    }
  }
  auto manager = MountManager::Start(config);
  if (!manager) {
    Say("failed " + ErrnoName(manager.error().err()) + " " + manager.error().message());
    return 1;
  }
  Say("started");
  for (std::string line; std::getline(std::cin, line);) Answer(**manager, line);
  return 0;
}
