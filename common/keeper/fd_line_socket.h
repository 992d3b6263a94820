// SPDX-License-Identifier: Apache-2.0
//
// Lines over a stream socket, as control::LineSocket has them, with descriptors
// that ride on the line they belong to, and an output that waits in memory: one
// thread talks to many peers, and none of them can stop it. A peer can neither
// make us hold an endless line nor more than four descriptors for one.

#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

struct msghdr;

namespace moorfs::keeper {

inline constexpr size_t kMaxLineFds = 4;

struct FdLine {
  std::string text;  // without its newline
  std::vector<UniqueFd> fds;
  // More came than a line may have, or than this process may open.
  bool fds_lost = false;
};

class FdLineSocket {
 public:
  explicit FdLineSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  FdLineSocket(FdLineSocket&&) = default;
  ~FdLineSocket();

  int fd() const { return fd_.get(); }

  // ---- out ----------------------------------------------------------------------
  // EMSGSIZE: too long. ENOBUFS: the peer does not read.
  Status Queue(std::string_view line, std::vector<UniqueFd> fds = {});
  bool pending() const { return !out_.empty(); }
  // Sends what goes without waiting. EPIPE: the peer is gone.
  Status Flush();
  // Sends all of it. ETIMEDOUT.
  Status Drain(int timeout_ms);

  // ---- in -----------------------------------------------------------------------
  // Takes in one piece of what arrived. EAGAIN: nothing; EPIPE; EMSGSIZE.
  Status Fill();
  // The next whole line taken in.
  std::optional<FdLine> Take();
  // ETIMEDOUT.
  Result<FdLine> Receive(int timeout_ms);

 private:
  struct Output {
    std::string data;
    size_t sent = 0;
    std::vector<UniqueFd> fds;
  };
  struct Riders {
    std::vector<UniqueFd> fds;
    bool lost = false;
  };
  Status SendSome(Output& output);
  void TakeFds(::msghdr& message, size_t old_size);

  UniqueFd fd_;
  std::deque<Output> out_;
  size_t out_bytes_ = 0;
  std::string in_;
  uint64_t lines_taken_ = 0;
  std::map<uint64_t, Riders> riders_;  // by the line's number
};

}  // namespace moorfs::keeper
