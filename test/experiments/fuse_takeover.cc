// SPDX-License-Identifier: Apache-2.0
//
// fuse_takeover [KILLS [SEED]]: kills the server of a FUSE mount KILLS times
// (default 200) under load, in four runs: requests resent by the kernel, and
// taken from the slots as on kernels that cannot resend; killed from outside at
// random, and by itself between an operation's commit and its reply. Prints
// one line per run; exits 1 if an application saw an error.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "common/base/units.h"
#include "test/unit/fs_fuse/takeover_rig.h"

namespace moorfs::fuse {
namespace {

struct Run {
  const char* name;
  bool use_resend;
  bool suicide;
};

bool Execute(const Run& run, int kills, unsigned seed) {
  RigOptions options;
  options.use_resend = run.use_resend;
  options.suicide_every = run.suicide ? 300 : 0;
  TakeoverRig rig(options);
  Status status = rig.StartServer();
  if (status.ok()) rig.StartLoad();
  std::mt19937 random(seed);
  const int64_t start = MonotonicNs();
  while (rig.deaths() < kills && status.ok()) {
    if (run.suicide) {
      usleep(500);
      status = rig.ReviveIfDead();
    } else {
      usleep(2'000 + random() % 30'000);
      rig.KillServer();
      status = rig.StartServer();
    }
  }
  const double seconds = static_cast<double>(MonotonicNs() - start) / 1e9;
  const bool ended = rig.StopApplications(20);
  rig.StopServer();
  RigShared& s = rig.shared();
  std::printf("| %s | %d | %.1f | %llu | %llu | %llu | %llu | %llu | %llu | %llu | %.0f |\n", run.name, kills, seconds,
              static_cast<unsigned long long>(s.operations), static_cast<unsigned long long>(s.lock_waits),
              static_cast<unsigned long long>(s.interrupted_locks), static_cast<unsigned long long>(s.changes),
              static_cast<unsigned long long>(s.replayed), static_cast<unsigned long long>(s.doubled),
              static_cast<unsigned long long>(s.errors), static_cast<double>(s.longest_ns) / 1e6);
  std::fflush(stdout);
  if (!status.ok()) std::printf("  %s\n", status.ToString().c_str());
  if (!ended) std::printf("  applications hang\n");
  if (s.errors != 0) std::printf("  first error: %s\n", s.first_error);
  return status.ok() && ended && s.errors == 0 && s.doubled == 0;
}

int Main(int argc, char** argv) {
  if (!TakeoverRig::Possible()) return 77;
  const int kills = argc > 1 ? std::atoi(argv[1]) : 200;
  const unsigned seed = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : std::random_device()();
  std::printf("seed %u\n", seed);
  std::printf("| run | kills | seconds | operations | locks waited for | locks interrupted | changes | from a replay "
              "record | doubled | errors | longest ms |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
  const Run runs[] = {{"resent by the kernel, killed at random", true, false},
                      {"taken from the slots, killed at random", false, false},
                      {"resent, killed between commit and reply", true, true},
                      {"from the slots, killed between commit and reply", false, true}};
  bool ok = true;
  for (const Run& run : runs) ok &= Execute(run, kills, seed);
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace moorfs::fuse

int main(int argc, char** argv) { return moorfs::fuse::Main(argc, argv); }
