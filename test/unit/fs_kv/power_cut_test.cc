// SPDX-License-Identifier: Apache-2.0
//
// Power cuts at random moments of a busy store. Whatever the cut leaves must
// open, and hold a prefix of the commits that reaches at least to the last
// acknowledged Sync(). The same test against LevelDB's own Env, and against
// ours with a part switched off, must find lost data: so it would notice.

#include <leveldb/db.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <random>

#include "common/log/log.h"
#include "fs/kv/leveldb/leveldb_store.h"
#include "test/unit/fs_kv/recording_env.h"
#include "test/unit/fs_kv/temp_dir.h"

namespace moorfs::kv {
namespace {

constexpr size_t kWriteBuffer = 64 << 10;
constexpr Options kCreate{.create_if_missing = true};

struct CutImage {
  Image image;
  int acknowledged = 0;  // commits known to be durable when the power went
};

std::string CommitKey(int i) {
  char name[16];
  std::snprintf(name, sizeof name, "c%06d", i);
  return name;
}

// Mostly small; some span the blocks of a log.
std::string CommitValue(int i) { return std::string(i % 50 == 7 ? 40'000 : 150 + i % 100, static_cast<char>('a' + i % 26)); }

// What the workload needs of an engine.
struct Engine {
  std::function<bool(int commit)> commit;
  std::function<bool()> sync;
};

// Commits from `first` on with a sync now and then, and cuts at random events.
std::vector<CutImage> CutWhileBusy(RecordingEnv* env, unsigned seed, const std::function<Engine()>& open, int commits,
                                   int first = 1) {
  log::SetLevel(log::Level::kError);  // each torn log would get its line
  std::vector<CutImage> cuts;
  std::mutex mutex;
  std::minstd_rand random(seed);
  std::atomic<int> acknowledged{first - 1};
  env->OnEvent([&] {
    std::lock_guard lock(mutex);
    if (random() % 12 != 0 || cuts.size() >= 400) return;
    const int known = acknowledged.load();
    for (int i = 0; i < 2; ++i) cuts.push_back({env->Cut(&random), known});
  });
  {
    const Engine engine = open();
    std::minstd_rand choice(seed + 1);
    for (int i = first; i < first + commits; ++i) {
      REQUIRE(engine.commit(i));
      if (choice() % 6 != 0) continue;
      REQUIRE(engine.sync());
      acknowledged = i;
    }
  }
  env->OnEvent({});
  return cuts;
}

Engine OurEngine(const std::shared_ptr<KvStore>& store) {
  Engine engine;
  engine.commit = [store](int i) {
    return store
        ->Transact([&](Transaction& t) {
          t.Put(Key("P", CommitKey(i)), CommitValue(i));
          t.Put(Key("P", "last"), std::to_string(i));
          return Status();
        })
        .ok();
  };
  engine.sync = [store] { return store->Sync().ok(); };
  return engine;
}

std::function<Engine()> OpenOurs(RecordingEnv* env, const std::string& dir) {
  return [env, dir] {
    auto store = LevelDbStore::Open(dir, kCreate, {.write_buffer_bytes = kWriteBuffer, .env = env});
    REQUIRE((store ? "ok" : store.error().ToString()) == "ok");
    return OurEngine(std::move(*store));
  };
}

std::function<Engine()> OpenPlainLevelDb(RecordingEnv* env, const std::string& dir) {
  return [env, dir] {
    leveldb::Options options;
    options.create_if_missing = true;
    options.write_buffer_size = kWriteBuffer;
    options.env = env;
    leveldb::DB* db = nullptr;
    REQUIRE(leveldb::DB::Open(options, dir, &db).ok());
    const std::shared_ptr<leveldb::DB> owner(db);
    Engine engine;
    engine.commit = [owner](int i) {
      return owner->Put({}, "P" + CommitKey(i), CommitValue(i)).ok() && owner->Put({}, "Plast", std::to_string(i)).ok();
    };
    engine.sync = [owner] {
      leveldb::WriteOptions synced;
      synced.sync = true;
      return owner->Put(synced, "Psync", "x").ok();
    };
    return engine;
  };
}

// "" when `store` holds commits 1..n for one n >= acknowledged.
std::string WhatIsWrong(KvStore& store, int acknowledged) {
  auto snapshot = store.NewSnapshot();
  if (!snapshot) return snapshot.error().ToString();
  auto last = (*snapshot)->Get(Key("P", "last"));
  if (!last) return last.error().ToString();
  const int n = std::stoi(last->value_or("0"));
  if (n < acknowledged) return "ends at " + std::to_string(n) + ", acknowledged was " + std::to_string(acknowledged);
  auto entries = (*snapshot)->Scan(PrefixRange("P", "c"), 1'000'000);
  if (!entries) return entries.error().ToString();
  for (int i = 1; i <= n; ++i) {
    const auto at = static_cast<size_t>(i - 1);
    if (at >= entries->size() || (*entries)[at].suffix != CommitKey(i)) return "commit " + std::to_string(i) + " is missing";
    if ((*entries)[at].value != CommitValue(i)) return "commit " + std::to_string(i) + " has wrong bytes";
  }
  if (entries->size() != static_cast<size_t>(n)) return "commits behind the last";
  return {};
}

// Opens what a cut left, checks it, and uses it. With `cut_again`, power goes
// again at random moments of that open, and what those leave is checked too.
std::string WhatIsWrongWith(const CutImage& cut, unsigned seed, bool cut_again) {
  TempDir dir;
  RecordingEnv env;
  env.Load(dir / "db", cut.image);
  std::vector<CutImage> again;
  std::mutex mutex;
  std::minstd_rand random(seed);
  if (cut_again) {
    env.OnEvent([&] {
      std::lock_guard lock(mutex);
      if (random() % 3 == 0) again.push_back({env.Cut(&random), cut.acknowledged});
    });
  }
  auto store = LevelDbStore::Open(dir / "db", kCreate, {.write_buffer_bytes = kWriteBuffer, .env = &env});
  env.OnEvent({});
  if (!store) return store.error().ToString();
  std::string wrong = WhatIsWrong(**store, cut.acknowledged);
  if (wrong.empty() && !OurEngine(std::move(*store)).commit(1)) wrong = "it takes no commit";
  for (size_t i = 0; i < again.size() && wrong.empty(); ++i) {
    wrong = WhatIsWrongWith(again[i], seed, false);
    if (!wrong.empty()) wrong = "cut again during open: " + wrong;
  }
  return wrong;
}

int LastCommitIn(const CutImage& cut) {
  TempDir dir;
  RecordingEnv env;
  env.Load(dir / "db", cut.image);
  auto store = LevelDbStore::Open(dir / "db", kCreate, {.write_buffer_bytes = kWriteBuffer, .env = &env});
  REQUIRE((store ? "ok" : store.error().ToString()) == "ok");
  auto last = (*(*store)->NewSnapshot())->Get(Key("P", "last"));
  REQUIRE(last);
  return std::stoi(last->value_or("0"));
}

int CountWrong(const std::vector<CutImage>& cuts) {
  int wrong = 0;
  for (const CutImage& cut : cuts) wrong += WhatIsWrongWith(cut, 1, false).empty() ? 0 : 1;
  return wrong;
}

TEST_CASE("after a power cut the store opens with a prefix of the commits that includes every acknowledged one") {
  for (unsigned seed : {1u, 2u, 3u}) {
    CAPTURE(seed);
    TempDir dir;
    RecordingEnv env;
    const auto cuts = CutWhileBusy(&env, seed, OpenOurs(&env, dir / "db"), 600);
    REQUIRE(cuts.size() > 100);
    CHECK(cuts.back().acknowledged > 300);
    for (size_t i = 0; i < cuts.size(); ++i) {
      CAPTURE(i, cuts[i].acknowledged);
      REQUIRE(WhatIsWrongWith(cuts[i], seed, i % 10 == 0) == "");
    }
  }
}

TEST_CASE("a store that lives through one power cut after another keeps its promise each time") {
  std::minstd_rand random(7);
  CutImage state;
  for (unsigned generation = 0; generation < 8; ++generation) {
    CAPTURE(generation);
    TempDir dir;
    RecordingEnv env;
    env.Load(dir / "db", state.image);
    const auto cuts =
        CutWhileBusy(&env, generation, OpenOurs(&env, dir / "db"), 150, LastCommitIn(state) + 1);
    REQUIRE(cuts.size() > 10);
    state = cuts[cuts.size() / 2 + random() % (cuts.size() / 2)];
    REQUIRE(WhatIsWrongWith(state, generation, true) == "");
  }
  CHECK(state.acknowledged > 300);
}

TEST_CASE("a sync after SIGKILL makes the dead process's unsynced commits durable too") {
  for (unsigned seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    TempDir dir;
    RecordingEnv dead;
    RecordingEnv env;
    std::atomic<int> committed{0};
    std::atomic<bool> killed{false};
    int survived = 0;
    std::minstd_rand random(seed);
    const int kill_after = 20 + static_cast<int>(random() % 250);
    std::mutex mutex;
    {
      const Engine engine = OpenOurs(&dead, dir / "dead")();
      dead.OnEvent([&] {
        std::lock_guard lock(mutex);
        if (killed || committed < kill_after) return;
        killed = true;
        survived = committed;
        env.LoadAfterKill(dir / "db", &dead);
      });
      for (int i = 1; i <= 400; ++i) {
        REQUIRE(engine.commit(i));
        committed = i;
      }
      dead.OnEvent({});
    }
    REQUIRE(killed);
    auto store = LevelDbStore::Open(dir / "db", kCreate, {.write_buffer_bytes = kWriteBuffer, .env = &env});
    REQUIRE((store ? "ok" : store.error().ToString()) == "ok");
    REQUIRE((*store)->Sync().ok());
    for (int i = 0; i < 10; ++i) REQUIRE(WhatIsWrongWith({env.Cut(&random), survived}, seed, false) == "");
  }
}

TEST_CASE("the power-cut test notices that LevelDB's own Env loses acknowledged data") {
  TempDir dir;
  RecordingEnv env({.manifest_syncs_directory = true});
  CHECK(CountWrong(CutWhileBusy(&env, 1, OpenPlainLevelDb(&env, dir / "db"), 600)) > 0);
}

TEST_CASE("the power-cut test notices when the sync of older logs is left out") {
  TempDir dir;
  RecordingEnv env({.skip_old_logs = true});
  CHECK(CountWrong(CutWhileBusy(&env, 1, OpenOurs(&env, dir / "db"), 600)) > 0);
}

TEST_CASE("the power-cut test notices when directory syncs are left out") {
  TempDir dir;
  RecordingEnv env({.skip_directory = true});
  CHECK(CountWrong(CutWhileBusy(&env, 1, OpenOurs(&env, dir / "db"), 600)) > 0);
}

}  // namespace
}  // namespace moorfs::kv
