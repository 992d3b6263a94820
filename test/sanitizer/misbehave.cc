// SPDX-License-Identifier: Apache-2.0
//
// Commits one deliberate mistake, named on the command line. Under the
// sanitizer that is there for it, the program must end with a report; a green
// sanitizer run means nothing if this one is green too.

#include <climits>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>

namespace {

volatile int sink;

void UseAfterFree() {
  int* p = new int(1);
  int* volatile alias = p;
  delete p;
  sink = *alias;
}

void Overflow() {
  char* volatile p = new char[8];
  sink = p[8];
  delete[] p;
}

void* volatile leaked;
void Leak() {
  leaked = new char[64];
  leaked = nullptr;
}

void SignedOverflow() {
  volatile int x = INT_MAX;
  sink = x + 1;
}

int shared_number;
void DataRace() {
  std::thread other([] { ++shared_number; });
  ++shared_number;
  other.join();
  sink = shared_number;
}

std::mutex first, second;
void LockOrder() {
  std::thread([] {
    std::scoped_lock a(first);
    std::scoped_lock b(second);
  }).join();
  std::thread([] {
    std::scoped_lock b(second);
    std::scoped_lock a(first);
  }).join();
}

constexpr struct {
  const char* name;
  void (*run)();
} kMistakes[] = {
    {"use_after_free", UseAfterFree}, {"overflow", Overflow},   {"leak", Leak},
    {"signed_overflow", SignedOverflow}, {"data_race", DataRace}, {"lock_order", LockOrder},
};

}  // namespace

int main(int argc, char** argv) {
  for (const auto& mistake : kMistakes) {
    if (argc == 2 && std::strcmp(argv[1], mistake.name) == 0) {
      mistake.run();
      std::puts("nobody noticed");
      return 0;
    }
  }
  std::fputs("usage: misbehave MISTAKE\n", stderr);
  return 2;
}
