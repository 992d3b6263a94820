// SPDX-License-Identifier: Apache-2.0
//
// fs_model: random operations on a directory under test and on a reference,
// equal step by step, whole trees equal at intervals. See operations.h.
//
//   fs_model [--ops N] [--seed S] [--threads T] [--compare-every N] [--no-direct]
//            [--hook CMD --hook-every N [--hook-closes]] TESTED REFERENCE
//
// The hook is what a bad day does to the mount: a remount (with --hook-closes
// all handles are closed before), a kill of the client, a gc.

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "test/model/operations.h"

namespace {

struct Options {
  uint64_t ops = 100'000, seed = 0, compare_every = 10'000, hook_every = 0;
  unsigned threads = 1;
  bool hook_closes = false, direct = true;
  std::string hook, tested, reference;
};

[[noreturn]] void Usage() {
  fprintf(stderr,
          "usage: fs_model [--ops N] [--seed S] [--threads T] [--compare-every N] [--no-direct]\n"
          "                [--hook CMD --hook-every N [--hook-closes]] TESTED REFERENCE\n"
          "TESTED and REFERENCE are empty directories; run as root.\n");
  exit(2);
}

Options Parse(int argc, char** argv) {
  Options options;
  std::vector<std::string> places;
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    auto number = [&] { return i + 1 < argc ? strtoull(argv[++i], nullptr, 10) : (Usage(), 0ull); };
    if (arg == "--ops") {
      options.ops = number();
    } else if (arg == "--seed") {
      options.seed = number();
    } else if (arg == "--threads") {
      options.threads = static_cast<unsigned>(number());
    } else if (arg == "--compare-every") {
      options.compare_every = number();
    } else if (arg == "--hook-every") {
      options.hook_every = number();
    } else if (arg == "--no-direct") {
      options.direct = false;
    } else if (arg == "--hook-closes") {
      options.hook_closes = true;
    } else if (arg == "--hook" && i + 1 < argc) {
      options.hook = argv[++i];
    } else if (arg[0] == '-') {
      Usage();
    } else {
      places.push_back(arg);
    }
  }
  if (places.size() != 2 || !options.threads || !options.compare_every) Usage();
  options.tested = places[0];
  options.reference = places[1];
  if (!options.seed) options.seed = static_cast<uint64_t>(time(nullptr)) * 1000 + static_cast<uint64_t>(getpid()) % 1000;
  return options;
}

std::unique_ptr<moorfs::model::Model> Begin(const Options& options, unsigned thread) {
  std::string name = "/t" + std::to_string(thread);
  for (const std::string& root : {options.tested, options.reference}) {
    if (mkdir((root + name).c_str(), 0777)) {
      fprintf(stderr, "fs_model: mkdir %s%s: %s\n", root.c_str(), name.c_str(), strerror(errno));
      exit(2);
    }
  }
  return std::make_unique<moorfs::model::Model>(options.seed + thread, options.direct, options.tested + name,
                                                 options.reference + name);
}

// All threads run to the next stop (a hook or the end), then wait for all.
void RunTo(std::vector<std::unique_ptr<moorfs::model::Model>>& models, uint64_t target, uint64_t compare_every) {
  std::vector<std::thread> threads;
  for (auto& model : models) {
    threads.emplace_back([&model, target, compare_every] {
      while (model->steps() < target) {
        model->Step();
        if (model->steps() % compare_every == 0) model->CompareTrees();
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
  Options options = Parse(argc, argv);
  umask(0);
  if (geteuid() != 0 || setgroups(0, nullptr)) {
    fprintf(stderr, "fs_model: needs root: it acts as several users\n");
    return 2;
  }
  printf("  seed %llu, %llu operations, %u thread(s), %s against %s\n",
         static_cast<unsigned long long>(options.seed), static_cast<unsigned long long>(options.ops), options.threads,
         options.tested.c_str(), options.reference.c_str());
  fflush(stdout);
  auto start = std::chrono::steady_clock::now();
  std::vector<std::unique_ptr<moorfs::model::Model>> models;
  for (unsigned i = 0; i < options.threads; ++i) models.push_back(Begin(options, i));

  uint64_t each = options.ops / options.threads;
  uint64_t stop = options.hook.empty() || !options.hook_every ? each : options.hook_every;
  for (uint64_t at = 0; at < each;) {
    at = std::min(each, at + stop);
    RunTo(models, at, options.compare_every);
    if (at >= each || options.hook.empty()) continue;
    if (options.hook_closes) {
      for (auto& model : models) model->CloseHandles();
    }
    if (int code = system(options.hook.c_str())) {
      fprintf(stderr, "fs_model: hook '%s' failed: %d\n", options.hook.c_str(), code);
      return 1;
    }
    for (auto& model : models) model->CompareTrees();
  }
  uint64_t files = 0, bytes = 0, good = 0;
  for (auto& model : models) {
    model->CompareTrees();
    files += model->compared_files();
    bytes += model->compared_bytes();
    good += model->successes();
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  printf("  %llu operations in %.1f s, %llu calls succeeded, %llu files and %llu MiB compared\n",
         static_cast<unsigned long long>(options.ops), seconds, static_cast<unsigned long long>(good),
         static_cast<unsigned long long>(files), static_cast<unsigned long long>(bytes >> 20));
  return 0;
}
