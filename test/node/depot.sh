#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The node's second holder: an agent that was restarted finds the descriptors
# of its mounts there, and with them a new pod serves on although everything
# else is gone. A depot that was killed is filled again.
. "$(dirname "$0")/lib.sh"
start depot
. "$(dirname "$0")/pod_lib.sh"

SOCKET=$T/keeper/keeper.sock
DEPOTS=0
listens() { [ "$(grep -c "keeping descriptors" "$T/run/depot.log")" = $DEPOTS ]; }
start_depot() {
  "$MOORFS" keeper --socket "$SOCKET" 2>>"$T/run/depot.log" &
  DEPOT=$!
  PIDS+=("$DEPOT")
  DEPOTS=$((DEPOTS + 1))
  wait_until 10 listens || fail "the depot does not start"
}

mkdir "$T/run"
format_for_pods
start_depot
start_pod p0
start_driver
tell mount "$MNT" >/dev/null
tell connect p0 "$T/p0" $POD_UID >/dev/null
tell serve p0 "$VOLUME" memory=64MiB >/dev/null
tell wait p0 serving 20 >/dev/null
tell fetch p0 >/dev/null
[ "$(tell list "$SOCKET")" = "[]" ] || fail "a new depot is not empty"
tell put "$SOCKET" mount-1 >/dev/null
[ "$(tell list "$SOCKET")" = '["mount-1"]' ] || fail "the deposit is not listed"
told_off ENOENT get "$SOCKET" mount-2

# Pod and agent's memory are gone together: the depot alone keeps the mount.
start_loads depot
sleep 1
kill -KILL "$(pid1_of p0)"
tell drop-descriptors >/dev/null
sleep 0.3
tell get "$SOCKET" mount-1 | grep >/dev/null mount-1 || fail "the text is not there"
start_pod p1
tell connect p1 "$T/p1" $POD_UID >/dev/null
[ "$(tell serve p1 "$VOLUME" memory=64MiB)" = "taken over" ] || fail "it was a new mount"
tell wait p1 serving 20 >/dev/null

# The depot dies: nothing happens; another one is filled again.
kill -KILL "$DEPOT"
wait "$DEPOT" || true
start_depot
[ "$(tell list "$SOCKET")" = "[]" ] || fail "a new depot is not empty"
tell put "$SOCKET" mount-1 >/dev/null
kill -KILL "$(pid1_of p1)"
tell drop-descriptors >/dev/null
tell get "$SOCKET" mount-1 >/dev/null
start_pod p2
tell connect p2 "$T/p2" $POD_UID >/dev/null
tell serve p2 "$VOLUME" memory=64MiB >/dev/null
tell wait p2 serving 20 >/dev/null
sleep 1
end_loads depot
tell drop "$SOCKET" mount-1 >/dev/null
tell drop "$SOCKET" mount-1 >/dev/null
[ "$(tell list "$SOCKET")" = "[]" ] || fail "a dropped deposit is listed"

# Only root is answered.
chmod 755 "$T/keeper"
nobody_hears "$SOCKET"

tell step-aside p2 >/dev/null
tell umount lazy >/dev/null
kill -TERM "$DEPOT"
wait "$DEPOT" || fail "the depot does not end on SIGTERM"
