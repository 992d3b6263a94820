// SPDX-License-Identifier: Apache-2.0
//
// The inside of FuseServer: receiving threads, INIT, taking over, and the
// accounting of each request from read(2) to its reply. operations.cc holds
// the operations themselves. Only fs/fuse includes this.

#pragma once

#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fs/fuse/executor.h"
#include "fs/fuse/fuse_server.h"
#include "fs/fuse/init_record.h"
#include "fs/fuse/invalidate_queue.h"
#include "fs/fuse/slot_table.h"

namespace moorfs::fuse {

// One request on its way. Trivially copyable: deferred work takes a copy.
struct Call {
  class Core* core = nullptr;
  fuse_req_t req = nullptr;
  uint32_t slot = kNoSlot;    // where the request's bytes are
  uint32_t parked = kNoSlot;  // or there
  uint32_t opcode = 0;
  uint64_t ino = 0;
  uint64_t unique = 0;        // without the resent bit
  bool resent = false;        // a predecessor had it
  bool on_executor = false;   // may wait
  bool deferred = false;      // answered later, from a copy of this
  bool kept_slot = false;     // `slot` is a leftover, released as such
  int error = 0;
  int64_t start_ns = 0;
};

// Large buffers for replies, few of which are kept.
class BufferPool {
 public:
  explicit BufferPool(size_t bytes) : bytes_(bytes) {}
  class Lease {
   public:
    explicit Lease(BufferPool& pool) : pool_(pool), buffer_(pool.Take()) {}
    ~Lease() { pool_.Give(std::move(buffer_)); }
    char* data() { return buffer_.get(); }

   private:
    BufferPool& pool_;
    std::unique_ptr<char[]> buffer_;
  };
  size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<char[]> Take();
  void Give(std::unique_ptr<char[]> buffer);
  const size_t bytes_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<char[]>> free_;
};

class Core : public std::enable_shared_from_this<Core> {
 public:
  static Result<std::shared_ptr<Core>> Create(UniqueFd fuse_fd, vfs::Arena& arena, FuseOptions options);
  ~Core();

  Result<Outcome> Run(vfs::FileSystem& fs);
  void Stop();
  bool drained() const { return drained_; }
  FuseStats stats() const;
  InvalidateQueue& invalidator() { return invalidator_; }

  // ---- for the operations ------------------------------------------------
  // The request this thread is working on.
  static Call& Current();
  vfs::FileSystem& fs() { return *fs_; }
  const FuseOptions& options() const { return options_; }
  BufferPool& buffers() { return buffers_; }
  SlotTable& slots() { return *slots_; }
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  vfs::OpContext Context(const Call& call) const;
  // The request's argument as the kernel sent it; zeros beyond its end.
  template <typename T>
  T Argument(const Call& call) {
    T out{};
    CopyArgument(call, &out, sizeof out);
    return out;
  }
  void CopyArgument(const Call& call, void* out, size_t bytes);
  // What the kernel agreed on about the header of SETXATTR.
  bool extended_setxattr() const { return extended_setxattr_; }
  // The whole request, header included.
  std::string_view Bytes(const Call& call);

  // Runs `work(Call&)` where it may wait: at once if this thread may, else on
  // the executor. `small`: nothing but what `work` captured is needed, so that
  // the slot is left to others.
  template <typename Work>
  void RunBlocking(Call& call, bool small, Work work) {
    if (call.on_executor) return work(call);
    if (small) TryPark(call);
    call.deferred = true;
    executor_.Post([this, copy = call, work = std::move(work)]() mutable { RunDeferred(copy, work); });
  }
  void TryPark(Call& call);
  // For answers that come from elsewhere: `reply` sends it, on this thread.
  template <typename Reply>
  void Answer(Call call, Reply reply) {
    Scope scope(&call);
    reply(call);
    Finish(call);
  }
  void CountBytes(bool read, size_t bytes) {
    (read ? bytes_read_ : bytes_written_).fetch_add(bytes, std::memory_order_relaxed);
  }
  // For replies that libfuse cannot make. `iov[0]` is for the header.
  void ReplyRaw(Call& call, int error, const void* payload, size_t bytes);

  // ---- called by libfuse ---------------------------------------------------
  void NegotiateCapabilities(fuse_conn_info* conn);
  ssize_t Writev(const iovec* iov, int count);

 private:
  // What Current() is meanwhile.
  class Scope {
   public:
    explicit Scope(Call* call);
    ~Scope();

   private:
    Call* previous_;
  };
  struct Counter {
    std::atomic<uint64_t> count{0}, errors{0}, total_ns{0};
  };
  // The thread of Run() while it reads: Stop() must be able to wake it.
  class ReadsHere {
   public:
    explicit ReadsHere(Core& core);
    ~ReadsHere();

   private:
    Core& core_;
  };

  Core(UniqueFd fd, vfs::Arena& arena, InitRecord init, FuseOptions options);
  Status CreateSession();

  // INIT and taking over (takeover.cc).
  Status StartSession(const std::vector<Leftover>& leftovers);
  Status AwaitInit(const std::vector<Leftover>& leftovers);
  Status AnswerFirstInit(std::string_view request);
  Status ReplayInit();
  std::string NegotiateInit(std::string request);
  void AnswerInitAgain(uint64_t unique);
  void TakeOver(const std::vector<Leftover>& leftovers);
  bool AskToResend();
  void ReceiveResent();
  void ExecuteLeftovers(const std::vector<Leftover>& leftovers);
  void RepeatReply(uint32_t slot, uint64_t unique);
  void SendAgain(const void* reply, size_t bytes);

  // Receiving.
  enum class Received { kRequest, kNothing, kEnd };
  Received Receive(uint32_t slot);
  void AddReader();
  void ReaderMain();
  void WakeReaders();
  Outcome AwaitEnd();

  // From a slot with a request to its reply. True: the slot can be reused.
  bool Process(uint32_t slot, Call call);
  void PostProcess(uint32_t slot, Call call);
  void HandleInterrupt(uint32_t slot);
  void Finish(Call& call);
  template <typename Work>
  void RunDeferred(Call& call, Work& work) {
    Scope scope(&call);
    call.on_executor = true;
    call.deferred = false;
    work(call);
    if (!call.deferred) Finish(call);
  }
  void SaveReply(Call& call, const iovec* iov, int count, size_t bytes);
  void Count(const Call& call);

  vfs::Arena& arena_;
  const FuseOptions options_;
  InitRecord init_;
  std::unique_ptr<SlotTable> slots_;
  vfs::FileSystem* fs_ = nullptr;
  fuse_session* session_ = nullptr;
  UniqueFd fd_given_;  // until the session owns it
  int fd_ = -1;
  uint32_t max_write_ = 0;

  bool capture_reply_ = false;  // INIT: libfuse's reply goes to init_reply_, not to the kernel
  std::string init_reply_;
  std::atomic<bool> took_over_{false};
  bool extended_setxattr_ = false;

  BufferPool buffers_;
  InvalidateQueue invalidator_;

  std::atomic<bool> stopping_{false};
  std::atomic<int> waiting_readers_{0};
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<pthread_t> readers_;
  bool unmounted_ = false;
  Status failure_;
  bool drained_ = true;

  std::array<Counter, kOpcodeLimit> counters_;
  std::atomic<uint64_t> bytes_read_{0}, bytes_written_{0}, resent_{0}, repeated_{0};

  // Last: its threads use all of the above.
  Executor executor_;
};

// operations.cc
extern const fuse_lowlevel_ops kOperations;

}  // namespace moorfs::fuse
