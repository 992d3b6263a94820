# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Mount pods without a cluster: a supervisor as PID 1 of a pid namespace, as an
# unprivileged user, in a directory like a pod's emptyDir; and the driver that
# plays the node agent. Source after lib.sh.

: "${POD_DRIVER:?the program that plays the agent}"
POD_UID=65532
VOLUME=leveldb:$T/vol/meta
POD_HERE=$(dirname "${BASH_SOURCE[0]}")

format_for_pods() {
  mkdir "$T/vol"
  "$MOORFS" format "$VOLUME" --store "file:$T/vol/data" --name vol >/dev/null
  chown -R $POD_UID:$POD_UID "$T/vol"
}

# start_pod NAME: the pod NAME, in $T/NAME.
start_pod() {
  local pod
  mkdir "$T/$1"
  chgrp $POD_UID "$T/$1"
  chmod 2777 "$T/$1"
  mkdir -p "$T/run"
  unshare --pid --uts --fork --kill-child sh -c 'hostname "$0"; exec "$@"' "$1" \
    setpriv --reuid=$POD_UID --regid=$POD_UID --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \
    "$MOORFS" supervise --directory "$T/$1" 2>"$T/run/$1.log" &
  pod=$!
  PIDS+=("$pod")
  echo "$pod" >"$T/$1.pid"
  wait_until 10 test -S "$T/$1/supervisor.sock" || fail "the supervisor of $1 does not start"
}
# As this pid namespace numbers them.
pid1_of() { pgrep -P "$(cat "$T/$1.pid")"; }
client_of() { pgrep -P "$(pid1_of "$1")" -f 'moorfs client'; }
# The pod ends by itself, and well.
pod_ends() {
  wait "$(cat "$T/$1.pid")"
}

start_driver() {
  coproc DRIVER { exec "$POD_DRIVER" 2>"$T/run/driver.log"; }
  PIDS+=("$DRIVER_PID")
  # A coprocess's own descriptors are closed in subshells.
  exec {TO_DRIVER}>&"${DRIVER[1]}" {FROM_DRIVER}<&"${DRIVER[0]}"
}
# tell COMMAND...: its answer without the "ok"; fails with what went wrong.
tell() {
  local answer
  echo "$*" >&"$TO_DRIVER"
  read -r -t 90 answer <&"$FROM_DRIVER" || fail "the driver does not answer '$*'"
  case $answer in
    ok*) answer=${answer#ok}; echo "${answer# }" ;;
    *) fail "$*: $answer" ;;
  esac
}
# told_off TEXT COMMAND...: the command fails, and its message holds TEXT.
told_off() {
  local text=$1 answer
  shift
  echo "$*" >&"$TO_DRIVER"
  read -r -t 90 answer <&"$FROM_DRIVER" || fail "the driver does not answer '$*'"
  case $answer in
    error*"$text"*) ;;
    *) fail "'$*' should have been refused with '$text': $answer" ;;
  esac
}
pod_state() { tell state "$1" | json "$2"; }

# What user 65534 hears from a socket whose file is open to everyone: nothing.
nobody_hears() {
  chmod 666 "$1"
  [ "$(setpriv --reuid=65534 --regid=65534 --clear-groups /usr/bin/python3 - "$1" <<'P'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    print(s.recv(100))
except ConnectionResetError:
    print(b"")
P
  )" = "b''" ] || fail "$1 answers anybody"
  chmod 600 "$1"
}

start_loads() {
  local i
  LOADS=()
  for i in 1 2; do
    python3 "$POD_HERE/load.py" "$MNT" "$1-$i" 600 >"$T/out.$1-$i" 2>&1 &
    PIDS+=($!)
    LOADS+=($!)
  done
}
# The loads end in order and saw no error; prints the longest round.
end_loads() {
  local l
  touch "$MNT.stop"
  for l in "${LOADS[@]}"; do wait "$l" || fail "the load failed: $(cat "$T"/out.*)"; done
  rm "$MNT.stop"
  echo "$1: $(cat "$T"/out."$1"-* | tr '\n' ';')"
}
