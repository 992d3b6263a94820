// SPDX-License-Identifier: Apache-2.0
//
// Servers that die and step back under load, on a real mount. The experiment
// test/experiments/fuse_takeover does the same for longer.

#include <unistd.h>

#include <catch2/catch.hpp>
#include <random>

#include "test/unit/fs_fuse/takeover_rig.h"

namespace moorfs::fuse {
namespace {

void CheckNobodyNoticed(TakeoverRig& rig) {
  RigShared& s = rig.shared();
  INFO("first error: " << s.first_error);
  CHECK(s.errors == 0);
  CHECK(s.doubled == 0);
  CHECK(s.operations > 100);
  CHECK(s.lock_waits > 0);
  CHECK(s.interrupted_locks > 0);
}

// The last server serves until there is enough to judge by; a slow machine takes longer.
void ServeAWhile(TakeoverRig& rig) {
  const RigShared& s = rig.shared();
  for (int i = 0; i < 2'000 && (s.operations <= 100 || s.lock_waits == 0 || s.interrupted_locks == 0); ++i) {
    usleep(10'000);
  }
  usleep(50'000);
}

TEST_CASE("twenty servers are killed under load and no application notices") {
  if (!TakeoverRig::Possible()) return;
  RigOptions options;
  SECTION("the kernel resends") { options.use_resend = true; }
  SECTION("the kernel cannot resend") { options.use_resend = false; }
  TakeoverRig rig(options);
  REQUIRE(rig.StartServer().ok());
  rig.StartLoad();
  std::mt19937 random(7);
  for (int i = 0; i < 20; ++i) {
    usleep(5'000 + random() % 30'000);
    rig.KillServer();
    REQUIRE(rig.StartServer().ok());
  }
  ServeAWhile(rig);
  REQUIRE(rig.StopApplications(20));
  CheckNobodyNoticed(rig);
}

TEST_CASE("what was committed but not answered is answered from its record, not done again") {
  if (!TakeoverRig::Possible()) return;
  RigOptions options;
  options.suicide_every = 200;
  SECTION("the kernel resends") { options.use_resend = true; }
  SECTION("the kernel cannot resend") { options.use_resend = false; }
  TakeoverRig rig(options);
  REQUIRE(rig.StartServer().ok());
  rig.StartLoad();
  for (int i = 0; i < 20'000 && rig.deaths() < 20; ++i) {
    usleep(500);
    REQUIRE(rig.ReviveIfDead().ok());
  }
  CHECK(rig.deaths() >= 20);
  REQUIRE(rig.StopApplications(20));
  CheckNobodyNoticed(rig);
  CHECK(rig.shared().replayed >= 20);
}

TEST_CASE("a server that steps back leaves nothing undone, waiting locks included") {
  if (!TakeoverRig::Possible()) return;
  TakeoverRig rig({});
  REQUIRE(rig.StartServer().ok());
  rig.StartLoad();
  for (int i = 0; i < 5; ++i) {
    usleep(30'000);
    CHECK(rig.StopServer() == 0);
    REQUIRE(rig.StartServer().ok());
  }
  ServeAWhile(rig);
  REQUIRE(rig.StopApplications(20));
  CheckNobodyNoticed(rig);
}

TEST_CASE("more requests than half the slots are left behind, and the successor still serves") {
  if (!TakeoverRig::Possible()) return;
  RigOptions options;
  options.slot_count = 6;
  SECTION("the kernel resends") { options.use_resend = true; }
  SECTION("the kernel cannot resend") { options.use_resend = false; }
  TakeoverRig rig(options);
  REQUIRE(rig.StartServer().ok());
  rig.StartLoad();
  for (int i = 0; i < 10; ++i) {
    usleep(20'000);
    rig.KillServer();
    REQUIRE(rig.StartServer().ok());
  }
  ServeAWhile(rig);
  REQUIRE(rig.StopApplications(20));
  CheckNobodyNoticed(rig);
}

}  // namespace
}  // namespace moorfs::fuse
