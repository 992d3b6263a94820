// SPDX-License-Identifier: Apache-2.0
//
// What every ObjectStore promises, as a suite to run on any: include this in a
// test and call CheckObjectStoreContract with a way to make an empty store.

#pragma once

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fs/object/object_store.h"

namespace moorfs::test {

inline Status PutString(object::ObjectStore& store, std::string_view name, std::string_view bytes) {
  const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
  return store.Put(name, {&piece, 1});
}

inline Result<std::string> GetString(object::ObjectStore& store, std::string_view name, uint64_t offset,
                                     size_t size) {
  std::string out(size, '?');
  ASSIGN_OR_RETURN(const size_t got, store.Get(name, offset, out));
  out.resize(got);
  return out;
}

inline std::set<std::string> ListNames(object::ObjectStore& store, std::string_view prefix) {
  std::set<std::string> names;
  const Status status = store.List(prefix, [&](const object::ObjectInfo& info) {
    names.insert(info.name);
    return true;
  });
  CHECK(status.ToString() == "ok");
  return names;
}

// `make` returns a new, empty store each time.
inline void CheckObjectStoreContract(const std::function<std::unique_ptr<object::ObjectStore>()>& make) {
  const auto store = make();
  REQUIRE(store);

  SECTION("what was put is read back, whole and in part") {
    const std::string a = "hello ", b = "object world";
    const iovec pieces[3] = {
        {const_cast<char*>(a.data()), a.size()}, {nullptr, 0}, {const_cast<char*>(b.data()), b.size()}};
    REQUIRE(store->Put("v/a/1", pieces).ok());
    CHECK(GetString(*store, "v/a/1", 0, 100).value() == "hello object world");
    CHECK(GetString(*store, "v/a/1", 6, 6).value() == "object");
    CHECK(GetString(*store, "v/a/1", 17, 5).value() == "d");
    CHECK(GetString(*store, "v/a/1", 18, 5).value() == "");
    CHECK(GetString(*store, "v/a/1", 1000, 5).value() == "");
    CHECK(store->Head("v/a/1")->bytes == 18);
    CHECK(store->Head("v/a/1")->name == "v/a/1");
    char x[4], y[5];
    const iovec into[2] = {{x, sizeof x}, {y, sizeof y}};
    CHECK(store->GetV("v/a/1", 2, into).value() == 9);
    CHECK(std::string(x, 4) + std::string(y, 5) == "llo objec");
  }
  SECTION("an object of no bytes and one of many pieces") {
    REQUIRE(store->Put("v/a/0", {}).ok());
    CHECK(store->Head("v/a/0")->bytes == 0);
    std::string all(3000 * 7, '\0');
    for (size_t i = 0; i < all.size(); i++) all[i] = static_cast<char>(i * 31);
    std::vector<iovec> pieces;
    for (size_t i = 0; i < 3000; i++) pieces.push_back({all.data() + i * 7, 7});
    REQUIRE(store->Put("v/a/many", pieces).ok());
    CHECK(GetString(*store, "v/a/many", 0, all.size()).value() == all);
  }
  SECTION("what was never put does not exist") {
    CHECK(GetString(*store, "v/a/1", 0, 1).error().err() == ENOENT);
    CHECK(store->Head("v/a/1").error().err() == ENOENT);
    const std::vector<std::string> names{"v/a/1"};
    CHECK(store->Barrier(names).err() == ENOENT);
    CHECK(store->Delete("v/a/1").ok());
  }
  SECTION("a deleted object is gone, and deleting again is fine") {
    REQUIRE(PutString(*store, "v/a/1", "x").ok());
    REQUIRE(GetString(*store, "v/a/1", 0, 1).value() == "x");
    CHECK(store->Delete("v/a/1").ok());
    CHECK(GetString(*store, "v/a/1", 0, 1).error().err() == ENOENT);
    CHECK(ListNames(*store, "").empty());
    CHECK(store->Delete("v/a/1").ok());
  }
  SECTION("a put that is repeated replaces") {
    REQUIRE(PutString(*store, "v/a/1", "first").ok());
    REQUIRE(GetString(*store, "v/a/1", 0, 9).value() == "first");
    REQUIRE(PutString(*store, "v/a/1", "second").ok());
    CHECK(GetString(*store, "v/a/1", 0, 9).value() == "second");
  }
  SECTION("names that could leave the store are refused") {
    for (const std::string& name :
         std::vector<std::string>{"", "top", "/v/a", "v//a", "v/a/", "../x", "v/../x", "v/.hidden",
                                  std::string("v/a\0b", 5), "v/" + std::string(256, 'n')}) {
      INFO(name);
      CHECK(PutString(*store, name, "x").err() == EINVAL);
      CHECK(GetString(*store, name, 0, 1).error().err() == EINVAL);
      CHECK(store->Head(name).error().err() == EINVAL);
      CHECK(store->Delete(name).err() == EINVAL);
    }
  }
  SECTION("a listing shows every object under a prefix, and stops when told") {
    for (const char* name : {"v/a/1", "v/a/10", "v/b/1", "w/a/1", "v/a/c/d"})
      REQUIRE(PutString(*store, name, name).ok());
    CHECK(ListNames(*store, "") == std::set<std::string>{"v/a/1", "v/a/10", "v/b/1", "w/a/1", "v/a/c/d"});
    CHECK(ListNames(*store, "v/") == std::set<std::string>{"v/a/1", "v/a/10", "v/b/1", "v/a/c/d"});
    CHECK(ListNames(*store, "v/a/1") == std::set<std::string>{"v/a/1", "v/a/10"});
    CHECK(ListNames(*store, "v/a/1x").empty());
    CHECK(ListNames(*store, "nothing/").empty());
    int seen = 0;
    CHECK(store
              ->List("",
                     [&](const object::ObjectInfo& info) {
                       CHECK(info.bytes == info.name.size());
                       CHECK(info.modified.ns > 0);
                       return ++seen < 2;
                     })
              .ok());
    CHECK(seen == 2);
  }
  SECTION("a barrier over many objects, again and from many threads") {
    std::vector<std::string> names;
    for (int i = 0; i < 200; i++) {
      names.push_back("v/" + std::to_string(i % 7) + "/" + std::to_string(i));
      REQUIRE(PutString(*store, names.back(), names.back()).ok());
    }
    std::atomic<int> good{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++) {
      threads.emplace_back([&] { good += store->Barrier(names).ok(); });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(good == 4);
    CHECK(store->Barrier({}).ok());
    CHECK(GetString(*store, names[150], 0, 100).value() == names[150]);
  }
  SECTION("puts, reads, listings and deletes at once never show a torn object") {
    std::atomic<bool> stop{false};
    std::atomic<int> torn{0}, reads{0};
    std::thread reader([&] {
      while (!stop) {
        for (int i = 0; i < 20; i++) {
          auto got = GetString(*store, "v/a/" + std::to_string(i), 0, 100000);
          if (!got) {
            torn += got.error().err() != ENOENT;
            continue;
          }
          reads++;
          torn += *got != std::string(20000 + i, static_cast<char>('a' + i));
        }
        torn += !store->List("v/", [](const object::ObjectInfo& info) { return info.bytes >= 20000; }).ok();
      }
    });
    std::vector<std::thread> writers;
    for (int w = 0; w < 2; w++) {
      writers.emplace_back([&, w] {
        for (int round = 0; round < 40; round++) {
          for (int i = w; i < 20; i += 2) {
            const std::string name = "v/a/" + std::to_string(i);
            torn += !PutString(*store, name, std::string(20000 + i, static_cast<char>('a' + i))).ok();
            if (round % 2 == 1) torn += !store->Delete(name).ok();
          }
        }
      });
    }
    for (std::thread& writer : writers) writer.join();
    stop = true;
    reader.join();
    CHECK(torn == 0);
  }
  SECTION("a store belongs to one volume") {
    const Uuid ours = RandomUuid(), other = RandomUuid();
    CHECK(store->CheckStore(ours).err() == ENOENT);
    REQUIRE(store->InitStore(ours, false).ok());
    CHECK(store->InitStore(ours, false).ok());
    CHECK(store->CheckStore(ours).ok());
    CHECK(store->CheckStore(other).err() == EMEDIUMTYPE);
    CHECK(store->InitStore(other, false).err() == ENOTEMPTY);
    CHECK(store->InitStore(other, true).ok());
    CHECK(store->CheckStore(other).ok());
    CHECK(ListNames(*store, "").empty());
  }
}

}  // namespace moorfs::test
