// SPDX-License-Identifier: Apache-2.0

#include "common/os/fd_passing.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

namespace moorfs::os {

Status SendFds(int socket, std::string_view data, const std::vector<int>& fds) {
  if (data.empty() || fds.size() > kMaxPassedFds) {
    return Status(EINVAL, "pass descriptors: 1..16 of them with at least one byte");
  }
  iovec iov{const_cast<char*>(data.data()), data.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxPassedFds)] = {};
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (!fds.empty()) {
    msg.msg_control = control;
    msg.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&msg);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t n;
  do {
    n = sendmsg(socket, &msg, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return Status::FromErrno("pass descriptors");
  // The descriptors went with the first byte; the rest is plain data.
  for (data.remove_prefix(static_cast<size_t>(n)); !data.empty(); data.remove_prefix(static_cast<size_t>(n))) {
    n = send(socket, data.data(), data.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) n = 0;
    if (n < 0) return Status::FromErrno("pass descriptors");
  }
  return Status::Ok();
}

Result<Received> ReceiveFds(int socket, size_t max_bytes) {
  Received out;
  out.data.resize(max_bytes);
  iovec iov{out.data.data(), out.data.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxPassedFds)];
  msghdr msg{};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  ssize_t n;
  do {
    n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return Error(Status::FromErrno("receive descriptors"));
  for (cmsghdr* h = CMSG_FIRSTHDR(&msg); h != nullptr; h = CMSG_NXTHDR(&msg, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof fd);
      out.fds.emplace_back(fd);
    }
  }
  if (msg.msg_flags & MSG_CTRUNC) return Error(EMSGSIZE, "receive descriptors: there were too many");
  if (n == 0) return Error(EPIPE, "receive descriptors: the other side is gone");
  out.data.resize(static_cast<size_t>(n));
  return out;
}

Result<PeerCredentials> GetPeerCredentials(int socket) {
  ucred c{};
  socklen_t size = sizeof c;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &c, &size) != 0) {
    return Error(Status::FromErrno("ask who is at the other end of a socket"));
  }
  return PeerCredentials{c.pid, c.uid, c.gid};
}

Result<std::pair<UniqueFd, UniqueFd>> SocketPair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    return Error(Status::FromErrno("make a socket pair"));
  }
  return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

}  // namespace moorfs::os
