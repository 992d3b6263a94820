// SPDX-License-Identifier: Apache-2.0
//
// Core's beginning: INIT with the kernel or, for a successor, with the record
// of it; then the requests a predecessor left unanswered.

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "common/log/log.h"
#include "fs/fuse/core.h"

namespace moorfs::fuse {
namespace {

constexpr int kNotifyResend = 7;  // FUSE_NOTIFY_RESEND, newer than Debian 12's header
constexpr uint16_t kMaxBackground = 64;
constexpr uint16_t kCongestionThreshold = 48;

}  // namespace

// Called by libfuse inside INIT. Part of what is agreed for ever: a change here
// keeps new clients from taking over mounts of old ones.
//
// Not ATOMIC_O_TRUNC: the kernel checks only after OPEN whether the file is
// being executed, and a program that an open with O_TRUNC has emptied before
// its ETXTBSY dies. Without it the truncation is a SETATTR behind that check.
void Core::NegotiateCapabilities(fuse_conn_info* conn) {
  unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS |
                  FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL | FUSE_CAP_PARALLEL_DIROPS |
                  FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_ASYNC_DIO;
  want |= options_.exclusive ? FUSE_CAP_EXPLICIT_INVAL_DATA : FUSE_CAP_AUTO_INVAL_DATA;
  conn->want = want & conn->capable;
  conn->max_write = max_write_;
  conn->max_background = kMaxBackground;
  conn->congestion_threshold = kCongestionThreshold;
  conn->time_gran = 1;
}

// libfuse's reply to an INIT request, with what it does not know added.
std::string Core::NegotiateInit(std::string request) {
  const fuse_buf buf = {.size = request.size(), .mem = request.data()};
  capture_reply_ = true;
  fuse_session_process_buf(session_, &buf);
  capture_reply_ = false;
  std::string reply = std::move(init_reply_);
  PatchInitReply(request, reply, options_.allow_idmap);
  return reply;
}

Status Core::StartSession(const std::vector<Leftover>& leftovers) {
  took_over_ = init_.complete();
  RETURN_IF_ERROR(took_over_ ? ReplayInit() : AwaitInit(leftovers));
  const std::string reply = init_.reply();
  if (reply.size() >= sizeof(fuse_out_header) + sizeof(fuse_init_out)) {
    fuse_init_out out;
    std::memcpy(&out, reply.data() + sizeof(fuse_out_header), sizeof out);
    extended_setxattr_ = out.flags & FUSE_SETXATTR_EXT;
  }
  return Status::Ok();
}

Status Core::ReplayInit() {
  std::string request = init_.request();
  if (request.size() < sizeof(fuse_in_header) + 16) {
    return Status(EPROTO, "take over the mount: the recorded INIT request is damaged");
  }
  auto* in = reinterpret_cast<fuse_in_header*>(request.data());
  in->unique = kReplayUnique;
  const std::string reply = NegotiateInit(request);
  const std::string difference = DifferenceOfInitReplies(reply, init_.reply());
  if (difference.empty()) return Status::Ok();
  return Status(EPROTO, "take over the mount: this client would agree on something else with the kernel than the one "
                        "that made the mount (" + difference + "); use the same version and options, or unmount");
}

Status Core::AwaitInit(const std::vector<Leftover>& leftovers) {
  // A predecessor read INIT and died before it had an answer.
  for (const Leftover& leftover : leftovers) {
    if (slots_->request(leftover.slot)->opcode != FUSE_INIT) continue;
    const std::string request(slots_->buffer(leftover.slot), slots_->request(leftover.slot)->len);
    slots_->ReleaseUnclaimed();
    return AnswerFirstInit(request);
  }
  slots_->ReleaseUnclaimed();
  ReadsHere here(*this);
  const uint32_t slot = slots_->Acquire(true);
  Status status;
  while (!stopping_) {
    const Received received = Receive(slot);
    if (received == Received::kEnd) {
      std::lock_guard lock(mutex_);
      status = failure_;
      break;
    }
    if (received == Received::kNothing) continue;
    slots_->FinishRead(slot);
    const fuse_in_header* in = slots_->request(slot);
    if (in->opcode != FUSE_INIT) {
      status = Status(EPROTO, "wait for INIT: the kernel sent " + std::string(OpcodeName(in->opcode)) +
                                  "; this connection is in use and its arena is not the right one");
      break;
    }
    status = AnswerFirstInit({slots_->buffer(slot), in->len});
    break;
  }
  slots_->Release(slot);
  return status;
}

Status Core::AnswerFirstInit(std::string_view request) {
  const uint64_t unique = reinterpret_cast<const fuse_in_header*>(request.data())->unique;
  init_.SaveRequest(request);
  const std::string reply = NegotiateInit(std::string(request));
  if (reply.size() < sizeof(fuse_out_header) + sizeof(fuse_init_out)) {
    return Status(EPROTO, "answer INIT: the kernel's FUSE protocol is too old");
  }
  // Published before it is sent, so that nobody who finds no reply here can be
  // wrong about what the kernel knows.
  init_.SaveReply(reply);
  AnswerInitAgain(unique);
  return Status::Ok();
}

void Core::AnswerInitAgain(uint64_t unique) {
  std::string reply = init_.reply();
  reinterpret_cast<fuse_out_header*>(reply.data())->unique = unique;
  if (::write(fd_, reply.data(), reply.size()) < 0 && errno != ENOENT) {
    LOG_ERROR("fuse") << "answer INIT: the kernel says " << ErrnoName(errno);
  }
}

void Core::TakeOver(const std::vector<Leftover>& leftovers) {
  if (options_.use_resend && AskToResend()) {
    // All of these come again.
    slots_->DropAllParked();
    ReceiveResent();
  } else {
    ExecuteLeftovers(leftovers);
  }
}

bool Core::AskToResend() {
  fuse_out_header message{};
  message.len = sizeof message;
  message.error = kNotifyResend;
  if (::write(fd_, &message, sizeof message) == sizeof message) return true;
  if (errno == ENODEV) return true;  // unmounted meanwhile; the next read says so
  LOG_INFO("fuse") << "the kernel cannot resend requests (" << ErrnoName(errno) << "); they are taken from the arena";
  return false;
}

// Reads, alone, until no resent request is left: the kernel has put them all
// before any other.
void Core::ReceiveResent() {
  ReadsHere here(*this);
  while (!stopping_) {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN)) break;
    const uint32_t slot = slots_->Acquire(true);
    const Received received = Receive(slot);
    if (received != Received::kRequest) {
      slots_->Release(slot);
      if (received == Received::kEnd) return;
      continue;
    }
    const fuse_in_header* in = slots_->request(slot);
    const bool is_request = in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET && in->opcode != FUSE_INTERRUPT;
    const bool resent = in->unique & kResentBit;
    const Leftover old = is_request && resent ? slots_->Claim(in->unique & ~kResentBit) : Leftover{};
    if (old.slot == kNoSlot) {
      slots_->FinishRead(slot);
      if (is_request) {
        PostProcess(slot, Call{});
      } else {
        Process(slot, Call{});
        slots_->Release(slot);
      }
      if (is_request && !resent) break;
      continue;
    }
    if (old.has_reply) {
      RepeatReply(old.slot, in->unique);
      slots_->ReleaseLeftovers(old.unique);
    } else {
      slots_->MoveBack(slot, old.slot);
      Call call;
      call.kept_slot = true;
      PostProcess(old.slot, call);
    }
    slots_->Release(slot);
  }
  slots_->ReleaseUnclaimed();
}

// Without the kernel's help: what a dead client had read lies in its slots.
void Core::ExecuteLeftovers(const std::vector<Leftover>& leftovers) {
  // First of all, because what is executed may park again.
  const std::vector<ParkedLeftover> parked = slots_->FindParked();
  for (const Leftover& leftover : leftovers) {
    slots_->Claim(leftover.unique);
    const bool also_parked = std::any_of(parked.begin(), parked.end(),
                                         [&](const ParkedLeftover& p) { return (p.unique & ~kResentBit) == leftover.unique; });
    if (also_parked) {
      slots_->ReleaseLeftovers(leftover.unique);
      continue;
    }
    if (leftover.has_reply) {
      RepeatReply(leftover.slot, slots_->request(leftover.slot)->unique);
      slots_->ReleaseLeftovers(leftover.unique);
      continue;
    }
    slots_->header(leftover.slot).state.store(static_cast<uint32_t>(SlotState::kReceived), std::memory_order_release);
    Call call;
    call.resent = true;
    call.kept_slot = true;
    PostProcess(leftover.slot, call);
  }
  for (const ParkedLeftover& p : parked) {
    if (p.answered) {
      fuse_out_header out{};
      out.len = sizeof out;
      out.error = -static_cast<int32_t>(p.error % 1000);
      out.unique = p.unique;
      SendAgain(&out, sizeof out);
      slots_->Unpark(p.index, p.unique & ~kResentBit);
      continue;
    }
    const uint32_t slot = slots_->Acquire(true);
    slots_->CopyParked(p.index, slot);
    Call call;
    call.resent = true;
    call.parked = p.index;
    PostProcess(slot, call);
  }
}

// The predecessor had done it and was about to say so.
void Core::RepeatReply(uint32_t slot, uint64_t unique) {
  SlotHeader& h = slots_->header(slot);
  char reply[kSavedReplyBytes];
  const uint32_t bytes = std::min<uint32_t>(h.reply_bytes, sizeof reply);
  std::memcpy(reply, h.reply, bytes);
  auto* out = reinterpret_cast<fuse_out_header*>(reply);
  out->unique = unique;
  out->len = bytes;
  SendAgain(reply, bytes);
}

void Core::SendAgain(const void* reply, size_t bytes) {
  repeated_.fetch_add(1, std::memory_order_relaxed);
  resent_.fetch_add(1, std::memory_order_relaxed);
  // ENOENT: the predecessor's was received.
  if (::write(fd_, reply, bytes) < 0 && errno != ENOENT) {
    LOG_WARNING("fuse") << "repeat a reply: the kernel says " << ErrnoName(errno);
  }
}

}  // namespace moorfs::fuse
