// SPDX-License-Identifier: Apache-2.0
//
// An experiment: is an operation executed exactly once when the client that
// executes it is killed between sending its COMMIT and reading the answer?
//
//   exactly_once leveldb|etcd|redis TRIALS [ETCD_OR_REDIS_PORT | LEVELDB_DIR]
//
// One trial: a child sends the COMMIT of one operation (mkdir, rename or
// setattr) and is killed with SIGKILL; a successor gets the same request
// again, answers it from its record or executes it, and the application then
// undoes the operation. To engines behind a network the child's bytes arrive
// 0 to 10 ms late, as they do behind a busy switch or server: the kernel
// delivers what a dead process has sent. Three ways, one line each:
//
//   nothing          the successor executes the request again
//   record           result record in the operation's own transaction
//   record + epoch   and every transaction checks the epoch, which the
//                    successor raises before it looks for records
//
// Every committed execution leaves a key of its own. Doubled: two of them for
// one request. Wrong: the state after the undo is not the one before.

#include <arpa/inet.h>
#include <curl/curl.h>
#include <hiredis/hiredis.h>
#include <leveldb/db.h>
#include <leveldb/write_batch.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using Value = std::optional<std::string>;
struct Pair {
  std::string key;
  Value value;  // checked: must be absent; written: is deleted
};
// Commits all writes if all checks hold.
struct Transaction {
  std::vector<Pair> checks, writes;
};
enum class Way { kNothing, kRecord, kRecordAndEpoch };

std::mt19937_64 generator{20240607};
uint64_t Below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(generator); }

[[noreturn]] void Die(const std::string& what) {
  fprintf(stderr, "exactly_once: %s\n", what.c_str());
  exit(1);
}

class Engine {
 public:
  virtual ~Engine() = default;
  virtual bool Commit(const Transaction& tx) = 0;
  virtual Value Get(const std::string& key) = 0;
  // In the child: sends the COMMIT, tells the parent, waits for the answer.
  virtual void CommitAndTell(const Transaction& tx, int tell) = 0;
  virtual void BeforeChild() {}
  virtual void AfterChild() {}
  virtual int port() const { return 0; }
};

void Tell(int fd) {
  if (write(fd, "S", 1) != 1) _exit(3);
}

// ---- LevelDB: one process, a commit is in flight only while it lives ----------

class LevelDb : public Engine {
 public:
  explicit LevelDb(std::string dir) : dir_(std::move(dir)) { Open(); }
  bool Commit(const Transaction& tx) override {
    for (const Pair& check : tx.checks) {
      if (Get(check.key) != check.value) return false;
    }
    leveldb::WriteBatch batch;
    for (const Pair& pair : tx.writes) {
      pair.value ? batch.Put(pair.key, *pair.value) : batch.Delete(pair.key);
    }
    auto status = db_->Write({}, &batch);
    if (!status.ok()) Die("leveldb write: " + status.ToString());
    return true;
  }
  Value Get(const std::string& key) override {
    std::string value;
    auto status = db_->Get({}, key, &value);
    if (status.ok()) return value;
    if (!status.IsNotFound()) Die("leveldb get: " + status.ToString());
    return std::nullopt;
  }
  void CommitAndTell(const Transaction& tx, int tell) override {
    Open();
    Tell(tell);
    Commit(tx);
    pause();
  }
  void BeforeChild() override { db_.reset(); }
  void AfterChild() override { Open(); }

 private:
  void Open() {
    leveldb::Options options;
    options.create_if_missing = true;
    leveldb::DB* db = nullptr;
    auto status = leveldb::DB::Open(options, dir_, &db);
    if (!status.ok()) Die("leveldb open: " + status.ToString());
    db_.reset(db);
  }
  std::string dir_;
  std::unique_ptr<leveldb::DB> db_;
};

// ---- the delayed wire -----------------------------------------------------------

int Connect(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address)) Die("connect: " + std::string(strerror(errno)));
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

void SendAll(int fd, const std::string& data) {
  for (size_t at = 0; at < data.size();) {
    ssize_t n = send(fd, data.data() + at, data.size() - at, MSG_NOSIGNAL);
    if (n <= 0) _exit(3);
    at += static_cast<size_t>(n);
  }
}

// What the child sends reaches the server this much later; then the wire
// stays up long enough for the server to act (`linger`).
class Wire {
 public:
  Wire(int port, std::chrono::microseconds delay) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) Die("socketpair");
    child_end_ = pair[0];
    server_ = Connect(port);
    thread_ = std::thread([this, from = pair[1], delay] {
      char data[65536];
      ssize_t n;
      while ((n = recv(from, data, sizeof data, 0)) > 0) {
        std::this_thread::sleep_for(delay);
        SendAll(server_, std::string(data, static_cast<size_t>(n)));
      }
      close(from);
      timeval linger{0, 200'000};
      setsockopt(server_, SOL_SOCKET, SO_RCVTIMEO, &linger, sizeof linger);
      if (recv(server_, data, sizeof data, 0) < 0) { /* no answer in time: the trial is judged by its keys */ }
      close(server_);
    });
  }
  ~Wire() { thread_.join(); }
  int child_end() const { return child_end_; }
  void CloseHere() { close(child_end_); }

 private:
  int child_end_, server_;
  std::thread thread_;
};

thread_local int child_wire = -1;

void SendAndWait(const std::string& request, int tell) {
  SendAll(child_wire, request);
  Tell(tell);
  pause();
}

// ---- Redis ------------------------------------------------------------------------

constexpr char kScript[] =
    "local n = tonumber(ARGV[1]) local at = 2 "
    "for i = 1, n do local v = redis.call('GET', KEYS[i]) "
    "  if ARGV[at] == '-' then if v then return 0 end elseif v ~= ARGV[at + 1] then return 0 end at = at + 2 end "
    "for i = n + 1, #KEYS do if ARGV[at] == '-' then redis.call('DEL', KEYS[i]) "
    "  else redis.call('SET', KEYS[i], ARGV[at + 1]) end at = at + 2 end return 1";

class Redis : public Engine {
 public:
  explicit Redis(int port) : port_(port), context_(redisConnect("127.0.0.1", port)) {
    if (!context_ || context_->err) Die("redis: cannot connect");
  }
  ~Redis() override { redisFree(context_); }
  bool Commit(const Transaction& tx) override {
    std::string request = Request(tx);
    redisAppendFormattedCommand(context_, request.data(), request.size());
    auto reply = Reply();
    if (reply->type != REDIS_REPLY_INTEGER) Die(std::string("redis: ") + (reply->str ? reply->str : "?"));
    return reply->integer == 1;
  }
  Value Get(const std::string& key) override {
    redisAppendCommand(context_, "GET %b", key.data(), key.size());
    auto reply = Reply();
    return reply->type == REDIS_REPLY_STRING ? Value(std::string(reply->str, static_cast<size_t>(reply->len))) : std::nullopt;
  }
  void CommitAndTell(const Transaction& tx, int tell) override { SendAndWait(Request(tx), tell); }
  int port() const override { return port_; }

 private:
  struct Free {
    void operator()(redisReply* reply) const { freeReplyObject(reply); }
  };
  std::unique_ptr<redisReply, Free> Reply() {
    void* reply = nullptr;
    if (redisGetReply(context_, &reply) != REDIS_OK) Die("redis: connection lost");
    return std::unique_ptr<redisReply, Free>(static_cast<redisReply*>(reply));
  }
  static std::string Request(const Transaction& tx) {
    std::vector<std::string> words = {"EVAL", kScript, std::to_string(tx.checks.size() + tx.writes.size())};
    for (const auto* list : {&tx.checks, &tx.writes}) {
      for (const Pair& pair : *list) words.push_back(pair.key);
    }
    words.push_back(std::to_string(tx.checks.size()));
    for (const auto* list : {&tx.checks, &tx.writes}) {
      for (const Pair& pair : *list) {
        words.push_back(pair.value ? "+" : "-");
        words.push_back(pair.value.value_or(""));
      }
    }
    std::string out = "*" + std::to_string(words.size()) + "\r\n";
    for (const std::string& word : words) out += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
    return out;
  }
  int port_;
  redisContext* context_;
};

// ---- etcd, through its JSON gateway ---------------------------------------------

std::string Base64(const std::string& raw) {
  static const char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t at = 0; at < raw.size(); at += 3) {
    uint32_t word = 0;
    size_t count = std::min<size_t>(3, raw.size() - at);
    for (size_t i = 0; i < 3; ++i) word = word << 8 | (i < count ? static_cast<unsigned char>(raw[at + i]) : 0);
    for (size_t i = 0; i < 4; ++i) out += i <= count ? kDigits[word >> (18 - 6 * i) & 63] : '=';
  }
  return out;
}

class Etcd : public Engine {
 public:
  explicit Etcd(int port) : port_(port), curl_(curl_easy_init()) {}
  ~Etcd() override { curl_easy_cleanup(curl_); }
  bool Commit(const Transaction& tx) override { return Post("/v3/kv/txn", Body(tx)).value("succeeded", false); }
  Value Get(const std::string& key) override {
    auto answer = Post("/v3/kv/range", nlohmann::json{{"key", Base64(key)}}.dump());
    if (!answer.contains("kvs")) return std::nullopt;
    return Decode(answer["kvs"][0].value("value", ""));
  }
  void CommitAndTell(const Transaction& tx, int tell) override {
    std::string body = Body(tx);
    SendAndWait("POST /v3/kv/txn HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: " +
                    std::to_string(body.size()) + "\r\n\r\n" + body, tell);
  }
  int port() const override { return port_; }

 private:
  static std::string Decode(const std::string& text) {
    std::string out;
    uint32_t word = 0;
    int bits = 0;
    for (char c : text) {
      if (c == '=') break;
      uint32_t digit = c >= 'a' ? static_cast<uint32_t>(c - 'a') + 26 : c >= 'A' ? static_cast<uint32_t>(c - 'A')
                       : c >= '0' ? static_cast<uint32_t>(c - '0') + 52 : c == '+' ? 62u : 63u;
      word = word << 6 | digit;
      bits += 6;
      if (bits >= 8) out += static_cast<char>(word >> (bits -= 8) & 255);
    }
    return out;
  }
  static std::string Body(const Transaction& tx) {
    nlohmann::json compare = nlohmann::json::array(), success = nlohmann::json::array();
    for (const Pair& check : tx.checks) {
      if (check.value) {
        compare.push_back({{"key", Base64(check.key)}, {"target", "VALUE"}, {"value", Base64(*check.value)}});
      } else {
        compare.push_back({{"key", Base64(check.key)}, {"target", "VERSION"}, {"version", "0"}});
      }
    }
    for (const Pair& pair : tx.writes) {
      if (pair.value) {
        success.push_back({{"requestPut", {{"key", Base64(pair.key)}, {"value", Base64(*pair.value)}}}});
      } else {
        success.push_back({{"requestDeleteRange", {{"key", Base64(pair.key)}}}});
      }
    }
    return nlohmann::json{{"compare", compare}, {"success", success}}.dump();
  }
  nlohmann::json Post(const std::string& path, const std::string& body) {
    std::string url = "http://127.0.0.1:" + std::to_string(port_) + path, answer;
    curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.c_str());
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &answer);
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, +[](char* data, size_t size, size_t n, void* to) {
      static_cast<std::string*>(to)->append(data, size * n);
      return size * n;
    });
    CURLcode code = curl_easy_perform(curl_);
    if (code != CURLE_OK) Die(std::string("etcd: ") + curl_easy_strerror(code));
    auto parsed = nlohmann::json::parse(answer, nullptr, false);
    if (parsed.is_discarded() || parsed.contains("error")) Die("etcd answers " + answer);
    return parsed;
  }
  int port_;
  CURL* curl_;
};

// ---- the trial ----------------------------------------------------------------------

const char* const kNames[] = {"mkdir", "rename", "setattr"};

struct Counts {
  int from_record = 0, executed_again = 0, never_landed = 0, doubled = 0, wrong = 0, error = 0;
  int doubled_by_kind[3] = {0, 0, 0};
};

struct Trial {
  std::string id;
  int kind;
  Way way;

  std::string Key(const char* what) const { return id + "/" + what; }
  std::string Record() const { return Key("record"); }

  // The operation as `who` executes it; `epoch` is what it believes.
  Transaction Operation(const std::string& who, const std::string& epoch) const {
    Transaction tx;
    if (kind == 0) {
      tx.checks = {{Key("dir"), std::nullopt}};
      tx.writes = {{Key("dir"), "made"}};
    } else if (kind == 1) {
      tx.checks = {{Key("from"), "inode"}, {Key("to"), std::nullopt}};
      tx.writes = {{Key("from"), std::nullopt}, {Key("to"), "inode"}};
    } else {
      tx.writes = {{Key("attr"), "0700"}};
    }
    tx.writes.push_back({Key("executed-by-") + who, "yes"});
    if (way != Way::kNothing) tx.writes.push_back({Record(), "ok"});
    if (way == Way::kRecordAndEpoch) tx.checks.push_back({"epoch", epoch});
    return tx;
  }
  Transaction Prepare() const {
    if (kind == 1) return {{}, {{Key("from"), "inode"}}};
    if (kind == 2) return {{}, {{Key("attr"), "0600"}}};
    return {};
  }
  Transaction Undo() const {
    if (kind == 0) return {{{Key("dir"), "made"}}, {{Key("dir"), std::nullopt}}};
    if (kind == 1) return {{{Key("to"), "inode"}}, {{Key("to"), std::nullopt}, {Key("from"), "inode"}}};
    return {{}, {{Key("attr"), "0600"}}};
  }
  bool AsBefore(Engine& engine) const {
    if (kind == 0) return !engine.Get(Key("dir"));
    if (kind == 1) return engine.Get(Key("from")) == "inode" && !engine.Get(Key("to"));
    return engine.Get(Key("attr")) == "0600";
  }
};

void KillBetweenCommitAndAnswer(Engine& engine, const Transaction& tx) {
  int told[2];
  if (pipe(told)) Die("pipe");
  pid_t child = fork();
  if (child < 0) Die("fork");
  if (child == 0) {
    engine.CommitAndTell(tx, told[1]);
    _exit(0);
  }
  close(told[1]);
  char byte;
  if (read(told[0], &byte, 1) != 1) Die("the child ended before its COMMIT");
  if (!engine.port() && Below(2)) usleep(static_cast<useconds_t>(Below(60)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(told[0]);
}

// The kernel sends the request again, to the successor.
void Resend(Engine& engine, const Trial& trial, uint64_t* epoch, Counts* counts) {
  if (trial.way == Way::kRecordAndEpoch) {
    ++*epoch;
    if (!engine.Commit({{}, {{"epoch", std::to_string(*epoch)}}})) Die("raising the epoch");
  }
  for (int attempt = 0; attempt < 5; ++attempt) {
    if (trial.way != Way::kNothing && engine.Get(trial.Record())) {
      ++counts->from_record;
      return;
    }
    Transaction tx = trial.Operation("successor", std::to_string(*epoch));
    if (trial.way != Way::kNothing) tx.checks.push_back({trial.Record(), std::nullopt});
    if (engine.Commit(tx)) {
      ++counts->executed_again;
      return;
    }
    if (trial.way == Way::kNothing) break;  // EEXIST or ENOENT, to the application
  }
  ++counts->error;
}

void Row(const char* engine_name, Engine& engine, Way way, int trials) {
  static const char* const kWays[] = {"nothing", "record", "record + epoch"};
  Counts counts;
  uint64_t epoch = 1;
  if (!engine.Commit({{}, {{"epoch", "1"}}})) Die("setting the epoch");
  std::vector<Trial> all;
  for (int i = 0; i < trials; ++i) {
    all.push_back({std::string(kWays[static_cast<int>(way)]) + std::to_string(i), i % 3, way});
    Trial& trial = all.back();
    engine.Commit(trial.Prepare());
    std::optional<Wire> wire;
    if (engine.port()) {
      wire.emplace(engine.port(), std::chrono::microseconds(Below(10'000)));
      child_wire = wire->child_end();
    }
    Transaction tx = trial.Operation("victim", std::to_string(epoch));
    engine.BeforeChild();
    KillBetweenCommitAndAnswer(engine, tx);
    engine.AfterChild();
    if (wire) wire->CloseHere();
    if (engine.port()) usleep(static_cast<useconds_t>(Below(4'000)));  // starting a client takes a moment, too
    Resend(engine, trial, &epoch, &counts);
    engine.Commit(trial.Undo());
  }
  for (const Trial& trial : all) {
    bool victim = engine.Get(trial.Key("executed-by-victim")).has_value();
    bool successor = engine.Get(trial.Key("executed-by-successor")).has_value();
    if (!victim) ++counts.never_landed;
    if (victim && successor) {
      ++counts.doubled;
      ++counts.doubled_by_kind[trial.kind];
    }
    if (!trial.AsBefore(engine)) ++counts.wrong;
  }
  printf("| %s | %s | %d | %d | %d | %d | %d (%s %d, %s %d, %s %d) | %d | %d |\n", engine_name,
         kWays[static_cast<int>(way)], trials, trials - counts.never_landed, counts.from_record, counts.executed_again,
         counts.doubled, kNames[0], counts.doubled_by_kind[0], kNames[1], counts.doubled_by_kind[1], kNames[2],
         counts.doubled_by_kind[2], counts.error, counts.wrong);
  fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: exactly_once leveldb|etcd|redis TRIALS PORT_OR_DIR\n");
    return 2;
  }
  std::string kind = argv[1];
  int trials = atoi(argv[2]);
  std::unique_ptr<Engine> engine;
  if (kind == "leveldb") engine = std::make_unique<LevelDb>(argv[3]);
  if (kind == "redis") engine = std::make_unique<Redis>(atoi(argv[3]));
  if (kind == "etcd") engine = std::make_unique<Etcd>(atoi(argv[3]));
  if (!engine) Die("unknown engine " + kind);
  for (Way way : {Way::kNothing, Way::kRecord, Way::kRecordAndEpoch}) Row(kind.c_str(), *engine, way, trials);
  return 0;
}
