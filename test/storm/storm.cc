// SPDX-License-Identifier: Apache-2.0
//
// storm: a load that knows what must be there, while something bad happens to
// the volume under it.
//
//   storm --seconds N [--bad-day CMD] [--every MIN_MS MAX_MS] [--ledger FILE]
//         [--stall-ms N] [--no-direct] DIR
//   storm --verify --ledger FILE [--ledger-bytes N] DIR
//
// CMD (a kill of the client) runs again and again at random times; a probe
// measures the longest wait for an answer. Exit 0: no error
// reached an application, nothing acknowledged is missing, every stall was
// shorter than --stall-ms.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "test/storm/workers.h"

namespace moorfs::storm {
namespace {

struct Options {
  double seconds = 10;
  uint64_t min_ms = 300, max_ms = 1500, stall_ms = 1000, ledger_bytes = 0;
  std::string bad_day, ledger, root;
  bool verify = false, direct = true;
};

[[noreturn]] void Usage() {
  fprintf(stderr,
          "usage: storm --seconds N [--bad-day CMD] [--every MIN_MS MAX_MS] [--ledger FILE]\n"
          "             [--stall-ms N] [--no-direct] DIR\n"
          "       storm --verify --ledger FILE [--ledger-bytes N] DIR\n");
  exit(2);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    auto next = [&]() -> std::string { return i + 1 < argc ? argv[++i] : (Usage(), ""); };
    if (arg == "--seconds") {
      options.seconds = atof(next().c_str());
    } else if (arg == "--bad-day") {
      options.bad_day = next();
    } else if (arg == "--every") {
      options.min_ms = strtoull(next().c_str(), nullptr, 10);
      options.max_ms = strtoull(next().c_str(), nullptr, 10);
    } else if (arg == "--stall-ms") {
      options.stall_ms = strtoull(next().c_str(), nullptr, 10);
    } else if (arg == "--ledger") {
      options.ledger = next();
    } else if (arg == "--ledger-bytes") {
      options.ledger_bytes = strtoull(next().c_str(), nullptr, 10);
    } else if (arg == "--verify") {
      options.verify = true;
    } else if (arg == "--no-direct") {
      options.direct = false;
    } else if (arg[0] == '-' || !options.root.empty()) {
      Usage();
    } else {
      options.root = arg;
    }
  }
  if (options.root.empty() || options.min_ms > options.max_ms || (options.verify && options.ledger.empty())) Usage();
  return options;
}

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Asks again and again for a name that nobody asked for before, so that no
// cache answers. The longest wait, in seconds: an application's view of a stall.
double LongestWait(const std::string& root, std::atomic<bool>* stop) {
  double longest = 0;
  for (uint64_t i = 0; !stop->load(); ++i) {
    std::string path = root + "/probe" + std::to_string(getpid()) + "." + std::to_string(i);
    auto start = Clock::now();
    int fd = open(path.c_str(), O_RDONLY);
    longest = std::max(longest, Since(start));
    if (fd >= 0) close(fd);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return longest;
}

struct BadDays {
  uint64_t count = 0;
  bool command_failed = false;
};

BadDays HaveBadDays(const Options& options, std::atomic<bool>* stop) {
  BadDays days;
  std::mt19937_64 random(std::random_device{}());
  std::uniform_int_distribution<uint64_t> pause(options.min_ms, options.max_ms);
  while (!stop->load()) {
    auto wake = Clock::now() + std::chrono::milliseconds(pause(random));
    while (!stop->load() && Clock::now() < wake) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (stop->load()) break;
    if (int code = system(options.bad_day.c_str())) {
      fprintf(stderr, "storm: '%s' failed with %d\n", options.bad_day.c_str(), WEXITSTATUS(code));
      days.command_failed = true;
      break;
    }
    ++days.count;
  }
  return days;
}

int Verify(const Options& options) {
  uint64_t promises = 0;
  auto broken = VerifyLedger(options.ledger, options.ledger_bytes, options.root, &promises);
  for (const std::string& line : broken) printf("storm: BROKEN PROMISE %s\n", line.c_str());
  printf("  %llu promises of fsync checked, %zu files broken\n", static_cast<unsigned long long>(promises),
         broken.size());
  return broken.empty() && promises ? 0 : 1;
}

int Run(const Options& options) {
  Ledger ledger(options.ledger);
  Report report;
  std::atomic<bool> stop{false};
  Shared shared{options.root, &ledger, &report, &stop, options.direct};
  auto workers = MakeWorkers(shared);
  for (auto& worker : workers) worker->Setup();
  report.ResetLongest();

  std::vector<std::thread> threads;
  std::vector<std::atomic<uint64_t>> steps(workers.size());
  for (size_t i = 0; i < workers.size(); ++i) {
    threads.emplace_back([&, i] {
      while (!stop.load(std::memory_order_relaxed)) {
        workers[i]->Step();
        steps[i].fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  BadDays days;
  std::thread weather;
  if (!options.bad_day.empty()) weather = std::thread([&] { days = HaveBadDays(options, &stop); });
  double wait = 0;
  std::thread probe([&] { wait = LongestWait(options.root, &stop); });
  std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
  stop = true;
  probe.join();
  if (weather.joinable()) weather.join();
  // A request that never completes hangs here; `run` has the time limit.
  for (auto& thread : threads) thread.join();
  double longest = report.longest();
  std::string call = report.longest_call();
  for (auto& worker : workers) worker->Verify();

  printf("  %llu calls in %.0f s (", static_cast<unsigned long long>(report.calls()), options.seconds);
  for (size_t i = 0; i < workers.size(); ++i) {
    printf("%s%s %llu", i ? ", " : "", workers[i]->name().c_str(), static_cast<unsigned long long>(steps[i].load()));
    if (!steps[i]) report.Error(workers[i]->name(), "made no step");
  }
  printf(")\n  %llu bad days; longest wait for a look-up %.0f ms, for any call but fsync %.0f ms (%s)\n",
         static_cast<unsigned long long>(days.count), wait * 1e3, longest * 1e3, call.c_str());
  printf("  %llu errors seen by applications\n", static_cast<unsigned long long>(report.errors()));
  for (const auto& [what, count] : report.ErrorCounts()) {
    printf("    %6llu  %s\n", static_cast<unsigned long long>(count), what.c_str());
  }
  bool good = !report.errors() && !days.command_failed;
  if (!options.bad_day.empty() && !days.count) {
    printf("storm: no bad day happened\n");
    good = false;
  }
  if (wait * 1e3 > static_cast<double>(options.stall_ms)) {
    printf("storm: a look-up waited longer than %llu ms\n", static_cast<unsigned long long>(options.stall_ms));
    good = false;
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace moorfs::storm

int main(int argc, char** argv) {
  auto options = moorfs::storm::Parse(argc, argv);
  return options.verify ? moorfs::storm::Verify(options) : moorfs::storm::Run(options);
}
