// SPDX-License-Identifier: Apache-2.0
//
// What keeper, client and the command that started them agree on: which
// descriptor is which, and what an exit code means. docs/operations.md has the
// picture. Words over the channels are JSON lines (keeper_config.h,
// client_channel.h).

#pragma once

namespace moorfs::keeper {

// Descriptors of the keeper.
inline constexpr int kKeeperChannelFd = 3;  // configuration in, progress and result out
inline constexpr int kKeeperArenaFd = 4;
inline constexpr int kKeeperLockFd = 5;  // the volume's lock file, or /dev/null

// Descriptors of the client.
inline constexpr int kClientFuseFd = 3;
inline constexpr int kClientArenaFd = 4;
inline constexpr int kClientChannelFd = 5;
inline constexpr int kClientListenerFd = 6;  // its control socket, bound by the keeper
inline constexpr int kClientLockFd = 7;      // only held: the lock ends with the last holder

// Exit codes of the client. Any other, and death by a signal, is a crash.
inline constexpr int kExitRestart = 0;       // asked to go (SIGTERM): start a successor
inline constexpr int kExitUnmounted = 10;    // the file system is unmounted, everything is stored
inline constexpr int kExitStartFailed = 11;  // said why over the channel
inline constexpr int kExitIncompatible = 12; // cannot serve this mount (INIT, arena); said why

}  // namespace moorfs::keeper
