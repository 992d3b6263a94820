// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/core.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "common/base/units.h"
#include "common/log/log.h"

namespace moorfs::fuse {
namespace {

thread_local Call* t_call = nullptr;

// Wakes readers out of read(2); its handler does nothing.
int WakeSignal() { return SIGRTMIN + 3; }

void InstallWakeSignal() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigaction(WakeSignal(), &action, nullptr);  // no SA_RESTART
}

// Readers beyond this many waiting ones end; below, they are kept: starting a
// thread costs as much as several requests.
constexpr int kMaxWaitingReaders = 8;
constexpr uint32_t kMaxWrite = 1 << 20;
constexpr auto kHousekeepingPeriod = std::chrono::seconds(10);

// Operations that a second execution could make visible. Their reply is saved
// until it is sent.
bool ChangesSomething(uint32_t opcode) {
  switch (opcode) {
    case FUSE_SETATTR:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_OPEN:
    case FUSE_CREATE:
    case FUSE_OPENDIR:
    case FUSE_WRITE:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_SETLK:
    case FUSE_SETLKW:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::unique_ptr<char[]> BufferPool::Take() {
  {
    std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      auto buffer = std::move(free_.back());
      free_.pop_back();
      return buffer;
    }
  }
  // Not value-initialized: most reads touch little of it.
  return std::unique_ptr<char[]>(new char[bytes_]);
}

void BufferPool::Give(std::unique_ptr<char[]> buffer) {
  constexpr size_t kKept = 4;
  std::lock_guard lock(mutex_);
  if (free_.size() < kKept) free_.push_back(std::move(buffer));
}

Core::Scope::Scope(Call* call) : previous_(t_call) { t_call = call; }
Core::Scope::~Scope() { t_call = previous_; }
Call& Core::Current() { return *t_call; }

Core::Core(UniqueFd fd, vfs::Arena& arena, InitRecord init, FuseOptions options)
    : arena_(arena),
      options_(std::move(options)),
      init_(init),
      fd_given_(std::move(fd)),
      buffers_(kMaxWrite + 4096),
      executor_(options_.max_executors) {}

Core::~Core() {
  invalidator_.Stop();
  // What still runs uses the session.
  while (!executor_.Drain(1000)) {
    LOG_WARNING("fuse") << "waiting for requests that are still running";
  }
  if (session_) fuse_session_destroy(session_);  // closes the descriptor
}

Result<std::shared_ptr<Core>> Core::Create(UniqueFd fuse_fd, vfs::Arena& arena, FuseOptions options) {
  ASSIGN_OR_RETURN(InitRecord init, InitRecord::Open(arena));
  ASSIGN_OR_RETURN(auto slots, SlotTable::Open(arena));
  auto core = std::shared_ptr<Core>(new Core(std::move(fuse_fd), arena, init, std::move(options)));
  core->slots_ = std::move(slots);
  const size_t room = core->slots_->buffer_bytes() - 4096;
  core->max_write_ = static_cast<uint32_t>(std::min<size_t>(kMaxWrite, room / 4096 * 4096));
  TRY_VOID(core->CreateSession());
  return core;
}

Status Core::CreateSession() {
  char name[] = "moorfs";
  char* argv[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, argv);
  session_ = fuse_session_new(&args, &kOperations, sizeof kOperations, this);
  fuse_opt_free_args(&args);
  if (!session_) return Status(ENOMEM, "create the FUSE session: libfuse refused");
  static const fuse_custom_io io = {
      .writev = [](int, iovec* iov, int count, void* self) { return static_cast<Core*>(self)->Writev(iov, count); },
      // We read ourselves.
      .read = [](int, void*, size_t, void*) -> ssize_t {
        errno = ENOTSUP;
        return -1;
      },
      .splice_receive = nullptr,
      .splice_send = nullptr,
  };
  fd_ = fd_given_.get();
  if (const int err = fuse_session_custom_io(session_, &io, fd_); err != 0) {
    return Status::FromErrno("give the FUSE session its descriptor", err < 0 ? -err : err);
  }
  fd_given_.release();
  return Status::Ok();
}

// ---- one request ----------------------------------------------------------

vfs::OpContext Core::Context(const Call& call) const {
  const fuse_ctx* ctx = fuse_req_ctx(call.req);
  vfs::OpContext out;
  out.uid = ctx->uid;
  out.gid = ctx->gid;
  out.umask = ctx->umask;
  out.epoch = arena_.epoch();
  out.unique = call.unique;
  out.slot = call.slot;
  out.resent = call.resent;
  return out;
}

std::string_view Core::Bytes(const Call& call) {
  if (call.slot == kNoSlot) return {};
  return {slots_->buffer(call.slot), slots_->request(call.slot)->len};
}

void Core::CopyArgument(const Call& call, void* out, size_t bytes) {
  std::string_view request = Bytes(call);
  if (request.size() <= sizeof(fuse_in_header)) return;
  request.remove_prefix(sizeof(fuse_in_header));
  std::memcpy(out, request.data(), std::min(bytes, request.size()));
}

bool Core::Process(uint32_t slot, Call call) {
  // A leftover's slot is released as such, not by the caller.
  const bool kept = call.kept_slot;
  const fuse_in_header* in = slots_->request(slot);
  call.core = this;
  call.slot = slot;
  call.opcode = in->opcode;
  call.ino = in->nodeid;
  call.unique = in->unique & ~kResentBit;
  call.start_ns = MonotonicNs();
  if (in->unique & kResentBit) call.resent = true;
  switch (in->opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
      // Node ids are inode numbers; there is nothing to count.
      Count(call);
      if (kept) slots_->ReleaseLeftovers(call.unique);
      return !kept;
    case FUSE_INTERRUPT:
      HandleInterrupt(slot);
      if (kept) slots_->ReleaseLeftovers(call.unique);
      return !kept;
    case FUSE_INIT:
      AnswerInitAgain(in->unique);
      if (kept) slots_->ReleaseLeftovers(call.unique);
      return !kept;
    default:
      break;
  }
  if (call.resent) resent_.fetch_add(1, std::memory_order_relaxed);
  const fuse_buf buf = {.size = in->len, .mem = slots_->buffer(slot)};
  {
    Scope scope(&call);
    fuse_session_process_buf(session_, &buf);
  }
  if (call.deferred) return call.slot == kNoSlot && !kept;
  call.slot = kNoSlot;  // stays with the caller
  Finish(call);
  return !kept;
}

void Core::PostProcess(uint32_t slot, Call call) {
  executor_.Post([this, slot, call]() mutable {
    call.on_executor = true;
    if (Process(slot, call)) slots_->Release(slot);
  });
}

// The request is answered (or needs no answer): everything it held is free.
void Core::Finish(Call& call) {
  Count(call);
  if (call.parked != kNoSlot) slots_->Unpark(call.parked, call.unique);
  if (call.kept_slot) {
    slots_->ReleaseLeftovers(call.unique);
  } else if (call.slot != kNoSlot) {
    slots_->Release(call.slot);
  }
}

void Core::TryPark(Call& call) {
  if (call.parked == kNoSlot) call.parked = slots_->Park(call.slot);
  if (call.parked == kNoSlot) return;
  if (call.kept_slot) slots_->ReleaseLeftovers(call.unique);
  call.kept_slot = false;
  call.slot = kNoSlot;
}

void Core::HandleInterrupt(uint32_t slot) {
  Call call;
  call.slot = slot;
  call.opcode = FUSE_INTERRUPT;
  call.start_ns = MonotonicNs();
  const uint64_t unique = Argument<fuse_interrupt_in>(call).unique & ~kResentBit;
  // First the mark, then the cancellation: SetLock on another thread looks for
  // the mark after it has registered the lock.
  slots_->MarkInterrupted(unique);
  fs_->CancelLock(unique);
  Count(call);
}

void Core::Count(const Call& call) {
  Counter& c = counters_[call.opcode < kOpcodeLimit ? call.opcode : 0];
  c.count.fetch_add(1, std::memory_order_relaxed);
  if (call.error != 0 && !(call.opcode == FUSE_LOOKUP && call.error == ENOENT)) {
    c.errors.fetch_add(1, std::memory_order_relaxed);
  }
  c.total_ns.fetch_add(static_cast<uint64_t>(MonotonicNs() - call.start_ns), std::memory_order_relaxed);
}

void Core::SaveReply(Call& call, const iovec* iov, int count, size_t bytes) {
  SlotHeader& h = slots_->header(call.slot);
  h.reply_bytes = 0;
  if (ChangesSomething(call.opcode) && bytes <= kSavedReplyBytes) {
    size_t at = 0;
    for (int i = 0; i < count; ++i) {
      std::memcpy(h.reply + at, iov[i].iov_base, iov[i].iov_len);
      at += iov[i].iov_len;
    }
    h.reply_bytes = static_cast<uint32_t>(bytes);
  }
  h.state.store(static_cast<uint32_t>(SlotState::kReplying), std::memory_order_release);
}

ssize_t Core::Writev(const iovec* iov, int count) {
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += iov[i].iov_len;
  if (capture_reply_) {
    init_reply_.clear();
    for (int i = 0; i < count; ++i) init_reply_.append(static_cast<const char*>(iov[i].iov_base), iov[i].iov_len);
    return static_cast<ssize_t>(bytes);
  }
  if (t_call) {
    t_call->error = -static_cast<const fuse_out_header*>(iov[0].iov_base)->error;
    if (t_call->slot != kNoSlot) SaveReply(*t_call, iov, count, bytes);
    if (t_call->parked != kNoSlot) slots_->SaveParkedAnswer(t_call->parked, t_call->opcode, t_call->error);
  }
  const ssize_t n = ::writev(fd_, iov, count);
  if (n >= 0 || errno == ENOENT) return n;
  // ENOENT: nobody waits for this answer any more.
  if (errno != ENODEV && t_call) {
    LOG_WARNING("fuse") << "answer " << OpcodeName(t_call->opcode) << " of inode " << t_call->ino << ": the kernel says "
                        << ErrnoName(errno);
  }
  if (!t_call) return n;
  errno = ENOENT;
  return -1;
}

void Core::ReplyRaw(Call& call, int error, const void* payload, size_t bytes) {
  fuse_out_header out{};
  out.len = static_cast<uint32_t>(sizeof out + bytes);
  out.error = error;
  out.unique = slots_->request(call.slot)->unique;
  const iovec iov[2] = {{&out, sizeof out}, {const_cast<void*>(payload), bytes}};
  Writev(iov, 2);
}

// ---- receiving --------------------------------------------------------------

Core::Received Core::Receive(uint32_t slot) {
  slots_->BeginRead(slot);
  waiting_readers_.fetch_add(1);
  const ssize_t n = ::read(fd_, slots_->buffer(slot), slots_->buffer_bytes());
  const int err = errno;
  waiting_readers_.fetch_sub(1);
  if (n < 0) {
    switch (err) {
      case EINTR:
      case ENOENT:  // given up by its caller before we read it
        return Received::kNothing;
      case EAGAIN: {
        pollfd p{fd_, POLLIN, 0};
        ::poll(&p, 1, 100);
        return Received::kNothing;
      }
      case ENODEV:
      case ECONNABORTED: {
        std::lock_guard lock(mutex_);
        unmounted_ = true;
        changed_.notify_all();
        return Received::kEnd;
      }
      default: {
        std::lock_guard lock(mutex_);
        if (failure_.ok()) failure_ = Status::FromErrno("read a request from /dev/fuse", err);
        changed_.notify_all();
        return Received::kEnd;
      }
    }
  }
  if (slots_->HasRequest(slot, static_cast<size_t>(n))) return Received::kRequest;
  LOG_ERROR("fuse") << "the kernel sent a request of " << n << " bytes that is none";
  return Received::kNothing;
}

void Core::AddReader() {
  std::lock_guard lock(mutex_);
  if (readers_.size() >= options_.max_readers || stopping_ || unmounted_ || !failure_.ok()) return;
  // The thread enters itself; until then this place is taken by nobody.
  readers_.push_back(pthread_t{});
  const Status status = StartThread([this] { ReaderMain(); });
  if (status.ok()) return;
  readers_.pop_back();
  if (readers_.empty() && failure_.ok()) failure_ = status;
}

void Core::ReaderMain() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, WakeSignal());
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  {
    std::lock_guard lock(mutex_);
    *std::find(readers_.begin(), readers_.end(), pthread_t{}) = pthread_self();
  }
  uint32_t slot = slots_->Acquire();
  while (!stopping_.load(std::memory_order_relaxed)) {
    const Received received = Receive(slot);
    if (received == Received::kEnd) break;
    if (received == Received::kNothing) continue;
    slots_->FinishRead(slot);
    // Someone must wait for the next request while this one is worked on.
    if (waiting_readers_.load() == 0) AddReader();
    if (!Process(slot, Call{})) slot = slots_->Acquire();
    if (waiting_readers_.load() >= kMaxWaitingReaders) break;
  }
  slots_->Release(slot);
  std::lock_guard lock(mutex_);
  readers_.erase(std::find(readers_.begin(), readers_.end(), pthread_self()));
  changed_.notify_all();
}

void Core::WakeReaders() {
  for (const pthread_t reader : readers_) {
    if (reader != pthread_t{}) pthread_kill(reader, WakeSignal());
  }
}

Core::ReadsHere::ReadsHere(Core& core) : core_(core) {
  std::lock_guard lock(core_.mutex_);
  core_.readers_.push_back(pthread_self());
}

Core::ReadsHere::~ReadsHere() {
  std::lock_guard lock(core_.mutex_);
  core_.readers_.erase(std::find(core_.readers_.begin(), core_.readers_.end(), pthread_self()));
}

Result<Outcome> Core::Run(vfs::FileSystem& fs) {
  fs_ = &fs;
  InstallWakeSignal();
  const std::vector<Leftover> leftovers = slots_->FindLeftovers();
  TRY_VOID(StartSession(leftovers));
  {
    std::lock_guard lock(mutex_);
    if (unmounted_) return Outcome::kUnmounted;
    if (stopping_) return Outcome::kStopped;
  }
  invalidator_.Start(session_);
  if (options_.on_ready) options_.on_ready();
  if (took_over_) TakeOver(leftovers);
  for (uint32_t i = 0; i < std::max(1u, options_.min_readers); ++i) AddReader();
  const Outcome outcome = AwaitEnd();
  invalidator_.Stop();
  std::lock_guard lock(mutex_);
  if (!failure_.ok()) return Error(failure_);
  return outcome;
}

Outcome Core::AwaitEnd() {
  std::unique_lock lock(mutex_);
  const auto ended = [&] { return stopping_ || unmounted_ || !failure_.ok(); };
  while (!ended()) {
    if (!changed_.wait_for(lock, kHousekeepingPeriod, ended)) {
      lock.unlock();
      slots_->Trim();
      lock.lock();
    }
  }
  const bool stopped = stopping_ && !unmounted_;
  stopping_ = true;
  const int64_t deadline = MonotonicNs() + int64_t{options_.drain_ms} * 1'000'000;
  // A signal that comes just before read(2) is lost: repeat it.
  while (!readers_.empty() && (!stopped || MonotonicNs() < deadline)) {
    WakeReaders();
    changed_.wait_for(lock, std::chrono::milliseconds(1));
  }
  const bool readers_left = !readers_.empty();
  lock.unlock();
  bool idle = true;
  if (stopped) {
    idle = executor_.Drain(static_cast<int>(std::max<int64_t>(0, (deadline - MonotonicNs()) / 1'000'000)));
  } else {
    // Unmounted: all must be finished before the file system is drained.
    while (!executor_.Drain(1000)) {
    }
  }
  lock.lock();
  drained_ = idle && !readers_left;
  return stopped ? Outcome::kStopped : Outcome::kUnmounted;
}

void Core::Stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  WakeReaders();  // also one that waits for INIT
  changed_.notify_all();
}

FuseStats Core::stats() const {
  FuseStats out;
  for (uint32_t op = 0; op < kOpcodeLimit; ++op) {
    const Counter& c = counters_[op];
    const uint64_t count = c.count.load(std::memory_order_relaxed);
    if (count == 0) continue;
    out.ops.push_back({op, OpcodeName(op), count, c.errors.load(std::memory_order_relaxed),
                       c.total_ns.load(std::memory_order_relaxed)});
  }
  out.bytes_read = bytes_read_.load(std::memory_order_relaxed);
  out.bytes_written = bytes_written_.load(std::memory_order_relaxed);
  {
    std::lock_guard lock(const_cast<std::mutex&>(mutex_));
    out.reader_threads = static_cast<uint32_t>(readers_.size());
  }
  out.executor_threads = static_cast<uint32_t>(executor_.threads());
  out.executor_queued = executor_.queued();
  out.slots_used = slots_->used();
  out.slots_total = slots_->count();
  out.parked = slots_->parked_count();
  out.resent = resent_.load(std::memory_order_relaxed);
  out.repeated_replies = repeated_.load(std::memory_order_relaxed);
  out.invalidations = invalidator_.sent();
  out.took_over = took_over_;
  out.resend_supported = init_.kernel_can_resend();
  return out;
}

}  // namespace moorfs::fuse
