// SPDX-License-Identifier: Apache-2.0
//
// Torn or damaged? What the look at the logs before an open says.

#include "fs/kv/leveldb/log_check.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "common/base/coding.h"
#include "common/log/log.h"
#include "fs/kv/leveldb/crc32c.h"
#include "fs/kv/leveldb/leveldb_store.h"
#include "test/unit/fs_kv/temp_dir.h"

namespace moorfs::kv {
namespace {

// A log of `records` one-operation batches of `payload` bytes, the first with
// sequence 1, written as LevelDB writes them (records must fit into a block).
std::string MakeLog(int records, size_t payload) {
  std::string log;
  for (int i = 1; i <= records; ++i) {
    std::string batch;
    PutLe64(&batch, static_cast<uint64_t>(i));
    PutLe32(&batch, 1);
    batch.resize(12 + payload, 'p');
    const size_t left = 32768 - log.size() % 32768;
    if (left < 7 + batch.size()) log.append(left, '\0');
    std::string typed("\x01");
    typed += batch;
    PutLe32(&log, MaskCrc(Crc32c(0, typed)));
    PutLe16(&log, static_cast<uint16_t>(batch.size()));
    log += typed;
  }
  return log;
}

std::string ReadFile(const std::string& name) {
  std::ifstream in(name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void WriteFile(const std::string& name, const std::string& bytes) {
  std::ofstream(name, std::ios::binary | std::ios::trunc) << bytes;
}

TEST_CASE("CRC-32C has its published value") {
  CHECK(Crc32c(0, "123456789") == 0xe3069283u);
  CHECK(Crc32c(Crc32c(0, "1234"), "56789") == 0xe3069283u);
}

TEST_CASE("a whole log is clean") {
  const LogScan scan = ScanLog(MakeLog(20, 100));
  CHECK(scan.problem.empty());
  CHECK(scan.first_sequence == 1);
  CHECK(scan.next_sequence == 21);
  CHECK(scan.records_end == 20 * 119);
  CHECK(ScanLog("").problem.empty());
}

TEST_CASE("a log cut anywhere is torn, never damaged, and ends at its last whole record") {
  const std::string log = MakeLog(20, 100);
  for (size_t size = 0; size < log.size(); ++size) {
    const LogScan scan = ScanLog(std::string_view(log).substr(0, size));
    REQUIRE(scan.records_end == size / 119 * 119);
    REQUIRE(scan.problem.empty() == (size % 119 == 0));
    REQUIRE_FALSE(scan.intact_after);
    REQUIRE_FALSE(scan.sequence_broken);
  }
}

TEST_CASE("a changed byte with intact records behind it is damage, wherever it is in the record") {
  const std::string log = MakeLog(20, 100);
  for (size_t at = 5 * 119; at < 6 * 119; ++at) {
    std::string changed = log;
    changed[at] = static_cast<char>(changed[at] ^ 0x55);
    const LogScan scan = ScanLog(changed);
    REQUIRE(scan.records_end == 5 * 119);
    REQUIRE_FALSE(scan.problem.empty());
    REQUIRE(scan.intact_after);
  }
}

TEST_CASE("damage is seen when the next intact record stands in a later block") {
  std::string log = MakeLog(20, 20'000);
  for (size_t i = 32768; i < 2 * 32768; ++i) log[i] = '\0';
  const LogScan scan = ScanLog(log);
  CHECK(scan.next_sequence == 2);
  CHECK(scan.intact_after);
}

TEST_CASE("zeros or garbage at the end are a torn end") {
  for (const char fill : {'\0', '\x7f'}) {
    const LogScan scan = ScanLog(MakeLog(20, 100) + std::string(5000, fill));
    CHECK(scan.next_sequence == 21);
    CHECK_FALSE(scan.problem.empty());
    CHECK_FALSE(scan.intact_after);
  }
}

TEST_CASE("a log of another database inside a torn record does not count as intact changes") {
  std::string log = MakeLog(20, 100);
  std::string typed("\x01");
  PutLe64(&typed, 21);
  PutLe32(&typed, 1);
  typed += MakeLog(5, 50);  // sequences 1..5
  PutLe32(&log, MaskCrc(Crc32c(0, typed)));
  PutLe16(&log, static_cast<uint16_t>(typed.size() - 1));
  log += typed;
  CHECK(ScanLog(log).problem.empty());
  log.pop_back();
  CHECK_FALSE(ScanLog(log).problem.empty());
  CHECK_FALSE(ScanLog(log).intact_after);
}

TEST_CASE("a record cut out of the middle is noticed by its sequence") {
  std::string log = MakeLog(20, 100);
  log.erase(5 * 119, 119);
  CHECK(ScanLog(log).sequence_broken);
}

// A closed store with 100 commits, all in one log.
class ClosedStore {
 public:
  ClosedStore() {
    log::SetLevel(log::Level::kError);
    auto store = LevelDbStore::Open(dir_.path(), {.create_if_missing = true});
    REQUIRE(store);
    for (int i = 0; i < 100; ++i) {
      const Key key("P", std::to_string(i));
      REQUIRE((*store)->Transact([&](Transaction& t) { return t.Put(key, std::string(100, 'v')), Status(); }).ok());
    }
    store->reset();
    for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
      if (entry.path().extension() == ".log") log_ = entry.path();
    }
    REQUIRE_FALSE(log_.empty());
  }

  const std::string& log() const { return log_; }
  std::string marker() const { return MarkerNameOf(log_); }
  std::string dir() const { return dir_.path(); }
  // Number of commits found, or the error of the open.
  std::string Reopen() const {
    auto store = LevelDbStore::Open(dir_.path(), {});
    if (!store) return store.error().ToString();
    auto snapshot = (*store)->NewSnapshot();
    return std::to_string((*snapshot)->Scan({"P", "", ""}, 1000)->size());
  }

 private:
  TempDir dir_;
  std::string log_;
};

TEST_CASE("a log cut short below what was durable refuses the open and names file and remedy") {
  ClosedStore store;
  std::filesystem::resize_file(store.log(), std::filesystem::file_size(store.log()) - 200);
  for (int i = 0; i < 2; ++i) {
    const std::string answer = store.Reopen();
    CHECK(answer.find(store.log()) != std::string::npos);
    CHECK(answer.find("cut short") != std::string::npos);
    CHECK(answer.find("restore it from a backup or load the last dump") != std::string::npos);
    CHECK(answer.find("(EIO)") != std::string::npos);
  }
}

TEST_CASE("a log that vanished though it was durable refuses the open") {
  ClosedStore store;
  std::filesystem::remove(store.log());
  CHECK(store.Reopen().find("(EIO)") != std::string::npos);
}

TEST_CASE("an unsynced torn end is dropped, and the rest is there") {
  ClosedStore store;
  std::filesystem::remove(store.marker());
  std::filesystem::resize_file(store.log(), std::filesystem::file_size(store.log()) - 50);
  CHECK(store.Reopen() == "99");
  CHECK(store.Reopen() == "99");
}

TEST_CASE("a flipped bit in a log refuses the open instead of dropping changes in silence") {
  ClosedStore store;
  std::filesystem::remove(store.marker());
  std::string bytes = ReadFile(store.log());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  WriteFile(store.log(), bytes);
  const std::string answer = store.Reopen();
  CHECK(answer.find("intact changes follow") != std::string::npos);
  CHECK(answer.find("(EIO)") != std::string::npos);
}

TEST_CASE("damaged or missing files of the index refuse the open and are named") {
  ClosedStore store;
  std::string manifest = store.dir() + "/" + ReadFile(store.dir() + "/CURRENT");
  manifest.pop_back();
  const std::string whole = ReadFile(manifest);
  SECTION("manifest with a flipped bit") {
    std::string bytes = whole;
    bytes[10] = static_cast<char>(bytes[10] ^ 1);
    WriteFile(manifest, bytes);
    const std::string answer = store.Reopen();
    CHECK(answer.find(manifest) != std::string::npos);
    CHECK(answer.find("(EIO)") != std::string::npos);
  }
  SECTION("manifest missing") {
    std::filesystem::remove(manifest);
    const std::string answer = store.Reopen();
    CHECK(answer.find(manifest) != std::string::npos);
    CHECK(answer.find("(EIO)") != std::string::npos);
  }
  SECTION("CURRENT with something else in it") {
    WriteFile(store.dir() + "/CURRENT", "");
    CHECK(store.Reopen().find("(EIO)") != std::string::npos);
  }
  SECTION("CURRENT missing") {
    std::filesystem::remove(store.dir() + "/CURRENT");
    CHECK(store.Reopen().find("(ENOTEMPTY)") != std::string::npos);
  }
}

}  // namespace
}  // namespace moorfs::kv
