// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/fd_line_socket.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "common/base/units.h"
#include "common/control/line_socket.h"

namespace moorfs::keeper {
namespace {

constexpr size_t kMaxOutBytes = 4 * control::kMaxLineBytes;
constexpr size_t kChunkBytes = 16384;

int64_t DeadlineNs(int timeout_ms) { return MonotonicNs() + int64_t{timeout_ms} * 1'000'000; }

Status WaitFor(int fd, short events, int64_t deadline_ns) {
  for (;;) {
    const int64_t left_ms = (deadline_ns - MonotonicNs() + 999'999) / 1'000'000;
    pollfd p{fd, events, 0};
    const int r = poll(&p, 1, static_cast<int>(std::clamp<int64_t>(left_ms, 0, 1 << 30)));
    if (r > 0) return Status::Ok();
    if (r == 0) return Status(ETIMEDOUT, "wait for the other side of a socket: no answer in time");
    if (errno != EINTR) return Status::FromErrno("wait for a socket");
  }
}

}  // namespace

// Lines may hold secrets.
FdLineSocket::~FdLineSocket() {
  explicit_bzero(in_.data(), in_.size());
  for (Output& o : out_) explicit_bzero(o.data.data(), o.data.size());
}

Status FdLineSocket::Queue(std::string_view line, std::vector<UniqueFd> fds) {
  if (line.size() >= control::kMaxLineBytes) return Status(EMSGSIZE, "send over a socket: the message is over 1 MiB");
  if (fds.size() > kMaxLineFds) return Status(EMSGSIZE, "send over a socket: more than 4 descriptors with a message");
  if (out_bytes_ + line.size() > kMaxOutBytes) return Status(ENOBUFS, "send over a socket: the other side does not read");
  Output o;
  o.data.reserve(line.size() + 1);
  o.data.append(line);
  o.data += '\n';
  o.fds = std::move(fds);
  out_bytes_ += o.data.size();
  out_.push_back(std::move(o));
  return Status::Ok();
}

Status FdLineSocket::SendSome(Output& o) {
  iovec iov{o.data.data() + o.sent, o.data.size() - o.sent};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxLineFds)] = {};
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (!o.fds.empty()) {
    msg.msg_control = control;
    msg.msg_controllen = CMSG_SPACE(sizeof(int) * o.fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&msg);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * o.fds.size());
    int* slots = reinterpret_cast<int*>(CMSG_DATA(header));
    for (size_t i = 0; i < o.fds.size(); ++i) slots[i] = o.fds[i].get();
  }
  const ssize_t n = sendmsg(fd_.get(), &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0) {
    if (errno == EINTR) return Status::Ok();
    return Status::FromErrno("send over a socket");
  }
  // They went with the first byte.
  o.fds.clear();
  o.sent += static_cast<size_t>(n);
  return Status::Ok();
}

Status FdLineSocket::Flush() {
  while (!out_.empty()) {
    Output& o = out_.front();
    const Status s = SendSome(o);
    if (s.err() == EAGAIN) return Status::Ok();
    RETURN_IF_ERROR(s);
    if (o.sent < o.data.size()) continue;
    explicit_bzero(o.data.data(), o.data.size());
    out_bytes_ -= o.data.size();
    out_.pop_front();
  }
  return Status::Ok();
}

Status FdLineSocket::Drain(int timeout_ms) {
  const int64_t deadline = DeadlineNs(timeout_ms);
  for (;;) {
    RETURN_IF_ERROR(Flush());
    if (out_.empty()) return Status::Ok();
    RETURN_IF_ERROR(WaitFor(fd_.get(), POLLOUT, deadline));
  }
}

// The kernel ends a read behind the message that carried descriptors, so they
// belong to the line that the last byte of this read is in.
void FdLineSocket::TakeFds(::msghdr& msg, size_t old_size) {
  Riders got;
  got.lost = (msg.msg_flags & MSG_CTRUNC) != 0;
  for (cmsghdr* h = CMSG_FIRSTHDR(&msg); h != nullptr; h = CMSG_NXTHDR(&msg, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
      got.fds.emplace_back(fd);
    }
  }
  if ((got.fds.empty() && !got.lost) || in_.size() == old_size) return;
  const auto before = std::count(in_.begin(), in_.end() - 1, '\n');
  Riders& riders = riders_[lines_taken_ + static_cast<uint64_t>(before)];
  riders.lost |= got.lost;
  for (UniqueFd& fd : got.fds) {
    if (riders.fds.size() < kMaxLineFds) {
      riders.fds.push_back(std::move(fd));
    } else {
      riders.lost = true;
    }
  }
}

Status FdLineSocket::Fill() {
  if (in_.size() >= control::kMaxLineBytes) return Status(EMSGSIZE, "read a socket: a line is over 1 MiB");
  char chunk[kChunkBytes];
  iovec iov{chunk, sizeof chunk};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxLineFds)];
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(fd_.get(), &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return Status(EAGAIN, "read a socket: nothing arrived");
  if (n < 0 && errno != ECONNRESET) return Status::FromErrno("read a socket");
  if (n <= 0) return Status(EPIPE, "read a socket: the other side is gone");
  const size_t old_size = in_.size();
  in_.append(chunk, static_cast<size_t>(n));
  explicit_bzero(chunk, static_cast<size_t>(n));
  TakeFds(msg, old_size);
  return Status::Ok();
}

std::optional<FdLine> FdLineSocket::Take() {
  const size_t newline = in_.find('\n');
  if (newline == std::string::npos) return std::nullopt;
  FdLine line;
  line.text.assign(in_, 0, newline);
  const size_t rest = in_.size() - newline - 1;
  memmove(in_.data(), in_.data() + newline + 1, rest);
  explicit_bzero(in_.data() + rest, newline + 1);
  in_.resize(rest);
  if (const auto it = riders_.find(lines_taken_); it != riders_.end()) {
    line.fds = std::move(it->second.fds);
    line.fds_lost = it->second.lost;
    riders_.erase(it);
  }
  ++lines_taken_;
  return line;
}

Result<FdLine> FdLineSocket::Receive(int timeout_ms) {
  const int64_t deadline = DeadlineNs(timeout_ms);
  for (;;) {
    if (auto line = Take()) return std::move(*line);
    const Status s = Fill();
    if (s.err() == EAGAIN) {
      TRY_VOID(WaitFor(fd_.get(), POLLIN, deadline));
    } else if (!s.ok()) {
      return Error(s);
    } else if (MonotonicNs() > deadline) {
      // A peer that feeds an endless line, byte by byte.
      return Error(ETIMEDOUT, "read a socket: no whole line in time");
    }
  }
}

}  // namespace moorfs::keeper
