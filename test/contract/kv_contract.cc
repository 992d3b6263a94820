// SPDX-License-Identifier: Apache-2.0
//
// See kv_contract.h.

#include "test/contract/kv_contract.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <random>
#include <thread>

#include "common/base/coding.h"

namespace moorfs::kv {
namespace {

const std::string kPart = "P00001";
const std::string kNextPart = "P00002";

Key K(std::string_view suffix) { return Key(kPart, suffix); }

void Put(KvStore& store, std::string_view suffix, std::string_view value) {
  const Status status = store.Transact([&](Transaction& t) {
    t.Put(K(suffix), value);
    return Status();
  });
  REQUIRE(status.ToString() == "ok");
}

// "absent" for a missing key.
std::string Get(KvStore& store, std::string_view suffix) {
  std::string value;
  const Status status = store.Transact([&](Transaction& t) {
    auto got = t.Get(K(suffix));
    if (!got) return got.error();
    value = got->value_or("absent");
    return Status();
  });
  REQUIRE(status.ToString() == "ok");
  return value;
}

std::string Joined(const std::vector<Entry>& entries) {
  std::string out;
  for (const Entry& entry : entries) out += entry.suffix + "=" + entry.value + " ";
  return out;
}

std::string ScanAll(KvStore& store, const Range& range, size_t limit = 100) {
  std::string out;
  const Status status = store.Transact([&](Transaction& t) {
    auto entries = t.Scan(range, limit);
    if (!entries) return entries.error();
    out = Joined(*entries);
    return Status();
  });
  REQUIRE(status.ToString() == "ok");
  return out;
}

int64_t Counter(KvStore& store, std::string_view suffix) {
  const std::string value = Get(store, suffix);
  REQUIRE(value.size() == 8);
  return static_cast<int64_t>(ValueReader(value).Le64());
}

std::string Encode(int64_t n) {
  std::string out;
  PutLe64(&out, static_cast<uint64_t>(n));
  return out;
}

// Runs a transaction in which `interfere` commits, once, between the read and
// the commit. Returns how often the body ran.
int RunsWhen(KvStore& store, const KvStore::Body& read, const std::function<void()>& interfere, bool write = true) {
  int runs = 0;
  const Status status = store.Transact([&](Transaction& t) {
    Status s = read(t);
    if (runs++ == 0) std::thread(interfere).join();
    if (s.ok() && write) t.Put(Key("Q00001", "outcome"), "x");
    if (s.ok() && !write) s = read(t);
    return s;
  });
  REQUIRE(status.ToString() == "ok");
  return runs;
}

Status GetOnly(Transaction& t, std::string_view suffix) {
  auto got = t.Get(K(suffix));
  return got ? Status() : got.error();
}

Status ScanOnly(Transaction& t, const Range& range, size_t limit = 100) {
  auto got = t.Scan(range, limit);
  return got ? Status() : got.error();
}

}  // namespace

void RunKvContract(const MakeStore& make_store) {
  const std::unique_ptr<KvStore> owner = make_store();
  KvStore& store = *owner;

  SECTION("a value put is got back, byte for byte, and a deleted one is absent") {
    CHECK(Get(store, "a") == "absent");
    const std::string bytes("\0\xff\n\0", 4);
    Put(store, "a", bytes);
    CHECK(Get(store, "a") == bytes);
    Put(store, "a", "");
    CHECK(Get(store, "a").empty());
    CHECK(store.Transact([](Transaction& t) { return t.Delete(K("a")), t.Delete(K("never there")), Status(); }).ok());
    CHECK(Get(store, "a") == "absent");
  }

  SECTION("MultiGet answers in the order of the question") {
    Put(store, "a", "1");
    Put(store, "c", "3");
    CHECK(store
              .Transact([](Transaction& t) {
                auto got = t.MultiGet({K("c"), K("b"), K("a")});
                REQUIRE(got);
                REQUIRE(got->size() == 3);
                CHECK((*got)[0] == "3");
                CHECK((*got)[1] == std::nullopt);
                CHECK((*got)[2] == "1");
                return Status();
              })
              .ok());
  }

  SECTION("a scan returns one partition in byte order, within its bounds and limit") {
    const std::string high("\xff", 1);
    for (const std::string& suffix : {std::string("b"), std::string("a"), high, std::string("ab"), std::string("\0", 1)}) {
      Put(store, suffix, "v");
    }
    CHECK(store.Transact([](Transaction& t) { return t.Put(Key(kNextPart, "a"), "other"), Status(); }).ok());
    CHECK(store.Transact([](Transaction& t) { return t.Put(Key("P00000", "z"), "other"), Status(); }).ok());
    CHECK(ScanAll(store, {kPart, "", ""}) == std::string("\0=v a=v ab=v b=v \xff=v ", 21));
    CHECK(ScanAll(store, {kPart, "a", "b"}) == "a=v ab=v ");
    CHECK(ScanAll(store, {kPart, "a", ""}, 2) == "a=v ab=v ");
    CHECK(ScanAll(store, {kPart, "c", "c"}).empty());
    CHECK(ScanAll(store, PrefixRange(kPart, "a")) == "a=v ab=v ");
    CHECK(ScanAll(store, PrefixRange(kPart, high)) == high + "=v ");
    CHECK(ScanAll(store, {"P00009", "", ""}).empty());
    CHECK(ScanAll(store, {kPart, "", ""}, 0).empty());
  }

  SECTION("a transaction sees its own writes, by key and in scans") {
    for (const char* suffix : {"b", "d", "f"}) Put(store, suffix, "old");
    CHECK(store
              .Transact([](Transaction& t) {
                t.Put(K("a"), "new");
                t.Put(K("d"), "new");
                t.Delete(K("f"));
                t.Put(K("g"), "new");
                t.Put(K("h"), "new");
                t.Delete(K("h"));
                CHECK(t.Get(K("a"))->value() == "new");
                CHECK(t.Get(K("d"))->value() == "new");
                CHECK(t.Get(K("f")).value() == std::nullopt);
                CHECK(Joined(*t.Scan({kPart, "", ""}, 100)) == "a=new b=old d=new g=new ");
                CHECK(Joined(*t.Scan({kPart, "", ""}, 3)) == "a=new b=old d=new ");
                CHECK(Joined(*t.Scan({kPart, "b", "g"}, 100)) == "b=old d=new ");
                CHECK(Joined(*t.Scan({kPart, "", ""}, 1)) == "a=new ");
                return Status();
              })
              .ok());
    CHECK(ScanAll(store, {kPart, "", ""}) == "a=new b=old d=new g=new ");
  }

  SECTION("a failing body writes nothing and its error comes back") {
    Put(store, "a", "1");
    const Status status = store.Transact([](Transaction& t) {
      t.Put(K("a"), "2");
      t.Put(K("b"), "2");
      t.Add(K("n"), 5);
      return Status(ENOTDIR, "walk x: not a directory");
    });
    CHECK(status.err() == ENOTDIR);
    CHECK(ScanAll(store, {kPart, "", ""}) == "a=1 ");
  }

  SECTION("a failing body whose reads were overtaken runs again") {
    Put(store, "a", "1");
    Put(store, "b", "1");
    int runs = 0;
    const Status status = store.Transact([&](Transaction& t) {
      const std::string a = t.Get(K("a"))->value();
      if (runs++ == 0) {
        std::thread([&] {
          CHECK(store.Transact([](Transaction& u) { return u.Put(K("a"), "2"), u.Put(K("b"), "2"), Status(); }).ok());
        }).join();
      }
      const std::string b = t.Get(K("b"))->value();
      return a == b ? Status() : Status(EIO, "a and b differ");
    });
    CHECK(status.ToString() == "ok");
    CHECK(runs == 2);
  }

  SECTION("a commit conflicts with a later write to a key it read, present or absent") {
    Put(store, "a", "1");
    CHECK(RunsWhen(store, [](Transaction& t) { return GetOnly(t, "a"); }, [&] { Put(store, "a", "2"); }) == 2);
    CHECK(RunsWhen(store, [](Transaction& t) { return GetOnly(t, "new"); }, [&] { Put(store, "new", "2"); }) == 2);
    CHECK(RunsWhen(store, [](Transaction& t) { return GetOnly(t, "a"); }, [&] { Put(store, "z", "2"); }) == 1);
  }

  SECTION("a commit conflicts with a phantom in a range it scanned, and only there") {
    for (const char* suffix : {"b", "d", "f"}) Put(store, suffix, "1");
    const Range whole{kPart, "", ""};
    const auto scan = [&](size_t limit) { return [&whole, limit](Transaction& t) { return ScanOnly(t, whole, limit); }; };
    CHECK(RunsWhen(store, scan(100), [&] { Put(store, "zz", "1"); }) == 2);
    CHECK(RunsWhen(store, scan(1), [&] { Put(store, "a", "1"); }) == 2);
    // "a", "b" were returned; what comes behind them was not read.
    CHECK(RunsWhen(store, scan(2), [&] { Put(store, "c", "1"); }) == 1);
    CHECK(RunsWhen(store, scan(2), [&] { Put(store, "b", "2"); }) == 2);
    const auto erase_b = [&] {
      CHECK(store.Transact([](Transaction& t) { return t.Delete(K("b")), Status(); }).ok());
    };
    CHECK(RunsWhen(store, scan(2), erase_b) == 2);
    const auto in_next = [&] {
      CHECK(store.Transact([](Transaction& t) { return t.Put(Key(kNextPart, "a"), "1"), Status(); }).ok());
    };
    CHECK(RunsWhen(store, scan(100), in_next) == 1);
  }

  SECTION("a body that only reads is validated too") {
    Put(store, "a", "1");
    const auto read = [](Transaction& t) { return GetOnly(t, "a"); };
    CHECK(RunsWhen(store, read, [&] { Put(store, "a", "2"); }, false) == 2);
    CHECK(RunsWhen(store, read, [&] { Put(store, "z", "2"); }, false) == 1);
  }

  SECTION("a transaction with many reads finds its conflict") {
    Put(store, "k0300", "1");
    const auto read = [](Transaction& t) {
      for (int i = 0; i < 400; ++i) {
        char suffix[8];
        std::snprintf(suffix, sizeof suffix, "k%04d", i);
        const Status status = GetOnly(t, suffix);
        if (!status.ok()) return status;
      }
      return Status();
    };
    CHECK(RunsWhen(store, read, [&] { Put(store, "k0300", "2"); }) == 2);
    CHECK(RunsWhen(store, read, [&] { Put(store, "k0400", "2"); }) == 1);
  }

  SECTION("a transaction overtaken by very many commits still gets done") {
    int runs = 0;
    const Status status = store.Transact([&](Transaction& t) {
      const Status got = GetOnly(t, "a");
      if (runs++ == 0) {
        std::thread([&] {
          for (int i = 0; i < 5; ++i) {
            CHECK(store
                      .Transact([&](Transaction& u) {
                        for (int j = 0; j < 4000; ++j) u.Put(Key("Q00002", std::to_string(j)), "x");
                        return Status();
                      })
                      .ok());
          }
        }).join();
      }
      t.Put(K("a"), "done");
      return got;
    });
    CHECK(status.ToString() == "ok");
    CHECK(Get(store, "a") == "done");
  }

  SECTION("Add sums from zero, follows Put and Delete of its transaction, and does not conflict with Add") {
    const auto add = [](int64_t n) { return [n](Transaction& t) { return t.Add(K("n"), n), Status(); }; };
    CHECK(store.Transact(add(5)).ok());
    CHECK(store.Transact(add(-7)).ok());
    CHECK(Counter(store, "n") == -2);
    CHECK(store
              .Transact([](Transaction& t) {
                t.Put(K("n"), Encode(100));
                t.Add(K("n"), 1);
                t.Add(K("n"), 1);
                return Status();
              })
              .ok());
    CHECK(Counter(store, "n") == 102);
    CHECK(store.Transact([](Transaction& t) { return t.Delete(K("n")), t.Add(K("n"), 3), Status(); }).ok());
    CHECK(Counter(store, "n") == 3);
    CHECK(store.Transact([](Transaction& t) { return t.Add(K("n"), 3), t.Put(K("n"), Encode(1)), Status(); }).ok());
    CHECK(Counter(store, "n") == 1);
    int runs = 0;
    CHECK(store
              .Transact([&](Transaction& t) {
                t.Add(K("n"), 10);
                if (runs++ == 0) std::thread([&] { CHECK(store.Transact(add(100)).ok()); }).join();
                return Status();
              })
              .ok());
    CHECK(runs == 1);
    CHECK(Counter(store, "n") == 111);
    CHECK(RunsWhen(store, [](Transaction& t) { return GetOnly(t, "n"); },
                   [&] { CHECK(store.Transact(add(1)).ok()); }) == 2);
    Put(store, "text", "abc");
    CHECK(store.Transact([](Transaction& t) { return t.Add(K("text"), 1), Status(); }).err() == EIO);
    CHECK(Get(store, "text") == "abc");
  }

  SECTION("a snapshot stays as it was made") {
    for (const char* suffix : {"a", "b", "c"}) Put(store, suffix, "1");
    auto snapshot = store.NewSnapshot();
    REQUIRE(snapshot);
    Put(store, "b", "2");
    Put(store, "d", "2");
    CHECK(store.Transact([](Transaction& t) { return t.Delete(K("a")), Status(); }).ok());
    CHECK((*snapshot)->Get(K("a"))->value() == "1");
    CHECK((*snapshot)->Get(K("b"))->value() == "1");
    CHECK((*snapshot)->Get(K("d")).value() == std::nullopt);
    CHECK(Joined(*(*snapshot)->Scan({kPart, "", ""}, 100)) == "a=1 b=1 c=1 ");
    CHECK(Joined(*(*snapshot)->Scan({kPart, "b", ""}, 1)) == "b=1 ");
    auto later = store.NewSnapshot();
    CHECK(Joined(*(*later)->Scan({kPart, "", ""}, 100)) == "b=2 c=1 d=2 ");
  }

  SECTION("a walk visits every key once, in order, resumes, and stops when told") {
    for (int i = 0; i < 1000; ++i) Put(store, std::to_string(1000 + i), "v" + std::to_string(i));
    CHECK(store.Transact([](Transaction& t) { return t.Put(Key(kNextPart, "x"), "y"), Status(); }).ok());
    auto snapshot = store.NewSnapshot();
    REQUIRE(snapshot);
    std::vector<std::string> keys;
    CHECK((*snapshot)->Walk("", [&](std::string_view key, std::string_view) { return keys.emplace_back(key), true; }).ok());
    REQUIRE(keys.size() == 1001);
    CHECK(std::is_sorted(keys.begin(), keys.end()));
    CHECK(keys.front() == kPart + "1000");
    CHECK(keys.back() == kNextPart + "x");
    std::vector<std::string> some;
    CHECK((*snapshot)
              ->Walk(keys[499],
                     [&](std::string_view key, std::string_view) { return some.emplace_back(key), some.size() < 10; })
              .ok());
    CHECK(some == std::vector<std::string>(keys.begin() + 500, keys.begin() + 510));
  }

  SECTION("the largest key and value are taken, larger ones are refused") {
    const std::string value(kMaxValueBytes, 'v');
    const std::string suffix(kMaxSuffixBytes, 's');
    Put(store, suffix, value);
    CHECK(Get(store, suffix) == value);
    const auto put = [&](const Key& key, const std::string& v) {
      return store.Transact([&](Transaction& t) { return t.Put(key, v), Status(); }).err();
    };
    CHECK(put(K("big"), value + "x") == E2BIG);
    CHECK(put(K(suffix + "s"), "v") == EINVAL);
    CHECK(put(Key(std::string(kMaxPartitionBytes + 1, 'p'), "s"), "v") == EINVAL);
    CHECK(put(Key(), "v") == EINVAL);
    CHECK(Get(store, "big") == "absent");
  }

  SECTION("the caps on one transaction hold, and one over the cap writes nothing") {
    const auto write = [&](size_t operations, size_t bytes) {
      return store
          .Transact([&](Transaction& t) {
            for (size_t i = 0; i < operations; ++i) t.Put(K("k" + std::to_string(i)), std::string(bytes, 'x'));
            return Status();
          })
          .err();
    };
    CHECK(write(kMaxTransactionOps + 1, 1) == E2BIG);
    CHECK(write(33, kMaxValueBytes) == E2BIG);
    CHECK(ScanAll(store, {kPart, "", ""}, 1).empty());
    CHECK(write(kMaxTransactionOps, 1) == 0);
    CHECK(write(31, kMaxValueBytes) == 0);
    CHECK(store.Transact([](Transaction& t) { return ScanOnly(t, {kPart, "", ""}, 4096); }).ok());
    CHECK(store.Transact([](Transaction& t) { return ScanOnly(t, {kPart, "", ""}, 4097); }).err() == EINVAL);
  }

  SECTION("Sync succeeds with and without anything to do") {
    CHECK(store.Sync().ok());
    Put(store, "a", "1");
    CHECK(store.Sync().ok());
    CHECK(store.Sync().ok());
    CHECK_FALSE(store.engine().empty());
  }
}

void RunKvConcurrencyContract(const MakeStore& make_store) {
  const std::unique_ptr<KvStore> owner = make_store();
  KvStore& store = *owner;
  constexpr int kThreads = 4;
  // Catch's assertions are not for many threads: they note, the end judges.
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;

  SECTION("transfers between accounts never change the sum, in transactions and in snapshots") {
    constexpr int kAccounts = 8;
    for (int i = 0; i < kAccounts; ++i) Put(store, "account" + std::to_string(i), Encode(100));
    const auto sum_of = [](const std::vector<Entry>& entries) {
      int64_t sum = 0;
      for (const Entry& entry : entries) sum += static_cast<int64_t>(ValueReader(entry.value).Le64());
      return sum;
    };
    std::atomic<bool> stop{false};
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        std::minstd_rand random(static_cast<unsigned>(thread + 1));
        for (int i = 0; i < 2000; ++i) {
          const Key from = K("account" + std::to_string(random() % kAccounts));
          const Key to = K("account" + std::to_string(random() % kAccounts));
          const int64_t amount = static_cast<int64_t>(random() % 10);
          const Status status = store.Transact([&](Transaction& t) {
            auto a = t.Get(from);
            if (!a) return a.error();
            t.Put(from, Encode(static_cast<int64_t>(ValueReader(**a).Le64()) - amount));
            auto b = t.Get(to);
            if (!b) return b.error();
            t.Put(to, Encode(static_cast<int64_t>(ValueReader(**b).Le64()) + amount));
            return Status();
          });
          if (!status.ok()) ++failures;
        }
      });
    }
    std::thread reader([&] {
      while (!stop) {
        int64_t by_key = 0;
        const Status status = store.Transact([&](Transaction& t) {
          by_key = 0;
          for (int i = 0; i < kAccounts; ++i) {
            auto value = t.Get(K("account" + std::to_string(i)));
            if (!value) return value.error();
            by_key += static_cast<int64_t>(ValueReader(**value).Le64());
          }
          return Status();
        });
        auto snapshot = store.NewSnapshot();
        auto entries = (*snapshot)->Scan(PrefixRange(kPart, "account"), 100);
        if (!status.ok() || by_key != 100 * kAccounts || sum_of(*entries) != 100 * kAccounts) ++failures;
      }
    });
    for (std::thread& thread : threads) thread.join();
    stop = true;
    reader.join();
    CHECK(failures == 0);
  }

  SECTION("at most N entries stay at most N when all threads insert after counting") {
    constexpr size_t kMost = 50;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < 100; ++i) {
          const Status status = store.Transact([&](Transaction& t) {
            auto entries = t.Scan(PrefixRange(kPart, "seat"), 1000);
            if (!entries) return entries.error();
            if (entries->size() < kMost) t.Put(K("seat" + std::to_string(thread * 1000 + i)), "taken");
            return Status();
          });
          if (!status.ok()) ++failures;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(failures == 0);
    auto snapshot = store.NewSnapshot();
    CHECK((*snapshot)->Scan(PrefixRange(kPart, "seat"), 1000)->size() == kMost);
  }

  SECTION("no Add and no read-modify-write is lost") {
    Put(store, "rmw", Encode(0));
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) {
          const Status status = store.Transact([&](Transaction& t) {
            t.Add(K("added"), 1);
            auto value = t.Get(K("rmw"));
            if (!value) return value.error();
            t.Put(K("rmw"), Encode(static_cast<int64_t>(ValueReader(**value).Le64()) + 1));
            return Status();
          });
          if (!status.ok() || (i % 100 == 0 && !store.Sync().ok())) ++failures;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(failures == 0);
    CHECK(Counter(store, "added") == 4000);
    CHECK(Counter(store, "rmw") == 4000);
  }
}

}  // namespace moorfs::kv
