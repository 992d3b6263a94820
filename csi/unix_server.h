// SPDX-License-Identifier: Apache-2.0
//
// gRPC services on a unix socket.
//
// The socket appears under its name only once it is served: it is bound in a
// private directory beside it and renamed over whatever stale socket is there,
// so that no caller ever finds it refusing or open to others. A caller may
// write any :authority (kubelets have sent a path, an encoded path, nothing).
// Threads are bounded, however many calls wait for a slow volume; beyond that
// callers are told RESOURCE_EXHAUSTED and come again. A connection costs an
// accept: kubelet opens one per call.

#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace grpc {
class Service;
}

namespace moorfs::csi {

// "unix:///a/b.sock", "unix:/a/b.sock" or "/a/b.sock" → "/a/b.sock". EINVAL for
// anything else, with what was expected.
Result<std::string> SocketPathOf(const std::string& endpoint);

class UnixServer {
 public:
  struct Config {
    std::string path;
    mode_t mode = 0600;
    int max_threads = 32;
  };
  // The services are the caller's and outlive the server. EEXIST: something
  // that is no socket has the name.
  static Result<std::unique_ptr<UnixServer>> Start(const Config& config, const std::vector<grpc::Service*>& services);
  // Removes the socket's name, finishes the calls in flight (up to
  // `kDrainMs`), and ends.
  ~UnixServer();
  // True while the name is still our socket. Somebody who empties a directory
  // takes it from us, and only a new server can bring it back.
  bool NameIsOurs() const;
  // Takes the name away; calls go on.
  void Unlink();

  static constexpr int kDrainMs = 20'000;

 private:
  struct Impl;
  explicit UnixServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moorfs::csi
