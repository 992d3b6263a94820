// SPDX-License-Identifier: Apache-2.0
//
// Registering with kubelet by ourselves, without a sidecar: a second socket in
// kubelet's plugins_registry directory, where kubelet finds it, asks who we are
// and where the CSI socket is, calls NodeGetInfo there, and tells the outcome.
//
// The socket appears only once the CSI socket answers NodeGetInfo, keeps one
// name for ever, and goes first when we stop. When kubelet refuses us, or
// somebody empties the directory, it is taken away and made again after a
// delay: that is how kubelet is asked to try again.

#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "common/base/status.h"

namespace moorfs::csi {

struct RegistrationConfig {
  std::string directory;   // kubelet's plugins_registry
  std::string csi_socket;  // our own, as we see it
  std::string endpoint;    // the same, as kubelet sees it
  std::chrono::milliseconds retry_delay{10'000};
  std::chrono::milliseconds check_interval{10'000};
};

class Registration {
 public:
  // Returns at once; a thread does the work and says in the log how it goes.
  static std::unique_ptr<Registration> Start(const RegistrationConfig& config);
  ~Registration();
  // OK once kubelet said so; else why not (yet).
  Status State() const;

 private:
  struct Impl;
  explicit Registration(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Asks the CSI socket NodeGetInfo, as kubelet will.
Status AskNodeInfo(const std::string& csi_socket, std::chrono::milliseconds timeout);

}  // namespace moorfs::csi
