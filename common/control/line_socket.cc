// SPDX-License-Identifier: Apache-2.0

#include "common/control/line_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "common/base/units.h"

namespace moorfs::control {
namespace {

class Deadline {
 public:
  explicit Deadline(int timeout_ms) : at_(timeout_ms < 0 ? -1 : MonotonicNs() + int64_t{timeout_ms} * 1'000'000) {}
  int RemainingMs() const {
    if (at_ < 0) return -1;
    return static_cast<int>(std::clamp<int64_t>((at_ - MonotonicNs() + 999'999) / 1'000'000, 0, 1 << 30));
  }

 private:
  int64_t at_;
};

// ETIMEDOUT, or OK when poll says something (an error too: the call that
// follows will name it).
Status WaitFor(int fd, short events, const Deadline& deadline) {
  for (;;) {
    pollfd p{fd, events, 0};
    const int r = poll(&p, 1, deadline.RemainingMs());
    if (r > 0) return Status::Ok();
    if (r == 0) return Status(ETIMEDOUT, "wait for the other side of a control socket: no answer in time");
    if (errno != EINTR) return Status::FromErrno("wait for a control socket");
  }
}

// sun_path holds 108 bytes; a longer path is reached through its directory.
struct Address {
  sockaddr_un addr{};
  UniqueFd directory;

  Status Fill(const std::string& path) {
    addr.sun_family = AF_UNIX;
    std::string name = path;
    if (path.size() >= sizeof addr.sun_path) {
      const size_t slash = path.rfind('/');
      directory = UniqueFd(open(path.substr(0, slash).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
      if (!directory) return Status::FromErrno("open the directory of " + path);
      name = "/proc/self/fd/" + std::to_string(directory.get()) + path.substr(slash);
      if (name.size() >= sizeof addr.sun_path) return Status(ENAMETOOLONG, "use socket " + path + ": its name is too long");
    }
    std::memcpy(addr.sun_path, name.c_str(), name.size() + 1);
    return Status::Ok();
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&addr); }
};

}  // namespace

Status LineSocket::Send(std::string_view line, int timeout_ms) {
  if (line.size() >= kMaxLineBytes) return Status(EMSGSIZE, "send to a control socket: the message is over 1 MiB");
  const Deadline deadline(timeout_ms);
  std::string out(line);
  out += '\n';
  for (size_t done = 0; done < out.size();) {
    const ssize_t n = send(fd_.get(), out.data() + done, out.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      done += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      RETURN_IF_ERROR(WaitFor(fd_.get(), POLLOUT, deadline));
    } else if (errno != EINTR) {
      return Status::FromErrno("send to a control socket");
    }
  }
  return Status::Ok();
}

bool LineSocket::TakeLine(std::string* line) {
  const size_t newline = buffer_.find('\n');
  if (newline == std::string::npos) return false;
  line->assign(buffer_, 0, newline);
  buffer_.erase(0, newline + 1);
  return true;
}

Status LineSocket::Fill(bool* got) {
  *got = false;
  if (buffer_.size() >= kMaxLineBytes) return Status(EMSGSIZE, "read a control socket: a line is over 1 MiB");
  char chunk[16384];
  const ssize_t n = recv(fd_.get(), chunk, sizeof chunk, MSG_DONTWAIT);
  if (n > 0) {
    buffer_.append(chunk, static_cast<size_t>(n));
    *got = true;
    return Status::Ok();
  }
  if (n == 0 || errno == ECONNRESET) return Status(EPIPE, "read a control socket: the other side is gone");
  if (errno == EAGAIN || errno == EINTR) return Status::Ok();
  return Status::FromErrno("read a control socket");
}

Result<std::string> LineSocket::Receive(int timeout_ms) {
  const Deadline deadline(timeout_ms);
  std::string line;
  while (!TakeLine(&line)) {
    bool got;
    TRY_VOID(Fill(&got));
    if (!got) TRY_VOID(WaitFor(fd_.get(), POLLIN, deadline));
  }
  return line;
}

Result<std::string> LineSocket::TryReceive() {
  std::string line;
  while (!TakeLine(&line)) {
    bool got;
    TRY_VOID(Fill(&got));
    if (!got) return Error(EAGAIN, "read a control socket: no whole line yet");
  }
  return line;
}

Result<LineSocket> ConnectUnix(const std::string& path, int timeout_ms) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error(Status::FromErrno("make a socket"));
  Address address;
  TRY_VOID(address.Fill(path));
  const Deadline deadline(timeout_ms);
  while (connect(fd.get(), address.get(), sizeof address.addr) != 0) {
    if (errno != EAGAIN && errno != EINTR) return Error(Status::FromErrno("connect to " + path));
    // EAGAIN of a unix socket: the backlog is full. It cannot be polled for.
    if (deadline.RemainingMs() == 0) return Error(ETIMEDOUT, "connect to " + path + ": it is busy");
    const timespec pause{0, 5'000'000};
    nanosleep(&pause, nullptr);
  }
  return LineSocket(std::move(fd));
}

Result<UniqueFd> ListenUnix(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error(Status::FromErrno("make a socket"));
  Address address;
  TRY_VOID(address.Fill(path));
  unlink(path.c_str());
  // Permissions of the socket file decide who connects; set before anyone can.
  if (fchmod(fd.get(), 0600) != 0 || bind(fd.get(), address.get(), sizeof address.addr) != 0) {
    return Error(Status::FromErrno("bind socket " + path));
  }
  if (listen(fd.get(), 64) != 0) return Error(Status::FromErrno("listen on " + path));
  return fd;
}

}  // namespace moorfs::control
